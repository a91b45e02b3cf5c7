"""A trigger: when which task is called, and with what. Built once, when the task is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pynenc.core.reaction import FIRING
from pynenc.core.status import InvocationStatus
from pynenc.trigger.arguments import ArgumentProvider
from pynenc.trigger.conditions.base import Condition, TriggerContext
from pynenc.trigger.conditions.composite import CompositeCondition
from pynenc.trigger.conditions.cron import ScheduleCondition
from pynenc.trigger.conditions.event import EventCondition
from pynenc.trigger.functions import shown


@dataclass(frozen=True)
class Key:
    """Makes the key of a debounce or a throttle: the same for all firings, the value of a field, or what a function says."""

    by: str | Callable[[TriggerContext], object] | None = None

    def of(self, context: TriggerContext, arguments: dict[str, Any]) -> str:
        """The key of a firing; a field is looked for in the arguments of the triggered task."""
        if self.by is None:
            return ""
        return str(arguments.get(self.by) if isinstance(self.by, str) else self.by(context))

    def describe(self) -> str:
        if self.by is None:
            return ""
        return f" per {self.by if isinstance(self.by, str) else shown(self.by)}"


@dataclass(frozen=True)
class Debounce:
    """Fire once it has been quiet for so many seconds, for the last cause."""

    seconds: float
    key: Key

    def describe(self) -> str:
        return f"debounce {self.seconds:g} s{self.key.describe()}"


@dataclass(frozen=True)
class Throttle:
    """Fire at most ``n`` times in any window of so many seconds."""

    n: int
    seconds: float
    key: Key

    def describe(self) -> str:
        return f"at most {self.n} in {self.seconds:g} s{self.key.describe()}"


@dataclass(frozen=True)
class Trigger:
    """What :meth:`~pynenc.trigger.TriggerBuilder.build` makes.

    :ivar id: ``module.function.name``: the task and the name of the trigger in it.
    """

    id: str
    task: str
    condition: Condition
    providers: tuple[ArgumentProvider, ...] = ()
    debounce: Debounce | None = None
    throttle: Throttle | None = None

    @property
    def key(self) -> str:
        """The name of the internal task whose invocations are the firings of this trigger."""
        return FIRING + self.id

    @cached_property
    def leaves(self) -> tuple[Condition, ...]:
        """Its conditions; positions in it are stable."""
        return tuple(self.condition.leaves())

    @property
    def joins(self) -> bool:
        """Whether one cause may not be enough."""
        return isinstance(self.condition, CompositeCondition) and self.condition.joins

    @property
    def has_state(self) -> bool:
        """Whether a firing depends on those before it, so that they are looked at one by one."""
        return self.joins or self.debounce is not None or self.throttle is not None

    @property
    def limits(self) -> tuple[Debounce | Throttle, ...]:
        """What makes it fire later or less often."""
        return tuple(each for each in (self.debounce, self.throttle) if each is not None)

    @property
    def schedules(self) -> Iterator[tuple[int, ScheduleCondition]]:
        """The conditions that tick, by position."""
        return ((leaf, each) for leaf, each in enumerate(self.leaves) if isinstance(each, ScheduleCondition))

    @property
    def events(self) -> tuple[str, ...]:
        """The codes of the events that it hears of."""
        return tuple(dict.fromkeys(each.event_code for each in self.leaves if isinstance(each, EventCondition)))

    @property
    def changes(self) -> tuple[tuple[str, InvocationStatus], ...]:
        """The changes of status that it hears of."""
        return tuple(dict.fromkeys(change for each in self.leaves for change in each.changes()))

    def describe(self) -> dict[str, Any]:
        """What is stored of it, for people and for those who declare it; the same in every process."""
        return {
            "id": self.id,
            "task": self.task,
            "condition": self.condition.describe(),
            "arguments": [each.describe() for each in self.providers],
            "limits": [each.describe() for each in self.limits],
        }
