"""Times of schedules: cron expressions, intervals, what clocks that are changed do to them, and missed ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynenc.exceptions import TriggerError
from pynenc.trigger.schedule import (
    SECOND,
    CronSchedule,
    IntervalSchedule,
    due_ticks,
    is_tick,
    latest_ticks,
    next_tick,
    ticks_between,
    zone,
)

MADRID = "Europe/Madrid"


def us(text, tz=UTC):
    """Microseconds of a local time."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=tz)).timestamp() * SECOND)


def local(ticks, tz=MADRID):
    return [datetime.fromtimestamp(tick / SECOND, zone(tz)).strftime("%d %H:%M %z") for tick in ticks]


def first(expression, start, count, tz="UTC"):
    return list(islice(CronSchedule(expression, tz).after(us(start)), count))


def test_five_fields_begin_with_minutes():
    assert first("*/20 6 * * *", "2026-03-01T06:10", 3) == [
        us("2026-03-01T06:20"),
        us("2026-03-01T06:40"),
        us("2026-03-02T06:00"),
    ]


def test_six_fields_begin_with_seconds():
    assert first("*/30 0 * * * *", "2026-03-01T06:00:10", 2) == [us("2026-03-01T06:00:30"), us("2026-03-01T07:00:00")]


def test_a_tick_is_after_the_time_that_was_asked_for():
    schedule = CronSchedule("0 * * * *")
    assert next_tick(schedule, us("2026-03-01T06:00") - 1) == us("2026-03-01T06:00")
    assert next_tick(schedule, us("2026-03-01T06:00")) == us("2026-03-01T07:00")
    assert is_tick(schedule, us("2026-03-01T06:00"))
    assert not is_tick(schedule, us("2026-03-01T06:00") + 1)


def test_a_job_in_the_hour_that_is_skipped_runs_right_after_it():
    assert local(first("30 2 * * *", "2026-03-28T12:00", 2, MADRID)) == ["29 03:00 +0200", "30 02:30 +0200"]


def test_a_job_in_the_hour_that_comes_twice_runs_once():
    assert local(first("30 2 * * *", "2026-10-24T12:00", 2, MADRID)) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_seconds_do_not_make_another_job_of_it():
    assert local(first("0 30 2 * * *", "2026-03-28T12:00", 2, MADRID)) == ["29 03:00 +0200", "30 02:30 +0200"]
    assert local(first("10 30 2 * * *", "2026-10-24T12:00", 2, MADRID)) == ["25 02:30 +0200", "26 02:30 +0100"]
    assert first("10 30 2 * * *", "2026-10-24T02:30:10", 1) == [us("2026-10-25T02:30:10")]
    assert first("10 30 2 * * *", "2026-10-24T02:30:09", 1) == [us("2026-10-24T02:30:10")]


def test_the_same_from_the_middle_of_that_hour():
    second_pass = us("2026-10-25T01:10")  # 02:10 for the second time
    assert local(islice(CronSchedule("30 2 * * *", MADRID).after(second_pass), 1)) == ["26 02:30 +0100"]


def test_what_ticks_every_few_minutes_ticks_in_both_hours():
    assert (
        len(list(ticks_between(CronSchedule("*/30 * * * *", MADRID), us("2026-10-24T22:00"), us("2026-10-25T22:30"))))
        == 50
    )


def test_what_ticks_every_few_minutes_is_not_made_up_for_in_the_gap():
    assert (
        len(list(ticks_between(CronSchedule("*/30 * * * *", MADRID), us("2026-03-28T23:00"), us("2026-03-29T21:30"))))
        == 46
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["30 2 * * *", "*/15 * * * *", "0 3 * * 0", "59 23 L * *", "0 0 1 1 *", "30 1,2,3 * * *", "10 30 2 * * *"]
    ),
    st.sampled_from([MADRID, "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kolkata"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_ticks_only_go_forward_and_depend_on_nothing_else(expression, tz, moment):
    schedule = CronSchedule(expression, tz)
    start = round(moment.replace(tzinfo=UTC).timestamp() * SECOND)
    ticks = list(islice(schedule.after(start), 5))
    assert start < ticks[0]
    assert ticks == sorted(set(ticks))
    for tick in ticks:
        assert is_tick(schedule, tick)
    assert list(islice(schedule.after(ticks[0]), 4)) == ticks[1:]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * *", "is no cron"),
        ("61 * * * *", "is no cron"),
        ("0 0 30 2 *", "is no cron"),
        ("", "is no cron"),
        ("x y z a b", "is no cron"),
    ],
)
def test_a_bad_expression_is_refused_with_its_fields(expression, message):
    with pytest.raises(TriggerError, match=message) as caught:
        CronSchedule(expression)
    assert "minute hour day month weekday" in str(caught.value)


def test_an_unknown_time_zone_is_refused_with_the_nearest():
    with pytest.raises(TriggerError, match="did you mean 'Europe/Madrid'"):
        zone("Europe/Madird")


def test_an_interval_counts_from_the_epoch():
    assert list(islice(IntervalSchedule(90).after(100 * SECOND), 2)) == [180 * SECOND, 270 * SECOND]
    assert next_tick(IntervalSchedule(0.5), 180 * SECOND) == 180 * SECOND + 500_000


@pytest.mark.parametrize("seconds", [0, -1, 0.01, float("nan")])
def test_an_interval_that_makes_no_sense_is_refused(seconds):
    with pytest.raises(TriggerError, match="an interval is"):
        IntervalSchedule(seconds)


# -- missed ticks ----------------------------------------------------------------------------------------------------
HOURLY = CronSchedule("0 * * * *")
SIX = us("2026-03-01T06:00")
HOUR = 3600 * SECOND


def due(misfire, late, limit=100, schedule=HOURLY, tick=SIX):
    return due_ticks(schedule, tick, tick + late, misfire, 60 * SECOND, limit)


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_a_tick_in_time_is_fired(misfire):
    assert due(misfire, 2 * SECOND) == [SIX]


def test_a_late_tick():
    assert due("skip", 5 * 60 * SECOND) == []
    assert due("once", 5 * 60 * SECOND) == [SIX]
    assert due("all", 5 * 60 * SECOND) == [SIX]


def test_missed_ticks():
    late = 3 * HOUR + 5 * 60 * SECOND
    assert due("skip", late) == []
    assert due("once", late) == [SIX + 3 * HOUR]
    assert due("all", late) == [SIX, SIX + HOUR, SIX + 2 * HOUR, SIX + 3 * HOUR]
    assert due("all", late, limit=2) == [SIX + 2 * HOUR, SIX + 3 * HOUR]


def test_a_tick_that_has_just_come_is_not_skipped_with_those_before_it():
    assert due("skip", 3 * HOUR + SECOND) == [SIX + 3 * HOUR]


def test_years_of_missed_seconds_are_bounded():
    every_second = IntervalSchedule(1)
    assert len(due("all", 10 * 365 * 24 * HOUR, 100, every_second, 0)) == 100
    assert len(due("once", 10 * 365 * 24 * HOUR, 100, every_second, 0)) == 1


@given(st.integers(1, 300), st.integers(0, 10_000), st.integers(1, 20))
def test_the_latest_ticks_are_the_end_of_all(step, length, limit):
    schedule = IntervalSchedule(step)
    start = 10**15
    end = start + length * SECOND
    assert latest_ticks(schedule, start, end, limit) == list(ticks_between(schedule, start, end))[-limit:]


def test_a_tick_is_exact_far_away():
    far = CronSchedule("0 0 29 2 *")
    ticks = list(islice(far.after(us("2026-01-01T00:00")), 2))
    assert [datetime.fromtimestamp(tick / SECOND, UTC) for tick in ticks] == [
        datetime(2028, 2, 29, tzinfo=UTC),
        datetime(2028, 2, 29, tzinfo=UTC) + timedelta(days=1461),
    ]
