"""Runners of the simulation: one that is its own supervisor, and one with children, as in :mod:`pynenc.runner`.

What they decide is what the real ones decide: leases are renewed and lost work is taken back from time to time; a supervisor reads from the board of a dead
child what it ran, and settles it: released, suspected or counted as a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Alone, Beat, Claimed, Orders, Outcome
from pynenc.exceptions import StoreError
from pynenc.testing.clock import SECOND
from pynenc.testing.simulation.schedule import Process, Request, Sleep, Steps, call, insist
from pynenc.testing.simulation.script import KINDS
from pynenc.testing.simulation.worker import Place, Worker

LEASE = 3 * SECOND
#: Seconds between two heartbeats.
BEAT = 1.0
TASKS = tuple(f"t.{kind}" for kind in KINDS)
RECOVER_BATCH = EXPIRE_BATCH = 3


class Surroundings(Place, Protocol):
    """What a runner knows of the world around it."""

    def declare_dead(self, group: str) -> None: ...


class Runner(Protocol):
    """What the nemesis can do to a runner. ``processes`` are those that live."""

    process: Process

    @property
    def is_staying(self) -> bool:
        """Whether it lives, was not told to stop, and can run everything."""
        ...

    def processes(self) -> list[Process]: ...

    def kill(self, process: Process, *, is_certain: bool) -> None: ...

    def stop(self) -> None: ...


def keep_up(runner: str) -> Generator[Request, Any, None]:
    """Take back what runners that are gone still own, and end what expired."""
    try:
        yield from call("recover", runner, RECOVER_BATCH, b"worker lost")
        yield from call("expire", EXPIRE_BATCH)
    except StoreError:
        pass


class Solo:
    """A runner without a supervisor."""

    def __init__(self, place: Surroundings, name: str) -> None:
        self.place = place
        self.process = Process(name)
        self.worker: Worker | None = None
        tasks = TASKS if place.random.random() < 0.85 else TASKS[1:]
        self._beat = Beat(id=name, group=name, lease=LEASE, slots=place.random.randint(1, 3), tasks=tasks)
        self._is_over = False
        place.scheduler.start(self.process, self._keep())

    @property
    def is_staying(self) -> bool:
        is_stopping = self.worker is not None and self.worker.is_stopping
        return not (self.process.is_dead or is_stopping) and self._beat.tasks == TASKS

    def processes(self) -> list[Process]:
        return [] if self.process.is_dead else [self.process]

    def kill(self, process: Process, *, is_certain: bool) -> None:
        """End it, with or without anyone knowing for sure."""
        process.is_dead, process.is_atomic = True, is_certain
        if is_certain:
            group = self.worker.beat.group if self.worker else self._beat.group
            self.place.declare_dead(group)

    def stop(self) -> None:
        if self.worker:
            self.worker.stop()

    def _keep(self) -> Steps:
        yield from insist("heartbeat", [self._beat])
        worker = self.worker = Worker(
            self.place, self.process, self._beat, lambda: self.kill(self.process, is_certain=True), self._end
        )
        while not self._is_over:
            yield Sleep(BEAT)
            yield from self._renew(worker)
            yield from keep_up(worker.beat.id)
        yield from insist("retire", [worker.beat.id])
        self.process.is_dead = True

    def _end(self) -> None:
        self._is_over = True

    def _renew(self, worker: Worker) -> Generator[Request, Any, None]:
        asked = worker.beat
        try:
            (orders,) = yield from call("heartbeat", [asked])
        except StoreError:
            return
        if orders.alive:
            worker.cancels.update(orders.cancel)
            worker.suspects = worker.suspects or orders.suspects
        elif asked == worker.beat:
            worker.renew_identity()


class Child:
    """A worker process of a supervisor."""

    def __init__(self, beat: Beat, process: Process, worker: Worker) -> None:
        self.beat = beat
        self.process = process
        self.worker = worker
        self.exited = False


class Supervisor:
    """A runner with ``count`` children; it dies with none of them left."""

    def __init__(self, place: Surroundings, name: str, count: int = 2) -> None:
        self.place = place
        self.process = Process(name)
        self.children: dict[str, Child] = {}
        self._group = Beat(id=name, group=name, lease=LEASE)
        self._count = count
        self._names = 0
        self._suspects = False
        self._is_stopping = False
        place.scheduler.start(self.process, self._keep())

    @property
    def is_staying(self) -> bool:
        return not (self.process.is_dead or self._is_stopping)

    def processes(self) -> list[Process]:
        children = [child.process for child in self.children.values() if not child.process.is_dead]
        return [] if self.process.is_dead else [self.process, *children]

    def kill(self, process: Process, *, is_certain: bool) -> None:
        """End one process; children die with their supervisor, who notices the death of a child."""
        process.is_dead, process.is_atomic = True, is_certain
        if process is not self.process:
            child = next(child for child in self.children.values() if child.process is process)
            self.place.scheduler.after(self.place.random.random() * 0.25, lambda: self._notice(child))
            return
        for child in self.children.values():
            child.process.is_dead, child.process.is_atomic = True, is_certain
        if is_certain:
            self.place.declare_dead(self._group.id)

    def stop(self) -> None:
        self._is_stopping = True
        for child in self.children.values():
            child.worker.stop()

    # -- the loop ----------------------------------------------------------------------------------------------------------
    def _keep(self) -> Steps:
        yield from insist("heartbeat", [self._group])
        while self.children or not self._is_stopping:
            if not self._is_stopping:
                yield from self._start_missing()
            yield Sleep(BEAT)
            yield from self._renew()
            yield from keep_up(self._group.id)
        yield from insist("retire", [self._group.id])
        self.process.is_dead = True

    def _start_missing(self) -> Generator[Request, Any, None]:
        regular = sum(child.worker.alone is Alone.NEVER for child in self.children.values())
        for _ in range(self._count - regular):
            yield from self._start(self.place.random.randint(1, 3), Alone.NEVER)
        if self._suspects and regular == len(self.children):
            self._suspects = False
            yield from self._start(1, Alone.ONLY)

    def _start(self, slots: int, alone: Alone) -> Generator[Request, Any, None]:
        self._names += 1
        name = f"{self._group.id}/{self._names}"
        beat = Beat(id=name, group=self._group.id, lease=LEASE, supervised=True, slots=slots, tasks=TASKS)
        yield from insist("heartbeat", [self._group, beat])
        process = Process(name)
        worker = Worker(self.place, process, beat, lambda: self._crashed(child), lambda: self._left(child), alone)
        child = self.children[name] = Child(beat, process, worker)

    def _crashed(self, child: Child) -> None:
        self.kill(child.process, is_certain=True)

    def _left(self, child: Child) -> None:
        child.exited = True
        self.kill(child.process, is_certain=True)

    def _renew(self) -> Generator[Request, Any, None]:
        children = list(self.children.values())
        try:
            answers = yield from call("heartbeat", [self._group, *(child.beat for child in children)])
        except StoreError:
            return
        if not answers[0].alive:
            self._renew_group()
        for child, orders in zip(children, answers[1:], strict=True):
            self._obey(child, orders)

    def _renew_group(self) -> None:
        name = f"{self._group.id.split('~')[0]}~{self.place.random.getrandbits(24):x}"
        self._group = msgspec.structs.replace(self._group, id=name, group=name)
        for child in self.children.values():
            child.beat = msgspec.structs.replace(child.beat, group=name)

    def _obey(self, child: Child, orders: Orders) -> None:
        self._suspects = self._suspects or orders.suspects
        if not orders.alive and not child.process.is_dead:
            self.kill(child.process, is_certain=True)
        child.worker.cancels.update(orders.cancel)

    # -- death -------------------------------------------------------------------------------------------------------------
    def _notice(self, child: Child) -> None:
        self.place.scheduler.start(self.process, self._bury(child))

    def _bury(self, child: Child) -> Steps:
        """Settle what a dead child owned; if the store does not answer, its lease runs out."""
        self.children.pop(child.beat.id, None)
        runner = child.beat.id
        try:
            owned: list[Claimed] = yield from call("owned", runner)
            if owned:
                running = set(child.worker.running) - child.worker.parked
                outcomes = [self._fate(claimed, running, is_exit=child.exited) for claimed in owned]
                self._suspects = self._suspects or any(ended.alone for ended in outcomes)
                yield from call("finish", runner, outcomes)
            yield from call("retire", [runner])
        except StoreError:
            pass

    def _fate(self, claimed: Claimed, running: set[tuple[str, int]], *, is_exit: bool) -> Outcome:
        if is_exit or (claimed.id, claimed.attempt) not in running:
            return outcome.released(claimed, "its process died")
        if len(running) > 1:
            return outcome.released(claimed, "shared a process that died", alone=True)
        return outcome.crashed(claimed, "killed", b"worker lost", self.place.scheduler.clock.now())


RUNNERS: tuple[Callable[[Surroundings, str], Runner], ...] = (Solo, Supervisor)
