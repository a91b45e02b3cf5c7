"""An app whose processes write their spans to the file that the environment names, in batches as programs do."""

from __future__ import annotations

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from pynenc import Pynenc


def one_line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


provider = TracerProvider()
file = Path(os.environ["TRACED_FILE"]).open("a")  # noqa: SIM115  # open as long as the process lives
provider.add_span_processor(
    BatchSpanProcessor(ConsoleSpanExporter(out=file, formatter=one_line), schedule_delay_millis=60_000)
)
trace.set_tracer_provider(provider)

app = Pynenc(app_id="traced", otel=True, log_format="json")


@app.task
def inner(x: int) -> int:
    inner.logger.warning("inner runs")
    return x + 1


@app.task
def outer(x: int) -> int:
    return inner(x).result


@app.task
async def async_outer(x: int) -> int:
    return await inner(x).async_result()


@app.task
def fails() -> None:
    raise LookupError("on purpose")


def client() -> None:
    """What the program that calls does."""
    with trace.get_tracer("client").start_as_current_span("request"):
        calls = [outer(1), async_outer(2), fails()]
    for call in calls:
        assert call.wait(60)
