"""The checks of the chaos test can fail: a library with one deliberate bug is found out, in real processes that are hardly harmed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pynenc.testing.chaos import ChaosPlan, run_chaos, storm
from pynenc.testing.checker import Kind
from pynenc.testing.report import silent
from tests.chaos import seeded

#: With this seed the client is not killed before it has submitted everything.
SEED = 5
#: Each bug, and as what it shows itself.
FOUND = {
    "loses_a_reaction": Kind.LOST_FIRING,
    "loses_an_event": Kind.LOST_FIRING,
    "loses_a_call": Kind.LOST_FIRING,
    "fires_twice": Kind.DOUBLE_FIRING,
    "forgets_a_step": Kind.WRONG_WORKFLOW,
    "repeats_a_child": Kind.WRONG_WORKFLOW,
    "loses_a_signal": Kind.STUCK,
    "loses_a_tick": Kind.LOST_FIRING,
    "fires_what_is_late": Kind.PHANTOM,
    "forgets_a_cause": Kind.LOST_FIRING,
    "joins_twice": Kind.DOUBLE_FIRING,
    "forgets_the_throttle": Kind.OVER_RATE,
    "holds_all_back": Kind.LOST_FIRING,
    "knows_no_quiet": Kind.OVER_RATE,
    "loses_the_last": Kind.LOST_FIRING,
    "loses_a_resume": Kind.STUCK,
    "spares_the_children": Kind.WRONG_WORKFLOW,
}
#: What it may lead to besides.
ALSO = {"forgets_a_step": {Kind.STUCK}}  # code and record differ


def test_each_bug_has_a_name_for_what_it_does() -> None:
    assert FOUND.keys() == seeded.BUGS.keys()


@pytest.mark.parametrize("bug", FOUND)
def test_a_bug_is_found(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(seeded.BUG, bug)
    monkeypatch.setattr(storm, "STILLNESS", 4.0)
    plan = ChaosPlan(
        seed=SEED,
        invocations=150,
        runners=1,
        clients=1,
        harm_every=1e6,
        folder=tmp_path,
        imports=("tests.chaos.seeded",),
    )
    report = run_chaos(plan, silent)
    kinds = {violation.kind for violation in report.violations}
    assert kinds - ALSO.get(bug, set()) == {FOUND[bug]}, report.violations
