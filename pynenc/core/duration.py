"""Spans of time as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta

#: Seconds; a thousand years from now a date still has four digits, and microseconds fit in what stores hold.
LONGEST = 1000 * 365 * 86_400.0
#: By its name the seconds of a unit.
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_PART = r"(?a:(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)\s*)"
_WHOLE = rf"(?:{_PART})+"
_FORMS = "(a number of seconds, a timedelta, or text such as '30s', '1h30m', '7d')"


def seconds(value: object, *, minimum: float = 0.0, exclusive: bool = False) -> float:
    """A number of seconds, a ``timedelta``, or text such as ``30s``, ``1h30m``, ``500ms`` → seconds, at most :data:`LONGEST`.

    :param exclusive: ``minimum`` itself is too short.
    :raises ValueError: it is none; the text completes "… must be".
    """
    found = _read(value)
    if found is None or not math.isfinite(found) or found < minimum or (exclusive and found == minimum):
        raise ValueError(f"a duration of {'more than' if exclusive else 'at least'} {minimum:g} seconds {_FORMS}")
    if found > LONGEST:
        raise ValueError("a duration of at most 1000 years")
    return found


def microseconds(span: float | None) -> int:
    """A span of seconds as stores keep it, where 0 stands for none: so the shortest is one."""
    return max(1, int(span * 1_000_000)) if span else 0


def _read(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str) and len(value) < 100 and re.fullmatch(_WHOLE, value.strip().lower()):
        return sum(float(n) * UNITS[unit] for n, unit in re.findall(_PART, value.strip().lower()))
    return as_float(value)


def as_float(value: object) -> float | None:
    """A number, or text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
