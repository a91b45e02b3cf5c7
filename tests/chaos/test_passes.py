"""The offline checkers of workflows and triggers name what is wrong, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from pynenc.testing.causes import (
    Decided,
    Misfire,
    check_causes,
    check_debounce,
    check_misfires,
    check_pairs,
    check_throttle,
)
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.clock import SECOND
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


def test_an_attempt_that_was_lost_before_it_began_may_too() -> None:
    zombie = [Line(Act.BEGAN, "w", 1), Line(Act.MADE, "w", 1, "step", "c")]
    assert Passes([*RUN[2:], *zombie]).violations == []
    current = [Line(Act.BEGAN, "w", 4), Line(Act.MADE, "w", 4, "step", "c")]
    assert len(Passes([*RUN[2:], *current]).violations) == 1


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


# -- what joins, throttles and debounces -----------------------------------------------------------------------------------
def decided(cause: str, *seconds: float, lasts: float = 0.1) -> Decided:
    """A firing with an attempt at each of these times."""
    begins = tuple(int(each * SECOND) for each in seconds)
    return Decided(cause, begins[0], begins, begins[-1] + int(lasts * SECOND))


def kinds(violations: Iterable[Violation]) -> list[Kind]:
    return [violation.kind for violation in violations]


L1, R1, L2, R2 = decided("l:1", 1), decided("r:1", 2), decided("l:2", 20), decided("r:2", 40)
SLOW = decided("l:1", 1, 1.5)


@pytest.mark.parametrize(
    ("firings", "calls", "found"),
    [
        ([L1, R1, L2, R2], ["l:1 r:1"], []),
        ([L1, R1], [], [Kind.LOST_FIRING]),
        ([SLOW, R1], [], []),
        ([L1, R1, L2], ["l:1 r:1", "l:2 r:1"], [Kind.DOUBLE_FIRING, Kind.PHANTOM]),
        ([L2, R2], ["l:2 r:2"], [Kind.PHANTOM]),
        ([L1, R1], ["l:1 r:1", "l:1 r:1"], [Kind.DOUBLE_FIRING, Kind.DOUBLE_FIRING]),
        ([L1, decided("l:3", 1.5), R1], ["l:3 r:1"], []),
    ],
)
def test_causes_that_come_together(firings: list[Decided], calls: list[str], found: list[Kind]) -> None:
    told = [tuple(each.split()) for each in calls]
    assert kinds(check_pairs("the trigger", firings, told, 5 * SECOND)) == found


BURST = [decided(str(second), second) for second in range(5)]


@pytest.mark.parametrize(
    ("firings", "called", "found"),
    [
        (BURST, "013", []),
        (BURST, "01", [Kind.LOST_FIRING]),
        (BURST, "0134", []),
        (BURST, "0123", [Kind.OVER_RATE, Kind.OVER_RATE]),
        (BURST, "12", [Kind.LOST_FIRING]),
        ([*BURST[:2], decided("2", 2, 9)], "012", []),
        ([*BURST[:2], decided("2", 2, 2.5)], "012", [Kind.OVER_RATE]),
    ],
)
def test_throttled_causes(firings: list[Decided], called: str, found: list[Kind]) -> None:
    assert kinds(check_throttle("the trigger", firings, called, 2, 3 * SECOND)) == found


RUSH = [decided("a", 1), decided("b", 1.5), decided("c", 9)]
SETTLED = [decided("a", 2), decided("b", 2.6), decided("c", 10)]


@pytest.mark.parametrize(
    ("settled", "called", "found"),
    [
        (SETTLED, "bc", []),
        (SETTLED, "b", [Kind.LOST_FIRING]),
        (SETTLED, "c", [Kind.LOST_FIRING]),
        (SETTLED, "abc", [Kind.OVER_RATE]),
        (SETTLED, "bcc", [Kind.DOUBLE_FIRING]),
        (SETTLED[:2], "b", [Kind.LOST_FIRING]),
    ],
)
def test_debounced_causes(settled: list[Decided], called: str, found: list[Kind]) -> None:
    assert kinds(check_debounce("the trigger", RUSH, settled, Counter(called), SECOND)) == found


def ticking(*times: float | tuple[float, ...]) -> dict[int, Decided]:
    """Ticks of every second: when each was decided; (when it was due, when its attempts began)."""
    pairs = [(int(each), each) if isinstance(each, float) else (int(each[0]), *each[1:]) for each in times]
    return {due * SECOND: decided(str(due), *begins) for due, *begins in pairs}


@pytest.mark.parametrize(
    ("ticks", "called", "found"),
    [
        (ticking(1.1, 2.1, 3.1), "12", []),
        (ticking(1.1, (2, 4.1), 5.1), "14", []),
        (ticking(1.1, (2, 4.1), 5.1), "12", [Kind.LOST_FIRING, Kind.PHANTOM]),
        (ticking(1.1, (2, 4.1), 5.1), "124", [Kind.PHANTOM]),
        (ticking(1.1, (2, 4.1), 5.1), "11444", [Kind.DOUBLE_FIRING] * 2),
        (ticking(1.1, (2, 2.9), 3.1), "1", []),
        (ticking(1.1, (2, 2.9), 3.1), "12", [Kind.PHANTOM]),
        (ticking(1.1, (2, 2.4), 3.1), "12", []),
        (ticking(1.1, (2, 2.4), 3.1), "1", []),
        (ticking(1.1, (2, 2.1, 4.1), 5.1), "124", []),
        (ticking(1.1, (2, 2.1, 4.1), 5.1), "1", []),
        (ticking(1.1, (2, 4.1), 3.1), "14", [Kind.LOST_FIRING]),
    ],
    ids=[
        "all in time", "one is late", "the one that was missed", "both of them", "twice", "skipped", "too late", "hardly in time", "hardly too late",
        "two attempts", "which knows nobody", "no next one",
    ],
)  # fmt: skip
def test_ticks_that_come_late(ticks: dict[int, Decided], called: str, found: list[Kind]) -> None:
    times = Counter(int(second) * SECOND for second in called)
    waiting = max(ticks)
    ticks |= {waiting: ticks[waiting]._replace(begins=(), end=0)}
    assert kinds(check_misfires("the trigger", ticks, (), times, Misfire(SECOND, SECOND // 2))) == found


def test_ticks_of_a_paused_trigger_fire_nothing() -> None:
    ticks = ticking(1.1, 2.1)
    ticks[2 * SECOND] = ticks[2 * SECOND]._replace(begins=(), end=0)
    assert kinds(check_misfires("the trigger", ticks, {SECOND}, Counter(), Misfire(SECOND, SECOND // 2))) == []
