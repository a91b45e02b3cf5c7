"""When a runner is live, and when it is ready."""

import msgspec
import pytest

from pynenc.runner.vital import DEAD_AFTER, DEAD_AFTER_ASKING, Loop, Vital, judge

NOW = 1000.0
WELL = Vital(turned=NOW - 0.1, answered=NOW - 0.2, loops=(Loop("a", 1, NOW - 0.3),))


def verdict(**changes: object):
    return judge(msgspec.structs.replace(WELL, **changes), NOW, 10.0)


def test_all_is_well() -> None:
    assert (verdict().live, verdict().ready, verdict().problems) == (True, True, ())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"is_stopping": True}, "the runner is stopping"),
        ({"answered": 0.0}, "the store has not answered yet"),
        ({"answered": NOW - 11}, "the store has not answered for 11.0 s"),
        ({"expected": 2}, "1 of 2 workers run"),
        ({"loops": (Loop("a", 1, 0.0),)}, "worker a (process 1) has not looked for work yet"),
        ({"loops": (Loop("a", 1, NOW - 12),)}, "worker a (process 1) has not looked for work for 12.0 s"),
    ],
)
def test_live_but_not_ready(changes: dict[str, object], problem: str) -> None:
    assert (verdict(**changes).live, verdict(**changes).ready) == (True, False)
    assert verdict(**changes).problems == (problem,)


def test_one_of_several_loops_is_enough_to_be_unready() -> None:
    loops = (Loop("a", 1, NOW), Loop("b", 2, NOW - 10.1))
    assert not verdict(loops=loops, expected=2).ready


def test_a_supervisor_that_does_not_turn_is_dead_sooner_unless_it_waits_for_the_store() -> None:
    late = NOW - DEAD_AFTER - 1
    assert not verdict(turned=late).live
    assert not verdict(turned=late).ready
    assert verdict(turned=late, asked=late).live
    assert not verdict(turned=NOW - DEAD_AFTER_ASKING - 1, asked=late).live


def test_workers_that_have_ended_do_not_matter_while_it_stops() -> None:
    assert verdict(is_stopping=True, loops=()).problems == ("the runner is stopping",)
