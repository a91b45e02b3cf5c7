"""What all conditions share: causes, contexts, and how a leaf judges a cause."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from pynenc.core.status import InvocationStatus


@dataclass(frozen=True)
class ConditionContext:
    """What functions of users are told of a condition that holds."""


C = TypeVar("C", bound=ConditionContext)


@dataclass(frozen=True)
class TriggerContext:
    """What is told of a firing as a whole.

    :ivar trigger_id: the trigger. :ivar contexts: one for each condition that holds, in the order of the conditions.
    """

    trigger_id: str
    contexts: tuple[ConditionContext, ...] = ()

    def of(self, kind: type[C]) -> tuple[C, ...]:
        """The contexts of a kind, such as ``context.of(EventContext)``."""
        return tuple(each for each in self.contexts if isinstance(each, kind))


class Failure(Protocol):
    """How an invocation failed."""

    @property
    def type(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def bases(self) -> tuple[str, ...]: ...


class Cause(Protocol):
    """Something that has happened. What is expensive to read is a property: conditions look at it only when they must.

    :ivar kind: ``event``, ``change`` (of a status) or ``tick`` (of a schedule). :ivar id: tells it apart from all others.
    """

    kind: str
    id: str

    # an event
    code: str
    payload: Any
    # a change
    task: str
    status: InvocationStatus
    invocation_id: str

    @property
    def call_id(self) -> str: ...
    @property
    def arguments(self) -> Any: ...
    @property
    def result(self) -> Any: ...
    @property
    def failure(self) -> Failure: ...

    # a tick: the position of the condition, and times in microseconds
    leaf: int
    at: int
    last: int


class Condition(ABC):
    """What must have happened."""

    #: The kind of cause that it hears of.
    kind: ClassVar[str] = ""

    @abstractmethod
    def hears(self, cause: Cause, /) -> bool:
        """Whether a cause concerns it at all."""

    @abstractmethod
    def judge(self, cause: Cause, /) -> ConditionContext | str:
        """The context when it holds, or why it does not."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people, the same in every process."""

    def leaves(self) -> Iterator[Condition]:
        """The conditions that causes can make true, depth first; a position in this order is stable."""
        yield self

    def changes(self) -> tuple[tuple[str, InvocationStatus], ...]:
        """The changes of status that it hears of: task and status."""
        return ()
