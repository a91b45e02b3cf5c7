"""The triggers of the chaos test: by an event, by a result, by changes of status. What they call is told its cause."""

from __future__ import annotations

from typing import Any

from pynenc import RetryError
from pynenc.testing.chaos.tasks import app
from pynenc.testing.chaos.witness import witnessed
from pynenc.testing.chaos.workflows import CRASHES, order, trip
from pynenc.trigger import TriggerBuilder, on_event
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.status import StatusContext

#: The code of the event that clients emit.
NOTE = "chaos.note"


def of_change(invocation_id: str, status: str) -> str:
    """What is called is told this about a change of status."""
    return f"{invocation_id}~{status}"


@app.task(max_crashes=CRASHES)
def measure(nonce: str, number: int) -> dict[str, Any]:
    """Every second result is of interest."""
    with witnessed(nonce) as result:
        return {"by": result, "odd": number % 2}


@app.task(max_retries=3, retry_delay=0.05, max_crashes=CRASHES)
def waver(nonce: str) -> str:
    """Succeeds after one retry."""
    with witnessed(nonce) as result:
        if waver.invocation.num_retries < 1:
            raise RetryError("not yet")
        return result


# -- what is triggered ---------------------------------------------------------------------------------------------------------
def _event(context: EventContext) -> dict[str, Any]:
    return {"cause": context.payload["nonce"]}


def _change(context: StatusContext) -> dict[str, Any]:
    return {"cause": of_change(context.invocation_id, context.status)}


@app.task(triggers=on_event(NOTE).with_args_from_event(_event), max_crashes=CRASHES)
def noted(cause: str) -> str:
    """By an event."""
    with witnessed(cause) as result:
        return result


@app.task(triggers=TriggerBuilder().on_result(measure, {"odd": 1}).with_args_from_result(_change), max_crashes=CRASHES)
def measured(cause: str) -> str:
    """By a result."""
    with witnessed(cause) as result:
        return result


@app.task(
    triggers=TriggerBuilder()
    .on_status(waver, ("retry", "success"))
    .on_status(order, "paused")
    .on_status(trip, ("paused", "failed"))
    .with_logic("or")
    .with_args_from_status(_change),
    max_crashes=CRASHES,
)
def changed(cause: str) -> str:
    """By changes of status."""
    with witnessed(cause) as result:
        return result
