"""What a workflow waits for beside other invocations: a time, a person, a signal; and how it begins anew.

Each of the three has one function that looks whether the event is there (``_look_…``): its value, or how the body is suspended until then. The sync form
leaves the body by that; the async form blocks its branch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from pynenc.engine import RESUME_KEY, decode_signal, signal_key
from pynenc.engine.suspension import Continued, Departure, Suspended
from pynenc.exceptions import ResultTimeoutError
from pynenc.workflow.flow import PAUSE, SIGNAL, SLEEP, Flow, encode
from pynenc.workflow.replay import Record

#: The record of a pause: the attempt in which it paused, and the value that it was resumed with.
_paused = msgspec.msgpack.Decoder(tuple[int, bytes | None]).decode
#: The record of a wait for a signal: until when (0: no limit), the number of the signal (-1: none yet, -2: none in time), and its value.
_signalled = msgspec.msgpack.Decoder(tuple[int, int, bytes]).decode
#: The signals that earlier rounds used: all below the first number, and these.
_taken = msgspec.msgpack.Decoder(tuple[int, list[int]]).decode
_NONE, _TOO_LATE = -1, -2
_SIGNAL = "signal:"
#: Longest pause between two looks at the clock, in seconds.
_LOOK = 3600.0

#: There is no value yet: how the body is suspended.
Found = tuple[Any, Suspended | None]


# -- a time ------------------------------------------------------------------------------------------------------------------
def sleep(flow: Flow, until: Callable[[], int]) -> None:
    """Leave the body until a time."""
    if way := _look_sleep(flow, until):
        raise _suspended(flow, way)


async def async_sleep(flow: Flow, until: Callable[[], int]) -> None:
    """Block the branch until a time."""
    way = _look_sleep(flow, until)
    if way is not None:
        if flow.is_checked:
            await flow.end_branch()

        async def wait() -> None:
            while not flow.is_over(way.due):  # noqa: ASYNC110 - the clock is the store's
                await asyncio.sleep(min(_LOOK, max(0.0, (way.due - flow.engine.store.clock.now()) / 1_000_000)))

        flow.follow_branches()
        await flow.branches.block(flow.branch, way, wait)


def _look_sleep(flow: Flow, until: Callable[[], int]) -> Suspended | None:
    position, record = flow.meet(SLEEP)
    if record is None:
        record = flow.write(position, Record(SLEEP, "", encode(until())), once=True)
    due = msgspec.msgpack.decode(record.payload, type=int)
    return None if flow.is_over(due) else Suspended("sleeps", due=due)


# -- a person ----------------------------------------------------------------------------------------------------------------
def pause(flow: Flow, reason: str) -> Any:
    """Leave the body until somebody resumes it."""
    value, way = _look_pause(flow, reason)
    if way:
        raise _suspended(flow, way)
    return value


async def async_pause(flow: Flow, reason: str) -> Any:
    """Block the branch until somebody resumes the run."""
    value, way = _look_pause(flow, reason)
    return value if way is None else await _for_ever(flow, way)


def _look_pause(flow: Flow, reason: str) -> Found:
    position, record = flow.meet(PAUSE)
    paused_in, payload = _paused(record.payload) if record else (0, None)
    if payload is None and paused_in:
        payload = _resumed_in(flow, paused_in)
    if payload is None:
        flow.write(position, Record(PAUSE, "", encode((flow.running.attempt, None))))
        return None, Suspended(reason)
    if record is not None and _paused(record.payload)[1] is None:
        flow.write(position, Record(PAUSE, "", encode((paused_in, payload))))
    return flow.engine.codec.decode_value(payload, flow.id, RESUME_KEY), None


def _resumed_in(flow: Flow, attempt: int) -> bytes | None:
    """The value with which the run was resumed after an attempt, unless another pause took it."""
    paused = [_paused(record.payload) for record in flow.cursor.records.values() if record.kind == PAUSE]
    if any(where == attempt and payload is not None for where, payload in paused):
        return None
    key = f"resume:{attempt}"
    found: bytes | None = flow.engine.store.recall(flow.id, [key]).get(key)
    return found


# -- a signal ------------------------------------------------------------------------------------------------------------------
def wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Leave the body until a signal comes."""
    value, way = _look_signal(flow, name, timeout)
    if way:
        raise _suspended(flow, way)
    return value


async def async_wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Block the branch until a signal comes."""
    value, way = _look_signal(flow, name, timeout)
    return value if way is None else await _for_ever(flow, way)


def _look_signal(flow: Flow, name: str, timeout: int | None) -> Found:
    position, record = flow.meet(SIGNAL, name)
    due, number, payload = _signalled(record.payload) if record else (0, _NONE, b"")
    if number == _NONE:
        if not due and timeout is not None:
            due = flow.engine.store.clock.now() + timeout
        seen, number, payload = _next_signal(flow, name)
        if number == _NONE and flow.is_over(due):
            number = _TOO_LATE
        if record is None or number != _NONE:
            flow.write(position, Record(SIGNAL, name, encode((due, number, payload))))
        if number == _NONE:
            return None, Suspended(f"waits for signal {name}", due=due, signals=seen)
    if number == _TOO_LATE:
        raise ResultTimeoutError(f"no signal {name!r} came in time", flow.id)
    return flow.engine.codec.decode_value(payload, flow.id, signal_key(name)), None


def _next_signal(flow: Flow, name: str) -> tuple[int, int, bytes]:
    """How many signals have come, and the first of a name that was not used: its number and its value."""
    first, others = _taken_before(flow)
    used = {*others, *_used(flow)}
    stored = flow.engine.store.recall(flow.id)
    came = {int(key.removeprefix(_SIGNAL)): value for key, value in stored.items() if key.startswith(_SIGNAL)}
    seen = max([first, *(number + 1 for number in came)])
    for number in sorted(came):
        if number >= first and number not in used:
            own, payload = decode_signal(came[number])
            if own == name:
                return seen, number, payload
    return seen, _NONE, b""


def _used(flow: Flow) -> list[int]:
    """The numbers of the signals that this round used."""
    records = [record for record in flow.cursor.records.values() if record.kind == SIGNAL]
    return [number for record in records if (number := _signalled(record.payload)[1]) >= 0]


def _taken_before(flow: Flow) -> tuple[int, list[int]]:
    if not flow.running.claimed.round:
        return 0, []
    stored = flow.engine.store.recall(f"{flow.id}/taken", ["signals"])
    return _taken(stored["signals"]) if stored else (0, [])


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
        engine.store.remember(f"{flow.id}/taken", {"signals": encode((first, sorted(used)))})
    return flow.leave(Continued(call.payload, call.blobs, first))


# -- leaving -------------------------------------------------------------------------------------------------------------------
def _suspended(flow: Flow, way: Suspended) -> Departure:
    return flow.suspend(way.reason, due=way.due, awaits=way.awaits, signals=way.signals)


async def _for_ever(flow: Flow, way: Suspended) -> Any:
    """Block the branch until the body is suspended; what comes is found when it runs again."""
    if flow.is_checked:
        await flow.end_branch()

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    flow.follow_branches()
    return await flow.branches.block(flow.branch, way, wait)
