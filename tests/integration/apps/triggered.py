"""Tasks with triggers of every kind, and functions that filter and provide; witnesses are lines of a file."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from pynenc import Pynenc, RetryError
from pynenc.trigger import (
    TriggerBuilder,
    on_any_result,
    on_cron,
    on_event,
    on_exception,
    on_interval,
    on_result,
    on_status,
)
from pynenc.trigger.conditions.base import TriggerContext
from pynenc.trigger.conditions.cron import CronContext
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.exception import ExceptionContext
from pynenc.trigger.conditions.result import ResultContext
from pynenc.trigger.conditions.status import StatusContext

app = Pynenc(app_id="triggered", store="memory://")


class ShopError(Exception):
    pass


class PaymentError(ShopError):
    pass


# -- functions of triggers -----------------------------------------------------------------------------------------------
def from_event(event: EventContext) -> dict[str, Any]:
    return {"value": event.payload["n"]}


def from_status(change: StatusContext) -> dict[str, Any]:
    return {"value": [change.arguments.kwargs["value"], change.status.value]}


def from_result(change: ResultContext) -> dict[str, Any]:
    return {"value": [change.arguments.kwargs["value"], change.result]}


def from_exception(change: ExceptionContext) -> dict[str, Any]:
    return {"value": [change.exception_type, change.exception_message]}


def from_ticks(context: TriggerContext) -> dict[str, Any]:
    (tick,) = context.of(CronContext)
    last = tick.last_execution
    return {"value": [tick.timestamp.isoformat(), last.isoformat() if last else None]}


def from_all(context: TriggerContext) -> dict[str, Any]:
    return {"value": sorted(event.payload["n"] for event in context.of(EventContext))}


def is_even(payload: dict[str, Any]) -> bool:
    return int(payload["n"]) % 2 == 0


def fails(event: EventContext) -> dict[str, Any]:
    if not Path(event.payload["mended"]).exists():
        raise ShopError("the provider is broken")
    return {"value": event.payload["n"]}


def kills(payload: dict[str, Any]) -> bool:
    """Kill the process the first time, between the cause and its decision."""
    mark = Path(payload["mark"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return True


# -- sources -------------------------------------------------------------------------------------------------------------
@app.task(max_retries=3)
def work(value: int) -> int:
    if value < 0:
        raise PaymentError(f"refused {value}")
    return value * 10


@app.task(max_retries=2)
def flaky(value: int) -> int:
    if app.tasks[flaky.task_id].invocation.num_retries < value:
        raise RetryError
    return value


# -- targets: what they were called with is their argument -----------------------------------------------------------------
@app.task(triggers=on_event("paid", {"country": "ES"}).with_args_from_event(from_event))
def paid(value: Any) -> Any:
    return value


@app.task(
    triggers=[
        on_event("even", is_even).with_args_from_event(from_event),
        on_event("other").with_args_static({"value": "static"}),
    ]
)
def even(value: Any) -> Any:
    return value


@app.task(triggers=on_status(work, ["success", "failed"]).with_args_from_status(from_status))
def ended(value: Any) -> Any:
    return value


@app.task(triggers=on_status(flaky, "retry").with_args_from_status(from_status))
def retried(value: Any) -> Any:
    return value


@app.task(
    triggers=[
        on_result(work, 50).with_args_from_result(from_result),
        on_any_result(work, {"value": 1}).with_args_from_result(from_result),
    ]
)
def returned(value: Any) -> Any:
    return value


@app.task(triggers=on_exception(work, ShopError).with_args_from_exception(from_exception))
def refused(value: Any) -> Any:
    return value


@app.task(triggers=on_exception(work, ValueError).with_args_from_exception(from_exception))
def never(value: Any) -> Any:
    return value


@app.task(triggers=on_cron("0 * * * *").named("hourly").with_args_from_trigger_context(from_ticks))
def hourly(value: Any) -> Any:
    return value


@app.task(triggers=on_cron("0 * * * *", misfire="all").with_args_from_trigger_context(from_ticks))
def every_hour(value: Any) -> Any:
    return value


@app.task(triggers=on_cron("0 * * * *", misfire="skip").with_args_from_trigger_context(from_ticks))
def in_time(value: Any) -> Any:
    return value


@app.task(triggers=on_interval(600).with_args_from_trigger_context(from_ticks))
def often(value: Any) -> Any:
    return value


@app.task(
    triggers=TriggerBuilder()
    .on_event("left")
    .on_event("right")
    .with_logic("and", within=60)
    .with_args_from_trigger_context(from_all)
)
def joined(value: Any) -> Any:
    return value


@app.task(
    triggers=TriggerBuilder().on_any_result(work, {"value": 77}).on_event("release").with_args_from_result(from_result)
)
def released(value: Any) -> Any:
    return value


@app.task(
    triggers=TriggerBuilder()
    .on_cron("0 * * * *")
    .on_event("open")
    .with_logic("and", within=120)
    .with_args_from_trigger_context(from_ticks)
)
def opened(value: Any) -> Any:
    return value


@app.task(
    triggers=TriggerBuilder()
    .on_event("base")
    .add_condition(TriggerBuilder().on_event("one").on_event("two").with_logic("or"))
    .with_args_from_trigger_context(from_all)
)
def nested(value: Any) -> Any:
    return value


@app.task(triggers=on_event("typed").with_args_from_event(from_event).debounce(10, key="value"))
def quiet(value: Any) -> Any:
    return value


@app.task(triggers=on_event("rung").with_args_from_event(from_event).throttle(2, 60, key="value"))
def limited(value: Any) -> Any:
    return value


@app.task(triggers=on_event("broken").with_args_from_event(fails))
def broken(value: Any) -> Any:
    return value


@app.task(triggers=on_event("deadly", kills).with_args_from_event(from_event))
def survived(value: Any) -> Any:
    return value


@app.task(triggers=on_event("counted").with_args_from_event(from_event))
def counted(value: Any) -> Any:
    return value


@app.task(triggers=on_any_result(counted).with_args_from_result(from_result))
def after_counted(value: Any) -> Any:
    return value


@app.task(triggers=on_interval(1).with_args_from_trigger_context(from_ticks))
def each_second(value: Any) -> Any:
    return value
