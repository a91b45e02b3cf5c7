"""What :class:`RetryError` takes for its delay."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta

import pytest

from pynenc import RetryError


@pytest.mark.parametrize("delay", [30, 30.0, "30", "30s", "0.5m", timedelta(seconds=30)])
def test_a_delay_is_written_as_in_the_settings(delay):
    assert RetryError("closed", delay).delay == 30.0
    assert type(RetryError(delay=delay).delay) is float


@pytest.mark.parametrize("delay", [30, 30.0, timedelta(seconds=30)])
def test_a_lone_number_is_the_delay_and_a_lone_text_the_message(delay):
    error = RetryError(delay)
    assert (str(error), error.delay) == (str(RetryError()), 30.0)
    assert (str(RetryError("30s")), RetryError("30s").delay) == ("30s", None)
    assert pickle.loads(pickle.dumps(error)).delay == 30.0


@pytest.mark.parametrize("delay", [-1, "soon", math.inf, math.nan, 1e13, timedelta.max, True, [], timedelta(-1)])
def test_what_is_no_delay_is_refused_where_it_is_written(delay):
    with pytest.raises(ValueError, match="'delay' of RetryError"):
        RetryError(delay=delay)


def test_one_delay_is_enough():
    with pytest.raises(TypeError, match="two delays, 30 and 40"):
        RetryError(30, 40)
