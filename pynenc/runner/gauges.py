"""The state of a runner and of the queues as OpenTelemetry gauges, read when the SDK exports. Imported only when ``otel`` is on.

They carry what the ``pynenc_runner_*`` and ``pynenc_queue_*`` metrics of the health port carry. All runners of an app report the same queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Self

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from pynenc.core.outcome import SECOND
from pynenc.core.records import QueueInfo
from pynenc.exceptions import StoreError
from pynenc.runner.numbers import LONGEST_NAME, MOST_NAMES
from pynenc.runner.vital import Vital
from pynenc.store.base import Store
from pynenc.version import __version__

logger = logging.getLogger("pynenc.runner")

Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Gauges:
    """The gauges of one runner, while it is entered: instruments cannot be taken back, so they say nothing afterwards."""

    def __init__(self, store: Store, vital: Callable[[], Vital]) -> None:
        self._store = store
        self._vital = vital
        self._is_on = False

    def __enter__(self) -> Self:
        self._is_on = True
        meter = metrics.get_meter("pynenc", __version__)
        add = meter.create_observable_gauge
        add(
            "pynenc.runner.slots",
            [self._runner(lambda vital: vital.slots)],
            "{slot}",
            "Sync tasks that can run at once.",
        )
        add("pynenc.runner.running", [self._runner(lambda vital: vital.running)], "{slot}", "Slots in use.")
        add("pynenc.queue.ready", [self._queues(lambda queue: queue.ready)], "{invocation}", "Claimable invocations.")
        add(
            "pynenc.queue.oldest",
            [self._queues(self._age)],
            "s",
            "How long the oldest claimable invocation has waited.",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._is_on = False

    def _runner(self, read: Callable[[Vital], float]) -> Callback:
        return lambda _: [Observation(read(self._vital()))] if self._is_on else []

    def _queues(self, read: Callable[[QueueInfo], float]) -> Callback:
        def observe(_: CallbackOptions) -> list[Observation]:
            try:
                queues = self._store.queues()[:MOST_NAMES] if self._is_on else []
            except StoreError as error:
                logger.warning("the store did not say how long its queues are: %s", error)
                return []
            return [
                Observation(read(each), {"messaging.destination.name": each.name[:LONGEST_NAME]}) for each in queues
            ]

        return observe

    def _age(self, queue: QueueInfo) -> float:
        return max(0, self._store.clock.now() - queue.oldest) / SECOND if queue.oldest else 0.0
