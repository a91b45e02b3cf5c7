"""Results: wait until invocations are final, then return the value or raise the error.

Waiting is *watch, then read*: the store calls back when something may be final, and a read brings all payloads. A
bounded poll is only the safety net. Inside a task the slot is lent out for the time of the wait.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pynenc import context
from pynenc.core.records import Final, Ref
from pynenc.core.status import InvocationStatus
from pynenc.engine.codec import Codec
from pynenc.engine.spec import TaskSpec
from pynenc.engine.transaction import refuse_inside
from pynenc.exceptions import ConcurrencyControlledError, InvocationCancelledError, ResultTimeoutError
from pynenc.store.base import Store, Watch
from pynenc.store.sleeper import Sleeper

if TYPE_CHECKING:
    import asyncio

#: Seconds between two looks at what should have woken the waiter.
SAFETY_POLL = 1.0
#: Milliseconds in which hardly any call is submitted, run and finished.
FRESH = 2
#: Seconds without a result after which ``hint`` is asked why.
HINT_AFTER = 3.0


class Results:
    """Waits for and decodes the results of one app.

    :param hint: called once with the ids when a wait takes long, to say what may be missing.
    :param inline: tries to run an invocation in place on the waiting thread; whether it did.
    :ivar drive: works on invocations that are waited for outside of bodies, where no runner does (development mode). :ivar refuse_to_hang: raises
    when that has not helped and nothing else will.
    """

    def __init__(
        self, store: Store, codec: Codec, hint: Callable[[Sequence[str]], None], inline: Callable[[str], bool]
    ) -> None:
        self._store = store
        self._codec = codec
        self._hint = hint
        self._inline = inline
        self.drive: Callable[[Sequence[str]], object] = lambda _: None
        self.refuse_to_hang: Callable[[Sequence[str]], object] = lambda _: None

    def value(self, spec: TaskSpec, final: Final) -> Any:
        """The value of a final, or its error raised."""
        if final.status is InvocationStatus.SUCCESS:
            return self._codec.decode_result(spec, final)
        raise self.error(spec, final)

    def error(self, spec: TaskSpec, final: Final) -> Exception:
        """The exception that stands for a final without success."""
        if final.status is InvocationStatus.FAILED:
            return self._codec.decode_error(spec, final)
        if final.status is InvocationStatus.CANCELLED:
            return InvocationCancelledError(
                f"invocation {final.id} of {final.task} was cancelled: {final.reason or 'on request'}", final.id
            )
        return ConcurrencyControlledError(
            f"invocation {final.id} of {final.task} was dropped: {final.reason or 'its running key was held'}; "
            "set reroute_on_concurrency_control=True to let blocked calls wait",
            final.id,
        )

    def wait(
        self,
        ids: Sequence[str],
        timeout: float | None = None,
        *,
        inline: bool = False,
        along: Sequence[str] = (),
        is_race: bool = False,
        is_plain: bool = False,
    ) -> list[Final]:
        """Those of ``ids`` that are final, as soon as there is one; empty when ``timeout`` seconds are over.

        In the body of a workflow it is a durable operation, which may suspend the run.

        :param inline: their task may run in place on this thread. :param along: look for these as well; one of them is enough outside of workflows.
        :param is_race: the caller goes on differently with whatever comes first. :param is_plain: it is a part of a durable operation.

        :raises StoreError: inside of ``app.transaction``. :raises RuntimeError: on a running event loop, which this would block.
        :raises CycleDetectedError: the wait would never end.
        """
        if context.transaction() is not None:  # asked here, as every result that is read comes by
            refuse_inside(self._store, "reading a result")
        running = context.current()
        if running is not None and running.flow is not None and not is_plain and self._is_durable(running):
            look = partial(self._look, running, ids, along or ids, inline=inline)
            found: list[Final] = running.flow.wait(ids, timeout, look, is_race=is_race)
            return found
        ids = along or ids
        if timeout is not None and timeout <= 0:
            return self._store.finals(ids)
        # As in is_on_loop, without the call: every result that is read comes by here.
        running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
        if running_loop is not None and running_loop() is not None:
            raise RuntimeError(
                "this would block the running event loop: use `await invocation.async_result()` instead of `.result`"
            )
        is_body = running is not None and running.slot is not None
        # What a body waits for is seldom there already, nor is what was called just now, and recording who waits tells: they look only afterwards.
        is_new = len(ids) == 1 and (name := ids[0])[14:15] == "7"  # such an id tells when it was made
        is_new = is_new and name[:8] + name[9:13] > f"{time.time_ns() // 1_000_000 - FRESH:012x}"
        if (inline or not (is_body or is_new)) and (finals := self._store.finals(ids)):
            return finals
        if inline and is_body and any(map(self._inline, ids)) and (finals := self._store.finals(ids)):
            return finals
        return self._block(ids, timeout, running)

    def _is_durable(self, running: context.Running) -> bool:
        """Whether the body that runs here is one of a workflow over this store."""
        return bool(running.flow.records_calls) and (running.flow.is_checked or running.engine.results is self)

    def _look(
        self, running: context.Running, ids: Sequence[str], along: Sequence[str], seconds: float, *, inline: bool
    ) -> list[Final]:
        """Those of ``ids`` that are final within so many seconds; what else is final is noted."""
        deadline = time.monotonic() + seconds
        left, rest = list(along), seconds
        while finals := self.wait(left, rest, inline=inline, is_plain=True):
            running.flow.keep(finals)
            if found := [final for final in finals if final.id in ids]:
                return found
            ended = {final.id for final in finals}
            left, rest = [name for name in left if name not in ended], max(0.0, deadline - time.monotonic())
        return []

    def _block(self, ids: Sequence[str], timeout: float | None, running: context.Running | None) -> list[Final]:
        sleeper = Sleeper()
        if running is None or running.slot is None:
            watch = self._store.watch(ids, sleeper)
            try:
                self.drive(ids)
                self.refuse_to_hang(ids)
                return self._poll(ids, timeout, watch, sleeper, lambda: None)
            finally:
                watch.close()
        slot, ref = running.slot, Ref(running.id, running.attempt)
        turn = slot.turn()
        wake = partial(slot.recall, turn, sleeper)
        watch = slot.watch(ids, lambda request: self._store.watch(ids, wake, waiter=ref, request=request))
        try:
            if sleeper.is_woken() and (finals := self._store.finals(ids)):
                return finals
            running.wakes.append(sleeper)
            slot.park(ids, turn)
            try:
                return self._poll(ids, timeout, watch, sleeper, partial(slot.rest, turn))
            finally:
                running.wakes.remove(sleeper)
                slot.unpark(turn)
        finally:
            watch.close()

    def _poll(
        self, ids: Sequence[str], timeout: float | None, watch: Watch, sleeper: Sleeper, rest: Callable[[], None]
    ) -> list[Final]:
        started = time.monotonic()
        hinted = False
        while True:
            _check_interrupted()
            elapsed = time.monotonic() - started
            if timeout is not None and elapsed >= timeout:
                return self._store.finals(ids)
            sleeper.sleep(SAFETY_POLL if timeout is None else min(SAFETY_POLL, timeout - elapsed))
            if watch.final is not None:
                return [watch.final]
            if finals := self._store.finals(ids):
                return finals
            rest()
            if not hinted and elapsed > HINT_AFTER:
                hinted = True
                self._hint(ids)

    async def wait_async(self, ids: Sequence[str], timeout: float | None = None) -> list[Final]:
        """The same for event loops; a cancelled ``await`` stops waiting and leaves the invocations alone."""
        refuse_inside(self._store, "reading a result")
        running = context.current()
        if running is not None and running.flow is not None and self._is_durable(running):
            found: list[Final] = await running.flow.wait_async(ids, timeout, partial(self._wait_async, ids))
            return found
        return await self._wait_async(ids, timeout)

    async def _wait_async(self, ids: Sequence[str], timeout: float | None) -> list[Final]:
        import asyncio

        finals = self._store.finals(ids)
        if finals or (timeout is not None and timeout <= 0):
            return finals
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        running = context.current()
        subscription = self._store.watch(ids, _from_threads(loop, event), waiter=_ref(running))
        try:
            if running is None or running.slot is None:
                self.drive(ids)
                self.refuse_to_hang(ids)
                return await self._poll_async(ids, timeout, event)
            running.slot.park(ids)
            try:
                return await self._poll_async(ids, timeout, event)
            finally:
                await running.slot.unpark_async()
        finally:
            subscription.close()

    async def _poll_async(self, ids: Sequence[str], timeout: float | None, event: asyncio.Event) -> list[Final]:
        import asyncio

        deadline = None if timeout is None else time.monotonic() + timeout
        hint_at: float | None = time.monotonic() + HINT_AFTER
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return self._store.finals(ids)
            try:
                async with asyncio.timeout(SAFETY_POLL if deadline is None else min(SAFETY_POLL, deadline - now)):
                    await event.wait()
            except TimeoutError:
                pass
            event.clear()
            if finals := self._store.finals(ids):
                return finals
            if hint_at is not None and now > hint_at:
                hint_at = None
                self._hint(ids)


def timed_out(ids: Sequence[str], timeout: float | None) -> ResultTimeoutError:
    """The error of a wait that took too long."""
    which = ids[0] if len(ids) == 1 else f"{len(ids)} invocations, first {ids[0]}"
    return ResultTimeoutError(
        f"no result of {which} within {timeout} s; it goes on: ask again, or see `pynenc invocations why {ids[0]}`",
        ids[0],
    )


def _ref(running: context.Running | None) -> Ref | None:
    return Ref(running.id, running.attempt) if running is not None and running.slot is not None else None


def _check_interrupted() -> None:
    """A task that was asked to stop does not go on waiting."""
    running = context.current()
    if running is None:
        return
    if running.interrupt is not None:
        running.is_interrupted = True
        raise running.interrupt
    if running.cancel_requested:
        raise InvocationCancelledError(f"invocation {running.id} was cancelled while it waited", running.id)


def _from_threads(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """A wake-up that any thread may call, also after the loop is gone."""

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return wake
