"""Undoing what a workflow did that has failed for the last time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pynenc.core.records import Submitted
from pynenc.core.status import InvocationStatus
from pynenc.engine.suspension import Suspended
from pynenc.workflow.difference import not_all_met, stop
from pynenc.workflow.replay import CALL, COMPENSATION, Branch, Record, position_of

if TYPE_CHECKING:
    from pynenc.workflow.flow import Flow

logger = logging.getLogger("pynenc.workflow")

#: The position under which is recorded that a workflow has failed and is being compensated.
FAILING = position_of(COMPENSATION, 0)
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
        flow.write(FAILING, Record("failing", "", error))
    branch, failed = Branch(COMPENSATION), []
    for undo in reversed(_registered(flow)):
        position, record = flow.meet_in(branch, CALL, undo.task, lambda: "a compensation")
        (child,) = flow.call_at(position, record, undo.task, 1, undo.submit)
        finals = flow.known([child]) or flow.engine.store.finals([child])
        if not finals:
            raise Suspended(f"compensates with {undo.task}", awaits=(child,))
        final = finals[0]
        if final.status is not InvocationStatus.SUCCESS:
            logger.error("compensation %s %s of workflow %s: %s", undo.task, child, flow.id, final.status.value)
            failed.append(child)
    return records[FAILING].payload, f"compensated; failed: {', '.join(failed)}" if failed else "compensated"


def _registered(flow: Flow) -> list[Undo]:
    """The compensations in the order in which they were registered when the workflow failed: branches may come to them in another one now."""
    places = _places(flow.begin(FAILING, "compensate", encode(list(flow.undos))).payload)
    if lost := [place for place in places if place not in flow.undos]:
        raise stop(flow, not_all_met(f"compensation {lost[0]}"))
    return [flow.undos[place] for place in places]
