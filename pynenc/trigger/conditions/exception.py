"""Failures of a task."""

from __future__ import annotations

from dataclasses import dataclass

from pynenc.core.status import InvocationStatus
from pynenc.trigger.conditions.base import Cause, Failure
from pynenc.trigger.conditions.status import ChangeCondition, StatusContext


@dataclass(frozen=True)
class ExceptionContext(StatusContext):
    """An invocation that has failed: the name of the class of the exception, and its message."""

    exception_type: str = ""
    exception_message: str = ""


@dataclass(frozen=True)
class ExceptionCondition(ChangeCondition):
    """An invocation of the task has failed, with one of these exceptions or a subclass; any, if none is named.

    Names are dotted, or only that of the class.
    """

    exception_types: tuple[str, ...] = ()

    def statuses_heard(self) -> frozenset[InvocationStatus]:
        return frozenset({InvocationStatus.FAILED})

    def judge(self, cause: Cause, /) -> ExceptionContext | str:
        why = self.refuses(cause) or self._refuses_type(cause.failure)
        return why or ExceptionContext(
            cause.invocation_id,
            cause.call_id,
            cause.arguments,
            cause.status,
            cause.failure.type.rpartition(".")[2],
            cause.failure.message,
        )

    def _refuses_type(self, failure: Failure) -> str:
        names = {failure.type, *failure.bases}
        names |= {name.rpartition(".")[2] for name in names}
        if not self.exception_types or names.intersection(self.exception_types):
            return ""
        return f"it failed with {failure.type}, which is no {' or '.join(self.exception_types)}"

    def describe(self) -> str:
        return f"{self.task} raises {' or '.join(self.exception_types) or 'anything'}{self._with()}"
