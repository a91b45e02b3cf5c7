"""Workflows where calls run in their caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pynenc.core.status import InvocationStatus
from pynenc.exceptions import WorkflowPauseError
from tests.workflows.apps import shop


@pytest.fixture(autouse=True)
def app() -> Iterator[None]:
    shop.app.close()
    shop.app.conf.dev_mode_force_sync_tasks = True
    yield
    shop.app.close()
    shop.app.conf.dev_mode_force_sync_tasks = False


def test_workflows_run_in_their_caller():
    assert shop.steps(3).result == [0, 2, 4]
    assert shop.calls().result == [3, 3, 0, 2, 4, 6, 8, 7, 22]
    assert shop.naps(30).result >= 30 * 24 * 3600
    assert shop.dozes().result >= 30 * 24 * 3600


def test_unmet_pause_raises():
    invocation = shop.main_wf_task({"approval": True})
    assert invocation.status is InvocationStatus.PAUSED
    with pytest.raises(WorkflowPauseError, match="Waiting for approval"):
        _ = invocation.result
    assert invocation.resume()
    assert invocation.result.startswith("Completed via path")


def test_unmet_signal_raises():
    invocation = shop.listens(None)
    with pytest.raises(WorkflowPauseError, match="waits for signal a"):
        _ = invocation.result
    assert [invocation.signal("a", 1), invocation.signal("b", 2), invocation.signal("a", 3)] == [True, True, True]
    assert invocation.result == [1, 2, 3]


def test_unmet_pause_of_a_child_raises_in_its_parent():
    with pytest.raises(WorkflowPauseError, match="first"):
        _ = shop.waits_for_asks().result
    with pytest.raises(WorkflowPauseError, match="first"):
        _ = shop.flow_waits_for_asks().result


def test_what_an_async_body_waits_for_may_wait_itself():
    assert shop.waits_for_one_that_waits().result == 21


def test_what_a_step_waits_for_may_use_durable_operations():
    assert shop.steps_that_wait().result == 5
