"""Async bodies that are cut off at any write and begin again go on as if nothing had happened: the same branch wins, fails, and is undone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynenc import context
from pynenc.engine.execute import HandBack
from pynenc.exceptions import StoreError
from pynenc.testing import InlineRunner
from tests.workflows.apps import turns
from tests.workflows.apps.turns import app


class Cut:
    """A store whose attempts are over at the ``number``-th write of a run, before or after it."""

    def __init__(self, store: Any, number: int, *, is_after: bool) -> None:
        self.left = number
        self.has_cut = False
        self._is_after = is_after
        self._remember, self._submit = store.remember, store.submit
        store.remember, store.submit = self.remember, self.submit

    def remember(self, *args: Any, **options: Any) -> Any:
        return self._at(lambda: self._remember(*args, **options))

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
        for before, after in zip(turns.seen, turns.seen[1:], strict=False):
            assert before == after[: len(before)] or after == before[: len(after)], (number, is_after)
        return result, turns.seen[-1], list(turns.done), cut.has_cut


def check_all(program: list[Any]) -> None:
    """Cut a run off at each of its writes."""
    *whole, _ = life(program)
    for number in range(1, 200):
        for is_after in (False, True):
            *cut, has_cut = life(program, number, is_after=is_after)
            if not has_cut:
                return
            assert cut == whole, (number, is_after)


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
    "timers": [["first", ["timer 0"], ["sleep 30"]], "sleep 99", "step 0", "limit 200", "sleep 300", "bad_step 0"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_cut_off_at_each_write(name: str) -> None:
    check_all(PROGRAMS[name])


seconds = st.integers(1, 50)
kinds = st.sampled_from(["child", "step", "sleep", "child", "step", "sleep", "bad_child", "bad_step"])
operations = st.builds(lambda kind, many: f"{kind} {many}", kinds, seconds)
ways = st.sampled_from(["gather", "group", "first", "survive"])
programs = st.recursive(
    st.lists(operations, min_size=1, max_size=3),
    lambda inner: st.lists(
        st.one_of(
            operations, st.builds(lambda way, parts: [way, *parts], ways, st.lists(inner, min_size=1, max_size=3))
        ),
        min_size=1,
        max_size=3,
    ),
    max_leaves=8,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(program=programs)
def test_any_program_is_cut_off(program: list[Any]) -> None:
    check_all(program)
