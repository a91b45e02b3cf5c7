"""What a workflow waits for beside other invocations: a time, a person, a signal; and how it begins anew.

Answers of persons and signals are used up by the branch that takes them. So an async branch looks for one, and takes it when it is its turn: a branch that is
cancelled before that leaves it to others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from pynenc.core.records import Invocation
from pynenc.core.storable import check_storable
from pynenc.engine import RESUME_KEY, signal_key
from pynenc.engine.suspension import FOR_SIGNAL, Continued, Departure, Suspended
from pynenc.exceptions import ResultTimeoutError
from pynenc.store.base import Store
from pynenc.workflow import waiting
from pynenc.workflow.flow import PAUSE, SIGNAL, SLEEP, Flow, encode
from pynenc.workflow.inbox import Inbox
from pynenc.workflow.replay import Record, decode_record, position_of

_number = msgspec.msgpack.Decoder(int).decode
#: What ended a wait: after which attempt a pause was resumed, or which signal came (-1: none in time); and the value. A pause begins with the attempt that
#: came to it, a wait for a signal with the time until which it waits.
Came = tuple[int, bytes]
_came = msgspec.msgpack.Decoder(Came).decode
#: The signals that earlier rounds used: all below the first number, and these.
_taken = msgspec.msgpack.Decoder(tuple[int, list[int]]).decode
_TOO_LATE = -1
_RESUME = "resume:"
#: Longest pause between two looks at the clock, in seconds.
_LOOK = 3600.0


# -- a time ------------------------------------------------------------------------------------------------------------------
def sleep(flow: Flow, until: Callable[[], int]) -> None:
    """Leave the body until a time."""
    if way := _look_sleep(flow, until):
        raise _suspended(flow, way)


async def async_sleep(flow: Flow, until: Callable[[], int]) -> None:
    """Block the branch until a time."""
    await waiting.come(flow)
    way = _look_sleep(flow, until)
    position = position_of(flow.branch.path, flow.branch.count)
    if way is not None:
        if flow.is_checked:
            await waiting.end_branch(flow)

        async def wait() -> None:
            from asyncio import sleep  # takes long to import

            while not flow.is_over(way.due):  # noqa: ASYNC110 - the clock is the store's
                await sleep(min(_LOOK, max(0.0, (way.due - flow.engine.store.clock.now()) / 1_000_000)))

        await flow.branches.block(flow.branch, way, wait)
    await waiting.take_turn(flow, position)


def _look_sleep(flow: Flow, until: Callable[[], int]) -> Suspended | None:
    position, record = flow.meet(SLEEP)
    if record is None:
        record = flow.write(position, Record(SLEEP, "", encode(until())))
    due = _number(record.payload)
    return None if flow.is_over(due) else Suspended("sleeps", due=due)


# -- a person ----------------------------------------------------------------------------------------------------------------
def pause(flow: Flow, reason: str) -> Any:
    """Leave the body until somebody resumes it."""
    return _wait(flow, _Pause(flow, reason))


async def async_pause(flow: Flow, reason: str) -> Any:
    """Block the branch until somebody resumes the run."""
    await waiting.come(flow)
    return await _async_wait(flow, _Pause(flow, reason))


class _Pause:
    """One pause of a body."""

    def __init__(self, flow: Flow, reason: str) -> None:
        check_storable(reason, "the reason of a pause")
        self._flow = flow
        self._reason = reason
        self.kind, self.name = PAUSE, ""
        self.position, self.record = flow.meet(PAUSE)

    def look(self) -> Came | None:
        return _resume_since(self._flow, self._flow.cursor.begun(self.position))

    def is_there(self, number: int) -> bool:
        return number not in _resumes_taken(self._flow)

    def way(self) -> Suspended:
        self._flow.begin(self.position, PAUSE, encode(self._flow.running.attempt))
        return Suspended(self._reason)

    def value(self, came: Came) -> Any:
        return self._flow.engine.codec.decode_value(came[1], self._flow.id, RESUME_KEY)


def is_asking(store: Store, row: Invocation) -> bool:
    """Whether a run is in a pause."""
    records = store.recall(f"{row.id}/{row.round}")
    waiting = [
        record for position, record in records.items() if "b" in position and position.replace("b", "") not in records
    ]
    return any(decode_record(record).name == PAUSE for record in waiting)


def _resume_since(flow: Flow, begun: Record | None) -> Came | None:
    """The first attempt since a pause began after which the run was resumed, and with what; unless that was for another pause, or since code and record
    differed.
    """
    if begun is None or flow.is_checked:
        return None
    taken = _resumes_taken(flow) | flow.cursor.differed()
    stored = flow.insist(lambda: flow.engine.store.recall(flow.id))
    resumes = {int(key.removeprefix(_RESUME)): value for key, value in stored.items() if key.startswith(_RESUME)}
    since = _number(begun.payload)
    return min(((at, value) for at, value in resumes.items() if at >= since and at not in taken), default=None)


def _resumes_taken(flow: Flow) -> set[int]:
    return {_came(record.payload)[0] for record in flow.cursor.records.values() if record.kind == PAUSE}


# -- a signal ------------------------------------------------------------------------------------------------------------------
def wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Leave the body until a signal comes."""
    return _wait(flow, _Signal(flow, name, timeout))


async def async_wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Block the branch until a signal comes."""
    await waiting.come(flow)
    return await _async_wait(flow, _Signal(flow, name, timeout))


class _Signal:
    """One wait of a body for a signal."""

    def __init__(self, flow: Flow, name: str, timeout: int | None) -> None:
        self._flow = flow
        self.kind, self.name = SIGNAL, name
        self.position, self.record = flow.meet(SIGNAL, name)
        self._operation = f"{SIGNAL} {name}"
        is_limited = timeout is not None and self.record is None
        self._due = flow.deadline(self.position, self._operation, timeout or 0) if is_limited else 0

    def look(self) -> Came | None:
        found = None if self._flow.is_checked else _next_signal(self._flow, self.name)
        return found or ((_TOO_LATE, b"") if self._flow.is_over(self._due) else None)

    def is_there(self, number: int) -> bool:
        return self._flow.inbox is None or self._flow.inbox.holds(number)

    def way(self) -> Suspended:
        self._flow.begin(self.position, self._operation, encode(self._due))
        seen = 0 if self._flow.inbox is None else self._flow.inbox.seen
        return Suspended(FOR_SIGNAL + self.name, due=self._due, signals=seen)

    def value(self, came: Came) -> Any:
        number, payload = came
        if number == _TOO_LATE:
            raise ResultTimeoutError(f"no signal {self.name!r} came in time", self._flow.id)
        if self._flow.inbox is not None:
            self._flow.inbox.use(number)
        return self._flow.engine.codec.decode_value(payload, self._flow.id, signal_key(self.name))


def _next_signal(flow: Flow, name: str) -> Came | None:
    """The first signal of a name that was not used: its number and its value."""
    if flow.inbox is None:
        first, others = _taken_before(flow)
        flow.inbox = Inbox(first, [*others, *_used(flow)])
    found = flow.inbox.first(name)
    if found is None:
        flow.inbox.look(flow.insist(lambda: flow.engine.store.recall(flow.id)))
        found = flow.inbox.first(name)
    return found


def _used(flow: Flow) -> list[int]:
    """The numbers of the signals that this round used."""
    records = [record for record in flow.cursor.records.values() if record.kind == SIGNAL]
    return [number for record in records if (number := _came(record.payload)[0]) >= 0]


def _taken_before(flow: Flow) -> tuple[int, list[int]]:
    if not flow.running.claimed.round:
        return 0, []
    stored = flow.engine.store.recall(f"{flow.id}/taken", ["signals"])
    return _taken(stored["signals"]) if stored else (0, [])


# -- either of them -----------------------------------------------------------------------------------------------------------
def _wait(flow: Flow, event: _Pause | _Signal) -> Any:
    if event.record is not None:
        return event.value(_came(event.record.payload))
    if (found := event.look()) is None:
        raise _suspended(flow, event.way())
    return _use(flow, event, found)


async def _async_wait(flow: Flow, event: _Pause | _Signal) -> Any:
    if event.record is not None:
        await waiting.take_turn(flow, event.position)
        return event.value(_came(event.record.payload))
    while (found := event.look()) is not None:
        if await waiting.use_in_turn(flow, event.position, partial(event.is_there, found[0])):
            return _use(flow, event, found)
    return await _for_ever(flow, event.way())


def _use(flow: Flow, event: _Pause | _Signal, found: Came) -> Any:
    record = flow.write(event.position, Record(event.kind, event.name, encode(found)))
    return event.value(_came(record.payload))


# -- the next round ------------------------------------------------------------------------------------------------------------
def continue_as_new(flow: Flow, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Departure:
    """Leave the body for the next round of the same invocation; to be raised."""
    engine = flow.engine
    spec = engine.executor.resolve(flow.running.task)
    call = engine.codec.encode(spec, spec.binder.bind(args, kwargs))
    if call.blobs:
        engine.store.put_blobs(engine.codec.blobs.pending(call.blobs))
    first, others = _taken_before(flow)
    used = {*others, *_used(flow)}
    while first in used:
        first += 1
    used = {number for number in used if number > first}
    if first or used:
        flow.remember(f"{flow.id}/taken", {"signals": encode((first, sorted(used)))})
    return flow.leave(Continued(call.payload, call.blobs, first))


# -- leaving -------------------------------------------------------------------------------------------------------------------
def _suspended(flow: Flow, way: Suspended) -> Departure:
    return flow.suspend(way.reason, due=way.due, awaits=way.awaits, signals=way.signals)


async def _for_ever(flow: Flow, way: Suspended) -> Any:
    """Block the branch until the body is suspended; what comes is found when it runs again."""
    if flow.is_checked:
        await waiting.end_branch(flow)

    async def wait() -> None:
        from asyncio import get_running_loop

        await get_running_loop().create_future()

    return await flow.branches.block(flow.branch, way, wait)
