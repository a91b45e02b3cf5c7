"""Times: cron expressions and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from pynenc.trigger.conditions.base import Cause, Condition, ConditionContext
from pynenc.trigger.schedule import SECOND, CronSchedule, IntervalSchedule, Schedule

#: Reading an expression takes longer than most of what is asked of it.
_parsed = lru_cache(maxsize=256)(CronSchedule)


@dataclass(frozen=True)
class CronContext(ConditionContext):
    """A tick of a schedule: its own time, and that of the tick before it that was fired, if there was one."""

    timestamp: datetime
    last_execution: datetime | None = None


@dataclass(frozen=True)
class ScheduleCondition(Condition):
    """Base of the conditions that time makes true.

    :ivar misfire: what becomes of ticks for which no runner was there: ``skip``, ``once`` for all of them, or ``all``.
    """

    kind = "tick"
    misfire: str = "once"

    @property
    def schedule(self) -> Schedule:
        """When it ticks."""
        raise NotImplementedError

    def hears(self, cause: Cause, /) -> bool:
        return cause.kind == self.kind

    def judge(self, cause: Cause, /) -> CronContext | str:
        last = _utc(cause.last) if cause.last else None
        return CronContext(_utc(cause.at), last)


def _utc(at: int) -> datetime:
    return datetime.fromtimestamp(at / SECOND, UTC)


@dataclass(frozen=True)
class CronCondition(ScheduleCondition):
    """The times of a cron expression, in a time zone."""

    expression: str = ""
    tz: str = "UTC"

    @property
    def schedule(self) -> Schedule:
        return _parsed(self.expression, self.tz)

    def describe(self) -> str:
        return f"cron {self.expression} ({self.tz}, misfire {self.misfire})"


@dataclass(frozen=True)
class IntervalCondition(ScheduleCondition):
    """All multiples of so many seconds since the Unix epoch."""

    seconds: float = 0.0

    @property
    def schedule(self) -> Schedule:
        return IntervalSchedule(self.seconds)

    def describe(self) -> str:
        return f"every {self.seconds:g} s (misfire {self.misfire})"
