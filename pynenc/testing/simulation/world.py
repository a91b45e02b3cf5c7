"""One run of the simulation: a world is built from a seed, harmed for a while, healed, and examined."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from pynenc.core.records import Beat, Filter, Invocation, New, Page
from pynenc.core.status import FINAL, InvocationStatus
from pynenc.testing import checker
from pynenc.testing.checker import Body, Evidence, Kind, Violation
from pynenc.testing.clock import SECOND, VirtualClock
from pynenc.testing.passes import Act, Line
from pynenc.testing.simulation import durable, people
from pynenc.testing.simulation.ledger import Ledger
from pynenc.testing.simulation.network import CALM, Network, Weather
from pynenc.testing.simulation.runner import RUNNERS, Runner, Solo, Supervisor
from pynenc.testing.simulation.schedule import Process, Scheduler, Signal
from pynenc.testing.simulation.script import kind_of
from pynenc.testing.simulation.stores import MakeStore, make_memory_store

S = InvocationStatus

#: Seconds of storm, and seconds after it in which everything must end.
STORM, PATIENCE = 12.0, 120.0
#: Calls between two looks of the store at itself.
CHECK_EVERY = 150
WEATHERS = (
    CALM,
    Weather(before=0.03, after=0.03, late=0.02, twice=0.04, slow=0.03, longest=1.5),
    Weather(before=0.15, after=0.1, late=0.02, twice=0.02, slow=0.05, longest=1.5),
    Weather(slow=0.2, twice=0.1, longest=1.5),
)


class Ran(msgspec.Struct, frozen=True):
    """What one seed came to. ``counts`` are summed over seeds; ``trace`` is kept only when something was wrong."""

    seed: int
    violations: list[tuple[str, str]]
    counts: dict[str, int]
    trace: list[str] = []


class World:
    """Everything of one run.

    :param has_ledger: whether the answers are checked as they come; without it only the offline checker judges.
    """

    def __init__(self, seed: int, make_store: MakeStore = make_memory_store, *, has_ledger: bool = True) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.scheduler = Scheduler(self.clock)
        self.store = make_store(self.clock)
        self.ledger = Ledger(self.clock)
        self.network = Network(self.scheduler, self.store, self._observe, random.Random(seed + 1))
        self.has_ledger = has_ledger
        self.bodies: list[Body] = []
        self.passes: list[Line] = []
        #: Whether the store reacts to changes of status.
        self.reacts = seed % 3 == 0
        self.intended: dict[str, New] = {}
        self.acknowledged: set[str] = set()
        self.runners: list[Runner] = []
        #: How many may still submit.
        self.clients = 2
        self.is_healed = False
        self.jumped = 0.0
        self.problems: list[Violation] = []
        self._is_done = False

    # -- what the parts see ------------------------------------------------------------------------------------------------
    def listen(self, signal: Signal) -> Any:
        """Wake a worker when there may be work."""
        listener = self.store.listen((), signal.set)
        listener.idle(True)
        return listener

    def intend(self, new: Sequence[New]) -> None:
        """Note what may be submitted from now on."""
        self.intended.update((row.id, row) for row in new)

    def declare_dead(self, group: str) -> None:
        """Make a death certain."""
        self.store.declare_dead(group)
        self.ledger.declare_dead(group)

    def add_runner(self, kind: Callable[..., Runner] | None = None) -> None:
        """A new runner joins."""
        name = f"r{len(self.runners) + 1}"
        self.runners.append((kind or self.random.choice(RUNNERS))(self, name))

    def _observe(self, call: Any, answer: Any) -> None:
        self.ledger.observe(call, answer)
        if self.network.calls % CHECK_EVERY == 0:
            self._check_store()

    def _check_store(self) -> None:
        if not self.problems:
            self.problems += [Violation(Kind.UNSOUND, problem) for problem in self.store.check()]

    # -- the run -----------------------------------------------------------------------------------------------------------
    def run(self) -> Ran:
        """From the first runner to the verdict."""
        try:
            self._play()
            violations = list(dict.fromkeys(self._judge()))
        except Exception:
            violations = [Violation(Kind.UNSOUND, traceback.format_exc())]
        return Ran(
            self.seed,
            [(violation.kind, violation.text) for violation in violations],
            self._counts(),
            [_told(*step) for step in self.network.trace] if violations else [],
        )

    def _play(self) -> None:
        self._begin()
        self.scheduler.run(self.clock.lease() + int(STORM * SECOND), lambda: self._is_broken)
        if not self._is_broken:
            self._heal()
            self.scheduler.run(self.clock.lease() + int(PATIENCE * SECOND), lambda: self._is_done or self._is_broken)

    @property
    def _is_broken(self) -> bool:
        return bool(self.has_ledger and self.ledger.violations)

    def _begin(self) -> None:
        self.network.weather = self.random.choice(WEATHERS)
        if self.reacts:
            self.store.subscribe("echo", durable.REACTIONS)
        self.add_runner(Solo)
        self.add_runner(Supervisor)
        for number in range(self.clients):
            self._start(f"client {number + 1}", people.client(self, f"c{number + 1}", self.random.randint(8, 18)))
        self._start("person", people.person(self))
        self._start("poster", people.poster(self))
        self._start("nemesis", people.nemesis(self, may_jump=self.seed % 4 == 0))

    def _start(self, name: str, steps: Any) -> None:
        self.scheduler.start(Process(name), steps)

    def _heal(self) -> None:
        """Calm weather, no more harm, the right time; the survivors must do the work."""
        self.is_healed = True
        self.network.weather = CALM
        self.clock.jump(-self.jumped)
        self._start("janitor", people.janitor(self, self._end))

    def _end(self) -> None:
        self._is_done = True

    # -- the verdict -------------------------------------------------------------------------------------------------------
    def _judge(self) -> Iterator[Violation]:
        if self.has_ledger:
            yield from self.ledger.violations
        if self._is_broken:
            return
        self._check_store()
        yield from self.problems
        evidence = self.evidence()
        yield from checker.check(evidence)
        yield from self._unexplained(evidence.rows)
        yield from durable.check_flows(self.store, evidence, self.passes, self.ledger)
        if self.reacts:
            yield from durable.check_echoes(evidence)

    def evidence(self) -> Evidence:
        """What the offline checker sees of this run."""
        rows = self._rows()
        return Evidence(
            acknowledged=frozenset(self.acknowledged),
            is_intended=lambda row: row.id in self.intended or row.task == durable.ECHO,
            bodies=self.bodies,
            rows=rows,
            history=self.store.history([row.id for row in rows]),
            removed=self._removed({row.id for row in rows}),
            in_time=self.jumped == 0 and self.seed % 4 != 0,
        )

    def _rows(self) -> list[Invocation]:
        rows: list[Invocation] = []
        cursor = ""
        while True:
            found = self.store.find(Filter(), Page(1000, cursor, True))
            rows += self.store.get([row.id for row in found.invocations])
            cursor = found.cursor
            if not cursor:
                return rows

    def _removed(self, stored: set[str]) -> frozenset[str]:
        """What a purge took, or may have taken."""
        accounts = self.ledger.accounts.items()
        return frozenset(n for n, account in accounts if n not in stored and account.may_be_gone) | self.ledger.reborn

    def _unexplained(self, rows: Sequence[Invocation]) -> Iterator[Violation]:
        """An end that no script, person or crash accounts for."""
        for row in rows:
            kind = kind_of(row.task)
            if row.status is S.FAILED and row.crashes < row.max_crashes and kind not in ("fail", "parent"):
                yield Violation(Kind.UNSOUND, f"{row.id} ({kind}) FAILED after {row.crashes} crashes: {row.reason}")
            if row.status is S.SUCCESS and kind in ("fail", "poison"):
                yield Violation(Kind.UNSOUND, f"{row.id} ({kind}) ended as {row.status}")

    def _counts(self) -> dict[str, int]:
        accounts = self.ledger.accounts.values()
        return {
            "invocations": len(accounts),
            "bodies": len(self.bodies),
            "workflows": sum(account.new.task == durable.FLOW for account in accounts),
            "passes": sum(line.act is Act.BEGAN for line in self.passes),
            "firings": sum(account.new.task == durable.ECHO for account in accounts),
            "calls": self.network.calls,
            "faults": self.network.faults,
            "zombies refused": self.ledger.refused_zombies,
            "seconds simulated": self.clock.lease() // SECOND - 1000,
            "finals": sum(account.last in FINAL for account in accounts),
        }


def _told(at: int, process: str, call: Any, answer: Any) -> str:
    arguments = ", ".join(map(_short, call.arguments))
    return f"{at / SECOND:10.3f} {process}: {call.operation}({arguments}) → {_short(answer)}"


def _short(value: Any) -> str:
    """A record without the fields that say nothing."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, Beat):
        return value.id
    if not isinstance(value, msgspec.Struct):
        return f"{value}" if isinstance(value, StrEnum) else repr(value)
    fields = msgspec.structs.fields(value)
    said = ((field.name, getattr(value, field.name), field.default) for field in fields)
    told = ", ".join(f"{name}={_short(given)}" for name, given, default in said if given not in (default, b"", (), 0))
    return f"{type(value).__name__}({told})"


def run_seed(seed: int, make_store: MakeStore = make_memory_store, *, has_ledger: bool = True) -> Ran:
    """Run one seed."""
    world = World(seed, make_store, has_ledger=has_ledger)
    try:
        return world.run()
    finally:
        world.store.close()
