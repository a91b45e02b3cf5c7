"""What all clauses of the suite share: a fresh store for each test, and short words for what tests do with it.

Tests need no fixtures: the store is made in ``setup_method``, and every test ends with ``store.check()``, so each one also proves that what it
did left the store sound. Time is virtual; nothing sleeps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from threading import Event
from typing import Any, Protocol

from pynenc.core.records import (
    Amended,
    Beat,
    Change,
    ChangeKind,
    Claim,
    Claimed,
    ClaimRequest,
    Invocation,
    New,
    Orders,
    Outcome,
    Owner,
    Recovered,
    Ref,
    Submitted,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.store.base import Store
from pynenc.testing.clock import SECOND, VirtualClock

__all__ = [
    "APP_ID",
    "LEASE",
    "PATIENCE",
    "SECOND",
    "TASK",
    "Clause",
    "InvocationStatus",
    "Place",
    "Waker",
    "new",
    "raised_by",
    "ref",
    "request",
]

APP_ID = "suite"
TASK = "suite.task"
#: The lease of the runners of the suite, in microseconds.
LEASE = 15 * SECOND
#: Seconds to wait for a wake-up that must come; only a failing test waits so long.
PATIENCE = 10.0
#: The error that ``recover`` gives to what ends FAILED.
LOST_ERROR = b"worker lost"


class HasFence(Protocol):
    """Something that names an attempt: a claimed invocation or a ref."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def new(invocation_id: str, **fields: Any) -> New:
    """An invocation to submit; only its id must be said."""
    return New(**{"id": invocation_id, "task": TASK, "args": b"args of " + invocation_id.encode()} | fields)


def ref(claimed: HasFence) -> Ref:
    """The fence of a claimed invocation."""
    return Ref(claimed.id, claimed.attempt)


def owner(claimed: HasFence, runner: str = "r1") -> Owner:
    """Who writes for a claimed invocation."""
    return Owner(claimed.id, claimed.attempt, runner)


def request(runner: str = "r1", limit: int = 100, **fields: Any) -> ClaimRequest:
    """A claim by ``runner``."""
    return ClaimRequest(runner, limit, **fields)


class Waker:
    """A wake-up that remembers being called."""

    def __init__(self) -> None:
        self._event = Event()

    def __call__(self) -> None:
        self._event.set()

    def came(self) -> bool:
        """Whether a wake-up came since the last look; waits for one that is on its way."""
        found = self._event.wait(PATIENCE)
        self._event.clear()
        return found

    def forget(self) -> None:
        """Forget the wake-ups so far."""
        self._event.clear()

    def came_already(self) -> bool:
        """Whether a wake-up came, without waiting."""
        return self._event.is_set()


class Clause:
    """Base of the clauses. A store author implements :meth:`make_store` and :meth:`kill_group` in the subclass of the whole suite."""

    #: A folder of this test alone; removed afterwards.
    folder: Path
    clock: VirtualClock
    store: Store

    # -- what a store author provides ------------------------------------------------------------------------------------
    def make_store(self, clock: VirtualClock) -> Store:
        """A new, empty store of app :data:`APP_ID`, opened, that uses ``clock``."""
        raise NotImplementedError("return an empty store, opened")

    def kill_group(self, store: Store, group: str) -> None:
        """Make the death of a process that beat through ``store`` as ``group`` certain for everyone, as if it was killed."""
        raise NotImplementedError("make the store certain that the process behind this group is dead")

    # -- one store for each test -----------------------------------------------------------------------------------------
    def setup_method(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pynenc-suite-"))
        self.clock = VirtualClock()
        self._opened: list[Store] = []
        self.store = self.keep(self.make_store(self.clock))

    def teardown_method(self) -> None:
        try:
            problems = self.store.check()
        finally:
            for store in self._opened:
                store.close()
            rmtree(self.folder, ignore_errors=True)
        assert problems == []

    def keep(self, store: Store) -> Store:
        """Close ``store`` at the end of the test."""
        self._opened.append(store)
        return store

    # -- doing -------------------------------------------------------------------------------------------------------------
    def put(self, *ids: str, **fields: Any) -> list[Submitted]:
        """Submit invocations that share ``fields``."""
        return self.store.submit([new(invocation_id, **fields) for invocation_id in ids])

    def beat(self, runner: str = "r1", **fields: Any) -> Orders:
        """The first sign of life of a runner; ``group`` is its own id unless said otherwise."""
        values: dict[str, Any] = {"id": runner, "group": runner, "lease": LEASE, "tasks": (TASK,)}
        beat = Beat(**values | fields)
        return self.store.heartbeat([beat])[0]

    def renew(self, runner: str = "r1", **fields: Any) -> Orders:
        """A further sign of life: without tasks."""
        return self.beat(runner, **{"tasks": ()} | fields)

    def claim(self, limit: int = 100, runner: str = "r1", **fields: Any) -> tuple[Claimed, ...]:
        """Claim for a runner that has beaten."""
        return self.ask(limit, runner, **fields).batch

    def ask(self, limit: int = 100, runner: str = "r1", **fields: Any) -> Claim:
        """The whole answer to a claim."""
        return self.store.claim(request(runner, limit, **fields))

    def take(self, invocation_id: str, runner: str = "r1") -> Claimed:
        """Claim exactly this invocation."""
        batch = self.claim(1, runner, ids=(invocation_id,))
        assert [claimed.id for claimed in batch] == [invocation_id]
        return batch[0]

    def run(self, invocation_id: str, runner: str = "r1") -> Claimed:
        """Claim exactly this invocation and start it."""
        claimed = self.take(invocation_id, runner)
        assert self.store.start(runner, [ref(claimed)], self.clock.now()) == []
        return claimed

    def finish(
        self, claimed: HasFence, status: InvocationStatus = InvocationStatus.SUCCESS, runner: str = "r1", **fields: Any
    ) -> tuple[str, ...]:
        """End one attempt; the lost ids."""
        values: dict[str, Any] = {"id": claimed.id, "attempt": claimed.attempt, "status": status}
        outcome = Outcome(**values | {"ended": self.clock.now()} | fields)
        return self.store.finish(runner, [outcome]).lost

    def end(
        self, claimed: HasFence, status: InvocationStatus = InvocationStatus.SUCCESS, runner: str = "r1", **fields: Any
    ) -> None:
        """End one attempt that is not lost."""
        assert self.finish(claimed, status, runner, **fields) == ()

    def release(self, claimed: HasFence, runner: str = "r1", **fields: Any) -> None:
        """Give an attempt back."""
        self.end(claimed, InvocationStatus.REGISTERED, runner, **{"reason": "released", "ended": 0} | fields)

    def amend(self, invocation_id: str, kind: ChangeKind, **fields: Any) -> Amended:
        """Change one invocation as a person does."""
        (answer,) = self.store.amend([invocation_id], Change(kind, **fields))
        assert answer.id == invocation_id
        return answer

    def cancel(self, invocation_id: str, reason: str = "by hand") -> Amended:
        """Cancel one invocation."""
        return self.amend(invocation_id, ChangeKind.CANCEL, reason=reason)

    def requeue(self, invocation_id: str) -> None:
        """Put one invocation back to work, which must be accepted."""
        assert self.amend(invocation_id, ChangeKind.REQUEUE, reason="by hand").accepted

    def resume(self, invocation_id: str, value: bytes = b"") -> None:
        """Let a suspended invocation go on, which must be accepted."""
        assert self.amend(invocation_id, ChangeKind.RESUME, value=value).accepted

    def outlive(self, sweeper: str, seconds: float = 2.5 * LEASE / SECOND) -> None:
        """Let time pass while only ``sweeper`` renews its lease, in steps of a third of it."""
        passed, step = 0.0, LEASE / SECOND / 3
        while passed < seconds:
            self.clock.advance(step)
            self.renew(sweeper)
            passed += step

    def sweep(self, by: str = "sweeper", limit: int = 100) -> list[Recovered]:
        """Take back what runners that are gone still own."""
        return self.store.recover(by, limit, LOST_ERROR)

    # -- looking -----------------------------------------------------------------------------------------------------------
    def row(self, invocation_id: str) -> Invocation:
        """The invocation as readers see it."""
        (found,) = self.store.get([invocation_id])
        return found

    def status(self, invocation_id: str) -> InvocationStatus:
        return self.row(invocation_id).status

    def place(self, invocation_id: str) -> Place:
        return self.row(invocation_id).place

    def where(self, *ids: str) -> list[Place]:
        """The places of several invocations."""
        return [found.place for found in self.store.get(ids)]

    def trail(self, invocation_id: str) -> list[InvocationStatus]:
        """Its statuses so far, from the history."""
        return [entry.status for entry in self.store.history([invocation_id])]

    def names(self, batch: Sequence[Claimed]) -> list[str]:
        return [claimed.id for claimed in batch]

    def drain(self, runner: str = "r1") -> list[str]:
        """Claim and finish one by one until nothing is left; the ids in the order in which they were claimed."""
        order: list[str] = []
        while batch := self.claim(1, runner):
            order.append(batch[0].id)
            self.end(batch[0], runner=runner)
        return order


def raised_by(action: Callable[[], object], error: type[BaseException]) -> BaseException:
    """The error that ``action`` raises; fails when it raises none."""
    try:
        action()
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")
