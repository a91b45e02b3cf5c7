"""A run whose code does something else than recorded waits for a person: nothing is compensated, and nothing is lost."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from click.testing import CliRunner

from pynenc import context
from pynenc.cli.main import cli
from pynenc.core.status import InvocationStatus
from pynenc.engine.execute import HandBack
from pynenc.exceptions import NonDeterminismError, StoreError
from pynenc.testing import InlineRunner
from pynenc.workflow.check import check, tell
from tests.workflows.apps import differing
from tests.workflows.apps.differing import app, changed, done


def reason_of(invocation: Any) -> str:
    assert invocation.status is InvocationStatus.PAUSED
    row = app.engine.get(invocation.invocation_id)
    assert (row.due, row.waiting_for) == (0, ())
    return row.reason


def stopped(runner: InlineRunner, flow: Any, seconds: float = 10) -> Any:
    """A run that was stopped by a change of its code, which is taken back then."""
    invocation = flow()
    runner.drain()
    changed.append(1)
    runner.advance(seconds)
    assert reason_of(invocation).startswith("code and record differ: at position ")
    changed.clear()
    return invocation


# -- what becomes of it ----------------------------------------------------------------------------------------------------
def test_a_change_stops_a_run_until_a_person_lets_it_try_again(
    runner: InlineRunner, caplog: pytest.LogCaptureFixture
) -> None:
    invocation = differing.books()
    runner.drain()
    changed.append(1)
    for times in (1, 2):
        runner.advance(10_000)
        assert "asks for 'step len' (" in reason_of(invocation)
        assert "differing.py:" in reason_of(invocation)
        told = [each.message for each in caplog.records if each.levelno == logging.ERROR]
        assert [f"{invocation.invocation_id} waits for a person: code and record differ" in each for each in told] == [
            True
        ] * times
        assert invocation.resume()
    changed.clear()
    assert runner.result(invocation) == "hotel"
    assert done == ["flight", "hotel"]


def test_code_that_is_mended_goes_on_from_the_record(runner: InlineRunner) -> None:
    invocation = stopped(runner, differing.books)
    assert not done.count("caught")
    invocation.resume()
    assert runner.result(invocation) == "hotel"
    assert done == ["flight", "hotel"]


def test_a_body_that_returns_too_early_is_stopped(runner: InlineRunner) -> None:
    invocation = differing.early()
    runner.drain()
    changed.append(1)
    runner.advance(10)
    assert (
        reason_of(invocation)
        == "code and record differ: the workflow returns, but recorded is 'sleep' at position 00000002"
    )


def test_a_body_that_returns_where_it_waited_is_stopped(runner: InlineRunner) -> None:
    """And a check of its history finds that before."""
    invocation = differing.early_at_a_pause()
    runner.drain()
    story = tell(app.engine, invocation.invocation_id)
    assert check(app.scratch_engine(), story).problem == ""
    changed.append(1)
    assert "at position b00000002 is 'pause'" in check(app.scratch_engine(), story).problem
    assert invocation.resume(True)
    runner.drain()
    assert reason_of(invocation).endswith("the workflow returns, but recorded is 'pause' at position b00000002")


@pytest.mark.parametrize(("flow", "change"), [("misspelt", 1), ("misspelt", 2), ("misspelt_in_a_branch", 1)])
def test_a_body_that_raises_too_early_is_stopped(runner: InlineRunner, flow: str, change: int) -> None:
    invocation = getattr(differing, flow)()
    runner.drain()
    changed.append(change)
    runner.advance(10)
    reason = reason_of(invocation)
    assert reason.startswith("code and record differ: the workflow raises NameError: name '")
    assert "differing.py:" in reason
    assert ", but recorded is 'sleep' at position 0000000" in reason or "'step act' at position 00000001" in reason
    assert done == ["flight"]
    changed.clear()
    invocation.resume()
    assert runner.result(invocation) == "hotel"


def test_a_body_that_raises_where_it_was_has_failed(runner: InlineRunner) -> None:
    invocation = differing.misspelt()
    runner.drain()
    changed.append(3)
    with pytest.raises(NameError):
        runner.result(invocation)
    assert done == ["flight", "undo flight"]


@pytest.mark.parametrize("change", [1, 3], ids=["stopped", "compensated"])
def test_an_end_that_cannot_be_written_is_left_to_the_next_attempt(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    invocation = differing.misspelt()
    runner.drain()
    changed.append(change)
    remember = app.store.remember

    def stop(*_: Any, **__: Any) -> Any:
        """The store is away, and the runner is told to stop meanwhile."""
        monkeypatch.setattr(app.store, "remember", remember)
        running = context.current()
        assert running is not None
        running.interrupt = HandBack
        raise StoreError("gone", retryable=True)

    monkeypatch.setattr(app.store, "remember", stop)
    runner.advance(10)
    assert "its end could not be written" in [entry.reason for entry in invocation.history]
    if change == 1:
        assert reason_of(invocation).startswith("code and record differ")
    else:
        assert (invocation.status, done) == (InvocationStatus.FAILED, ["flight", "undo flight"])


def test_a_branch_that_fails_before_the_others_are_replayed_has_failed(runner: InlineRunner) -> None:
    with pytest.raises(ExceptionGroup):
        runner.result(differing.ships())
    assert sorted(done[1:3]) == ["car", "hotel"], "side by side, in threads"
    assert [done[0], *done[3:]] == ["flight", "tour", "undo flight"]


def test_the_error_is_raised_where_nobody_else_is_there(runner: InlineRunner) -> None:
    invocation = stopped(runner, differing.books)
    changed.append(1)
    with pytest.raises(NonDeterminismError, match=r"asks for 'step len'.*guard changes"):
        runner.result(invocation)


@pytest.mark.parametrize("flow", [differing.unsteady, differing.waits_for_unsteady])
def test_the_error_is_raised_in_development_mode(flow: Any) -> None:
    app.close()
    changed.clear()
    app.conf.dev_mode_force_sync_tasks = True
    try:
        with pytest.raises(NonDeterminismError, match=r"asks for 'step act'.*but recorded is 'sleep'"):
            _ = flow().result
    finally:
        app.close()
        app.conf.dev_mode_force_sync_tasks = False


# -- what it waited for before ---------------------------------------------------------------------------------------------
def test_the_value_of_a_pause_is_not_lost(runner: InlineRunner) -> None:
    invocation = differing.asks()
    runner.drain()
    invocation.resume("yes")
    changed.append(1)
    runner.drain()
    assert reason_of(invocation).startswith("code and record differ")
    changed.clear()
    invocation.resume()
    runner.drain()
    assert reason_of(invocation) == "second"
    invocation.resume("no")
    assert runner.result(invocation) == ["yes", "no"]


def test_a_pause_does_not_take_what_lets_a_run_try_again(runner: InlineRunner) -> None:
    invocation = stopped(runner, differing.asks_and_sleeps)
    assert not invocation.resume("too early")
    assert invocation.resume()
    runner.drain()
    assert reason_of(invocation) == "ok?"
    invocation.resume("right")
    assert runner.result(invocation) == ["right", None]


def test_signals_and_results_that_come_meanwhile_are_found(runner: InlineRunner) -> None:
    invocation = differing.waits()
    runner.drain()
    changed.append(1)
    invocation.signal("other")
    runner.drain()
    invocation.signal("paid", 5)
    runner.advance(40)
    assert reason_of(invocation).startswith("code and record differ")
    changed.clear()
    invocation.resume()
    assert runner.result(invocation) == [5, 1]


def test_a_child_that_is_stopped_lets_its_parent_wait(runner: InlineRunner) -> None:
    invocation = differing.outer()
    runner.drain()
    changed.append(1)
    runner.advance(1000)
    (child,) = app.find_invocations(tasks=(differing.books.task_id.key,))
    assert reason_of(child).startswith("code and record differ")
    assert invocation.status is InvocationStatus.PAUSED
    changed.clear()
    child.resume()
    assert runner.result(invocation) == "outer hotel"


# -- branches --------------------------------------------------------------------------------------------------------------
def test_a_branch_that_nobody_awaits_stops_the_run(runner: InlineRunner, caplog: pytest.LogCaptureFixture) -> None:
    invocation = stopped(runner, differing.forgets_a_branch)
    gc.collect()
    assert [each.name for each in caplog.records if each.levelno == logging.ERROR] == ["pynenc.workflow"]
    invocation.resume()
    invocation.signal("go", 1)
    assert runner.result(invocation) == 1


# -- a run that has failed ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", [5, 15])
def test_a_run_that_is_compensated_is_stopped_before_it_forgets_one(runner: InlineRunner, after: int) -> None:
    invocation = differing.fails()
    runner.drain()
    runner.advance(after)
    changed.append(1)
    runner.advance(after)
    runner.advance(10_000)
    assert "but recorded is compensation" in reason_of(invocation)
    changed.clear()
    invocation.resume()
    with pytest.raises(ValueError, match="no money"):
        runner.result(invocation)
    assert done == ["flight", "hotel", "undo hotel", "undo flight"]
    assert app.engine.get(invocation.invocation_id).reason == "compensated"


def test_branches_are_compensated_in_the_order_in_which_they_were_done(runner: InlineRunner) -> None:
    invocation = differing.fails_in_branches()
    with pytest.raises(ValueError, match="no money"):
        runner.result(invocation)
    assert done == ["second", "undo first", "undo second"]
    assert app.engine.get(invocation.invocation_id).reason == "compensated"


# -- what people see ---------------------------------------------------------------------------------------------------------
def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["--app", "tests.workflows.apps.differing", *words])
    return result.exit_code, result.output


def test_the_command_line_tells_it_and_lets_it_try_again(runner: InlineRunner) -> None:
    invocation = stopped(runner, differing.books)
    assert "code and record differ: at" in run("workflows", "list", "--status", "paused")[1]
    assert "differs" in run("workflows", "show", invocation.invocation_id)[1]
    assert "put its code back or mend it" in run("invocations", "why", invocation.invocation_id)[1]
    assert run("workflows", "replay", invocation.invocation_id)[0] == 0
    code, text = run("workflows", "resume", invocation.invocation_id, "yes")
    assert code != 0
    assert "does not wait for this: it is paused (code and record differ" in text
    assert run("workflows", "resume", invocation.invocation_id)[0] == 0
    assert runner.result(invocation) == "hotel"
