"""Parsers accept what people write and refuse the rest with a text that says what is wanted."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynenc.conf import values
from pynenc.core.options import ConcurrencyControlType


@pytest.mark.parametrize("word", [True, "true", "True", "TRUE", "1", 1, "yes", "Yes", "on", "y", " on "])
def test_true(word):
    assert values.boolean(word) is True


@pytest.mark.parametrize("word", [False, "false", "False", "0", 0, "no", "off", "OFF", "n"])
def test_false(word):
    assert values.boolean(word) is False


@pytest.mark.parametrize("word", ["", "maybe", 2, None, 1.0, [], "truefalse"])
def test_not_a_boolean(word):
    with pytest.raises(ValueError, match="true or false"):
        values.boolean(word)


@pytest.mark.parametrize(("written", "wanted"), [(4, 4), ("4", 4), (" 12 ", 12), ("1_000", 1000), (3.0, 3), ("+7", 7)])
def test_whole(written, wanted):
    assert values.whole()(written) == wanted


@pytest.mark.parametrize("written", [-1, 11, "x", "", None, True, 1.5, "1.5", "9" * 50, math.inf, math.nan, [1]])
def test_not_a_whole_number_in_range(written):
    with pytest.raises(ValueError, match="a whole number from 0 to 10"):
        values.whole(maximum=10)(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("5", 5.0),
        ("30s", 30.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("500ms", 0.5),
        ("7d", 604800.0),
        ("2W", 1209600.0),
        ("1.5m", 90.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_duration(written, seconds):
    assert values.duration()(written) == seconds


@pytest.mark.parametrize("written", [-1, "-5s", "5x", "", None, True, "s", math.inf, "nan", timedelta(seconds=-1)])
def test_not_a_duration(written):
    with pytest.raises(ValueError, match="a duration of at least 0 seconds"):
        values.duration()(written)


@pytest.mark.parametrize("written", [1e13, "1e300", timedelta.max])
def test_a_duration_has_an_end(written):
    with pytest.raises(ValueError, match="at most 1000 years"):
        values.duration()(written)


def test_exclusive_duration_refuses_zero():
    with pytest.raises(ValueError, match="more than 0"):
        values.duration(exclusive=True)(0)


@pytest.mark.parametrize(
    ("written", "n"),
    [(0, 0), ("1024", 1024), ("512MB", 512 * 2**20), ("64 KiB", 65536), ("1.5k", 1536), ("2GiB", 2**31), ("7b", 7)],
)
def test_size(written, n):
    assert values.size(written) == n


@pytest.mark.parametrize("written", [-1, "", "many", "1XB", None, True, "MB"])
def test_not_a_size(written):
    with pytest.raises(ValueError, match="a size"):
        values.size(written)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("a,b", ("a", "b")),
        (" a , b ,", ("a", "b")),
        ('["a", "b,c"]', ("a", "b,c")),
        ("", ()),
        ("a", ("a",)),
        (["a"], ("a",)),
        (("a", "b"), ("a", "b")),
        ({"b", "a"}, ("a", "b")),
        (iter("ab"), ("a", "b")),
    ],
)
def test_list(written, wanted):
    assert values.several(values.text())(written) == wanted


@pytest.mark.parametrize("written", [None, {"a": 1}, "[1", '{"a": 1}]', [1], [""]])
def test_not_a_list(written):
    with pytest.raises(ValueError, match=r"list|text"):
        values.several(values.text())(["ok", ""] if written == '{"a": 1}]' else written)


@pytest.mark.parametrize("written", [ConcurrencyControlType.KEYS, "KEYS", "keys", " Keys "])
def test_enum(written):
    assert values.member(ConcurrencyControlType)(written) is ConcurrencyControlType.KEYS


def test_enum_names_the_nearest():
    with pytest.raises(ValueError, match="one of DISABLED, TASK, ARGUMENTS, KEYS; did you mean 'KEYS'"):
        values.member(ConcurrencyControlType)("KEY")


@pytest.mark.parametrize("written", [None, "", "none", "null", "None"])
def test_optional_nothing(written):
    assert values.optional(values.whole())(written) is None


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("100/m", (100, 60.0)), ("10/5s", (10, 5.0)), ("1 / h", (1, 3600.0)), ("2/1d", (2, 86400.0))],
)
def test_rate(written, wanted):
    assert values.rate(written) == wanted


@pytest.mark.parametrize("written", ["", "100", "0/s", "10/0s", "m/10", "-1/s", "10/w", "10/m/m"])
def test_not_a_rate(written):
    with pytest.raises(ValueError, match="a rate such as"):
        values.rate(written)


HOSTILE = st.one_of(
    st.text(max_size=200),
    st.integers(),
    st.floats(),
    st.binary(max_size=20),
    st.none(),
    st.lists(st.text(max_size=5)),
    st.booleans(),
)
PARSERS = [
    values.text(),
    values.boolean,
    values.whole(),
    values.number(minimum=0),
    values.duration(),
    values.size,
    values.optional(values.duration()),
    values.several(values.text()),
    values.member(ConcurrencyControlType),
    values.choice("a", "b"),
    values.key_bytes,
    values.rate_text,
]


@given(HOSTILE, st.sampled_from(PARSERS))
def test_any_value_is_parsed_or_refused(value, parse):
    try:
        parsed = parse(value)
    except ValueError:
        with pytest.raises(ValueError, match=r"\w"):
            parse(value)
    else:
        assert parse(parsed) == parsed
