"""Parsers: what people write → the value of a setting.

A parser takes a value as it comes from code, a file or the environment and returns it in one canonical type, or raises ``ValueError`` with
a text that completes "… must be". They accept the same spellings everywhere: a number in quotes means the same in YAML and in the environment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, TypeAlias, TypeVar

from pynenc.core.duration import UNITS, as_float, seconds

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
Parser: TypeAlias = Callable[[object], T]

_TRUE = frozenset({"true", "1", "yes", "y", "on", "t"})
_FALSE = frozenset({"false", "0", "no", "n", "off", "f"})
_NOTHING = frozenset({"", "none", "null"})

_SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = r"(?a)(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?"
_RATE = r"(?a)(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*([smhd])"
_LONGEST_TEXT = 10_000


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like ``name``, if any does."""
    from difflib import get_close_matches

    by_fold = {other.lower(): other for other in valid}
    found = get_close_matches(name.lower()[:200], by_fold, n=1, cutoff=0.55)
    return by_fold[found[0]] if found else None


def suggestion(name: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or, when nothing is near, the list of what there is."""
    names = sorted(valid)
    close = nearest(name, names)
    return f"; did you mean {close!r}?" if close else f"; valid names: {', '.join(names)}"


def text(*, empty: bool = False) -> Parser[str]:
    """Text without control characters."""

    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("text")
        if not empty and not value.strip():
            raise ValueError("a text that is not empty")
        if len(value) > _LONGEST_TEXT or not value.isprintable():
            raise ValueError("a printable text of reasonable length")
        return value

    return parse


def boolean(value: object) -> bool:
    """True/false, 1/0, yes/no, on/off."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true or false (also 1/0, yes/no, on/off)")


def whole(*, minimum: int = 0, maximum: int | None = None) -> Parser[int]:
    """A whole number in a range."""
    wanted = f"a whole number from {minimum}" + (f" to {maximum}" if maximum is not None else " up")

    def parse(value: object) -> int:
        number = _as_int(value)
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(wanted)
        return number

    return parse


def _as_int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,19}", value.strip().replace("_", ""), re.ASCII):
        return int(value.strip())
    return None


def number(*, minimum: float = -math.inf, maximum: float = math.inf) -> Parser[float]:
    """A finite number in a range."""
    wanted = f"a number from {minimum:g} to {maximum:g}" if maximum < math.inf else f"a number from {minimum:g} up"

    def parse(value: object) -> float:
        found = as_float(value)
        if found is None or not minimum <= found <= maximum or not math.isfinite(found):
            raise ValueError(wanted)
        return found

    return parse


def duration(*, minimum: float = 0.0, exclusive: bool = False) -> Parser[float]:
    """Seconds: a number, a ``timedelta``, or text such as ``30s``, ``1h30m``, ``500ms``."""
    return partial(seconds, minimum=minimum, exclusive=exclusive)


def size(value: object) -> int:
    """Bytes: a whole number, or text such as ``512MB``, ``64 KiB`` (both count in powers of 1024)."""
    found = _as_int(value)
    if (
        found is None
        and isinstance(value, str)
        and len(value) < 50
        and (match := re.fullmatch(_SIZE, value.strip().lower()))
    ):
        found = int(float(match[1]) * _SIZES[match[2]])
    if found is None or found < 0:
        raise ValueError("a size: a whole number of bytes from 0 up, or text such as '512MB'")
    return found


def optional(parse: Parser[T]) -> Parser[T | None]:
    """None (in text: nothing, ``none`` or ``null``), or what ``parse`` accepts."""

    def parse_optional(value: object) -> T | None:
        if value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING):
            return None
        return parse(value)

    return parse_optional


def several(parse: Parser[T]) -> Parser[tuple[T, ...]]:
    """A list: any collection, ``a,b`` or a JSON list; one value alone is a list of it."""

    def parse_several(value: object) -> tuple[T, ...]:
        return tuple(parse(item) for item in _as_items(value))

    return parse_several


def _as_items(value: object) -> list[object]:
    if isinstance(value, str):
        stripped = value.strip()
        return (
            _json_list(stripped)
            if stripped.startswith("[")
            else [item.strip() for item in stripped.split(",") if item.strip()]
        )
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if value is None or isinstance(value, Mapping):
        raise ValueError("a list, or text such as 'a,b'")
    return list(value) if isinstance(value, Iterable) and not isinstance(value, bytes | type) else [value]


def _json_list(source: str) -> list[object]:
    import json  # takes long to import

    try:
        found = json.loads(source)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueError("a list; this text begins like a JSON list but is none")
    return found


def member(kind: type[E]) -> Parser[E]:
    """A member of an enum, or its name or value in any case."""
    names = {spelling.lower(): each for each in kind for spelling in (each.name, str(each.value))}
    wanted = "one of " + ", ".join(each.name for each in kind)

    def parse(value: object) -> E:
        if isinstance(value, kind):
            return value
        found = names.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            close = nearest(value, (each.name for each in kind)) if isinstance(value, str) else None
            raise ValueError(wanted + (f"; did you mean {close!r}?" if close else ""))
        return found

    return parse


def choice(*words: str) -> Parser[str]:
    """One of some words, in any case."""
    wanted = "one of " + ", ".join(words)
    by_fold = {word.lower(): word for word in words}

    def parse(value: object) -> str:
        found = by_fold.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            close = nearest(value, words) if isinstance(value, str) else None
            raise ValueError(wanted + (f"; did you mean {close!r}?" if close else ""))
        return found

    return parse


def triggers(value: object) -> tuple[Any, ...] | None:
    """One trigger builder, several, or none."""
    if value is None:
        return None
    several = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(callable(getattr(each, "build", None)) for each in several):
        raise ValueError("a TriggerBuilder (such as on_cron('0 6 * * *')) or a list of them")
    return several


def key_bytes(value: object) -> bytes:
    """A secret key: text or bytes that are not empty."""
    found = value.encode() if isinstance(value, str) else value
    if not isinstance(found, bytes) or not found:
        raise ValueError("keys: texts or bytes that are not empty")
    return found


def rate(value: str) -> tuple[int, float]:
    """``"100/m"`` → 100 and 60.0; ``"10/5s"`` → 10 and 5.0.

    :raises ValueError: the text is no rate.
    """
    match = re.fullmatch(_RATE, value.strip().lower()) if len(value) < 50 else None
    if match:
        n, period = int(match[1]), float(match[2] or 1) * UNITS[match[3]]
        if n > 0 and period > 0:
            return n, period
    raise ValueError("a rate such as '100/m' or '10/5s' (units s, m, h, d)")


def rate_text(value: object) -> str:
    """A rate, kept as it is written."""
    if not isinstance(value, str):
        raise ValueError("a rate such as '100/m' or '10/5s' (units s, m, h, d)")
    rate(value)
    return value.strip()
