"""The base of the state machine: one store, its model, and how rules choose what to act on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from pynenc.core.reaction import FIRING
from pynenc.core.records import (
    Beat,
    Claimed,
    ClaimRequest,
    Ref,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.store.base import Store, Subscription
from pynenc.testing.clock import VirtualClock
from pynenc.testing.model.claiming import ClaimCheck
from pynenc.testing.model.comparing import Comparison
from pynenc.testing.model.row import Row, RunnerRow
from pynenc.testing.model.state import Model
from pynenc.testing.model.waiting import find_stuck
from pynenc.testing.store_suite.base import LEASE, Waker

S = InvocationStatus
#: Time that passes with each operation, in seconds; no multiple of it is a whole second, so nothing is ever due to the microsecond.
TICK = 0.0013

T = TypeVar("T", bound=Callable[..., Any])
numbers = st.integers(0, 1_000)


class Operation(NamedTuple):
    """How often an operation is tried, when it is possible, and what it draws."""

    weight: int
    when: Callable[[Any], object]
    draws: dict[str, st.SearchStrategy[Any]]


#: All operations by name; filled by :func:`operation`.
OPERATIONS: dict[str, Operation] = {}
#: Who may subscribe.
OWNERS = ("o1", "o2")


def operation(
    weight: int, when: Callable[[Any], object] = lambda _: True, **draws: st.SearchStrategy[Any]
) -> Callable[[T], T]:
    """Mark a method as an operation of the machine.

    Not a hypothesis rule of its own: hypothesis turns off most of many rules in each program, and then little gets done.
    """

    def register(method: T) -> T:
        OPERATIONS[method.__name__] = Operation(weight, when, draws)
        return method

    return register


def programs() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """One step: the name of an operation, by the weights of now, and what it draws."""
    return st.just(OPERATIONS).flatmap(
        lambda known: _names(tuple((name, operation.weight) for name, operation in known.items())).flatmap(_step)
    )


# Strategies are made once, as hypothesis examines each that is new to it.
@cache
def _names(weights: tuple[tuple[str, int], ...]) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, weight in weights for _ in range(weight)])


@cache
def _step(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(OPERATIONS[name].draws))


class Machine(RuleBasedStateMachine):
    """One store and its model: what all the rules use."""

    #: A folder for the store of one example.
    folder: Path
    store: Store

    def make_store(self, clock: VirtualClock) -> Store:
        """A new, empty store, opened."""
        raise NotImplementedError("return an empty store, opened")

    def kill_group(self, group: str) -> None:
        """Make the death of the process behind ``group`` certain."""
        raise NotImplementedError("make the store certain that the process behind this group is dead")

    def set_up(self) -> None:
        """A store with one runner, and its model."""
        self.folder = Path(tempfile.mkdtemp(prefix="pynenc-model-"))
        self.clock = VirtualClock()
        self.store = self.make_store(self.clock)
        self.model = Model(self.clock)
        self.next_id = 0
        self.refs: list[tuple[str, Ref]] = []
        self.watches: list[tuple[Waker, tuple[str, ...]]] = []
        self.waits: list[tuple[Subscription, Ref, tuple[str, ...]]] = []
        self.add_runner(is_supervised=False)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            rmtree(self.folder, ignore_errors=True)

    # -- choosing ----------------------------------------------------------------------------------------------------------
    def step(self) -> None:
        """An operation begins; a little time passes."""
        self.clock.advance(TICK)
        self.model.begin()

    def fresh(self, prefix: str) -> str:
        self.next_id += 1
        return f"{prefix}{self.next_id:03}"

    def living(self) -> list[str]:
        return [name for name, runner in self.model.runners.items() if not runner.is_dead]

    def runner(self, number: int) -> str:
        """A runner of a living process; its lease may have run out."""
        names = self.living()
        return names[number % len(names)]

    def any_row(self, number: int) -> Row:
        rows = list(self.model.rows.values())
        return rows[number % len(rows)]

    def claimed(self) -> list[Row]:
        """What living runners own."""
        names = self.living()
        return [row for row in self.model.rows.values() if row.place is Place.CLAIMED and row.runner in names]

    def claimed_by(self, request: ClaimRequest, batch: tuple[Claimed, ...]) -> None:
        ClaimCheck(self.model).check(request, batch)
        self.refs += [(request.runner, Ref(claimed.id, claimed.attempt)) for claimed in batch]

    def compare(self) -> None:
        """All readings agree, and whoever watches something final was woken."""
        Comparison(self.model).check(self.store)
        left = []
        for waker, ids in self.watches:
            finals = [name for name in ids if name in self.model.rows and self.model.rows[name].place is Place.FINAL]
            if finals:
                assert waker.came(), f"nobody was woken for {finals}"
            elif all(name in self.model.rows for name in ids):
                left.append((waker, ids))
        self.watches = left
        assert not (stuck := find_stuck(self.model)), f"{stuck} wait for ever, and nobody was told"

    def add_runner(self, *, is_supervised: bool) -> None:
        """A runner registers."""
        self.step()
        name = self.fresh("r")
        tasks = ("suite.t0", "suite.t1", *(f"{FIRING}{owner}" for owner in OWNERS))
        (orders,) = self.store.heartbeat(
            [Beat(id=name, group=f"group of {name}", lease=LEASE, supervised=is_supervised, tasks=tasks)]
        )
        assert (orders.alive, orders.cancel) == (True, ())
        now = self.clock.lease()
        self.model.runners[name] = RunnerRow(f"group of {name}", LEASE, now + LEASE, now, is_supervised)
        self.model.know(tasks)
        self.compare()
