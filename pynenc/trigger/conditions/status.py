"""Changes of status of the invocations of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynenc.core.status import InvocationStatus
from pynenc.trigger.conditions.base import Cause, Condition, ConditionContext
from pynenc.trigger.filters import Filter, described, refused


@dataclass(frozen=True)
class StatusContext(ConditionContext):
    """An invocation whose status has changed; ``arguments.kwargs`` are those of its call."""

    invocation_id: str
    call_id: str
    arguments: Any
    status: InvocationStatus


@dataclass(frozen=True)
class ChangeCondition(Condition):
    """Base of the conditions about the invocations of a task."""

    kind = "change"
    task: str
    call_arguments: Filter | None = None

    def statuses_heard(self) -> frozenset[InvocationStatus]:
        """The statuses that it hears of."""
        raise NotImplementedError

    def hears(self, cause: Cause, /) -> bool:
        return cause.kind == self.kind and cause.task == self.task and cause.status in self.statuses_heard()

    def changes(self) -> tuple[tuple[str, InvocationStatus], ...]:
        return tuple((self.task, status) for status in sorted(self.statuses_heard()))

    def refuses(self, cause: Cause) -> str:
        """Why the arguments of the call are not the wanted ones."""
        if self.call_arguments is None:
            return ""
        return refused(self.call_arguments, cause.arguments.kwargs, "the arguments of the call are not wanted")

    def _with(self) -> str:
        return described(self.call_arguments, "called with")


@dataclass(frozen=True)
class StatusCondition(ChangeCondition):
    """An invocation of the task has got one of these statuses."""

    statuses: frozenset[InvocationStatus] = frozenset({InvocationStatus.SUCCESS})

    def statuses_heard(self) -> frozenset[InvocationStatus]:
        return self.statuses

    def judge(self, cause: Cause, /) -> StatusContext | str:
        return self.refuses(cause) or StatusContext(cause.invocation_id, cause.call_id, cause.arguments, cause.status)

    def describe(self) -> str:
        return f"{self.task} becomes {' or '.join(sorted(self.statuses))}{self._with()}"
