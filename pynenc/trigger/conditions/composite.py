"""Composites: all or any of several conditions, within a window of time, nested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from pynenc.trigger.conditions.base import Cause, Condition, ConditionContext, TriggerContext

__all__ = ["CompositeCondition", "CompositeContext", "missing", "satisfied"]

#: The context of a composite is that of its trigger: the contexts of all conditions that hold.
CompositeContext = TriggerContext


@dataclass(frozen=True)
class CompositeCondition(Condition):
    """``and``: each of the conditions holds, and their causes lie at most ``within`` seconds apart (None: however far). ``or``: one of them does."""

    logic: str
    conditions: tuple[Condition, ...]
    within: float | None = None

    @property
    def joins(self) -> bool:
        """Whether one cause is not enough."""
        if self.logic == "and" and len(self.conditions) > 1:
            return True
        return any(isinstance(each, CompositeCondition) and each.joins for each in self.conditions)

    def hears(self, cause: Cause, /) -> bool:
        return any(each.hears(cause) for each in self.conditions)

    def judge(self, cause: Cause, /) -> ConditionContext | str:
        raise NotImplementedError("the leaves of a composite are judged")

    def leaves(self) -> Iterator[Condition]:
        for each in self.conditions:
            yield from each.leaves()

    def describe(self) -> str:
        window = f" within {self.within:g} s" if self.within is not None else ""
        return f"({f' {self.logic} '.join(each.describe() for each in self.conditions)}){window}"


def missing(condition: Condition, times: Mapping[int, float], first: int = 0) -> list[str]:
    """The parts of a condition that must still come true, in words; none when it is only the window that is missed."""
    if not isinstance(condition, CompositeCondition) or condition.logic == "or":
        held = any(leaf in times for leaf in range(first, first + len(list(condition.leaves()))))
        return [] if held else [condition.describe()]
    parts: list[str] = []
    for each in condition.conditions:
        parts += missing(each, times, first)
        first += len(list(each.leaves()))
    return parts


def satisfied(condition: Condition, times: Mapping[int, float]) -> frozenset[int]:
    """The leaves, by position, that make a condition true; none when it is not.

    :param times: when the latest cause of each leaf came, in seconds; a leaf without one does not hold.
    """
    return next(iter(_ways(condition, times, 0)[0]), frozenset())


def _ways(condition: Condition, times: Mapping[int, float], first: int) -> tuple[list[frozenset[int]], int]:
    """All that makes the condition true whose leaves begin at position ``first``, the latest first; and the position after them.

    A part that is too old for a window further out may have another one beside it that is not.
    """
    if not isinstance(condition, CompositeCondition):
        return [frozenset({first})] if first in times else [], first + 1
    parts = []
    for each in condition.conditions:
        ways, first = _ways(each, times, first)
        parts.append(ways)
    if condition.logic == "or":
        found = [way for ways in parts for way in ways]
        return sorted(found, key=lambda way: max(times[leaf] for leaf in way), reverse=True), first
    joined = [frozenset().union(*way) for way in product(*parts)]
    return [way for way in joined if _lies_within(condition.within, [times[leaf] for leaf in way])], first


def _lies_within(window: float | None, when: list[float]) -> bool:
    return window is None or max(when) - min(when) <= window
