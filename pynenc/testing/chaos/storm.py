"""One run of the chaos test, from the first process to the verdict."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from threading import Event

import msgspec

from pynenc.core.records import Filter, Page
from pynenc.core.status import FINAL, InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.store import open_store
from pynenc.store.base import Store
from pynenc.testing.chaos import verdict, witness
from pynenc.testing.chaos.books import TICKS, is_upcoming
from pynenc.testing.chaos.fleet import LEASE, Fleet, Managed
from pynenc.testing.chaos.ground import GROUNDS
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.report import Progress, Report

#: Seconds between two looks around, and between two readings of the store.
TICK, LOOK = 0.05, 0.5
#: Invocations that one client submits, and how many may wait before new clients are held back.
PORTION, BACKLOG = 800, 3000
#: Seconds after which a runner is at work.
SETTLED = 6.0
UNFINISHED = tuple(status for status in InvocationStatus if status not in FINAL)
#: Seconds without any progress after which what is left counts as stuck.
STILLNESS = 60.0
#: Seconds between two looks for workflows whose client did not live to send them their signal, once the storm is over.
POST_EVERY = 8.0
#: How much of the harm is done to the server and the way to it, where there is one.
GROUND_SHARE = 0.3


class ChaosPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what. ``harm_every`` is the mean time between two acts of the nemesis, in seconds; ``store`` one of
    :data:`~pynenc.testing.chaos.ground.GROUNDS`; ``imports`` names modules that all processes import besides.
    """

    seed: int
    invocations: int = 20_000
    runners: int = 4
    clients: int = 3
    harm_every: float = 0.6
    store: str = "sqlite"
    folder: Path | None = None
    imports: tuple[str, ...] = ()


def run_chaos(plan: ChaosPlan, progress: Progress) -> Report:
    """Run the storm in a temporary folder; the folder is kept when something was wrong."""
    folder = plan.folder or Path(tempfile.mkdtemp(prefix="pynenc-chaos-"))
    storm = Storm(plan, folder, progress)
    try:
        report = storm.run()
    finally:
        storm.close()
    if report.violations:
        report.trace = [f"-- everything that was written is in {folder}"]
    elif plan.folder is None:
        rmtree(folder)
    return report


class Storm:
    """The state of one run."""

    def __init__(self, plan: ChaosPlan, folder: Path, progress: Progress) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)
        self._ground = GROUNDS[plan.store](folder)
        self.fleet = Fleet(folder, self._ground.url, random.Random(plan.seed + 1), plan.imports)
        self.store: Store = open_store(self._ground.calm_url, "chaos")
        self.store.open()
        self._folder = folder
        self._progress = progress
        self._pause = Event()
        self._submitted = 0
        self._finals = 0
        self._total = 0
        #: How many have ended that show that things move: all but ticks.
        self._moved = 0
        self._look_at = 0.0
        self._harm_at = 0.0
        self._executions: dict[int, float] = {}
        self._acts: dict[str, int] = {}

    def run(self) -> Report:
        """The storm, the calm, the verdict."""
        started = time.monotonic()
        report = Report(f"chaos {self.plan.store}", str(self.plan.seed))
        for _ in range(self.plan.runners):
            self.fleet.start_runner()
        self._harm_at = started + 1.0
        while self._submitted < self.plan.invocations or any(client.is_alive for client in self.fleet.clients):
            self._tick()
        storm = time.monotonic() - started
        self._calm()
        report.violations += self._accidents()
        self.fleet.end()
        report.violations += self._accidents()
        verdict.judge(report, self.store, witness.read(self._folder), self.fleet.hits, self._ground.forgot)
        report.figures |= {"harm: " + act: count for act, count in sorted(self._acts.items())}
        report.figures["seconds of storm"] = round(storm, 1)
        report.seconds = time.monotonic() - started
        report.violations = list(dict.fromkeys(report.violations))
        return report

    def close(self) -> None:
        """Leave nothing behind."""
        self.fleet.close()
        self.store.close()
        self._ground.close()

    # -- the storm ---------------------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        self._pause.wait(TICK)
        now = time.monotonic()
        self.fleet.go_on()
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._look()
            self._supply()
        self._execute(now)
        if now >= self._harm_at:
            self._harm_at = now + self.random.expovariate(1 / self.plan.harm_every)
            self._harm()

    def _look(self) -> bool:
        """Read how far things are; whether everything that is stored has ended, but for the next tick."""
        try:
            counts, ticks = self.store.count(Filter()), sum(self.store.count(Filter(tasks=TICKS)).values())
            is_over = all(map(is_upcoming, self.store.find(Filter(statuses=UNFINISHED), Page(10)).invocations))
        except StoreError:
            return False
        self._total = sum(counts.values())
        self._finals = sum(number for status, number in counts.items() if InvocationStatus(status) in FINAL)
        self._moved = self._finals - ticks
        self._progress(f"chaos {self.plan.store}", self._finals, max(self.plan.invocations, self._total))
        return is_over

    def _supply(self) -> None:
        """Start clients while more is wanted and not too much waits; some are killed before they are done."""
        alive = sum(client.is_alive for client in self.fleet.clients)
        self._submitted = self._total if alive == 0 else min(self._total, self.plan.invocations - 1)
        is_wanted = self._total + alive * PORTION / 2 < self.plan.invocations
        if is_wanted and alive < self.plan.clients and self._total - self._finals < BACKLOG:
            client = self.fleet.start_client(min(PORTION, self.plan.invocations - self._total))
            if self.random.random() < 0.3:
                self._executions[client.pid] = client.started + 1.0 + self.random.random() * 3.0

    def _execute(self, now: float) -> None:
        """Kill the clients whose time has come."""
        for client in self.fleet.clients:
            if client.is_alive and self._executions.get(client.pid, now + 1) <= now:
                self._count("client killed", client.name)
                client.kill()

    def _harm(self) -> None:
        living = self.fleet.living()
        if len(living) < self.plan.runners:
            self._count("runner started", self.fleet.start_runner().name)
        elif self._ground.harms and self.random.random() < GROUND_SHARE:
            act = self.random.choice(self._ground.harms)(self.random)
            self._count(act, self.plan.store)
        else:
            self.random.choice(_HARM)(self, self.random.choice(living))

    def _count(self, act: str, name: str) -> None:
        """Count what was done, and write down when."""
        self._acts[act] = self._acts.get(act, 0) + 1
        with (self._folder / "storm.log").open("a") as log:
            log.write(f"{time.time():.3f} {act}: {name}\n")

    def _kill_runner(self, runner: Managed) -> None:
        """Only while others are at work, so that what is measured is recovery and not the start of a process."""
        settled = sum(other.age > SETTLED and not other.stopped for other in self.fleet.living())
        if settled <= self.plan.runners // 2:
            return
        self._count("runner killed", runner.name)
        self.fleet.kill_runner(runner)

    def _kill_child(self, runner: Managed) -> None:
        self._count("child killed", runner.name)
        self.fleet.kill_child(runner)

    def _stop(self, runner: Managed) -> None:
        if sum(bool(other.stopped) for other in self.fleet.living()) > 1:
            return
        seconds = LEASE * (0.5 + 2.5 * self.random.random())
        self._count("stopped", f"{runner.name} for {seconds:.1f} s")
        self.fleet.stop(runner, seconds)

    # -- the calm ----------------------------------------------------------------------------------------------------------
    def _calm(self) -> None:
        """Let everybody go on, with runners enough, until all has ended or nothing moves any more."""
        self.fleet.go_on(everybody=True)
        for _ in range(self.plan.runners - len(self.fleet.living())):
            self.fleet.start_runner()
        self.fleet.start_client(0).process.wait()
        posted = moved = time.monotonic()
        ended = -1
        while not self._look() and time.monotonic() - moved < STILLNESS:
            if self._moved != ended:
                moved, ended = time.monotonic(), self._moved
            if time.monotonic() - posted >= POST_EVERY:
                posted = time.monotonic()
                self.fleet.start_client(0)
            self._pause.wait(LOOK / 2)

    def _accidents(self) -> list[Violation]:
        """Processes that ended without having been killed."""
        return [
            Violation(Kind.UNSOUND, f"{managed.name} ended with {managed.process.poll()}:\n{managed.tail()}")
            for managed in (*self.fleet.runners, *self.fleet.clients)
            if managed.has_failed
        ]


_HARM: tuple[Callable[[Storm, Managed], None], ...] = (
    Storm._kill_runner,
    Storm._kill_child,
    Storm._kill_child,
    Storm._stop,
    Storm._stop,
)
