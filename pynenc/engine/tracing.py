"""OpenTelemetry: a span around each submission and each attempt, and the metrics that go with them. Imported only when ``otel`` is on.

Names and attributes follow the semantic conventions for messaging. A batch of calls is one *send* span. Its context, in the headers that the
configured propagator writes (W3C ``traceparent`` unless told otherwise), travels in front of the stored arguments of each call. An attempt is
one *process* span with a link to the send span. A call that was made by a task is also its child, so that a task and all that it calls are one
trace; a call from outside begins a trace of its own, which lives as long as the work does and not as long as the request that asked for it.

Only the API is used: what becomes of spans and metrics, the SDK decides that the program sets up. What an error looks like on a span is what the
store keeps of it: without the values of secret arguments.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from pynenc import context
from pynenc.core.outcome import SECOND
from pynenc.core.records import Claimed, New, Outcome, Submitted
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError
from pynenc.serializer.errors import ErrorInfo
from pynenc.serializer.payload import MOST_HEADERS, headers_of, with_headers
from pynenc.version import __version__

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
except ImportError as error:
    raise ConfigError("the setting 'otel' needs the extra: pip install 'pynenc[otel]'") from error

if TYPE_CHECKING:
    from opentelemetry.context import Context

logger = logging.getLogger("pynenc.runner")

#: Milliseconds that a process which ends waits for its spans and metrics to be exported.
FLUSH_MILLISECONDS = 5000
#: Upper bounds of the classes of durations that the semantic conventions advise, in seconds.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

Attributes = dict[str, str | int | bool]


class Tracing:
    """Makes the spans and metrics of one app."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("pynenc", __version__)
        meter = metrics.get_meter("pynenc", __version__)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Calls that were submitted.")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Attempts that began.")
        self._sending = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Time that submissions took.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time that attempts took.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )

    # -- submitting ----------------------------------------------------------------------------------------------------
    def send(self, rows: Sequence[New], submit: Callable[[Sequence[New]], list[Submitted]]) -> list[Submitted]:
        """Submit rows of one task under a span, and let each carry its context."""
        common = _operation("send", rows[0].queue)
        attributes = common | {"pynenc.task": rows[0].task}
        if len(rows) > 1:
            attributes["messaging.batch.message_count"] = len(rows)
        began = time.monotonic()
        error_type = ""
        kind = trace.SpanKind.PRODUCER
        with self._tracer.start_as_current_span(f"send {rows[0].queue}", kind=kind, attributes=attributes) as span:
            headers = _current_headers()
            carriers = [msgspec.structs.replace(row, args=with_headers(headers, row.args)) for row in rows]
            try:
                answers = submit(carriers if headers else rows)
            except BaseException as error:
                error_type = type(error).__qualname__
                span.set_attribute("error.type", error_type)
                raise
            finally:
                common |= {"error.type": error_type} if error_type else {}
                self._sending.record(time.monotonic() - began, common)
                self._sent.add(len(rows), common)
            if len(rows) == 1:
                span.set_attribute("messaging.message.id", answers[0].id)
                if answers[0].existing or answers[0].id != rows[0].id:
                    span.set_attribute("pynenc.reused", value=True)
            return answers

    # -- running -------------------------------------------------------------------------------------------------------
    def begin(self, claimed: Claimed, running: context.Running) -> None:
        """Begin the span of an attempt, as the current one of this context. Trouble with it is no trouble of the body."""
        try:
            producer = propagate.extract(headers_of(claimed.args), otel_context.Context())
            origin = trace.get_current_span(producer).get_span_context()
            around = producer if claimed.parent else trace.set_span_in_context(trace.INVALID_SPAN, producer)
            span = self._start(claimed, running, around, [trace.Link(origin)] if origin.is_valid else [])
            otel_context.attach(trace.set_span_in_context(span, around))
            running.span = AttemptSpan(self, claimed, span)
            self._consumed.add(1, _operation("process", claimed.queue))
        except Exception:
            logger.exception("no span for %s %s", claimed.task, claimed.id)

    def _start(
        self, claimed: Claimed, running: context.Running, around: Context, links: Sequence[trace.Link]
    ) -> trace.Span:
        attributes = _operation("process", claimed.queue) | {
            "messaging.message.id": claimed.id,
            "pynenc.task": claimed.task,
            "pynenc.attempt": claimed.attempt,
            "pynenc.retries": claimed.retries,
            "pynenc.runner": running.runner,
            "pynenc.workflow.id": running.workflow.id if running.workflow else claimed.id,
        }
        name, kind = f"process {claimed.task}", trace.SpanKind.CONSUMER
        return self._tracer.start_span(name, around, kind, attributes, links)

    def ended(self, claimed: Claimed, ended: Outcome, error_type: str) -> None:
        """Count an attempt that has ended."""
        attributes = _operation("process", claimed.queue)
        attributes |= {"pynenc.task": claimed.task, "pynenc.outcome": ended.status.value}
        if error_type:
            attributes["error.type"] = error_type
        if ended.started and ended.ended:
            self._processing.record(max(0, ended.ended - ended.started) / SECOND, attributes)

    # -- the end -------------------------------------------------------------------------------------------------------
    @staticmethod
    def flush() -> None:
        """Export what waits for company; for processes that end without the usual ceremony."""
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
            flush = getattr(provider, "force_flush", None)
            if flush:
                try:
                    flush(FLUSH_MILLISECONDS)
                except Exception:
                    logger.exception("telemetry could not be exported")


class AttemptSpan:
    """The span of one attempt; ended once, by its body or by who gave the body up."""

    __slots__ = ("_claimed", "_error_type", "_is_over", "_span", "_tracing")

    def __init__(self, tracing: Tracing, claimed: Claimed, span: trace.Span) -> None:
        self._tracing = tracing
        self._claimed = claimed
        self._span = span
        self._error_type = ""
        self._is_over = False

    def fail(self, error: ErrorInfo) -> None:
        """The body raised; the texts are those that are stored."""
        self._error_type = error.type
        texts = {"type": error.type, "message": error.message, "stacktrace": error.traceback}
        self._span.add_event("exception", {f"exception.{name}": text for name, text in texts.items()})
        self._span.set_attribute("error.type", error.type)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, error.message))

    def end(self, ended: Outcome) -> None:
        """The attempt has ended."""
        if self._is_over:
            return
        self._is_over = True
        is_failed = ended.status is InvocationStatus.FAILED
        if is_failed and not self._error_type:
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, ended.reason))
        self._span.set_attribute("pynenc.outcome", ended.status.value)
        self._span.end()
        self._tracing.ended(self._claimed, ended, self._error_type or (ended.reason if is_failed else ""))

    def ids(self) -> Mapping[str, str]:
        """What log lines carry: the trace, and the innermost span of this context."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            found = self._span.get_span_context()
        if not found.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}


def _operation(name: str, queue: str) -> Attributes:
    return {
        "messaging.system": "pynenc",
        "messaging.destination.name": queue,
        "messaging.operation.name": name,
        "messaging.operation.type": name,
    }


def _current_headers() -> dict[str, str]:
    """The headers of the current span; without baggage and the like if they are too long."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    if len(msgspec.json.encode(headers)) > MOST_HEADERS:
        headers = {name: text for name, text in headers.items() if name == "traceparent"}
    return headers
