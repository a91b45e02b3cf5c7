"""Options of calls are read as the settings are, and what they do not take is refused at the call."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pynenc.engine.call_options import NO_OPTIONS, CallOptions
from pynenc.exceptions import InvalidTaskOptionsError


def chosen(**options: object) -> CallOptions:
    return NO_OPTIONS.with_more(options, "shop.add")


@pytest.mark.parametrize("written", [5, 5.0, "5", "5s", timedelta(seconds=5)])
def test_durations_are_written_as_in_the_settings(written: object) -> None:
    options = chosen(delay=written, timeout=written)
    assert (options.delay, options.timeout) == (5.0, 5.0)
    assert (type(options.delay), type(options.timeout)) == (float, float)


def test_other_values_come_in_one_form() -> None:
    options = chosen(priority="5", queue="mail", key="k\n", tags=iter("ab"))
    assert options == CallOptions(priority=5.0, queue="mail", key="k\n", tags=("a", "b"))
    assert chosen(tags="a,b").tags == ("a,b",)
    assert chosen(delay=None, queue=None, tags=None) == NO_OPTIONS


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("delay", [-1, math.nan, math.inf, 1e13, "soon", True, []]),
        ("timeout", [0, -1, math.nan, math.inf, 1e13, "soon", True, []]),
        ("priority", ["x", math.nan, 101, -101, True, []]),
        ("run_at", [5, "2030-01-01", datetime(2030, 1, 1)]),
        ("queue", ["", " ", 5, b"mail", "a\nb"]),
        ("key", ["", 5, b"k", "caf\udce9", "a\0b"]),
        ("tags", [5, (5,), b"t", "", ("",), {"a": 1}, ("caf\udce9",), ("a\0b",)]),
    ],
)
def test_what_an_option_does_not_take_is_refused_by_its_name(option: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"bad value for '{option}' \(call of shop\.add\): .*; it must be "):
            chosen(**{option: value})


def test_unknown_options_are_told_with_the_nearest() -> None:
    with pytest.raises(
        InvalidTaskOptionsError, match=r"a call of shop\.add: 'delya' \(did you mean 'delay'\?\)"
    ) as one:
        chosen(delya=5)
    assert one.value.invalid == ("delya",)
    with pytest.raises(InvalidTaskOptionsError, match="valid options: delay, run_at, priority, queue, timeout"):
        chosen(xyz=None)


def test_more_options_come_on_top() -> None:
    first = chosen(delay=5, priority=1, tags="a")
    more = first.with_more({"priority": 2, "tags": ("b", "a")}, "shop.add")
    assert more == CallOptions(delay=5.0, priority=2.0, tags=("a", "b"))
    assert first.with_more({"priority": None}, "shop.add") == first
    with pytest.raises(ValueError, match="not both"):
        first.with_more({"run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "shop.add")


def test_a_date_is_one_that_can_be_shown_in_utc() -> None:
    west, east = timezone(timedelta(hours=-5)), timezone(timedelta(hours=5))
    assert chosen(run_at=datetime.max.replace(tzinfo=UTC)).run_at == datetime.max.replace(tzinfo=UTC)
    for far in (datetime.max.replace(tzinfo=west), datetime.min.replace(tzinfo=east)):
        with pytest.raises(ValueError, match=r"'run_at' .* a time from the year 1 to 9999"):
            chosen(run_at=far)
