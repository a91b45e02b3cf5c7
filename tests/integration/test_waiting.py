"""Waiting is free: one slot is enough at any depth, and circles are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from pynenc import Pynenc
from pynenc.exceptions import CycleDetectedError, InvocationCancelledError
from tests.integration.apps import basic
from tests.integration.conftest import LONG, configured, eventually, running, url_of


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


@pytest.mark.parametrize("task", [basic.parent_of_flaky, basic.parent_of_inline_flaky], ids=["flaky", "inline"])
@pytest.mark.parametrize("store", ["memory", "sqlite", "valkey", "postgres"])
def test_a_child_that_is_retried_needs_no_poll(tmp_path: Path, store: str, task: Callable[..., object]) -> None:
    with configured(url_of(store, tmp_path), threads=1, poll_seconds=3600.0) as app, running(app):
        for number in range(5):  # a runner that has just started looks around by itself
            assert task(str(tmp_path / f"note {number}")).get_result(LONG) == 2  # type: ignore[attr-defined]


def test_what_is_claimed_for_a_parent_that_waits_is_not_given_back(one_slot: Pynenc) -> None:
    basic.add.parallelize([(index, 0) for index in range(300)]).get_results(LONG)  # so short that much is claimed ahead
    parents = basic.parent_of_one.parallelize([(index,) for index in range(100)])
    others = basic.add.parallelize([(index, 1) for index in range(200)])
    assert sorted(parents.get_results(LONG)) == list(range(100))
    assert len(others.get_results(LONG)) == 200
    assert (
        max(invocation.attempt for invocation in parents.invocations) <= 5
    )  # once, and again after a second without a wait


def test_what_is_given_back_for_a_parent_that_waits_has_used_nothing_of_its_rate(
    one_slot: Pynenc, tmp_path: Path
) -> None:
    basic.add.parallelize([(index, 0) for index in range(300)]).get_results(LONG)  # so short that much is claimed ahead
    gate = tmp_path / "gate"
    blocker = basic.wait_until(str(gate))
    parent = basic.parent_of_one(1)
    users = [uuid4().hex for _ in range(8)]
    calls = basic.rated_per_user.parallelize([(user,) for user in users])
    gate.touch()
    assert (blocker.get_result(LONG), parent.get_result(LONG)) == ("seen", 1)
    assert calls.get_results(LONG) == users


def test_a_body_whose_threads_have_waited_can_be_cancelled(one_slot: Pynenc, tmp_path: Path) -> None:
    invocation = basic.waits_in_two_threads(str(tmp_path / "done"))
    eventually((tmp_path / "done").exists, "both waits are over")
    assert invocation.cancel()
    with pytest.raises(InvocationCancelledError):
        invocation.get_result(LONG)
