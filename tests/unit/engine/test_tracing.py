"""Spans and metrics as the SDK of OpenTelemetry sees them, in this process."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from opentelemetry import baggage, context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pynenc import Pynenc, RetryError, Secret, logs
from pynenc import context as our_context
from pynenc.core.records import Claimed, Filter
from pynenc.exceptions import QueueFullError
from pynenc.serializer.payload import MOST_HEADERS, headers_of, with_headers, without_headers
from tests.api import functions

app = Pynenc(app_id="traced", store="memory://", otel=True, dev_mode_force_sync_tasks=True)


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(queue="outer")
def calls_another(x: int) -> int:
    return add(x, 1).result


@app.task
async def waits(x: int) -> int:
    await asyncio.sleep(0)
    return x


@app.task(max_retries=1)
def flaky() -> int:
    if flaky.invocation.num_retries == 0:
        raise RetryError("once more")
    return 1


@app.task
def fails(token: Secret[str]) -> None:
    raise ValueError(f"bad token {token.reveal()}")


@app.task
def carries() -> str:
    return str(baggage.get_baggage("customer"))


@app.task
def logs_a_line() -> None:
    with trace.get_tracer("user").start_as_current_span("inner"):
        logging.getLogger("shop").warning("inside")


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The SDK can be set up once in a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[[], dict[str, ReadableSpan]]:
    """The finished spans by name; the last of each name."""
    exporter.clear()
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


Spans = Callable[[], dict[str, ReadableSpan]]


def key(task: object) -> str:
    return task.task_id.key  # type: ignore[attr-defined]


def test_a_call_from_outside(spans: Spans) -> None:
    call = add(1, 2)
    assert call.result == 3
    sent, processed = spans()["send default"], spans()[f"process {key(add)}"]
    common = {
        "messaging.system": "pynenc",
        "messaging.destination.name": "default",
        "messaging.message.id": call.invocation_id,
    }
    assert sent.kind is SpanKind.PRODUCER
    assert sent.attributes == common | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "pynenc.task": key(add),
    }
    assert processed.kind is SpanKind.CONSUMER
    runner = processed.attributes["pynenc.runner"]
    assert processed.attributes == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "pynenc.task": key(add),
        "pynenc.attempt": 1,
        "pynenc.retries": 0,
        "pynenc.runner": runner,
        "pynenc.workflow.id": call.invocation_id,
        "pynenc.outcome": "success",
    }
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.parent is None
    assert processed.context.trace_id != sent.context.trace_id


def test_a_call_of_a_task_stays_in_its_trace(spans: Spans) -> None:
    assert calls_another(1).result == 2
    outer, sent, inner = (
        spans()[name] for name in (f"process {key(calls_another)}", "send default", f"process {key(add)}")
    )
    assert sent.parent.span_id == outer.context.span_id
    assert inner.parent.span_id == sent.context.span_id
    assert [link.context.span_id for link in inner.links] == [sent.context.span_id]
    assert len({each.context.trace_id for each in (outer, sent, inner)}) == 1


def test_a_batch_is_one_span(spans: Spans, exporter: InMemorySpanExporter) -> None:
    many = Pynenc(app_id="many", store="memory://", otel=True)
    many.task(functions.plus).parallelize([(n, 1) for n in range(30)])
    rows = many.store.find(Filter()).invocations
    many.close()
    (sent,) = exporter.get_finished_spans()
    assert sent.attributes["messaging.batch.message_count"] == 30
    assert "messaging.message.id" not in sent.attributes
    place = f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-"
    assert [headers_of(row.args)["traceparent"].startswith(place) for row in rows] == [True] * 30


def test_an_async_body(spans: Spans) -> None:
    assert waits(7).result == 7
    assert spans()[f"process {key(waits)}"].attributes["pynenc.outcome"] == "success"


def test_each_attempt_has_a_span(spans: Spans, exporter: InMemorySpanExporter) -> None:
    assert flaky().result == 1
    first, second = (span for span in exporter.get_finished_spans() if span.name.startswith("process"))
    assert [span.attributes["pynenc.outcome"] for span in (first, second)] == ["retry", "success"]
    assert [span.attributes["pynenc.retries"] for span in (first, second)] == [0, 1]
    assert [span.status.status_code for span in (first, second)] == [StatusCode.ERROR, StatusCode.UNSET]
    assert first.links[0].context == second.links[0].context


def test_an_exception_is_recorded_without_secrets(spans: Spans) -> None:
    with pytest.raises(ValueError, match="bad token"):
        _ = fails(Secret("hunter2hunter2")).result
    span = spans()[f"process {key(fails)}"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"].endswith("ValueError")
    (event,) = span.events
    assert event.name == "exception"
    assert "ValueError" in event.attributes["exception.stacktrace"]
    assert "hunter2" not in span.to_json()


def test_a_call_that_is_refused(spans: Spans) -> None:
    full = Pynenc(app_id="full", store="memory://", otel=True, max_queue_length=1)
    task = full.task(functions.plus)
    with pytest.raises(QueueFullError):
        task.parallelize([(1, 1), (2, 2)])
    full.close()
    span = spans()["send default"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "QueueFullError"
    assert span.attributes["messaging.batch.message_count"] == 2


def test_baggage_travels(spans: Spans) -> None:
    token = context.attach(baggage.set_baggage("customer", "c-17"))
    try:
        assert carries().result == "c-17"
    finally:
        context.detach(token)
    assert carries().result == "None"


def test_an_idempotency_key_that_answers(spans: Spans) -> None:
    first = add.options(key="k")(1, 1)
    assert "pynenc.reused" not in spans()["send default"].attributes
    second = add.options(key="k")(1, 1)
    assert first.invocation_id == second.invocation_id
    assert spans()["send default"].attributes["pynenc.reused"] is True


def test_log_lines_carry_the_ids(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logs.JsonFormatter().format(record))

    handler = Lines()
    handler.addFilter(logs.ContextFilter(our_context.log_fields))
    logging.getLogger("shop").addHandler(handler)
    try:
        call = logs_a_line()
        assert call.result is None
    finally:
        logging.getLogger("shop").removeHandler(handler)
    line = json.loads(lines[0])
    inner, processed = spans()["inner"], spans()[f"process {key(logs_a_line)}"]
    assert line["trace_id"] == f"{processed.context.trace_id:032x}"
    assert line["span_id"] == f"{inner.context.span_id:016x}"
    assert (line["invocation_id"], line["task"], line["attempt"]) == (call.invocation_id, key(logs_a_line), 1)
    assert line["runner"]


def test_metrics(reader: InMemoryMetricReader) -> None:
    reader.get_metrics_data()
    app.conf.otel = False
    app.conf.otel = True  # instruments are made anew; those before the SDK was there are proxies anyway
    assert add(1, 1).result == 2
    data = reader.get_metrics_data()
    assert data is not None
    found = {m.name: m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics}
    assert set(found) >= {
        "messaging.client.sent.messages",
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.process.duration",
    }
    points = found["messaging.process.duration"].data.data_points
    assert any(dict(point.attributes).get("pynenc.task") == key(add) for point in points)


def test_gauges_of_a_runner(reader: InMemoryMetricReader) -> None:
    def gauges() -> dict[str, list[tuple[float, dict[str, object]]]]:
        data = reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {m.name: [(getattr(p, "value", 0), dict(p.attributes)) for p in m.data.data_points] for m in found}

    busy = Pynenc(app_id="busy", store="memory://", otel=True, runner_cls="ThreadRunner", threads=3)
    begun = threading.Event()
    busy.on("worker_start", begun.set)
    waiting = busy.task(queue="nobody")(functions.plus)(1)
    busy.conf.runner.queues = ("other",)
    thread = threading.Thread(target=busy.runner.run, daemon=True)
    thread.start()
    assert begun.wait(60)
    seen = gauges()
    assert seen["pynenc.runner.slots"] == [(3, {})]
    assert seen["pynenc.queue.ready"] == [(1, {"messaging.destination.name": "nobody"})]
    assert 0 <= seen["pynenc.queue.oldest"][0][0] < 60
    busy.runner.stop_runner_loop()
    thread.join(60)
    assert not gauges().keys() & {"pynenc.runner.slots", "pynenc.queue.ready"}, "a runner that is gone says nothing"
    assert waiting.status == "registered"
    busy.close()


def test_off_means_nothing_is_imported_or_written() -> None:
    code = "import sys; from tests.api import functions; from pynenc import Pynenc; app = Pynenc(app_id='a', store='memory://')\n"
    code += "app.task(functions.plus)(1, 2); print([m for m in sys.modules if 'opentelemetry' in m or m == 'pynenc.engine.tracing'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; from pynenc import Pynenc; Pynenc(app_id='a', store='memory://', otel=True).store"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'pynenc[otel]'" in done.stderr


# -- the headers ---------------------------------------------------------------------------------------------------------
def test_headers_stand_before_any_payload() -> None:
    for sealed in (b"{}", b"\x01frame", b"\x02" + b"k" * 40, b""):
        headed = with_headers({"traceparent": "00-aa-bb-01"}, sealed)
        assert headers_of(headed) == {"traceparent": "00-aa-bb-01"}
        assert without_headers(headed) == without_headers(sealed) == sealed
    assert with_headers({}, b"{}") == b"{}"
    assert with_headers({"a": "x" * MOST_HEADERS}, b"{}") == b"{}"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x03", b"\x03\x00", b"\x03\xff\xff{}", b"\x03\x00\x04[1]x", b"\x03\x00\x01\xff"]
)
def test_damaged_headers_are_none(data: bytes) -> None:
    assert headers_of(data) == {}


def test_an_app_without_tracing_reads_what_one_with_it_wrote() -> None:
    spec = add.spec
    codec = app.engine.codec
    encoded = codec.encode(spec, {"x": 1, "y": 2})
    headed = with_headers({"traceparent": "00-aa-bb-01"}, encoded.payload)
    assert codec.decode(spec, Claimed("i", spec.key, 1, headed)) == codec.decode(
        spec, Claimed("i", spec.key, 1, encoded.payload)
    )
