"""Events: ``app.trigger.emit_event(code, payload)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynenc.trigger.conditions.base import Cause, Condition, ConditionContext
from pynenc.trigger.filters import Filter, described, refused


@dataclass(frozen=True)
class EventContext(ConditionContext):
    """An event."""

    event_id: str
    event_code: str
    payload: Any


@dataclass(frozen=True)
class EventCondition(Condition):
    """An event of this code was emitted, with a payload that the filter wants."""

    kind = "event"
    event_code: str
    payload_filter: Filter | None = None

    def hears(self, cause: Cause, /) -> bool:
        return cause.kind == self.kind and cause.code == self.event_code

    def judge(self, cause: Cause, /) -> EventContext | str:
        why = refused(self.payload_filter, cause.payload, "the payload is not wanted")
        return why or EventContext(cause.id, cause.code, cause.payload)

    def describe(self) -> str:
        return f"event {self.event_code}{described(self.payload_filter, 'where')}"
