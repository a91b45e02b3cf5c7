"""The metrics of a runner in the text format of Prometheus, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/. :data:`METRICS` is the list of all there is; the documentation has the same.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence

from pynenc.core.outcome import SECOND
from pynenc.core.records import Microseconds, QueueInfo
from pynenc.runner.numbers import BOUNDS, LONGEST_NAME, MOST_NAMES, Numbers, Spread
from pynenc.runner.vital import Vital
from pynenc.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Name → type and meaning.
METRICS: Mapping[str, tuple[str, str]] = {
    "pynenc_build_info": (
        "gauge",
        "Always 1; its labels are the versions of pynenc and Python, the app and the kind of store.",
    ),
    "pynenc_runner_ready": ("gauge", "1 while the runner is ready, as /readyz says, else 0."),
    "pynenc_runner_workers": ("gauge", "Workers that live."),
    "pynenc_runner_slots": ("gauge", "Sync tasks that can run at once."),
    "pynenc_runner_running": ("gauge", "Slots in use."),
    "pynenc_claims_total": ("counter", "Rounds in which a worker asked the store for work."),
    "pynenc_invocations_claimed_total": ("counter", "Invocations that these rounds brought."),
    "pynenc_invocations_finished_total": ("counter", "Invocations that ended here, by final status and task."),
    "pynenc_invocations_retried_total": ("counter", "Attempts that are followed by a retry, by task."),
    "pynenc_invocations_released_total": ("counter", "Claimed invocations that were given back."),
    "pynenc_results_refused_total": ("counter", "Results that came too late: another attempt owned the invocation."),
    "pynenc_invocation_duration_seconds": (
        "histogram",
        "Time that attempts took, from start to end of the body, by queue.",
    ),
    "pynenc_worker_deaths_total": ("counter", "Worker processes that died."),
    "pynenc_store_errors_total": ("counter", "Operations that the store did not carry out."),
    "pynenc_store_up": ("gauge", "1 when the store answered the last question about its queues, else 0."),
    "pynenc_queue_ready": ("gauge", "Invocations that could be claimed now, by queue."),
    "pynenc_queue_later": ("gauge", "Invocations that wait for a time, by queue."),
    "pynenc_queue_parked": ("gauge", "Invocations that wait behind a concurrency key or a rate, by queue."),
    "pynenc_queue_claimed": ("gauge", "Invocations that runners own, by queue."),
    "pynenc_queue_oldest_seconds": (
        "gauge",
        "How long the oldest claimable invocation has waited, by queue; 0 if there is none.",
    ),
}

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class Sheet:
    """A page of metrics in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def put(self, name: str, *samples: Sample) -> None:
        """Add a metric with its samples; one without samples is left out."""
        if samples:
            self._begin(name)
            self._lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]

    def put_spreads(self, name: str, spreads: Mapping[str, Spread]) -> None:
        """Add a histogram with one series for each queue."""
        if spreads:
            self._begin(name)
        for queue, spread in spreads.items():
            below = 0
            for bound, count in zip((*map(_number, BOUNDS), "+Inf"), spread.counts, strict=True):
                below += count
                self._lines.append(f"{name}_bucket{_labels({'queue': queue, 'le': bound})} {below}")
            self._lines.append(f"{name}_sum{_labels({'queue': queue})} {_number(spread.total)}")
            self._lines.append(f"{name}_count{_labels({'queue': queue})} {below}")

    def _begin(self, name: str) -> None:
        kind, meaning = METRICS[name]
        self._lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]

    def text(self) -> str:
        """The whole page."""
        return "\n".join(self._lines) + "\n"


def render(app_id: str, store: str, vital: Vital, numbers: Numbers, *, is_ready: bool) -> Sheet:
    """What a runner knows by itself.

    :param store: the kind of store, such as ``sqlite``.
    """
    page = Sheet()
    build = {"version": __version__, "python": platform.python_version(), "app": app_id, "store": store}
    page.put("pynenc_build_info", (build, 1))
    page.put("pynenc_runner_ready", ({}, is_ready))
    page.put("pynenc_runner_workers", ({}, len(vital.loops)))
    page.put("pynenc_runner_slots", ({}, vital.slots))
    page.put("pynenc_runner_running", ({}, vital.running))
    page.put("pynenc_claims_total", ({}, numbers.claims))
    page.put("pynenc_invocations_claimed_total", ({}, numbers.claimed))
    finished = [
        ({"status": status, "task": task}, n) for task, by in numbers.finished.items() for status, n in by.items()
    ]
    page.put("pynenc_invocations_finished_total", *finished)
    page.put("pynenc_invocations_retried_total", *(({"task": task}, n) for task, n in numbers.retried.items()))
    page.put("pynenc_invocations_released_total", ({}, numbers.released))
    page.put("pynenc_results_refused_total", ({}, numbers.refused))
    page.put_spreads("pynenc_invocation_duration_seconds", numbers.durations)
    page.put("pynenc_worker_deaths_total", ({}, numbers.deaths))
    page.put("pynenc_store_errors_total", ({}, numbers.store_errors))
    return page


def add_queues(page: Sheet, queues: Sequence[QueueInfo], now: Microseconds, *, is_up: bool) -> None:
    """What the store says about its queues; ``now`` is its own time."""
    page.put("pynenc_store_up", ({}, is_up))
    shown = queues[:MOST_NAMES]
    for field in ("ready", "later", "parked", "claimed"):
        page.put(f"pynenc_queue_{field}", *_by_queue(shown, [getattr(queue, field) for queue in shown]))
    ages = [max(0, now - queue.oldest) / SECOND if queue.oldest else 0 for queue in shown]
    page.put("pynenc_queue_oldest_seconds", *_by_queue(shown, ages))


def _by_queue(queues: Sequence[QueueInfo], values: Iterable[float]) -> list[Sample]:
    return [({"queue": queue.name[:LONGEST_NAME]}, value) for queue, value in zip(queues, values, strict=True)]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
