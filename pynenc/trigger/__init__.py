"""Triggers: which calls are made when something happens. Pure definitions and decisions; :mod:`pynenc.engine.firing` carries them out.

::

    @app.task(triggers=[on_cron("0 6 * * *", tz="Europe/Madrid"), on_event("order.paid", {"country": "ES"})])
    def report() -> None: ...
"""

from __future__ import annotations

from pynenc.trigger.trigger_builder import (
    TriggerBuilder,
    on_any_result,
    on_cron,
    on_event,
    on_exception,
    on_interval,
    on_result,
    on_status,
)

__all__ = [
    "TriggerBuilder",
    "on_any_result",
    "on_cron",
    "on_event",
    "on_exception",
    "on_interval",
    "on_result",
    "on_status",
]
