"""Filters: whether the payload of an event, the arguments of a call or a result is the wanted one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pynenc.trigger.functions import checked, shown


class Filter(ABC):
    """Decides whether a value is wanted."""

    @abstractmethod
    def refuses(self, value: Any) -> str:
        """Why it is not; nothing when it is."""

    @abstractmethod
    def describe(self) -> str:
        """A short text for people."""


@dataclass(frozen=True)
class MappingFilter(Filter):
    """The listed keys must be there and equal."""

    wanted: Mapping[str, Any]

    def refuses(self, value: Any) -> str:
        if not isinstance(value, Mapping):
            return f"it is a {type(value).__name__}, not a mapping"
        for name, expected in self.wanted.items():
            if name not in value:
                return f"{name} is missing"
            if value[name] != expected:
                return f"{name} is {value[name]!r:.60}, not {expected!r:.60}"
        return ""

    def describe(self) -> str:
        return ", ".join(f"{name}={value!r:.40}" for name, value in self.wanted.items())


@dataclass(frozen=True)
class ValueFilter(Filter):
    """The value must be equal."""

    wanted: Any

    def refuses(self, value: Any) -> str:
        return "" if value == self.wanted else f"it is {value!r:.60}, not {self.wanted!r:.60}"

    def describe(self) -> str:
        return f"== {self.wanted!r:.60}"


@dataclass(frozen=True)
class FunctionFilter(Filter):
    """A function must return something true."""

    function: Callable[[Any], object]

    def refuses(self, value: Any) -> str:
        return "" if self.function(value) else f"{shown(self.function)} says no"

    def describe(self) -> str:
        return shown(self.function)


def make_filter(wanted: Any, role: str) -> Filter | None:
    """The filter that a user means: None for none, a dict of keys that must be equal, a function, or a value.

    :raises TriggerError: a function that is not at the top level of a module.
    """
    if wanted is None:
        return None
    if callable(wanted):
        return FunctionFilter(checked(wanted, role))
    return MappingFilter(dict(wanted)) if isinstance(wanted, Mapping) else ValueFilter(wanted)


def refused(wanted: Filter | None, value: Any, what: str) -> str:
    """Why ``wanted`` refuses ``value``, with the name of it; empty when it does not."""
    why = wanted.refuses(value) if wanted is not None else ""
    return f"{what}: {why}" if why else ""


def described(wanted: Filter | None, word: str) -> str:
    """The filter for people."""
    return f" {word} {wanted.describe()}" if wanted is not None else ""
