"""The tasks with triggers: apart from the others, which must not pay for them."""

from __future__ import annotations

from benchmarks.tasks import app
from pynenc.trigger import on_any_result, on_event
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.result import ResultContext


def of_event(event: EventContext) -> dict[str, int]:
    return {"index": event.payload["index"]}


def of_result(ended: ResultContext) -> dict[str, int]:
    return {"index": ended.result}


@app.task(triggers=on_event("heard").with_args_from_event(of_event))
def heard(index: int) -> int:
    return index


@app.task(triggers=on_any_result(heard).with_args_from_result(of_result))
def heard_of(index: int) -> int:
    return index
