"""Times of schedules, in microseconds since the epoch. Pure: whoever asks says what time it is.

Cron times come from cronsim, which does as Debian's cron does where clocks are changed: a job at a fixed time whose hour is skipped runs right after the gap,
one whose hour comes twice runs once, the first time. Expressions with ``*`` or ``*/n`` in minutes or hours, and those with more than one second of the minute,
tick in real time instead: never in the gap, in both of the two hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from pynenc.core.records import Microseconds
from pynenc.exceptions import TriggerError

SECOND: Microseconds = 1_000_000
#: Shortest interval, in seconds.
SHORTEST = 0.1
#: Longest interval: ten years.
LONGEST = 315_360_000.0
MISFIRES = ("skip", "once", "all")


class Schedule(Protocol):
    """When something ticks."""

    def after(self, time: Microseconds, /) -> Iterator[Microseconds]:
        """All ticks after ``time``, the first one first."""


class CronSchedule:
    """The times of a cron expression of 5 fields, or of 6 with seconds in front.

    :raises TriggerError: the expression or the time zone is none, or it never ticks.
    """

    def __init__(self, expression: str, tz: str = "UTC") -> None:
        self._expression = expression
        self._tz = zone(tz)
        try:
            CronSim(expression, datetime.now(UTC))
            self._minutes, self._second = _split(expression)
            self._first()
        except CronSimError as error:
            raise TriggerError(
                f"{expression!r} is no cron expression ({error}): minute hour day month weekday, with seconds in front if there are six fields"
            ) from error

    def _first(self) -> None:
        if next(self.after(0), None) is None:
            raise TriggerError(f"cron expression {self._expression!r} never comes true")

    def after(self, time: Microseconds, /) -> Iterator[Microseconds]:
        for moment in CronSim(self._minutes, datetime.fromtimestamp(time // SECOND - self._second, self._tz)):
            tick = (round(moment.timestamp()) + self._second) * SECOND
            if tick > time:  # in the hour that comes twice, the one that was asked for may be the second
                time = tick
                yield tick


def _split(expression: str) -> tuple[str, int]:
    """What ticks once a minute at most, and the second at which it does: a job at a fixed time is one, with seconds or without."""
    first, *others = expression.split()
    return (" ".join(others), int(first)) if len(others) == 5 and first.isdecimal() else (expression, 0)


class IntervalSchedule:
    """All multiples of an interval since the epoch: every process counts the same.

    :raises TriggerError: it is too short.
    """

    def __init__(self, seconds: float) -> None:
        if not SHORTEST <= seconds <= LONGEST:
            raise TriggerError(f"an interval is a number of seconds from {SHORTEST:g} to {LONGEST:g}, not {seconds!r}")
        self._step = round(seconds * SECOND)

    def after(self, time: Microseconds, /) -> Iterator[Microseconds]:
        tick = time // self._step * self._step
        while True:
            tick += self._step
            yield tick


def zone(name: str) -> tzinfo:
    """A time zone by name.

    :raises TriggerError: there is none of this name; it says which one is near.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TriggerError(f"there is no time zone {name!r}{hint}") from error


def next_tick(schedule: Schedule, time: Microseconds) -> Microseconds | None:
    """The first tick after ``time``."""
    return next(schedule.after(time), None)


def is_tick(schedule: Schedule, time: Microseconds) -> bool:
    """Whether there is a tick at exactly this time."""
    return next_tick(schedule, time - 1) == time


def ticks_between(schedule: Schedule, start: Microseconds, end: Microseconds) -> Iterator[Microseconds]:
    """All ticks from ``start`` to ``end``, both included."""
    for tick in schedule.after(start - 1):
        if tick > end:
            return
        yield tick


def latest_ticks(schedule: Schedule, start: Microseconds, end: Microseconds, limit: int) -> list[Microseconds]:
    """The last ``limit`` ticks from ``start`` to ``end``; looks at few more than these however many there are."""
    window = 60 * SECOND
    while True:
        begin = max(start, end - window)
        found = deque(ticks_between(schedule, begin, end), maxlen=limit)
        if len(found) == limit or begin == start:
            return list(found)
        window *= 2


def due_ticks(
    schedule: Schedule, first: Microseconds, now: Microseconds, misfire: str, tolerance: Microseconds, limit: int
) -> list[Microseconds]:
    """What is fired when the tick ``first`` is looked at ``now``, by the misfire policy.

    ``once``: the latest tick so far, however many were missed. ``all``: each, at most the last ``limit``. ``skip``: the latest one, unless it is older than
    ``tolerance``.
    """
    found = latest_ticks(schedule, first, now, limit if misfire == "all" else 1)
    return [tick for tick in found if misfire != "skip" or now - tick <= tolerance]
