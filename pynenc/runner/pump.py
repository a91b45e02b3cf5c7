"""The pump: what has a time, for one worker.

It is the thread that called ``Worker.run``. It marks long bodies RUNNING, gives back claimed work that cannot start
soon, ends bodies that are too long, reports progress, flushes what nobody else flushes, calls for the heartbeat and
looks for work in case a wake-up was lost. While bodies come and go it ticks; while all that runs has been seen it ticks
slowly; otherwise it *dozes* until the next thing is due, and the first claim wakes it.
"""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING

from pynenc.core.outcome import SECOND
from pynenc.core.records import Claimed, Progress, Ref
from pynenc.engine.execute import TimeUp
from pynenc.exceptions import StoreError, StoreGoneError
from pynenc.runner.body import BodySlot

if TYPE_CHECKING:
    from pynenc.context import Running
    from pynenc.runner.coroutines import AsyncSlot
    from pynenc.runner.worker import Worker

logger = logging.getLogger("pynenc.runner")

#: Seconds between two ticks while something runs that has not been seen yet, and while nothing new runs.
TICK, SLOW_TICK = 0.02, 0.1
#: Seconds after which a running body is marked RUNNING in the store.
MARK_AFTER = 0.02
#: Seconds for which the pump goes on ticking after it was woken, so that a steady trickle of short tasks need not wake it each time.
LINGER = 0.1
#: Seconds between two looks at the memory of the process.
MEMORY_EVERY = 1.0


class Pump:
    """The clockwork of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._turns = worker.turns
        self._slots = worker.slots
        self._tick = Condition(Lock())
        self._is_nudged = False
        self._poll_at = 0.0
        self._keep_at = 0.0
        self._memory_at = 0.0
        self._busy_until = 0.0

    def nudge(self) -> None:
        """Look around now; from any thread."""
        with self._tick:
            self._is_nudged = True
            self._tick.notify()

    def rouse(self) -> None:
        """Look around now, unless it will soon anyway."""
        if self._turns.is_watched:
            self.nudge()

    def step(self) -> None:
        """Sleep until something is due, then do all that is due."""
        now = time.monotonic()
        turns = self._turns
        turns.is_watched = True  # from here on, since the pause does not know what changes now
        pause = self._pause(now)
        with self._tick:
            turns.is_watched = pause > TICK
            was_nudged = self._is_nudged or self._tick.wait(pause)
            self._is_nudged = turns.is_watched = False
        now = time.monotonic()
        if was_nudged:
            self._busy_until = now + LINGER
        try:
            self._do_what_is_due(now)
        except StoreError as error:
            if isinstance(error, StoreGoneError) and not self._turns.beat.supervised:  # else its supervisor ends it
                raise
            if error.retryable:
                turns.hold(error)
            else:  # it says nothing of the rest
                logger.warning("the store refused what was told of running tasks: %s", error)

    def _do_what_is_due(self, now: float) -> None:
        turns, settings = self._turns, self._worker.settings
        if self._worker.is_active:
            self._watch_bodies(now)
        else:
            self._worker.has_unmarked = False
        if turns.is_overdue(now):
            turns.make(claims=False)
        if turns.buffer:
            if self._slots.free:
                self._slots.call(len(turns.buffer))
            elif now - turns.buffered_at > settings.stale:
                turns.give_back("no slot became free soon enough")
        self._worker.mind_coroutines(now)
        if now >= self._keep_at:
            self._keep_at = math.inf
            pause = self._worker.keep_up()
            if self._keep_at:  # nobody asked for the next time to be at once
                self._keep_at = now + pause
        if self._is_due(now):
            self._poll_at = now + settings.poll
            self._poll()
        if settings.max_tasks and turns.claimed >= settings.max_tasks:
            self._worker.recycle(f"it has claimed {turns.claimed} tasks")
        if settings.max_memory and now >= self._memory_at:
            self._memory_at = now + MEMORY_EVERY
            if resident_memory() > settings.max_memory:
                self._worker.recycle(f"it uses more than {settings.max_memory} bytes")

    def keep_up_now(self) -> None:
        """Let the next step look for orders."""
        self._keep_at = 0.0
        self.nudge()

    # -- when ------------------------------------------------------------------------------------------------------------
    def _pause(self, now: float) -> float:
        """Seconds until something is due."""
        turns = self._turns
        is_away = now < turns.retry_at
        if turns.outbox and not is_away:
            return self._worker.settings.flush
        pause = min(turns.retry_at or self._poll_at, self._keep_at) - now
        if turns.buffer or self._worker.has_unmarked or now < self._busy_until:
            pause = min(pause, TICK)
        elif self._worker.is_active:
            pause = min(pause, SLOW_TICK, self._worker.next_deadline - now)
        if turns.next_due and not is_away:
            pause = min(pause, (turns.next_due - self._worker.engine.store.clock.now()) / SECOND)
        return max(0.0, pause)

    def _is_due(self, now: float) -> bool:
        """Whether the store should answer again; else whether it is time for a poll, or an invocation became claimable by time."""
        turns = self._turns
        if turns.retry_at:
            return now >= turns.retry_at
        return now >= self._poll_at or 0 < turns.next_due <= self._worker.engine.store.clock.now()

    def _poll(self) -> None:
        """Look for work, in case a wake-up was lost or a time has come."""
        self._turns.next_due = 0
        self._turns.retry_at = 0.0
        self._slots.call()

    # -- bodies ----------------------------------------------------------------------------------------------------------
    def _watch_bodies(self, now: float) -> None:
        """Mark, report and time out what runs here."""
        worker = self._worker
        starts: list[BodySlot | AsyncSlot] = []
        news: list[tuple[Running, Progress]] = []
        has_unmarked = False
        is_away = now < self._turns.retry_at
        next_deadline = now + 3600.0
        for body in worker.bodies():
            claimed, running = body.claimed, body.running
            if claimed is None:
                continue
            if not body.marked:
                if now - body.since > MARK_AFTER:
                    starts.append(body)
                else:
                    has_unmarked = True
            if running is not None and (progress := running.progress) is not running.told and not is_away:
                news.append((running, progress))
            if isinstance(body, BodySlot) and body.deadline:
                next_deadline = min(next_deadline, max(body.deadline, now + TICK))
                if now > body.deadline:
                    self._time_out(body, claimed, now)
        worker.has_unmarked, worker.next_deadline = has_unmarked, next_deadline
        if starts and not is_away:
            self._mark(starts)
        if news:
            self._report(news)

    def _report(self, news: list[tuple[Running, Progress]]) -> None:
        """Write what bodies have reported. It is not told before: one that ends meanwhile writes it itself, before its outcome."""
        try:
            self._worker.engine.store.report(self._turns.beat.id, [progress for _, progress in news])
        except StoreError as error:
            if error.retryable:
                raise
            logger.warning("the store refused what running tasks have reported: %s", error)
        for running, progress in news:
            running.told = progress

    def _mark(self, bodies: list[BodySlot | AsyncSlot]) -> None:
        store = self._worker.engine.store
        refs = [Ref(claimed.id, claimed.attempt) for body in bodies if (claimed := body.claimed) is not None]
        store.start(self._turns.beat.id, refs, store.clock.now())
        for body in bodies:
            body.marked = True

    def _time_out(self, body: BodySlot, claimed: Claimed, now: float) -> None:
        """First ask the body; when that does not help, end the attempt and give its thread up (a process with one slot
        is killed by its supervisor instead).
        """
        settings = self._worker.settings
        if now < body.deadline + settings.cancel_grace:
            body.interrupt(claimed, TimeUp)
        elif settings.slots > 1 or not self._turns.beat.supervised:
            self._worker.give_up(body, claimed)


def resident_memory() -> int:
    """Bytes of memory that this process holds now (Linux), or held at most (elsewhere)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
