"""Undoing what a workflow did that has failed for the last time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from pynenc.core.outcome import released
from pynenc.core.records import Claimed, Outcome, Owner, Submitted
from pynenc.core.status import InvocationStatus
from pynenc.engine.suspension import Suspended
from pynenc.exceptions import StoreError, WorkerLostError
from pynenc.serializer.errors import encode_error
from pynenc.workflow.difference import not_all_met, stop
from pynenc.workflow.replay import (
    BEGUN,
    CALL,
    COMPENSATION,
    DIFFERENCE,
    Branch,
    Record,
    begun_at,
    encode_record,
    position_of,
)

if TYPE_CHECKING:
    from pynenc.engine import Engine
    from pynenc.workflow.flow import Flow

logger = logging.getLogger("pynenc.workflow")

#: The position under which is recorded that a workflow has failed and is being compensated.
FAILING = position_of(COMPENSATION, 0)
#: The position under which is recorded that another death would be the last one: how much was recorded then (in ``name``; empty: it did not die).
LAST_CHANCE = position_of(f"{COMPENSATION}l/", 0)
encode = msgspec.msgpack.encode
_places = msgspec.msgpack.Decoder(list[str]).decode
#: Submits the calls of one operation under the given ids.
Submit = Callable[[Sequence[str]], Sequence[Submitted]]


class Undo(NamedTuple):
    """A compensation: the task, and what submits its call."""

    task: str
    submit: Submit


def compensate(flow: Flow, error: bytes) -> tuple[bytes, str]:
    """Run the compensations in reverse order; the error to end with, and what to say of them.

    :raises Suspended: one of them takes its time, or the body registers others than it did when it failed.
    """
    flow.running.departure = None
    records = flow.cursor.records
    if FAILING not in records:
        if not flow.undos:
            return error, ""
        begun = {begun_at(FAILING): Record(BEGUN, "compensate", encode(list(flow.undos)))}
        flow.write(FAILING, Record("failing", "", error), also=begun)
    cause, undos, branch, failed = records[FAILING], _registered(flow), Branch(COMPENSATION), []
    for undo in reversed(undos):
        position, record = flow.meet_in(branch, CALL, undo.task, lambda: "a compensation")
        (child,) = flow.call_at(position, record, undo.task, 1, undo.submit)
        finals = flow.known([child]) or flow.engine.store.finals([child])
        if not finals:
            raise Suspended(f"compensates with {undo.task}", awaits=(child,))
        final = finals[0]
        if final.status is not InvocationStatus.SUCCESS:
            logger.error("compensation %s %s of workflow %s: %s", undo.task, child, flow.id, final.status.value)
            failed.append(child)
    done = [cause.name, "compensated" if undos else "", f"failed: {', '.join(failed)}" if failed else ""]
    return cause.payload, "; ".join(filter(None, done))


def end_without_body(engine: Engine, claimed: Claimed, runner: str, ended: Outcome) -> Outcome:
    """What becomes of an attempt whose body is gone: its process died, or it does not react to its timeout. If that would end a workflow, it gets one more
    attempt, in which the body replays to where it was, and what it did is compensated. If that one ends so, too, the workflow has failed.
    """
    if ended.status is not InvocationStatus.FAILED:
        return ended
    scope, by = f"{claimed.id}/{claimed.round}", Owner(claimed.id, claimed.attempt, runner)
    try:
        known = engine.store.recall(scope)
        if FAILING in known:
            logger.error("workflow %s %s could not be compensated: %s", claimed.task, claimed.id, ended.reason)
            return replace(ended, reason=f"{ended.reason}; its compensation was not carried out to the end")
        spec = engine.executor.resolve(claimed.task)
        if not (known or (spec is not None and spec.is_workflow)):
            return ended
        cause = encode_record(Record("failing", ended.reason, ended.payload))
        engine.store.remember(scope, {FAILING: cause}, once=True, by=by)
    except StoreError as error:
        logger.warning("workflow %s %s could not be ended (%s); it goes back", claimed.task, claimed.id, error)
        return released(claimed, "its end could not be written", started=claimed.claimed)
    logger.error("workflow %s %s has failed (%s) and is compensated", claimed.task, claimed.id, ended.reason)
    is_crash = ended.crashes > claimed.crashes
    back = released(claimed, f"{ended.reason}; to be compensated", alone=is_crash, started=claimed.claimed)
    return replace(back, crashes=ended.crashes)


def face_death(flow: Flow, records: dict[str, Record]) -> None:
    """When a runner dies that nobody supervises, only the store notices, and it would end a run at its last crash without a compensation. So an attempt whose
    crash would be that one records it first, by which it is forgiven all crashes. If it dies before it gets on, the next attempt finds that, and has failed.
    """
    claimed, last, slot = flow.running.claimed, records.get(LAST_CHANCE), flow.running.slot
    if FAILING in records:
        return
    is_alone = slot is not None and not slot.is_supervised and claimed.alone
    so_far = str(sum(not position.startswith((COMPENSATION, DIFFERENCE)) for position in records))
    if last is not None and last.name == so_far and claimed.alone:
        reason = f"crash {claimed.max_crashes} of {claimed.max_crashes}: its process died"
        logger.error("workflow %s %s has failed (%s) and is compensated", claimed.task, claimed.id, reason)
        _note(flow, records, FAILING, Record("failing", reason, encode_error(WorkerLostError(reason))))
    elif is_alone and claimed.crashes + 1 >= claimed.max_crashes > 0:
        _note(flow, records, LAST_CHANCE, Record("last chance", so_far))
    elif last is not None and last.name:
        _note(flow, records, LAST_CHANCE, Record("last chance"))


def _note(flow: Flow, records: dict[str, Record], position: str, record: Record) -> None:
    flow.remember(flow.scope, {position: encode_record(record)})
    records[position] = record
    flow.get_on()


def _registered(flow: Flow) -> list[Undo]:
    """The compensations in the order in which they were registered when the workflow failed: branches may come to them in another one now."""
    places = _places(flow.begin(FAILING, "compensate", encode(list(flow.undos))).payload)
    if lost := [place for place in places if place not in flow.undos]:
        raise stop(flow, not_all_met(f"compensation {lost[0]}"))
    return [flow.undos[place] for place in places]
