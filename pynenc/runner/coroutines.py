"""Async bodies: one event loop thread beside the slot threads, many coroutines on it.

A coroutine that waits for an invocation gives its place back like a thread does, and comes first when it goes on. One
that waits in several branches at once (``gather``) has given back one place, and takes it again when the last branch
goes on. A thread that a coroutine started (``asyncio.to_thread``) may wait as well.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from threading import Event, Lock, Thread, get_ident
from typing import TYPE_CHECKING

from pynenc.context import Slot
from pynenc.core.outcome import SECOND
from pynenc.core.records import Claimed, Outcome
from pynenc.engine.execute import HandBack
from pynenc.engine.spec import TaskSpec
from pynenc.runner.unfit import UNFIT, unfit

if TYPE_CHECKING:
    from pynenc.context import Running
    from pynenc.runner.worker import Worker


#: Seconds between two looks for async tasks while all threads are busy and all that came lately was sync.
PROBE_EVERY = 1.0


#: Invocations of a claim that are looked at to learn the share of async tasks.
SAMPLE = 32


class AsyncSlot(Slot):
    """The place of one coroutine."""

    __slots__ = ("_coroutines", "claimed", "index", "marked", "running", "since", "task", "waits")

    def __init__(self, coroutines: Coroutines, claimed: Claimed, index: int) -> None:
        self._coroutines = coroutines
        self.claimed: Claimed | None = claimed
        self.index = index
        self.since = time.monotonic()
        self.marked = False
        self.waits = 0
        self.task: asyncio.Task[None] | None = None
        self.running: Running | None = None

    @property
    def is_supervised(self) -> bool:
        """Whether another process notices the death of this one."""
        return self._coroutines.is_supervised

    def park(self, _ids: Sequence[str] = (), _turn: object = None, /) -> None:
        self._coroutines.on_loop(lambda: self._coroutines.park(self))

    def unpark(self, _turn: object = None, /) -> None:
        self._coroutines.wait_on_loop(self)

    async def unpark_async(self) -> None:
        await self._coroutines.readmit(self)


class Coroutines:
    """The coroutines of one worker; ``active`` counts all that have begun or will, ``parked`` those that wait for
    others.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._resolve = worker.engine.executor.resolve
        self._limit = worker.settings.coroutines
        self._slots: dict[str, AsyncSlot] = {}
        #: Since when it waits, when its claim was asked for, and what it is.
        self._pending: deque[tuple[float, float, TaskSpec, Claimed]] = deque()
        self._returning: deque[tuple[asyncio.Future[None], AsyncSlot]] = deque()
        self.parked = 0
        self._loop = asyncio.new_event_loop()
        self._ready = Event()
        self._lock = Lock()
        self._share = 0.0
        self._kinds: dict[str, bool] = {}
        self._probe_at = time.monotonic() + PROBE_EVERY
        self._thread = Thread(target=self._main, name="pynenc-loop", daemon=True)

    @property
    def active(self) -> int:
        """Coroutines that run, wait, or wait to begin."""
        return len(self._slots) + len(self._pending)

    # -- from the worker's threads -------------------------------------------------------------------------------------
    def free(self) -> int:
        """How many more coroutines could begin now."""
        return max(0, self._limit - (len(self._slots) - self.parked) - len(self._pending))

    def room(self) -> int:
        """How many to claim for coroutines beside what is claimed for threads: what is free, by the share of async tasks seen lately."""
        return int(self.free() * self._share)

    def wants_more(self, now: float) -> bool:
        """Whether a claim for the loop alone is worth it: async tasks were seen lately, or nobody has looked for some time."""
        if not self.free():
            return False
        if self.room() or now >= self._probe_at:
            self._probe_at = now + PROBE_EVERY
            return True
        return False

    def learn(self, batch: Sequence[Claimed]) -> None:
        """Note how much of a claim was async."""
        sample = batch[:SAMPLE]
        share = sum([self._is_async(claimed.task) for claimed in sample]) / len(sample)
        self._share += 0.3 * (share - self._share)

    def _is_async(self, task: str) -> bool:
        """Whether the loop runs a task; a task that is not known here may be tomorrow."""
        if (known := self._kinds.get(task)) is None:
            if not isinstance(task, str):  # damaged: a thread will say so
                return False  # type: ignore[unreachable]
            spec = self._resolve(task)
            known = spec is not None and spec.is_async
            if spec is not None:
                self._kinds[task] = known
        return known

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()
        self._ready.wait()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    @property
    def is_supervised(self) -> bool:
        """Whether another process notices the death of this one."""
        return self._worker.beat.supervised

    def close(self) -> None:
        """Stop the loop, once the coroutines that were cancelled had their chance to clean up."""
        self.on_loop(lambda: self._loop.create_task(self._stop()))
        self._thread.join(1.0)

    async def _stop(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=0.5)
        self._loop.stop()

    def takes(self, claimed: Claimed) -> bool:
        """Whether the task is async; then it runs on the loop."""
        if not self._is_async(claimed.task):
            return False
        spec = self._resolve(claimed.task)
        assert spec is not None
        self._pending.append((time.monotonic(), self._worker.turns.asked_at, spec, claimed))
        self.on_loop(self._start_next)
        return True

    def stale(self, since: float) -> list[Claimed]:
        """Take away what waits to begin since before ``since``."""
        found = []
        while self._pending and self._pending[0][0] < since:
            try:
                entry = self._pending.popleft()
            except IndexError:
                break
            found.append(entry[-1])
        return found

    def running(self) -> list[AsyncSlot]:
        """The coroutines that have begun."""
        with self._lock:
            return list(self._slots.values())

    def hand_back(self) -> list[Claimed]:
        """Cancel all coroutines; what they ran."""
        taken: list[Claimed] = []
        for slot in self.running():
            claimed = self._take(slot)
            if claimed is not None:
                taken.append(claimed)
                if slot.running is not None:
                    slot.running.interrupt = HandBack
                if slot.task is not None:
                    self.on_loop(slot.task.cancel)
        return taken

    def on_loop(self, call: Callable[[], object]) -> None:
        """Run ``call`` on the loop's thread: at once if this is it."""
        if get_ident() == self._thread.ident:
            call()
            return
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def wait_on_loop(self, slot: AsyncSlot) -> None:
        """Readmit a coroutine one of whose threads waited.

        :raises RuntimeError: on the loop's own thread, which this would block for ever.
        """
        if get_ident() == self._thread.ident:
            raise RuntimeError("a coroutine must not block: use `await invocation.async_result()`")
        asyncio.run_coroutine_threadsafe(self.readmit(slot), self._loop).result()

    # -- on the loop's thread ------------------------------------------------------------------------------------------
    def _has_room(self) -> bool:
        return len(self._slots) - self.parked < self._limit

    def park(self, slot: AsyncSlot) -> None:
        """A branch of the coroutine waits; the first one gives the place back."""
        slot.waits += 1
        if slot.waits == 1:
            self.parked += 1
            if self._worker.board:
                self._worker.board.lend(slot.index, is_parked=True)
            if self._worker.turns.buffer or self._worker.turns.outbox:
                self._worker.slots.call()
            self._start_next()

    async def readmit(self, slot: AsyncSlot) -> None:
        """A branch goes on; the last one needs a place, and gets one before all that has not begun."""
        slot.waits -= 1
        if slot.waits:
            return
        if self._has_room() and not self._returning:
            self._return(slot)
            return
        turn = self._loop.create_future()
        self._returning.append((turn, slot))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled() or not turn.done():
                self._return(slot)
            raise

    def _return(self, slot: AsyncSlot) -> None:
        self.parked -= 1
        if self._worker.board:
            self._worker.board.lend(slot.index, is_parked=False)

    def _start_next(self) -> None:
        """Begin what there is room for; coroutines that go on come first."""
        while self._returning and self._has_room():
            turn, slot = self._returning.popleft()
            if not turn.done():
                self._return(slot)
                turn.set_result(None)
        while self._pending and self._has_room():
            try:
                _, asked_at, spec, claimed = self._pending.popleft()
            except IndexError:
                return
            if not self._is_late(asked_at, claimed):
                self._begin(spec, claimed)

    def _is_late(self, asked_at: float, claimed: Claimed) -> bool:
        """Whether it was claimed longer than a lease ago; then it goes back."""
        worker = self._worker
        is_late = time.monotonic() - asked_at > worker.turns.lease and worker.turns.release_late(claimed)
        if is_late:
            worker.slots.call()
            worker.pump.rouse()
        return is_late

    def _begin(self, spec: TaskSpec, claimed: Claimed) -> None:
        worker = self._worker
        slot = AsyncSlot(self, claimed, worker.take_place())
        with self._lock:
            self._slots[claimed.id] = slot
        try:
            deadline = slot.since + claimed.timeout / SECOND if claimed.timeout else 0.0
            if worker.board:
                worker.board.enter(slot.index, claimed, worker.kill_time(deadline))
        except UNFIT as error:
            self._end(slot, unfit(worker.engine, claimed, error))
            return
        slot.running = worker.engine.executor.running(claimed, worker.beat.id, slot)
        # In a context of its own: it may be begun by a body that waits or has ended, of which it must inherit nothing.
        slot.task = self._loop.create_task(self._run(spec, claimed, slot, slot.running), context=Context())
        slot.running.wakes.append(partial(self.on_loop, slot.task.cancel))

    async def _run(self, spec: TaskSpec, claimed: Claimed, slot: AsyncSlot, running: Running) -> None:
        if self._end(slot, await self._worker.engine.executor.run_async(spec, claimed, running)):
            self._start_next()

    def _end(self, slot: AsyncSlot, ended: Outcome) -> bool:
        """Write the outcome, unless somebody else ended the attempt; whether it was written, so that its place is free now."""
        worker = self._worker
        if worker.board:
            worker.board.leave(slot.index)
        is_mine = self._take(slot) is not None
        if is_mine:
            worker.turns.put(ended, worker.turns.mean, time.monotonic(), slot.running)
            worker.slots.call()
            worker.pump.rouse()
        return is_mine

    def _take(self, slot: AsyncSlot) -> Claimed | None:
        """Whoever gets it owns the outcome."""
        with self._lock:
            claimed, slot.claimed = slot.claimed, None
            if claimed is not None:
                self._slots.pop(claimed.id, None)
                self._worker.return_place(slot.index)
            return claimed
