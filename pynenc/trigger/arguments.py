"""Filters, which say whether a condition holds, and argument providers, which say what the triggered task is called with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pynenc.exceptions import TriggerError
from pynenc.trigger.conditions.base import ConditionContext, TriggerContext
from pynenc.trigger.conditions.event import EventContext
from pynenc.trigger.conditions.exception import ExceptionContext
from pynenc.trigger.conditions.result import ResultContext
from pynenc.trigger.conditions.status import StatusContext
from pynenc.trigger.filters import Filter, FunctionFilter, MappingFilter, ValueFilter, make_filter
from pynenc.trigger.functions import checked, shown

__all__ = [
    "ArgumentProvider",
    "ContextProvider",
    "Filter",
    "FunctionFilter",
    "MappingFilter",
    "StaticArguments",
    "TriggerContextProvider",
    "ValueFilter",
    "event_arguments",
    "exception_arguments",
    "make_filter",
    "result_arguments",
    "status_arguments",
]

C = TypeVar("C", bound=ConditionContext)


class ArgumentProvider(ABC):
    """Gives arguments of the triggered task. Several of one trigger are merged, later ones win. For a class of your own, at the top level of a module."""

    @abstractmethod
    def get_arguments(self, context: TriggerContext) -> Mapping[str, Any]:
        """Arguments by name."""

    def describe(self) -> str:
        """A short text for people."""
        return type(self).__name__


@dataclass(frozen=True)
class StaticArguments(ArgumentProvider):
    """The same arguments each time."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    def get_arguments(self, context: TriggerContext) -> Mapping[str, Any]:  # noqa: ARG002  # they depend on nothing
        return self.arguments

    def describe(self) -> str:
        return f"static: {', '.join(self.arguments) or 'none'}"


@dataclass(frozen=True)
class ContextProvider(ArgumentProvider, Generic[C]):
    """What a function makes of the context of one kind of condition; nothing when no such condition holds."""

    kind: type[C]
    function: Callable[[C], Mapping[str, Any]]

    def __post_init__(self) -> None:
        checked(self.function, "argument provider")

    def get_arguments(self, context: TriggerContext) -> Mapping[str, Any]:
        found = context.of(self.kind)
        return _mapping(self.function, self.function(found[0])) if found else {}

    def describe(self) -> str:
        return f"{self.kind.__name__.removesuffix('Context').lower()}: {shown(self.function)}"


@dataclass(frozen=True)
class TriggerContextProvider(ArgumentProvider):
    """What a function makes of all conditions that hold."""

    function: Callable[[TriggerContext], Mapping[str, Any]]

    def __post_init__(self) -> None:
        checked(self.function, "argument provider")

    def get_arguments(self, context: TriggerContext) -> Mapping[str, Any]:
        return _mapping(self.function, self.function(context))

    def describe(self) -> str:
        return f"context: {shown(self.function)}"


def event_arguments(function: Callable[[EventContext], Mapping[str, Any]]) -> ArgumentProvider:
    """Arguments from the event."""
    return ContextProvider(EventContext, function)


def status_arguments(function: Callable[[StatusContext], Mapping[str, Any]]) -> ArgumentProvider:
    """Arguments from the invocation whose status has changed."""
    return ContextProvider(StatusContext, function)


def result_arguments(function: Callable[[ResultContext], Mapping[str, Any]]) -> ArgumentProvider:
    """Arguments from a result."""
    return ContextProvider(ResultContext, function)


def exception_arguments(function: Callable[[ExceptionContext], Mapping[str, Any]]) -> ArgumentProvider:
    """Arguments from an exception."""
    return ContextProvider(ExceptionContext, function)


def _mapping(function: Callable[..., Any], value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TriggerError(
            f"{shown(function)} returned {value!r:.80}: an argument provider returns a dict of arguments by name"
        )
    return value
