"""Results of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynenc.core.status import InvocationStatus
from pynenc.trigger.conditions.base import Cause
from pynenc.trigger.conditions.status import ChangeCondition, StatusContext
from pynenc.trigger.filters import Filter, described, refused


@dataclass(frozen=True)
class ResultContext(StatusContext):
    """An invocation that has succeeded, and its result."""

    result: Any = None


@dataclass(frozen=True)
class ResultCondition(ChangeCondition):
    """An invocation of the task has succeeded, with a result that the filter wants."""

    filter_result: Filter | None = None

    def statuses_heard(self) -> frozenset[InvocationStatus]:
        return frozenset({InvocationStatus.SUCCESS})

    def judge(self, cause: Cause, /) -> ResultContext | str:
        why = self.refuses(cause)
        if not why and self.filter_result is not None:
            why = refused(self.filter_result, cause.result, "the result is not wanted")
        return why or ResultContext(cause.invocation_id, cause.call_id, cause.arguments, cause.status, cause.result)

    def describe(self) -> str:
        return f"{self.task} returns{described(self.filter_result, 'what is') or ' anything'}{self._with()}"
