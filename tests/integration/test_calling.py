"""Calling and waiting, on every store and runner."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from pynenc import InvocationStatus, Pynenc
from pynenc.exceptions import InvocationCancelledError, ResultTimeoutError, RunnerError, TaskTimeoutError
from tests.integration.apps import basic
from tests.integration.conftest import LONG


def test_a_call_returns_an_invocation_whose_result_is_the_value(app: Pynenc) -> None:
    invocation = basic.add(1, 2)
    assert invocation.get_result(LONG) == 3
    assert invocation.status == "success"
    assert invocation.status is InvocationStatus.SUCCESS
    assert invocation.done()
    assert invocation.arguments.kwargs == {"x": 1, "y": 2}
    assert next(entry.status for entry in invocation.history) == "registered"


def test_every_kind_of_parameter_arrives(app: Pynenc) -> None:
    assert basic.everything(1, 2, 8, 9, c=4, d=5).get_result(LONG) == [1, 2, [8, 9], 4, {"d": 5}]


def test_values_keep_their_type(app: Pynenc) -> None:
    moved = basic.move(basic.Point(1, 2), by=10).get_result(LONG)
    assert moved == basic.Point(11, 12)
    assert type(moved) is basic.Point


def test_an_error_is_raised_with_its_class_and_the_remote_traceback(app: Pynenc) -> None:
    invocation = basic.fail("no stock")
    with pytest.raises(basic.ShopError, match="no stock") as caught:
        invocation.get_result(LONG)
    assert "in fail" in caught.value.remote_traceback  # type: ignore[attr-defined]
    assert invocation.status == "failed"
    assert "in fail" in str(invocation.traceback)
    with pytest.raises(KeyError, match="gone"):
        basic.fail_builtin("gone").get_result(LONG)


def test_async_tasks_and_async_waiting(app: Pynenc) -> None:
    async def main() -> list[int]:
        invocations = [await basic.async_add.async_call(i, 1) for i in range(20)]
        return [await invocation.async_result(LONG) for invocation in invocations]

    assert asyncio.run(main()) == [i + 1 for i in range(20)]


def test_results_come_in_order_of_submission_and_as_completed_in_any(app: Pynenc) -> None:
    group = basic.add.parallelize([(1, 1), basic.add.args(1, 2), {"x": 2, "y": 3}, (5,)])
    assert list(group.results) == [2, 3, 5, 15]
    again = basic.add.parallelize([(i, 0) for i in range(50)])
    assert sorted(invocation.result for invocation in again.as_completed(LONG)) == list(range(50))
    assert again.get_results(LONG) == list(range(50))


def test_common_arguments_are_merged_and_a_call_may_override_them(app: Pynenc) -> None:
    text = "huge" * 20_000
    group = basic.measure.parallelize([{"index": i} for i in range(5)] + [{"index": 0, "text": "x"}], {"text": text})
    assert group.get_results(LONG) == [len(text) + i for i in range(5)] + [1]


def test_group_results_can_hold_failures(app: Pynenc) -> None:
    group = basic.flaky_shop.parallelize([("/nonexistent/folder/file",)])
    values = group.get_results(LONG, return_exceptions=True)
    assert isinstance(values[0], FileNotFoundError)


def test_result_on_an_event_loop_is_refused(idle_app: Pynenc) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="async_result"):
            basic.add(1, 2).result  # noqa: B018

    asyncio.run(main())


def test_a_timeout_leaves_the_invocation_alone(idle_app: Pynenc) -> None:
    invocation = basic.add(1, 2)
    with pytest.raises(ResultTimeoutError) as caught:
        invocation.get_result(0.01)
    assert isinstance(caught.value, TimeoutError)
    assert invocation.status == "registered"


def test_an_invocation_can_be_an_argument(app: Pynenc) -> None:
    assert basic.takes_invocation(basic.add(2, 3)).get_result(LONG) == 5


def test_tasks_get_their_own_copy_of_mutable_arguments(app: Pynenc) -> None:
    values = [1, 2]
    group = basic.changes_its_argument.parallelize([{}, {}], {"values": values})
    assert group.get_results(LONG) == [[1, 2, 2], [1, 2, 2]]
    assert values == [1, 2]


def test_tasks_apps_and_invocations_can_be_pickled(app: Pynenc) -> None:
    invocation = basic.add(4, 5)
    assert pickle.loads(pickle.dumps(app)) is app
    assert pickle.loads(pickle.dumps(basic.add)).task_id == basic.add.task_id
    assert pickle.loads(pickle.dumps(invocation)).get_result(LONG) == 9


def test_cancelled_before_it_starts_it_never_runs(idle_app: Pynenc) -> None:
    invocation = basic.add(1, 2)
    assert invocation.cancel()
    assert not invocation.cancel()
    with pytest.raises(InvocationCancelledError):
        invocation.get_result(LONG)


def test_a_task_cannot_close_its_app(app: Pynenc) -> None:
    with pytest.raises(RunnerError, match="leave that to the program"):
        basic.closes_its_app().get_result(LONG)
    assert basic.add(1, 2).get_result(LONG) == 3


def test_a_running_sync_body_sees_the_request_to_cancel(app: Pynenc, tmp_path: Path) -> None:
    started = tmp_path / "started"
    invocation = basic.obeys_cancel(str(started))
    basic.wait_for(str(started))
    assert invocation.cancel("out of stock")
    with pytest.raises(InvocationCancelledError, match="was cancelled: out of stock"):
        invocation.get_result(LONG)
    assert (invocation.status, invocation.history[-1].reason) == ("cancelled", "out of stock")


def test_a_running_async_body_is_cancelled(app: Pynenc, tmp_path: Path) -> None:
    started = tmp_path / "started"
    invocation = basic.async_sleeper(str(started))
    basic.wait_for(str(started))
    assert invocation.cancel("out of stock")
    assert invocation.wait(LONG)
    assert (invocation.status, invocation.history[-1].reason) == ("cancelled", "out of stock")


@pytest.mark.parametrize("task", [basic.too_slow, basic.async_too_slow], ids=["sync", "async"])
def test_a_body_that_takes_too_long_fails(app: Pynenc, task: object) -> None:
    with pytest.raises(TaskTimeoutError):
        task().get_result(LONG)  # type: ignore[operator]


def test_retry_by_hand_opens_a_new_round(app: Pynenc, tmp_path: Path) -> None:
    invocation = basic.flaky_shop(str(tmp_path / "witness"))
    with pytest.raises(basic.ShopError):
        invocation.get_result(LONG)
    assert invocation.num_retries == 2
    assert (tmp_path / "witness").stat().st_size == 3
    assert invocation.retry()
    with pytest.raises(basic.ShopError):
        invocation.get_result(LONG)
    assert (tmp_path / "witness").stat().st_size == 6
    assert {entry.round for entry in invocation.history} == {0, 1}


def test_progress_can_be_read_while_it_runs(app: Pynenc, tmp_path: Path) -> None:
    go = tmp_path / "go"
    invocation = basic.reports_progress(str(go))
    while (progress := invocation.progress) is None:
        assert not invocation.done()
    assert (progress.done, progress.total, progress.message) == (3.0, 10.0, "counting")
    go.touch()
    assert invocation.wait(LONG)


def test_delay_priority_and_tags(app: Pynenc) -> None:
    before = app.store.clock.now()
    invocation = basic.add.options(delay=0.05, priority=5, tags=("a", "b"))(1, 1)
    assert invocation.get_result(LONG) == 2
    row = app.store.get([invocation.invocation_id])[0]
    assert row.claimed >= row.due >= before + 50_000
    assert row.priority == 5
    assert row.tags == ("a", "b")


def test_an_idempotency_key_names_one_invocation(app: Pynenc) -> None:
    from pynenc.exceptions import IdempotencyKeyError

    first, second = basic.add.options(key="order-7")(1, 2), basic.add.options(key="order-7")(1, 2)
    assert first == second
    assert second.get_result(LONG) == 3
    with pytest.raises(IdempotencyKeyError, match="order-7"):
        basic.add.options(key="order-7")(1, 3)


def test_direct_tasks_hand_back_values(app: Pynenc) -> None:
    assert basic.direct_add(1, 2) == 3
    assert asyncio.run(basic.direct_async_add(1, 2)) == 3
    assert basic.direct_sum([1, 2, 3, 4]) == 10
    assert basic.direct_add.__pynenc_task__.func is basic.direct_add.__inner_function__  # type: ignore[attr-defined]


def test_the_current_invocation_follows_threads_and_coroutines(app: Pynenc) -> None:
    assert basic.in_thread().get_result(LONG) is True
    assert basic.in_to_thread().get_result(LONG) is True
    with pytest.raises(RuntimeError, match="no invocation runs here"):
        basic.add.invocation  # noqa: B018


def test_workflow_identity_and_data(app: Pynenc) -> None:
    assert basic.store_data({"a": 1}).get_result(LONG) == {"a": 1, "missing": -1}
    own, child = basic.workflow_of_child().get_result(LONG)
    assert own == child
    outer, (inner, parent) = basic.starts_sub_workflow().get_result(LONG)
    assert parent == outer
    assert inner != outer


def test_a_cached_result_is_reused(app: Pynenc, tmp_path: Path) -> None:
    path = str(tmp_path / "witness")
    first = basic.cached(path)
    assert first.get_result(LONG) == 1
    assert basic.cached(path) == first
    assert basic.cached(path).get_result(LONG) == 1
