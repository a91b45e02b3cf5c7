"""Undoing what a workflow did that has failed for the last time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pynenc.core.records import Submitted
from pynenc.core.status import InvocationStatus
from pynenc.engine.suspension import Suspended
from pynenc.workflow.replay import CALL, COMPENSATION, Branch, Record, position_of

if TYPE_CHECKING:
    from pynenc.workflow.flow import Flow

logger = logging.getLogger("pynenc.workflow")

#: The position under which is recorded that a workflow has failed and is being compensated.
FAILING = position_of(COMPENSATION, 0)
#: Submits the calls of one operation under the given ids.
Submit = Callable[[Sequence[str]], Sequence[Submitted]]


class Undo(NamedTuple):
    """A compensation: the task, and what submits its call."""

    task: str
    submit: Submit


def compensate(flow: Flow, error: bytes) -> tuple[bytes, str]:
    """Run the compensations in reverse order; the error to end with, and what to say of them.

    :raises Suspended: one of them takes its time.
    """
    flow.running.departure = None
    records = flow.cursor.records
    if FAILING not in records:
        if not flow.undos:
            return error, ""
        flow.write(FAILING, Record("failing", "", error))
    branch, failed = Branch(COMPENSATION), []
    for undo in reversed(flow.undos):
        position, record = flow.cursor.meet(branch, CALL, undo.task, lambda: "a compensation")
        (child,) = flow.call_at(position, record, undo.task, 1, undo.submit)
        finals = flow.known([child]) or flow.engine.store.finals([child])
        if not finals:
            raise Suspended(f"compensates with {undo.task}", awaits=(child,))
        final = finals[0]
        if final.status is not InvocationStatus.SUCCESS:
            logger.error("compensation %s %s of workflow %s: %s", undo.task, child, flow.id, final.status.value)
            failed.append(child)
    return records[FAILING].payload, f"compensated; failed: {', '.join(failed)}" if failed else "compensated"
