"""Async bodies: one event loop thread beside the slot threads, many coroutines on it.

A coroutine that waits for an invocation gives its place back like a thread does, and comes first when it goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import Event, Thread
from typing import TYPE_CHECKING

from pynenc.core import outcome
from pynenc.core.records import Claimed, Outcome, Progress, Ref
from pynenc.engine.spec import TaskSpec

if TYPE_CHECKING:
    from pynenc.context import Running
    from pynenc.runner.worker import Worker


class AsyncSlot:
    """The place of one coroutine."""

    __slots__ = ("bodies", "claimed", "index", "marked", "running", "since", "task")

    def __init__(self, bodies: AsyncBodies, claimed: Claimed) -> None:
        self.bodies = bodies
        self.claimed = claimed
        self.since = time.monotonic()
        self.marked = False
        self.task: asyncio.Task[None] | None = None
        self.running: Running | None = None

    def park(self) -> None:
        self.bodies.parked += 1
        self.bodies.start_next()

    def unpark(self) -> None:
        raise RuntimeError("a coroutine must not block: use `await invocation.async_result()`")

    async def unpark_async(self) -> None:
        await self.bodies.readmit()


class AsyncBodies:
    """The coroutines of one worker; ``active`` counts all that have begun, ``parked`` those that wait for others."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._limit = worker.settings.coroutines
        self._slots: dict[str, AsyncSlot] = {}
        self._pending: deque[tuple[TaskSpec, Claimed]] = deque()
        self._returning: deque[asyncio.Future[None]] = deque()
        self.parked = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = Event()
        self._share = 0.5
        self._thread = Thread(target=self._main, name="pynenc-loop", daemon=True)

    @property
    def active(self) -> int:
        """Coroutines that run, wait, or wait to begin."""
        return len(self._slots) + len(self._pending)

    def free(self) -> int:
        """How many more coroutines could begin now."""
        return max(0, self._limit - (len(self._slots) - self.parked) - len(self._pending))

    def room(self, has_token: bool) -> int:
        """How many to claim for coroutines: what is free, by the share of async tasks seen lately; at least one for a caller without a slot."""
        free = self.free()
        return min(free, max(int(free * self._share), 0 if has_token else 1))

    def learn(self, batch: Sequence[Claimed], resolve: Callable[[str], TaskSpec | None]) -> None:
        """Note how much of a claim was async."""
        specs = [resolve(claimed.task) for claimed in batch]
        share = sum(spec is not None and spec.is_async for spec in specs) / len(specs)
        self._share += 0.3 * (share - self._share)

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()
        self._ready.wait()

    def _main(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()

    def close(self) -> None:
        """Stop the loop; coroutines that still run are dropped."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def submit(self, spec: TaskSpec, claimed: Claimed) -> None:
        """Hand an invocation to the loop; from any thread."""
        assert self._loop is not None
        self._pending.append((spec, claimed))
        self._loop.call_soon_threadsafe(self.start_next)

    # -- on the loop's thread ------------------------------------------------------------------------------------------
    def _has_room(self) -> bool:
        return len(self._slots) - self.parked < self._limit

    def start_next(self) -> None:
        """Begin what there is room for; coroutines that go on come first."""
        while self._has_room() and self._returning:
            turn = self._returning.popleft()
            if not turn.done():
                self.parked -= 1
                turn.set_result(None)
        while self._has_room() and self._pending:
            self._begin(*self._pending.popleft())

    async def readmit(self) -> None:
        """Wait for a place, before all that has not begun."""
        if self._has_room() and not self._returning:
            self.parked -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.done() or turn.cancelled():
                self.parked -= 1
            raise

    def _begin(self, spec: TaskSpec, claimed: Claimed) -> None:
        assert self._loop is not None
        slot = AsyncSlot(self, claimed)
        self._slots[claimed.id] = slot
        slot.running = self._worker.engine.executor.running(claimed, self._worker.beat.id, slot)
        slot.task = self._loop.create_task(self._run(spec, slot), context=copy_context())

    async def _run(self, spec: TaskSpec, slot: AsyncSlot) -> None:
        assert slot.running is not None
        ended = await self._worker.engine.executor.run_async(spec, slot.claimed, slot.running)
        if self._slots.pop(slot.claimed.id, None) is not None:
            self._worker.put(ended)
            self.start_next()
            self._worker.body_ended()

    # -- for the pump --------------------------------------------------------------------------------------------------
    def collect(self, now: float, starts: list[Ref], progress: list[Progress]) -> None:
        """Add what has to be marked RUNNING or reported."""
        for slot in list(self._slots.values()):
            if not slot.marked and now - slot.since > 0.02:
                slot.marked = True
                starts.append(Ref(slot.claimed.id, slot.claimed.attempt))
            if slot.running is not None and slot.running.progress is not None:
                progress.append(slot.running.progress)
                slot.running.progress = None

    def cancel(self, invocation_id: str) -> bool:
        """Cancel a coroutine, if it runs here."""
        slot = self._slots.get(invocation_id)
        if slot is None or self._loop is None or slot.running is None or slot.task is None:
            return False
        slot.running.cancel_requested = True
        self._loop.call_soon_threadsafe(slot.task.cancel)
        return True

    def hand_back(self) -> list[Outcome]:
        """Drop all coroutines and give their invocations back."""
        slots = list(self._slots.values())
        self._slots.clear()
        waiting = [claimed for _, claimed in self._pending]
        self._pending.clear()
        for slot in slots:
            if slot.task is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(slot.task.cancel)
        return [
            outcome.released(claimed, "runner stopped") for claimed in [*(slot.claimed for slot in slots), *waiting]
        ]
