"""Waiting is free: one slot is enough at any depth, and circles are refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pynenc import Pynenc
from pynenc.exceptions import CycleDetectedError
from tests.integration.apps import basic
from tests.integration.conftest import LONG


@pytest.mark.parametrize("task", [basic.fib, basic.fib_group, basic.async_fib], ids=["result", "group", "await"])
def test_recursion_finishes_on_one_slot(one_slot: Pynenc, task: object) -> None:
    assert task(10).get_result(LONG) == 55  # type: ignore[operator]


def test_fibonacci_of_fifteen_finishes_on_one_slot(one_slot: Pynenc) -> None:
    assert basic.fib(15).get_result(LONG) == 610


def test_recursion_finishes_on_every_runner(app: Pynenc) -> None:
    assert basic.fib(8).get_result(LONG) == 21
    assert basic.async_fib(6).get_result(LONG) == 8


def test_an_inline_task_runs_on_its_parents_thread(one_slot: Pynenc) -> None:
    assert basic.parent_of_inline().get_result(LONG) is True


def test_a_circle_of_waits_is_refused_and_named(app: Pynenc) -> None:
    invocation = basic.waits_in_a_circle()
    with pytest.raises(CycleDetectedError) as caught:
        invocation.get_result(LONG)
    assert invocation.invocation_id in caught.value.cycle or invocation.invocation_id in str(caught.value)


def test_waiting_for_what_the_own_key_blocks_is_a_circle(app: Pynenc) -> None:
    with pytest.raises(CycleDetectedError):
        basic.holds_key_and_waits(1).get_result(LONG)


@pytest.mark.parametrize("kind", ["PersistentProcessRunner", "MultiThreadRunner"])
def test_fibonacci_of_fifteen_finishes_on_one_slot_in_a_process(start_runner: Callable[..., object], kind: str) -> None:
    start_runner(kind, PROCESSES="1", THREADS="1")
    assert basic.fib(15).get_result(LONG) == 610
