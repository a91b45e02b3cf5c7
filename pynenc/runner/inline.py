"""The inline runner: drains the real engine on the calling thread, in the order of the store. For development mode and
tests.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from contextvars import copy_context
from functools import partial

from pynenc import context
from pynenc.core.outcome import SECOND
from pynenc.core.records import (
    UNKNOWN_TASK,
    Beat,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Invocation,
    Microseconds,
    Outcome,
    Page,
    Progress,
    Ref,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.engine import Engine
from pynenc.engine.loops import is_on_loop
from pynenc.engine.suspension import DIFFERS
from pynenc.exceptions import NonDeterminismError, WorkflowError, WorkflowPauseError
from pynenc.store.base import SystemClock
from pynenc.workflow.replay import ADVICE

LEASE = 365 * 24 * 3600 * SECOND
#: Holders of one running key that are looked at.
MOST_HOLDERS = 10_000


class SkipClock(SystemClock):
    """The system's clock with the waiting cut out: it can be moved forward."""

    def __init__(self) -> None:
        self._ahead: Microseconds = 0

    def now(self) -> Microseconds:
        return super().now() + self._ahead

    def skip_to(self, time: Microseconds) -> bool:
        """Be at ``time`` now, unless it is past already; it always is possible."""
        self._ahead += max(0, time - self.now())
        return True


class InlineSlot(context.Slot):
    """The slot of a body on the calling thread; while it waits, the runner works on what it waits for. Nothing happens there by waiting longer."""

    patience = 0.001
    is_supervised = True

    def __init__(self, runner: InlineRunner) -> None:
        self._runner = runner

    def park(self, ids: Sequence[str] = (), _turn: object = None, /) -> None:
        """Nobody else will do the work: do it now. A workflow can be suspended until the time for it has come, other bodies cannot."""
        running = context.current()
        if running is not None and running.flow is not None and running.flow.records_calls:
            self._runner.drive(ids, may_skip=False)
            return
        self._runner.waiting += 1
        try:
            self._runner.drive(ids)
            self._runner.refuse_to_hang(ids)
        finally:
            self._runner.waiting -= 1

    def unpark(self, _turn: object = None, /) -> None:
        """The thread is its own."""

    async def unpark_async(self) -> None:
        """The thread is its own."""


class InlineRunner:
    """Runs invocations one after the other.

    :param advance: called with the time at which the next invocation is due; moves the clock of the store there, or
    returns False to stop instead. :ivar waiting: how many bodies wait for what is run now.
    """

    def __init__(self, engine: Engine, advance: Callable[[Microseconds], bool] = lambda _: False) -> None:
        self._engine = engine
        self._advance = advance
        self._id = f"inline-{secrets.token_hex(4)}"
        self.executed = 0
        self.waiting = 0
        engine.store.heartbeat([Beat(id=self._id, group=self._id, lease=LEASE, kind="InlineRunner", slots=1)])

    def run(self, invocation_id: str) -> None:
        """Run this invocation to its end, retries included."""
        self.drive((invocation_id,))

    def drain(self) -> int:
        """Run until nothing is claimable, at all times that may come; how many bodies were run."""
        before = self.executed
        self.drive(())
        return self.executed - before

    def call(self, invocation_id: str) -> None:
        """What development mode does with a call: run it, unless a body has scheduled it for later; then what is claimable now."""
        if context.current() is None or not self._is_scheduled(invocation_id):
            self.run(invocation_id)
        while self._run_next(()).batch:
            pass

    def _is_scheduled(self, invocation_id: str) -> bool:
        """Whether a call waits for the time that it asked for, not for its rate."""
        row = self._engine.get(invocation_id)
        return row.place is Place.LATER and row.rate is None

    def drive(self, ids: Sequence[str], *, may_skip: bool = True) -> None:
        """Run until one of ``ids`` is final, or nothing can be done for that; without ids until nothing is left.

        They come first, others when none of them is claimable. Time passes only when one of them needs it; what is due until then runs at its time.
        """
        while not self._engine.store.finals(ids):
            claim = self._run_next(ids)
            if not claim.batch and ids:
                claim = self._run_next(())
            due = claim.next_due
            if not claim.batch and not (due and may_skip and self._is_worth_waiting(ids, due) and self._advance(due)):
                return

    def _run_next(self, ids: Sequence[str]) -> Claim:
        claim = self._engine.store.claim(ClaimRequest(self._id, 1, ids=tuple(ids)))
        for claimed in claim.batch:
            self._run(claimed)
        return claim

    def refuse_to_hang(self, ids: Sequence[str]) -> None:
        """Say so when the only way on is that somebody resumes or signals what ``ids`` need.

        :raises WorkflowPauseError: that is so. :raises NonDeterminismError: their code and record differ.
        """
        level, seen = list(ids), set(ids)
        if not ids or self._engine.store.finals(ids):
            return
        while level:
            rows = self._engine.store.get(level)
            for row in rows:
                if row.place is Place.WAITING and not row.due and not row.waiting_for:
                    raise _stuck(row)
            level = [name for row in rows for name in row.waiting_for if name not in seen]
            seen.update(level)

    def _is_worth_waiting(self, ids: Sequence[str], due: Microseconds) -> bool:
        """Whether one of ``ids``, or something that it waits for, waits for a time that is not before ``due``."""
        level, seen = list(ids), set(ids)
        while level:
            rows = self._engine.store.get(level)
            if any(_waits_for(row, due) for row in rows):
                return True
            level = [name for row in rows for name in self._in_the_way(row) if name not in seen]
            seen.update(level)
        return not ids

    def _in_the_way(self, row: Invocation) -> Iterable[str]:
        """What must end before ``row``: what its body waits for, or who has its running key."""
        if row.place is not Place.PARKED or row.running_key is None:
            return row.waiting_for
        claimed = Filter(running_key=row.running_key, statuses=(InvocationStatus.PENDING, InvocationStatus.RUNNING))
        return [holder.id for holder in self._engine.store.find(claimed, Page(limit=MOST_HOLDERS)).invocations]

    def _run(self, claimed: Claimed) -> None:
        self.executed += 1
        running = self._engine.executor.running(claimed, self._id, InlineSlot(self))
        running.report = self._report
        run = partial(self._engine.executor.run, claimed, running)
        with self._on_top(claimed):
            self._engine.store.finish(self._id, [_off_the_loop(run) if is_on_loop() else run()])

    def _report(self, progress: Progress) -> None:
        self._engine.store.report(self._id, [progress])

    def _on_top(self, claimed: Claimed) -> AbstractContextManager[object]:
        """A body on whose thread another one runs waits for its end: so the store refuses that this one waits for it. A workflow is suspended instead."""
        below, spec = context.current(), self._engine.executor.resolve(claimed.task)
        if below is None or below.engine is not self._engine or spec is None or spec.is_workflow:
            return nullcontext()
        waiter = Ref(below.id, below.attempt)
        return closing(self._engine.store.watch([claimed.id], _nobody_sleeps, waiter=waiter))


def _nobody_sleeps() -> None: ...


def _off_the_loop(run: Callable[[], Outcome]) -> Outcome:
    """Run what an async body waits for on a thread of its own: there it may wait, as with any runner."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, run).result()


def _stuck(row: Invocation) -> WorkflowError:
    """What is wrong with a run that only a person can let go on."""
    if row.reason.startswith(DIFFERS):
        return NonDeterminismError(f"{row.task} {row.id}: {row.reason}: {ADVICE}")
    return WorkflowPauseError(
        f"{row.task} {row.id} is paused ({row.reason or 'without a reason'}) and nobody else is here to let it go on: "
        "call invocation.resume(value) or invocation.signal(name, value) first"
    )


def _waits_for(row: Invocation, due: Microseconds) -> bool:
    """Whether ``row`` waits for a time that is not before ``due``, or, behind a rate, for one that only the store knows."""
    if row.place is Place.PARKED:
        return row.rate is not None and row.reason != UNKNOWN_TASK
    return row.place in (Place.LATER, Place.WAITING) and row.due >= due
