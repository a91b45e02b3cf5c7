"""Causes of firings, as conditions look at them: read from the store and decoded only when a condition asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from pynenc.arguments import Arguments
from pynenc.core.ids import CallId, TaskId
from pynenc.core.records import Final, Invocation
from pynenc.core.status import InvocationStatus
from pynenc.engine.codec import Codec
from pynenc.engine.spec import TaskSpec
from pynenc.exceptions import InvocationNotFoundError, TriggerError
from pynenc.serializer.errors import ErrorInfo, read_error
from pynenc.store.base import Store
from pynenc.trigger.conditions.base import Cause

Resolve = Callable[[str], TaskSpec | None]


class Happened:
    """A cause of one of the kinds below; what the other kinds have is not set."""

    kind = ""
    code = ""
    payload: Any = None
    task = ""
    status = InvocationStatus.REGISTERED
    invocation_id = ""
    call_id = ""
    arguments: Any = None
    result: Any = None
    failure: Any = None
    leaf = -1
    at = 0
    last = 0

    def __init__(self, cause_id: str) -> None:
        self.id = cause_id


class Event(Happened):
    """An event that was emitted."""

    kind = "event"

    def __init__(self, event_id: str, data: dict[str, Any]) -> None:
        super().__init__(event_id)
        self.code = data["code"]
        self.payload = data["payload"]


class Tick(Happened):
    """A tick of a schedule; its id is ``leaf:microseconds``."""

    kind = "tick"

    def __init__(self, cause_id: str, last: int = 0) -> None:
        super().__init__(cause_id)
        leaf, _, at = cause_id.partition(":")
        self.leaf, self.at, self.last = int(leaf), int(at), last


class StatusChange(Happened):
    """A change of status; its id is that of :func:`pynenc.core.records.cause_of`."""

    kind = "change"

    def __init__(self, cause_id: str, store: Store, codec: Codec, resolve: Resolve) -> None:
        super().__init__(cause_id)
        self.invocation_id, status, round_, attempt = cause_id.rsplit("~", 3)
        self.status = InvocationStatus(status)
        self._which = (self.status, int(round_), int(attempt))
        self._store, self._codec, self._resolve = store, codec, resolve
        self._row = self._read()
        self.task = self._row.task

    def _read(self) -> Invocation:
        found = self._store.get([self.invocation_id])
        if not found:
            raise InvocationNotFoundError(
                f"invocation {self.invocation_id} was purged before its trigger was looked at", self.invocation_id
            )
        return found[0]

    @cached_property
    def _final(self) -> Final:
        """What the invocation was at that change, even if it has changed since then."""
        for entry in reversed(self._store.history([self.invocation_id])):
            if (entry.status, entry.round, entry.attempt) == self._which:
                return Final(entry.id, entry.status, self.task, entry.payload, entry.round, entry.reason)
        raise TriggerError(f"the history of {self.invocation_id} does not hold {self.id}")

    @cached_property
    def _spec(self) -> TaskSpec:
        spec = self._resolve(self.task)
        if spec is None:
            raise TriggerError(
                f"this runner does not know {self.task}, whose values it must read: add its module to `imports`"
            )
        return spec

    @cached_property
    def call_id(self) -> str:  # type: ignore[override]
        return CallId(TaskId.from_key(self.task), self._codec.digest_row(self._row)).key

    @cached_property
    def arguments(self) -> Any:
        return Arguments(self._codec.decode(self._spec, self._row), self._codec.hidden_names(self.task))

    @cached_property
    def result(self) -> Any:
        return self._codec.decode_result(self._spec, self._final)

    @cached_property
    def failure(self) -> ErrorInfo:
        return read_error(self._codec.open_error(self._final))


def as_cause(happened: Happened) -> Cause:
    """The same, for type checkers."""
    return happened
