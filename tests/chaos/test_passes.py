"""The offline checkers of workflows and triggers name what is wrong, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest

from pynenc.testing.causes import check_causes
from pynenc.testing.checker import Kind
from pynenc.testing.passes import Act, Line, Passes

#: A step that was carried out twice, since the first process died before its token was recorded; then three passes that get it, and a signal.
RUN = [
    Line(Act.BEGAN, "w", 1),
    Line(Act.MADE, "w", 1, "step", "a"),
    Line(Act.BEGAN, "w", 2),
    Line(Act.MADE, "w", 2, "step", "b"),
    Line(Act.GOT, "w", 2, "step", "b"),
    Line(Act.MADE, "w", 0, "signal", "s"),
    Line(Act.BEGAN, "w", 3),
    Line(Act.GOT, "w", 3, "step", "b"),
    Line(Act.GOT, "w", 3, "later", "s"),
]


def test_a_good_run_is_good() -> None:
    passes = Passes(RUN)
    assert passes.violations == []
    assert passes.count == 3
    assert passes.of("w") == {"step": "b", "later": "s"}
    assert passes.of("another") == {}


def test_a_pass_that_began_before_may_carry_a_step_out_again() -> None:
    late = [*RUN, Line(Act.MADE, "w", 1, "step", "c"), Line(Act.GOT, "w", 1, "step", "b")]
    assert Passes(late).violations == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (Line(Act.MADE, "w", 3, "step", "c"), "again"),
        (Line(Act.GOT, "w", 3, "step", "a"), "another one b"),
        (Line(Act.GOT, "w", 3, "new", "x"), "nobody made"),
        (Line(Act.GOT, "v", 1, "step", "b"), "nobody made"),
    ],
)
def test_what_is_wrong_is_named(line: Line, said: str) -> None:
    (violation,) = Passes([*RUN, line]).violations
    assert violation.kind is Kind.WRONG_WORKFLOW
    assert said in violation.text


@pytest.mark.parametrize(
    ("must", "may", "found", "kinds"),
    [
        ("ab", "c", "ab", []),
        ("ab", "c", "abc", []),
        ("aab", "", "aab", []),
        ("ab", "", "a", [Kind.LOST_FIRING]),
        ("aab", "", "ab", [Kind.LOST_FIRING]),
        ("ab", "", "aab", [Kind.DOUBLE_FIRING]),
        ("a", "c", "acc", [Kind.DOUBLE_FIRING]),
        ("a", "", "ax", [Kind.PHANTOM]),
        ("ab", "", "aa", [Kind.LOST_FIRING, Kind.DOUBLE_FIRING]),
    ],
)
def test_causes_are_counted(must: str, may: str, found: str, kinds: list[Kind]) -> None:
    violations = check_causes("the firing", Counter(must), Counter(may), Counter(found))
    assert [violation.kind for violation in violations] == kinds
