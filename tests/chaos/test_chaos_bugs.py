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
#: On a busy machine a bug may lack its occasion, once.
STORMS = 3
#: Each bug, as what it shows itself, and a word that is then in the text. Those of a line do not get in each other's way.
FOUND: list[dict[str, tuple[Kind, str]]] = [
    {
        "loses_a_reaction": (Kind.LOST_FIRING, ".changed."),
        "forgets_a_cause": (Kind.LOST_FIRING, ".paired."),
        "holds_all_back": (Kind.LOST_FIRING, ".throttled."),
        "loses_the_last": (Kind.LOST_FIRING, ".debounced."),
        "spares_the_children": (Kind.WRONG_WORKFLOW, ".vigil)"),
        "repeats_a_child": (Kind.WRONG_WORKFLOW, "has the children"),
    },
    {
        "joins_twice": (Kind.DOUBLE_FIRING, ".paired."),
        "forgets_the_throttle": (Kind.OVER_RATE, ".throttled."),
        "knows_no_quiet": (Kind.OVER_RATE, ".debounced."),
        "loses_a_resume": (Kind.STUCK, ".review)"),
    },
    {"fires_twice": (Kind.DOUBLE_FIRING, "the call by"), "loses_a_signal": (Kind.STUCK, ".order)")},
    {"loses_an_event": (Kind.LOST_FIRING, "the firing of")},
    {"loses_a_call": (Kind.LOST_FIRING, "the call by")},
    {"loses_a_tick": (Kind.LOST_FIRING, "ed.")},
    {"fires_what_is_late": (Kind.PHANTOM, "ed.")},
    {"forgets_a_step": (Kind.WRONG_WORKFLOW, "token")},
]
#: What it may lead to besides.
ALSO = {"forgets_a_step": {Kind.STUCK}}  # code and record differ


def test_each_bug_has_a_name_for_what_it_does() -> None:
    assert {bug for bugs in FOUND for bug in bugs} == seeded.BUGS.keys()


@pytest.mark.parametrize("bugs", FOUND, ids="+".join)
def test_bugs_are_found(bugs: dict[str, tuple[Kind, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(seeded.NAMES, " ".join(bugs))
    monkeypatch.setattr(storm, "STILLNESS", 4.0)
    allowed = {kind for kind, _ in bugs.values()}.union(*(ALSO.get(bug, ()) for bug in bugs))
    missed = set(bugs)
    for number in range(STORMS):
        plan = ChaosPlan(
            seed=SEED,
            invocations=150,
            runners=1,
            clients=1,
            harm_every=1e6,
            folder=tmp_path / str(number),
            imports=("tests.chaos.seeded",),
        )
        (tmp_path / str(number)).mkdir()
        violations = run_chaos(plan, silent).violations
        assert {each.kind for each in violations} <= allowed, violations
        missed -= {
            bug
            for bug, (kind, word) in bugs.items()
            if any(each.kind is kind and word in each.text for each in violations)
        }
        if not missed:
            return
    assert not missed
