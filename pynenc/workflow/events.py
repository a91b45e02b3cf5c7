"""What a workflow waits for beside other invocations: a time, a person, a signal; and how it begins anew.

Each of the three has one function that looks whether the event is there (``_look_…``): its value, or how the body is suspended until then. The sync form
leaves the body by that; the async form blocks its branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pynenc.core.records import Invocation
from pynenc.core.storable import check_storable
from pynenc.engine import RESUME_KEY, signal_key
from pynenc.engine.suspension import FOR_SIGNAL, Continued, Departure, Suspended
from pynenc.exceptions import ResultTimeoutError
from pynenc.store.base import Store
from pynenc.workflow.flow import PAUSE, SIGNAL, SLEEP, Flow, encode
from pynenc.workflow.inbox import Inbox
from pynenc.workflow.replay import Record, decode_record, position_of

#: What a pause was resumed with: after which attempt, and the value. It begins with the attempt that came to it.
_resumed = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
_number = msgspec.msgpack.Decoder(int).decode
#: The end of a wait for a signal: its number (-1: none came in time), and its value. It begins with the time until which it waits.
_signalled = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
#: The signals that earlier rounds used: all below the first number, and these.
_taken = msgspec.msgpack.Decoder(tuple[int, list[int]]).decode
_TOO_LATE = -1
_RESUME = "resume:"
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
    await flow.come()
    way = _look_sleep(flow, until)
    position = position_of(flow.branch.path, flow.branch.count)
    if way is not None:
        if flow.is_checked:
            await flow.end_branch()

        async def wait() -> None:
            from asyncio import sleep  # takes long to import

            while not flow.is_over(way.due):  # noqa: ASYNC110 - the clock is the store's
                await sleep(min(_LOOK, max(0.0, (way.due - flow.engine.store.clock.now()) / 1_000_000)))

        await flow.branches.block(flow.branch, way, wait)
    await flow.take_turn(position)


def _look_sleep(flow: Flow, until: Callable[[], int]) -> Suspended | None:
    position, record = flow.meet(SLEEP)
    if record is None:
        record = flow.write(position, Record(SLEEP, "", encode(until())))
    due = _number(record.payload)
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
    await flow.come()
    value, way = _look_pause(flow, reason)
    return await _in_turn(flow, value) if way is None else await _for_ever(flow, way)


def _look_pause(flow: Flow, reason: str) -> Found:
    check_storable(reason, "the reason of a pause")
    position, record = flow.meet(PAUSE)
    if record is None:
        found = _resume_since(flow, flow.cursor.begun(position))
        if found is None:
            flow.begin(position, PAUSE, encode(flow.running.attempt))
            return None, Suspended(reason)
        record = flow.write(position, Record(PAUSE, "", encode(found)))
    return flow.engine.codec.decode_value(_resumed(record.payload)[1], flow.id, RESUME_KEY), None


def is_asking(store: Store, row: Invocation) -> bool:
    """Whether a run is in a pause."""
    records = store.recall(f"{row.id}/{row.round}")
    waiting = [
        record for position, record in records.items() if "b" in position and position.replace("b", "") not in records
    ]
    return any(decode_record(record).name == PAUSE for record in waiting)


def _resume_since(flow: Flow, begun: Record | None) -> tuple[int, bytes] | None:
    """The first attempt since a pause began after which the run was resumed, and with what; unless that was for another pause, or since code and record
    differed.
    """
    if begun is None or flow.is_checked:
        return None
    taken = {_resumed(record.payload)[0] for record in flow.cursor.records.values() if record.kind == PAUSE}
    taken |= flow.cursor.differed()
    stored = flow.insist(lambda: flow.engine.store.recall(flow.id))
    resumes = {int(key.removeprefix(_RESUME)): value for key, value in stored.items() if key.startswith(_RESUME)}
    since = _number(begun.payload)
    return min(((at, value) for at, value in resumes.items() if at >= since and at not in taken), default=None)


# -- a signal ------------------------------------------------------------------------------------------------------------------
def wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Leave the body until a signal comes."""
    value, way = _look_signal(flow, name, timeout)
    if way:
        raise _suspended(flow, way)
    return value


async def async_wait_signal(flow: Flow, name: str, timeout: int | None) -> Any:
    """Block the branch until a signal comes."""
    await flow.come()
    try:
        value, way = _look_signal(flow, name, timeout)
    except ResultTimeoutError:
        await _in_turn(flow, None)
        raise
    return await _in_turn(flow, value) if way is None else await _for_ever(flow, way)


def _look_signal(flow: Flow, name: str, timeout: int | None) -> Found:
    position, record = flow.meet(SIGNAL, name)
    if record is None:
        operation = f"{SIGNAL} {name}"
        due = flow.deadline(position, operation, timeout) if timeout is not None else 0
        found = None if flow.is_checked else _next_signal(flow, name)
        if found is None and not flow.is_over(due):
            flow.begin(position, operation, encode(due))
            seen = 0 if flow.inbox is None else flow.inbox.seen
            return None, Suspended(FOR_SIGNAL + name, due=due, signals=seen)
        record = flow.write(position, Record(SIGNAL, name, encode(found or (_TOO_LATE, b""))))
    number, payload = _signalled(record.payload)
    if flow.inbox is not None:
        flow.inbox.use(number)
    if number == _TOO_LATE:
        raise ResultTimeoutError(f"no signal {name!r} came in time", flow.id)
    return flow.engine.codec.decode_value(payload, flow.id, signal_key(name)), None


def _next_signal(flow: Flow, name: str) -> tuple[int, bytes] | None:
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
    return [number for record in records if (number := _signalled(record.payload)[0]) >= 0]


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
        flow.remember(f"{flow.id}/taken", {"signals": encode((first, sorted(used)))})
    return flow.leave(Continued(call.payload, call.blobs, first))


# -- leaving -------------------------------------------------------------------------------------------------------------------
def _suspended(flow: Flow, way: Suspended) -> Departure:
    return flow.suspend(way.reason, due=way.due, awaits=way.awaits, signals=way.signals)


async def _in_turn(flow: Flow, value: Any) -> Any:
    """The value of the last operation of a branch, when it is its turn."""
    await flow.take_turn(position_of(flow.branch.path, flow.branch.count))
    return value


async def _for_ever(flow: Flow, way: Suspended) -> Any:
    """Block the branch until the body is suspended; what comes is found when it runs again."""
    if flow.is_checked:
        await flow.end_branch()

    async def wait() -> None:
        from asyncio import get_running_loop

        await get_running_loop().create_future()

    return await flow.branches.block(flow.branch, way, wait)
