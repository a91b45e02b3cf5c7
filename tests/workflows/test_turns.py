"""Async bodies that are cut off at any write and begin again go on as if nothing had happened: the same branch wins, fails, and is undone."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from pynenc import context
from pynenc.core.status import InvocationStatus
from pynenc.engine.execute import HandBack
from pynenc.exceptions import StoreError
from pynenc.testing import InlineRunner
from pynenc.workflow.branches import _copy
from pynenc.workflow.replay import decode_record
from pynenc.workflow.waiting import MOST_NEW
from tests.workflows.apps import turns
from tests.workflows.apps.turns import app


class Cut:
    """A store whose attempts are over at the ``number``-th write of a run, before or after it."""

    def __init__(self, store: Any, number: int, *, is_after: bool) -> None:
        self.left = number
        self.has_cut = False
        #: What an attempt had seen when it wrote something.
        self.witnessed: list[tuple[int, list[str]]] = []
        self._is_after = is_after
        self._remember, self._submit = store.remember, store.submit
        store.remember, store.submit = self.remember, self.submit

    def remember(self, *args: Any, **options: Any) -> Any:
        stored = self._at(lambda: self._remember(*args, **options))
        if turns.seen and any("w" not in position for position in args[1]):  # not a mark
            self.witnessed.append((len(turns.seen), list(turns.seen[-1])))
        return stored

    def submit(self, *args: Any, **options: Any) -> Any:
        return self._at(lambda: self._submit(*args, **options))

    def _at(self, write: Any) -> Any:
        running = context.current()
        if running is None or running.task != turns.races.task_id.key:
            return write()
        if running.interrupt is None:
            self.left -= 1
            if self.left:
                return write()
            self.has_cut = True
            running.interrupt = HandBack
            if self._is_after:
                write()
        raise StoreError("cut off", retryable=True)


def life(program: list[Any], number: int = 0, *, is_after: bool = False) -> tuple[str, list[str], list[str], bool]:
    """How a run ended, what it saw, what was undone, and whether it was cut off."""
    turns.done.clear()
    turns.seen.clear()
    with InlineRunner(app) as runner:
        cut = Cut(app.store, number, is_after=is_after)
        invocation = turns.races(program)
        try:
            result = runner.result(invocation)
        except Exception as error:
            result = repr(error)
        for attempt, before in cut.witnessed:
            for after in turns.seen[attempt:]:
                assert after[: len(before)] == before[: len(after)], (number, is_after)
        return result, turns.seen[-1], list(turns.done), cut.has_cut


def check_all(program: list[Any], *, is_random: bool = False) -> None:
    """Cut a run off at each of its writes, before and after it. It sees again what it had seen when it wrote something.

    :param is_random: at one write before and at the next one after it; what nothing durable followed may differ.
    """
    *whole, _ = life(program)
    for number in range(1, 200):
        for is_after in (False, True)[is_random * (number % 2) :: 1 + is_random]:
            *cut, has_cut = life(program, number, is_after=is_after)
            if not has_cut:
                return
            assert is_random or cut == whole, (number, is_after)


PROGRAMS = {
    "gather": [["gather", ["child 5", "bad_child 9"], ["child 1", "step 0", "child 2", "sleep 100"]]],
    "nested": [
        ["gather", ["bad_child 20"], [["gather", ["child 1"], [["gather", ["child 3"], ["step 0"]]]], "sleep 99"]]
    ],
    "group": [["group", ["child 1", "sleep 50"], ["bad_child 7"], [["group", ["child 2"], ["sleep 3"]], "child 40"]]],
    "survives": [
        ["survive", ["bad_step 0"], ["bad_child 3"], ["child 4"]],
        "step 0",
        ["gather", ["bad_step 0"], ["sleep 9"]],
    ],
    "first": [["first", ["child 5"], ["sleep 3"], ["child 4", "step 0"]], "step 0", "bad_step 0"],
    "again": [["gather", ["again 0"], ["child 0"], ["again 0", "step 0"]], "step 0", "sleep 9"],
    "timers": [["first", ["timer 0"], ["sleep 30"]], "sleep 99", "step 0", "limit 200", "sleep 300", "bad_step 0"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_cut_off_at_each_write(name: str) -> None:
    check_all(PROGRAMS[name])


def draw(random: Random, depth: int) -> list[Any]:
    """A program of branches within branches."""
    kinds = ("child", "step", "sleep", "child", "step", "sleep", "bad_child", "bad_step")
    program: list[Any] = [f"{random.choice(kinds)} {random.randint(1, 50)}" for _ in range(random.randint(1, 2))]
    if depth:
        way = random.choice(("gather", "group", "first", "survive"))
        program.insert(random.randint(0, 1), [way, *(draw(random, depth - 1) for _ in range(2))])
    return program


@pytest.mark.parametrize("seed", range(6))
def test_any_program_is_cut_off(seed: int) -> None:
    check_all(draw(Random(seed), 2), is_random=True)


@pytest.fixture
def runner() -> Iterator[InlineRunner]:
    turns.done.clear()
    with InlineRunner(app) as runner:
        yield runner


def test_branches_that_nobody_awaits_are_told_when_the_body_ends(
    runner: InlineRunner, caplog: pytest.LogCaptureFixture
) -> None:
    assert runner.result(turns.forgets(5)) == "2 left"
    (told,) = [each.getMessage() for each in caplog.records if each.name == "pynenc.workflow"]
    assert "has ended, but 2 branch(es) of it had not" in told
    assert re.search(r"the first is at .*apps/turns\.py:\d+\.", told)


def test_what_a_step_forks_is_no_branch(runner: InlineRunner) -> None:
    assert runner.result(turns.forks_in_a_step()) == [3, 1, 2]
    assert sorted(turns.done) == ["step 1", "step 2"]


def test_a_round_undoes_what_it_registered_itself(runner: InlineRunner) -> None:
    with pytest.raises(ValueError, match="bad"):
        runner.result(turns.begins_anew(0))
    assert turns.done == ["round 1"]


def test_one_branch_waits_for_one_invocation_again(runner: InlineRunner) -> None:
    turns.seen.clear()
    ended = runner.result(turns.waits_again())
    assert sorted(ended) == ["a", "a", "a", "b"]
    assert not ended.endswith("b")
    assert turns.seen == [[], *[list(ended)] * 2]


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_that_is_cancelled_before_its_turn_is_not_done_again(runner: InlineRunner, fails: bool) -> None:
    assert runner.result(turns.drops(fails)) == "1 ended"
    assert sorted(turns.done) == ["step 0", "step 1"]


@pytest.mark.parametrize("what", ["step", "signal", "result"])
def test_a_body_goes_on_after_what_it_cut_off(runner: InlineRunner, what: str) -> None:
    assert runner.result(turns.cuts_off(what)) == what
    assert [each for each in turns.done if each == "slow"] == ["slow"] * (what == "step"), "it does not begin again"
    assert turns.done.count("too late") == 3


@pytest.mark.parametrize("what", ["pause", "signal"])
def test_what_comes_is_left_to_those_who_still_wait(runner: InlineRunner, what: str) -> None:
    invocation = turns.asks_again(what)
    runner.advance(10)
    assert invocation.resume(7) if what == "pause" else invocation.signal("a", 7)
    assert runner.result(invocation) == 7


@pytest.mark.parametrize("what", ["pause", "signal"])
def test_of_two_branches_that_wait_for_the_same_each_gets_its_own(runner: InlineRunner, what: str) -> None:
    invocation = turns.asks_twice(what)
    for answer in (1, 2):
        runner.drain()
        assert invocation.status is InvocationStatus.PAUSED
        assert invocation.resume(answer) if what == "pause" else invocation.signal("a", answer)
    assert sorted(runner.result(invocation)) == [1, 2]


@pytest.mark.parametrize("together", [False, True])
def test_a_branch_that_is_cancelled_uses_no_signal(runner: InlineRunner, together: bool) -> None:
    invocation = turns.takes_the_first(4)
    for number, name in enumerate("abba"):
        if not together:
            runner.drain()
        assert invocation.signal(name, number)
    assert sorted(runner.result(invocation)) == [0, 1, 2, 3]


def test_what_is_done_before_branches_are_created_was_done(
    runner: InlineRunner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told again, and not done in the new way."""
    invocation = turns.talks()
    runner.advance(15)
    monkeypatch.setattr(turns, "changed_since", [1])
    runner.result(invocation)
    assert "new 0" not in turns.done
    assert "new 1" in turns.done
    told = [each.getMessage() for each in caplog.records if "branches" in each.getMessage()]
    assert told == ["branches 0", "branches 1"]


def test_no_record_holds_any_number_of_turns(runner: InlineRunner) -> None:
    """Neither those of timers, nor those of results."""
    times = MOST_NEW + 100
    invocation = turns.polls(times)
    assert runner.result(invocation) == times
    stored = app.store.recall(f"{invocation.invocation_id}/0")
    records = [decode_record(each) for each in stored.values()]
    assert max(len(each.turns) for each in records) <= MOST_NEW
    numbers = sorted(number for each in records for number in range(each.turn, each.turn + len(each.turns)))
    assert numbers == list(range(2 * times + 1)), "each turn is written once"


def test_what_a_loop_keeps_is_copied_while_it_changes() -> None:
    handles = deque([1, 2])

    class Changing:
        def __iter__(self) -> Iterator[int]:
            for each in handles:
                yield each
                if len(handles) < 3:
                    handles.append(3)

    assert _copy(Changing()) == (1, 2, 3)
