"""What becomes of a workflow whose last attempt ended without its body: its process died, or did not react."""

from __future__ import annotations

from typing import Any

import pytest

from pynenc.core import outcome
from pynenc.core.records import Beat, Claimed, ClaimRequest, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError, WorkerLostError
from pynenc.serializer.errors import encode_error
from pynenc.testing import InlineRunner
from pynenc.workflow.compensation import end_without_body
from tests.workflows.apps import differing
from tests.workflows.apps.differing import app, done

LOST = encode_error(WorkerLostError("its process died"))


def claim() -> Claimed:
    """As a runner does that dies then."""
    app.store.heartbeat([Beat(id="late", group="late", lease=10**9)])
    (claimed,) = app.store.claim(ClaimRequest("late", 1)).batch
    return claimed


def end(claimed: Claimed) -> Outcome:
    ended = outcome.failed(claimed, LOST, claimed.claimed, app.store.clock.now(), "killed")
    ended = end_without_body(app.engine, claimed, "late", ended)
    assert app.store.finish("late", [ended]).lost == ()
    return ended


def test_what_was_registered_before_the_first_operation_is_carried_out(runner: InlineRunner) -> None:
    invocation = differing.books_early()
    assert end(claim()).reason == "killed; to be compensated"
    with pytest.raises(WorkerLostError):
        runner.result(invocation)
    assert done == ["undo flight"]
    assert app.engine.get(invocation.invocation_id).reason == "killed; compensated"


def test_a_body_without_operations_does_not_succeed_then(runner: InlineRunner) -> None:
    invocation = differing.bare()
    end(claim())
    with pytest.raises(WorkerLostError):
        runner.result(invocation)
    assert app.engine.get(invocation.invocation_id).reason == "killed"


def test_there_is_only_one_more_attempt(runner: InlineRunner) -> None:
    invocation = differing.books_early()
    end(claim())
    ended = end(claim())
    assert (ended.status, ended.payload) == (InvocationStatus.FAILED, LOST)
    assert ended.reason == "killed; its compensation was not carried out to the end"
    assert invocation.done()


def test_a_task_without_durable_operations_has_failed(runner: InlineRunner) -> None:
    invocation = differing.one()
    assert end(claim()).status is InvocationStatus.FAILED
    assert invocation.done()


def test_another_end_is_left_as_it_is(runner: InlineRunner) -> None:
    differing.books_early()
    claimed = claim()
    ended = outcome.cancelled(claimed, 0, 1)
    assert end_without_body(app.engine, claimed, "late", ended) is ended
    assert app.store.recall(f"{claimed.id}/0") == {}


def test_a_store_that_does_not_answer_loses_no_compensation(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = differing.books_early()
    claimed = claim()

    def refuse(*_: Any, **__: Any) -> Any:
        raise StoreError("gone", retryable=True)

    with monkeypatch.context() as away:
        away.setattr(app.store, "remember", refuse)
        ended = end(claimed)
    assert (ended.status, ended.reason) == (InvocationStatus.REGISTERED, "its end could not be written")
    assert runner.result(invocation) == "flight"
