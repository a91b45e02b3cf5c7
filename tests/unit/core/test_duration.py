"""Spans of time as stores keep them."""

import pytest

from pynenc.core.duration import microseconds


@pytest.mark.parametrize(
    ("span", "kept"), [(None, 0), (0, 0), (1e-9, 1), (1e-6, 1), (2.5e-6, 2), (0.1, 100_000), (30, 30_000_000)]
)
def test_a_span_that_is_there_is_never_none(span: float | None, kept: int) -> None:
    assert microseconds(span) == kept
