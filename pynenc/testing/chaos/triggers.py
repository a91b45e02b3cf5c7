"""The triggers of the chaos test: by an event, by a result, by changes of status, by time. What they call is told its cause."""

from __future__ import annotations

from typing import Any

from pynenc import RetryError
from pynenc.core.outcome import SECOND
from pynenc.testing.chaos.tasks import app
from pynenc.testing.chaos.witness import witnessed
from pynenc.testing.chaos.workflows import CRASHES, order, trip
from pynenc.trigger import TriggerBuilder, on_cron, on_event
from pynenc.trigger.conditions.base import TriggerContext
from pynenc.trigger.conditions.cron import CronContext
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.status import StatusContext

#: The codes of the events that clients emit: of each an effect, two that come together, some of them, the last of them.
CODES = NOTE, LEFT, RIGHT, BURST, RUSH = "chaos.note", "chaos.left", "chaos.right", "chaos.burst", "chaos.rush"
#: Seconds between two ticks, between two causes that come together, and of the limits.
TICK, WINDOW, QUIET, RATE = 0.5, 5.0, 1.0, (2, 3.0)
#: Cron expressions, with the seconds between two of their ticks: of what is made up for once, and of what is skipped when it comes later than tolerated.
EVEN, SECONDLY = ("*/2 * * * * *", 2.0), ("* * * * * *", 1.0)


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


def _tick(context: TriggerContext) -> dict[str, Any]:
    (tick,) = context.of(CronContext)
    return {"cause": str(round(tick.timestamp.timestamp() * SECOND))}


def _pair(context: TriggerContext) -> dict[str, Any]:
    return {"cause": " ".join(each.payload["nonce"] for each in context.of(EventContext))}


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


@app.task(
    triggers=TriggerBuilder().on_interval(TICK, misfire="all").with_args_from_trigger_context(_tick),
    max_crashes=CRASHES,
)
def ticked(cause: str) -> str:
    """By time."""
    with witnessed(cause) as result:
        return result


@app.task(
    triggers=on_cron(EVEN[0], misfire="once").with_args_from_trigger_context(_tick),
    max_crashes=CRASHES,
)
def struck(cause: str) -> str:
    """By the clock, once for all that was missed."""
    with witnessed(cause) as result:
        return result


@app.task(
    triggers=on_cron(SECONDLY[0], tz="Asia/Kolkata", misfire="skip").with_args_from_trigger_context(_tick),
    max_crashes=CRASHES,
)
def chimed(cause: str) -> str:
    """By the clock, unless it is late."""
    with witnessed(cause) as result:
        return result


@app.task(
    triggers=TriggerBuilder()
    .on_event(LEFT)
    .on_event(RIGHT)
    .with_logic("and", within=WINDOW)
    .with_args_from_trigger_context(_pair),
    max_crashes=CRASHES,
)
def paired(cause: str) -> str:
    """By two events that come together."""
    with witnessed(cause.replace(" ", "+")) as result:
        return result


@app.task(triggers=on_event(BURST).with_args_from_event(_event).throttle(*RATE), max_crashes=CRASHES)
def throttled(cause: str) -> str:
    """By some of many events."""
    with witnessed(cause) as result:
        return result


@app.task(triggers=on_event(RUSH).with_args_from_event(_event).debounce(QUIET), max_crashes=CRASHES)
def debounced(cause: str) -> str:
    """By the last of many events."""
    with witnessed(cause) as result:
        return result


#: What always ticks, until it is paused.
TICKING = (ticked, struck, chimed)
