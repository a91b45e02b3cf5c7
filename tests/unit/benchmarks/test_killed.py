"""What is found after workers were killed: what bodies said, compared with what the library says."""

from __future__ import annotations

import pytest

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate
from benchmarks.killed.storm import Found, Storm
from benchmarks.killed.witness import Body, Witness


@pytest.fixture
def seen(tmp_path, monkeypatch):
    found = Witness(tmp_path / "witness")
    monkeypatch.setenv(witness.PATH, str(found.path))
    monkeypatch.setenv(witness.WORKER, "w0.1")
    yield found
    found.close()


def test_a_body_is_running_between_its_begin_and_its_end(seen):
    witness._say(witness.BEGINS, 7)
    assert seen.look(1.0)
    assert list(seen.running) == [Body(7, "w0.1")]
    witness._say(witness.ENDS, 7)
    assert seen.look(1.0)
    assert not seen.running
    assert seen.ended == {7}


def found(seen: Witness, fate: Fate, *, begun: int = 0, ended: bool = False, is_killed: bool = False) -> Found:
    """What is found of one call, whose bodies began so often, a second after each other."""
    seen.begun = [(Body(0, f"w0.{number}"), float(number)) for number in range(begun)]
    seen.ended = {0} if ended else set()
    storm = Storm(Contender(""), seen, [])
    storm._accepted = 1
    storm._killed = [(Body(0, "w0.0"), 0.5)] if is_killed else []
    return storm._judge(1, [fate])


@pytest.mark.parametrize(
    ("fate", "begun", "ended", "named"),
    [
        (Fate.ANSWERED, 1, True, None),
        (Fate.ANSWERED, 1, False, "phantom"),
        (Fate.GONE, 1, False, "lost"),
        (Fate.HELD, 0, False, "held"),
        (Fate.FAILED, 1, False, "failed"),
        (Fate.GONE, 1, True, "unanswered"),
        (Fate.ANSWERED, 2, True, "twice"),
    ],
)
def test_each_end_of_a_call_has_its_name(seen, fate, begun, ended, named):
    result = found(seen, fate, begun=begun, ended=ended)
    names = ("phantom", "lost", "held", "failed", "unanswered", "twice")
    assert [name for name in names if getattr(result, name)] == ([named] if named else [])
    assert result.is_clean == (named in {None, "twice"})


def test_a_body_that_was_cut_off_begins_again_elsewhere_or_never(seen):
    assert found(seen, Fate.GONE, begun=1, is_killed=True).never == 1
    again = found(seen, Fate.ANSWERED, begun=2, ended=True, is_killed=True)
    assert (again.again, again.never) == ([0.5], 0)
