"""The worker loop: claim, run, finish; one for all runners.

Theory of operation
-------------------
``n`` threads run bodies; none of them is a dispatcher. A thread that holds a token takes the next claimed invocation from the buffer, runs it and puts its
outcome into the outbox. When the buffer is empty, or the oldest outcome has waited long enough, the same thread makes one *turn*: one store
operation that writes the outbox and claims again. So no-op tasks cost one transaction a batch and no hand-over between threads, and a lone task is written the moment it ends.

A thread that finds nothing to claim gives its token back and sleeps until it is signalled: by the store (new work), by a body that lends its token, or by
the *pump*. The pump is the thread that called :meth:`Worker.run`. It does what has a time: marks long bodies RUNNING, gives back claimed work that cannot
start soon, ends bodies that are too long, tells bodies about cancellation, reports progress, flushes what nobody else flushes, beats, and does the upkeep. It ticks while
something runs and otherwise sleeps until the next thing is due.

How much is claimed ahead follows the measured duration of bodies: about ``AHEAD`` seconds of work, nothing at all while a body of this worker waits for others
(its children must come first, in the order that the store knows).

A lost lease (``RunnerLostError``) gives the worker a new identity: outcomes of the old one are refused by the store, which logs and drops them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread, current_thread, get_ident
from typing import Any, Protocol

import msgspec

from pynenc import context
from pynenc.core import outcome
from pynenc.core.outcome import SECOND
from pynenc.core.queueing import QueuePolicy, shares
from pynenc.core.records import Alone, Beat, Claim, Claimed, ClaimRequest, Outcome, Progress, Ref
from pynenc.engine import Engine
from pynenc.engine.execute import HandBack
from pynenc.exceptions import RunnerLostError, StoreError, TaskTimeoutError
from pynenc.runner.bodies import AsyncBodies
from pynenc.runner.slots import Slots

logger = logging.getLogger("pynenc.runner")

#: Seconds of work to claim ahead.
AHEAD = 0.05
#: Seconds that an outcome may wait for company.
FLUSH = 0.005
#: Seconds between two ticks of the pump while something runs.
TICK = 0.02
#: Seconds after which a running body is marked RUNNING in the store.
MARK_AFTER = 0.02
#: Seconds that claimed work may wait for a slot before others get it.
STALE = 0.2
#: Every so many turns the claim goes by age alone, so that low priorities move.
AGED_EVERY = 16
#: Idle threads that are kept for the next body that waits.
SPARE_THREADS = 16


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works: counts, and times in seconds."""

    slots: int = 1
    coroutines: int = 0
    queues: tuple[str, ...] = ()
    policy: QueuePolicy = QueuePolicy()
    max_ahead: int = 256
    poll: float = 1.0
    burst: bool = False
    max_tasks: int = 0
    max_memory: int = 0
    shutdown_timeout: float = 30.0
    cancel_grace: float = 5.0
    alone: Alone = Alone.NEVER


class Execute(Protocol):
    """Runs one claimed invocation on the calling thread."""

    def __call__(self, claimed: Claimed, slot: BodySlot, /) -> Outcome: ...


class Board(Protocol):
    """Where a supervisor sees what a worker runs, also after the worker's death."""

    def enter(self, index: int, claimed: Claimed, deadline: int) -> None: ...

    def leave(self, index: int) -> None: ...

    def lend(self, index: int, is_parked: bool, /) -> None: ...


class BodySlot:
    """What one thread runs now; the pump reads it, the thread writes it."""

    __slots__ = (
        "abandoned",
        "claimed",
        "deadline",
        "index",
        "marked",
        "running",
        "since",
        "stopping",
        "thread_id",
        "worker",
    )

    def __init__(self, worker: Worker, index: int) -> None:
        self.worker = worker
        self.index = index
        self.thread_id = get_ident()
        self.claimed: Claimed | None = None
        self.running: context.Running | None = None
        self.since = 0.0
        self.deadline = 0.0
        self.marked = False
        self.abandoned = False
        self.stopping = False

    def park(self) -> None:
        self.worker.park(self)

    def unpark(self) -> None:
        self.worker.unpark(self)

    async def unpark_async(self) -> None:
        self.worker.unpark(self)


class Worker:
    """One loop over one store, with its own slots.

    :param beat: its identity; ``beats`` says whether it renews the lease itself (a supervisor does it for its children).
    :param execute: how a body runs; by default on the slot's own thread.
    """

    def __init__(
        self,
        engine: Engine,
        settings: WorkerSettings,
        beat: Beat,
        *,
        beats: Callable[[Worker], None] | None = None,
        execute: Execute | None = None,
        board: Board | None = None,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.beat = beat
        self.slots = Slots(settings.slots)
        self.finished = 0
        self.is_stopping = False
        self._store = engine.store
        self._resolve = engine.executor.resolve
        self._beats = beats
        self._execute: Execute = execute or self._run_here
        self._ahead_allowed = settings.max_ahead if execute is None else 0
        self._board = board
        self._buffer: deque[Claimed] = deque()
        self._buffered_at = 0.0
        self._outbox: list[Outcome] = []
        self._oldest = 0.0
        self._mean = AHEAD
        self._turns = 0
        self._turn_lock = Lock()
        self._wakeups = Condition(Lock())
        self._signals = 0
        self._idle_threads = 0
        self._thread_count = 0
        self._bodies: dict[int, BodySlot] = {}
        self._next_due = 0
        self._suspects = False
        self._tick = Condition(Lock())
        self._ticked = False
        self._drained = False
        self._failures = 0
        self._retry_at = 0.0
        self._poll_at = 0.0
        self._coroutines = AsyncBodies(self) if settings.coroutines else None
        self._listener: Any = None
        self.woken = False

    # -- life ---------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Work until :meth:`stop`, or until there is nothing left (``burst``)."""
        self._listener = self._store.listen(self.settings.queues, self._on_wake)
        if self._coroutines:
            self._coroutines.start()
        self.engine.hooks.fire("worker_start")
        try:
            for _ in range(self.settings.slots):
                self._spawn()
            self._signal()
            while not (self.is_stopping or self._drained):
                self._pump()
            self._shut_down()
        finally:
            self._listener.close()
            if self._coroutines:
                self._coroutines.close()
            self.engine.hooks.fire("worker_stop")

    def stop(self) -> None:
        """Begin a graceful stop; from any thread or a signal handler's thread."""
        self.is_stopping = True
        self.nudge()

    def nudge(self) -> None:
        """Let the pump look around now."""
        with self._tick:
            self._ticked = True
            self._tick.notify()

    # -- threads ------------------------------------------------------------------------------------------------------
    def _spawn(self) -> None:
        with self._wakeups:
            self._thread_count += 1
            number = self._thread_count
        Thread(target=self._thread, name=f"pynenc-slot-{number}", daemon=True).start()

    def _thread(self) -> None:
        """A thread: sleep until signalled, work while there is something to do."""
        me = BodySlot(self, len(self._bodies))
        self._bodies[get_ident()] = me
        try:
            while self._sleep():
                if self.slots.take():
                    self._work(me)
                if me.abandoned:
                    return
        finally:
            self._bodies.pop(get_ident(), None)

    def _sleep(self) -> bool:
        """Wait for a signal; false when this thread is not needed any more."""
        with self._wakeups:
            if self._idle_threads >= self.settings.slots + SPARE_THREADS:
                return False
            self._idle_threads += 1
            try:
                while not self._signals and not self.is_stopping:
                    self._wakeups.wait()
                if self.is_stopping:
                    return False
                self._signals -= 1
                return True
            finally:
                self._idle_threads -= 1

    def _on_wake(self) -> None:
        """The store has work, or an order for a body that runs here."""
        self._signal()
        if self._bodies_run():
            self.woken = True
            self.nudge()

    def body_ended(self) -> None:
        """A coroutine put an outcome: somebody has to write it."""
        self._signal()

    def _bodies_run(self) -> bool:
        return bool(self.slots.busy or self.slots.parked or (self._coroutines and self._coroutines.active))

    def _signal(self, count: int = 1) -> None:
        """Wake idle threads; one signal is kept for a thread that is about to sleep."""
        with self._wakeups:
            self._signals = min(self._signals + count, max(1, self._idle_threads))
            self._wakeups.notify(count)

    def _work(self, me: BodySlot) -> None:
        """Run bodies while holding a token, until there are none or a waiting body wants the token."""
        slots, buffer = self.slots, self._buffer
        while not (slots.wanted or self.is_stopping):
            try:
                claimed = buffer.popleft()
            except IndexError:
                if self._turn():
                    continue
                break
            self._run(claimed, me)
            if me.abandoned:
                return
        if self._outbox:
            self._turn(claims=False)
        slots.give()

    # -- one body -----------------------------------------------------------------------------------------------------
    def _run(self, claimed: Claimed, me: BodySlot) -> None:
        spec = self._resolve(claimed.task)
        if spec is not None and spec.is_async and self._coroutines:
            self._coroutines.submit(spec, claimed)
            return
        started = time.monotonic()
        me.since = started
        me.deadline = started + claimed.timeout / SECOND if claimed.timeout else 0.0
        me.marked = False
        me.running = None
        me.claimed = claimed
        if self._board:
            self._board.enter(
                me.index, claimed, int((me.deadline + self.settings.cancel_grace) * SECOND) if me.deadline else 0
            )
        ended = self._guarded(claimed, me)
        me.claimed = None
        if self._board:
            self._board.leave(me.index)
        if me.abandoned:
            return
        now = time.monotonic()
        self._mean += 0.1 * (now - started - self._mean)
        self.put(ended)
        if self._is_overdue(now):
            self._turn()

    def _guarded(self, claimed: Claimed, me: BodySlot) -> Outcome:
        """An exception that the pump raised in this thread a moment too late must not reach the loop."""
        try:
            return self._execute(claimed, me)
        except (TaskTimeoutError, HandBack):
            return self._guarded_late(claimed)

    def _guarded_late(self, claimed: Claimed) -> Outcome:
        return self.engine.executor.timed_out(claimed, self._store.clock.now())

    def _run_here(self, claimed: Claimed, me: BodySlot) -> Outcome:
        me.running = self.engine.executor.running(claimed, self.beat.id, me)
        return self.engine.executor.run(claimed, me.running)

    def put(self, ended: Outcome) -> None:
        """Keep an outcome for the next turn."""
        if not self._outbox:
            self._oldest = time.monotonic()
        self._outbox.append(ended)
        self.finished += 1

    # -- waiting bodies -----------------------------------------------------------------------------------------------
    def park(self, me: BodySlot) -> None:
        """The body of ``me`` waits: others may use its token, and what was claimed ahead goes back, since its children come first."""
        if self._board:
            self._board.lend(me.index, True)
        self._give_back_buffer("a running task waits for others")
        self.slots.park()
        if not self._idle_threads and not self.slots.wanted:
            self._spawn()
        self._signal()

    def unpark(self, me: BodySlot) -> None:
        """The body of ``me`` goes on as soon as a token is free."""
        self.slots.unpark()
        if self._board:
            self._board.lend(me.index, False)

    def _give_back_buffer(self, reason: str) -> None:
        """Release what is claimed and not started, together with the outcomes that wait."""
        taken: list[Claimed] = []
        while self._buffer:
            try:
                taken.append(self._buffer.pop())
            except IndexError:
                break
        if taken or self._outbox:
            self._outbox.extend(outcome.released(claimed, reason) for claimed in taken)
            self._turn(claims=False)

    # -- turns: the only place that writes outcomes and claims ----------------------------------------------------------
    def _turn(self, *, claims: bool = True, tokens: int = 1) -> bool:
        """Write the outbox and claim again, in one store operation; whether there is something to run now.

        :param tokens: how many tokens the caller holds.
        """
        with self._turn_lock:
            now = time.monotonic()
            if now < self._retry_at or (claims and self._buffer and not self._is_overdue(now)):
                return bool(self._buffer)
            outbox, self._outbox = self._outbox, []
            request = self._request(tokens) if claims and not self.is_stopping else None
            if not outbox and request is None:
                return False
            if request is not None:
                self._listener.idle(True)
            try:
                claim = self._exchange(outbox, request)
            except RunnerLostError:
                self.renew_identity()
                return False
            except StoreError as error:
                self._hold(outbox, error)
                return False
            self._failures = 0
            self._take(claim)
            return bool(self._buffer)

    def _is_overdue(self, now: float) -> bool:
        return bool(self._outbox) and now - self._oldest > FLUSH

    def _exchange(self, outbox: list[Outcome], request: ClaimRequest | None) -> Claim:
        if not outbox:
            return self._store.claim(request) if request else Claim()
        finished = self._store.finish(self.beat.id, outbox, request)
        for invocation_id in finished.lost:
            logger.warning("the result of %s came too late and was dropped: another attempt owns it", invocation_id)
        return finished.claim

    def _take(self, claim: Claim) -> None:
        """Put a claim into the buffer and wake threads for all but the one that this thread runs itself."""
        self._suspects = claim.suspects
        self._next_due = claim.next_due
        if not claim.batch:
            self._drained = self.settings.burst and self._is_quiet(1)
            if self._drained or claim.next_due:
                self.nudge()
            return
        self._buffer.extend(claim.batch)
        if self._coroutines:
            self._coroutines.learn(claim.batch, self._resolve)
        self._buffered_at = time.monotonic()
        if self.slots.free:
            self._signal(min(len(claim.batch), self.slots.free))
        else:
            self._listener.idle(False)
        self.nudge()

    def _request(self, tokens: int) -> ClaimRequest | None:
        """What to claim now; None when nothing can be started."""
        free = self.slots.free + tokens
        ahead = 0
        if not self.slots.parked and self._ahead_allowed and self.settings.alone is Alone.NEVER:
            ahead = min(self._ahead_allowed, int(AHEAD / max(self._mean, 1e-6)) * self.settings.slots)
        limit = free + ahead + (self._coroutines.room(bool(tokens)) if self._coroutines else 0) - len(self._buffer)
        if self.settings.max_tasks:
            limit = min(limit, self.settings.max_tasks - self.finished)
        if limit <= 0 or (self._suspects and self._must_run_suspects()):
            return self._suspect_request()
        self._turns += 1
        return ClaimRequest(
            self.beat.id,
            limit,
            shares(self.settings.policy, self.settings.queues, limit, self._turns),
            alone=self.settings.alone,
            aged=self._turns % AGED_EVERY == 0,
        )

    def _must_run_suspects(self) -> bool:
        """Without a supervisor that isolates them, a worker runs suspects itself, one at a time, when nothing else runs in it."""
        return not self.beat.supervised and self.settings.alone is Alone.NEVER

    def _suspect_request(self) -> ClaimRequest | None:
        if self._suspects and self._must_run_suspects() and self._is_quiet(1):
            return ClaimRequest(self.beat.id, 1, alone=Alone.ONLY)
        return None

    def _is_quiet(self, mine: int) -> bool:
        """Whether no body runs or waits, apart from the ``mine`` tokens that the caller holds."""
        return (
            self.slots.busy <= mine
            and not self.slots.parked
            and not self._buffer
            and not (self._coroutines and self._coroutines.active)
        )

    def _hold(self, outbox: list[Outcome], error: StoreError) -> None:
        """The store did not answer: keep the outcomes and try again after a jittered backoff."""
        self._outbox[:0] = outbox
        self._failures += 1
        pause = min(0.05 * 2 ** min(self._failures, 8), 10.0) * (0.5 + random.random() / 2)
        self._retry_at = time.monotonic() + pause
        logger.warning(
            "the store did not answer (%s); %d outcome(s) held, next try in %.1f s", error, len(self._outbox), pause
        )
        if not error.retryable:
            logger.error("this will not heal by itself: %s", error)

    def renew_identity(self) -> None:
        """The lease was taken away: what is buffered belongs to others now."""
        lost = len(self._buffer)
        self._buffer.clear()
        old = self.beat.id
        self.beat = msgspec.structs.replace(self.beat, id=f"{old.split('~')[0]}~{random.getrandbits(32):08x}")
        logger.warning(
            "runner %s lost its lease; %d claimed invocation(s) given up, going on as %s", old, lost, self.beat.id
        )
        if self._beats:
            self._beats(self)

    def note_suspects(self, has_suspects: bool) -> None:
        """The store says whether invocations wait to be run alone."""
        self._suspects = self._suspects or has_suspects

    # -- the pump -----------------------------------------------------------------------------------------------------
    def _pump(self) -> None:
        """Sleep until something is due, then do all that is due."""
        with self._tick:
            if not self._ticked:
                self._tick.wait(self._pause())
            self._ticked = False
        now = time.monotonic()
        if self.slots.busy or self.slots.parked or self._coroutines:
            self._watch_bodies(now)
        if self._is_overdue(now):
            self._turn(claims=False)
        if self._buffer and now - self._buffered_at > STALE and not self.slots.free:
            self._give_back_buffer("no slot became free soon enough")
        if self._beats:
            self._beats(self)
        if now >= self._poll_at or self._is_due():
            self._poll_at = now + self.settings.poll
            self._poll()
        self._check_recycling()

    def _is_due(self) -> bool:
        return 0 < self._next_due <= self._store.clock.now() or 0 < self._retry_at <= time.monotonic()

    def _poll(self) -> None:
        """Look for work, in case a wake-up was lost or a time has come."""
        self._next_due = 0
        if self._retry_at and time.monotonic() >= self._retry_at:
            self._retry_at = 0.0
        if self.slots.free:
            self._signal()
        elif self._coroutines and self._coroutines.free() and not self._buffer:
            self._turn(tokens=0)
            self._hand_async()

    def _hand_async(self) -> None:
        """All threads are busy: let the loop have the async tasks among what was claimed."""
        for _ in range(len(self._buffer)):
            claimed = self._buffer.popleft()
            spec = self._resolve(claimed.task)
            if spec is not None and spec.is_async and self._coroutines:
                self._coroutines.submit(spec, claimed)
            else:
                self._buffer.append(claimed)

    def _pause(self) -> float:
        if self._bodies_run() or self._buffer or self._outbox:
            return TICK
        if self._next_due:
            return min(self.settings.poll, max(0.0, (self._next_due - self._store.clock.now()) / SECOND))
        return self.settings.poll

    def _watch_bodies(self, now: float) -> None:
        """Mark, time out and report the bodies that run here."""
        starts: list[Ref] = []
        progress: list[Progress] = []
        for body in list(self._bodies.values()):
            claimed = body.claimed
            if claimed is None:
                continue
            if not body.marked and now - body.since > MARK_AFTER:
                body.marked = True
                starts.append(Ref(claimed.id, claimed.attempt))
            if body.running is not None and body.running.progress is not None:
                progress.append(body.running.progress)
                body.running.progress = None
            if body.deadline and now > body.deadline:
                self._time_out(body, claimed, now)
        if self._coroutines:
            self._coroutines.collect(now, starts, progress)
        if starts:
            self._store.start(self.beat.id, starts, self._store.clock.now())
        if progress:
            self._store.report(self.beat.id, progress)

    def _time_out(self, body: BodySlot, claimed: Claimed, now: float) -> None:
        """First raise in the body's thread; when that does not help, end the attempt and give the thread up."""
        if now < body.deadline + self.settings.cancel_grace:
            if not body.stopping:
                body.stopping = True
                _raise_in(body, claimed, TaskTimeoutError)
            return
        body.abandoned = True
        body.claimed = None
        logger.error("%s %s does not react to its timeout; its thread is given up", claimed.task, claimed.id)
        self.put(self.engine.executor.timed_out(claimed, self._store.clock.now()))
        self._bodies.pop(body.thread_id, None)
        self._turn(claims=False)
        self.slots.give()
        self._spawn()
        self._signal()

    def cancel(self, invocation_id: str) -> None:
        """Tell a body that it should stop."""
        if self._coroutines and self._coroutines.cancel(invocation_id):
            return
        for body in list(self._bodies.values()):
            if body.running is not None and body.running.id == invocation_id and body.claimed is not None:
                body.running.cancel_requested = True

    def _check_recycling(self) -> None:
        """Stop when this process has done enough or has grown too large."""
        settings = self.settings
        if settings.max_tasks and self.finished >= settings.max_tasks:
            self.is_stopping = True
        if settings.max_memory and resident_memory() > settings.max_memory:
            logger.info("this process uses more than %d bytes and is replaced", settings.max_memory)
            self.is_stopping = True

    # -- the end ------------------------------------------------------------------------------------------------------
    def _shut_down(self) -> None:
        """Give back what has not started, let bodies end for a while, hand the rest back."""
        self.is_stopping = True
        with self._wakeups:
            self._wakeups.notify_all()
        self._give_back_buffer("runner stopped")
        deadline = time.monotonic() + self.settings.shutdown_timeout
        while time.monotonic() < min(
            deadline, time.monotonic() + self.settings.shutdown_timeout
        ) and not self._is_quiet(0):
            self._pump()
        for body in list(self._bodies.values()):
            if (claimed := body.claimed) is not None:
                body.abandoned = True
                self._outbox.append(outcome.released(claimed, "runner stopped"))
                _raise_in(body, claimed, HandBack)
        if self._coroutines:
            self._outbox.extend(self._coroutines.hand_back())
        self._turn(claims=False)


def _raise_in(body: BodySlot, claimed: Claimed, error: type[BaseException]) -> None:
    """Raise an exception in the thread of a body, if it still runs what it ran."""
    if body.claimed is claimed and body.thread_id != current_thread().ident:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(body.thread_id), ctypes.py_object(error))


def resident_memory() -> int:
    """Bytes of memory that this process holds now (Linux), or held at most (elsewhere)."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
