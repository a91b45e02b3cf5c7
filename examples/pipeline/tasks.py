"""Files arrive, are parsed, and summed up once a batch is complete. Nobody calls the next step: each one is triggered."""

from typing import Any

from pynenc import Pynenc
from pynenc.trigger import TriggerBuilder, on_any_result, on_event, on_exception
from pynenc.trigger.conditions.base import TriggerContext
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.exception import ExceptionContext
from pynenc.trigger.conditions.result import ResultContext

app = Pynenc(app_id="pipeline")
BATCHES = ("north", "south")


# -- what the steps are called with --------------------------------------------------------------------------------------
def arrived(event: EventContext) -> dict[str, Any]:
    return {"name": event.payload["name"], "text": event.payload["text"]}


def parsed(ended: ResultContext) -> dict[str, Any]:
    return {"name": ended.arguments.kwargs["name"], "numbers": ended.result}


def broken(ended: ExceptionContext) -> dict[str, Any]:
    return {"name": ended.arguments.kwargs["name"], "problem": ended.exception_message}


def totals(context: TriggerContext) -> dict[str, Any]:
    return {"totals": {event.payload["name"]: event.payload["total"] for event in context.of(EventContext)}}


# -- the steps -----------------------------------------------------------------------------------------------------------
@app.task(triggers=on_event("file.arrived").with_args_from_event(arrived))
def parse(name: str, text: str) -> list[int]:
    return [int(word) for word in text.split()]


@app.task(triggers=on_any_result(parse).with_args_from_result(parsed))
def add_up(name: str, numbers: list[int]) -> int:
    total = sum(numbers)
    app.trigger.emit_event("file.added", {"name": name, "total": total})
    return total


@app.task(triggers=on_exception(parse, ValueError).with_args_from_exception(broken))
def complain(name: str, problem: str) -> str:
    return f"{name}: {problem}"


@app.task(
    triggers=TriggerBuilder()
    .on_event("file.added", {"name": BATCHES[0]})
    .on_event("file.added", {"name": BATCHES[1]})
    .with_logic("and", within=3600)
    .with_args_from_trigger_context(totals)
)
def conclude(totals: dict[str, int]) -> int:
    return sum(totals.values())
