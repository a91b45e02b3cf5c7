"""Workflows on the real engine, in virtual time: what users see of durable operations."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from pynenc.core.records import ChangeKind
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import InvocationCancelledError
from pynenc.testing import InlineRunner
from pynenc.workflow.replay import decode_record
from tests.integration.conftest import url_of
from tests.workflows.apps import shop

DAY = 24 * 3600


@pytest.fixture(params=["memory", "sqlite", "valkey", "postgres"])
def runner(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InlineRunner]:
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    shop.app.close()
    shop.app.conf.store = url_of(request.param, tmp_path)
    with InlineRunner(shop.app) as runner:
        yield runner
        assert shop.app.store.check() == []


@pytest.fixture
def done(tmp_path: Path):
    """What was done so far, in order."""
    path = tmp_path / "witness"
    return lambda: path.read_text().split("\n")[:-1] if path.exists() else []


def test_founding_page(runner):
    invocation = shop.main_wf_task({"approval": True})
    runner.drain()
    assert invocation.status is InvocationStatus.PAUSED
    assert shop.app.engine.get(invocation.invocation_id).reason == "Waiting for approval"
    assert invocation.resume("yes")
    assert runner.result(invocation) in ("Completed via path A", "Completed via path B")
    assert runner.result(shop.main_wf_task({"approval": False})).startswith("Completed")


def test_steps_run_once(runner, done):
    assert runner.result(shop.steps(3)) == [0, 2, 4]
    assert done() == ["double 0", "double 1", "double 2"]


def test_swallowed_errors_of_steps(runner, done):
    assert runner.result(shop.survivor()) == ["one", "two", "42"]
    assert done() == ["refuse one", "refuse two", "double 21"]


def test_retry_runs_the_failed_step_again(runner, done):
    assert runner.result(shop.stubborn()) == 2
    assert done() == ["double 1", "try 0", "try 1", "try 2"]


def test_children(runner, done):
    assert runner.result(shop.calls()) == [3, 3, 0, 2, 4, 6, 8, 7, 22]
    assert sorted(done()) == sorted(["add 1 2"] * 2 + [f"add {n} {n}" for n in range(5)] + ["add 20 2"])


def test_failed_child_is_caught(runner, done):
    assert runner.result(shop.catches()) == "caught no"
    assert done() == ["fails no"]


def test_race(runner, done):
    assert sorted(runner.result(shop.races())) == [0, 2, 4]
    assert len(done()) == 6


def test_timeout_of_a_result(runner, done):
    assert runner.result(shop.impatient()) == "then 2"
    assert done() == ["double 1", "add 1 1"]


def test_sub_workflow(runner):
    invocation = shop.parent()
    assert runner.result(invocation) == (shop.child_flow.task_id.key, invocation.invocation_id, 2)


@pytest.mark.parametrize("flow", [lambda: shop.naps(30), shop.dozes])
def test_thirty_days(runner, flow):
    assert runner.result(flow()) == pytest.approx(30 * DAY, abs=1)


def test_two_pauses(runner):
    invocation = shop.asks()
    assert not invocation.resume("too early")
    for value in ("yes", {"and": 1}):
        runner.drain()
        assert invocation.resume(value)
    assert runner.result(invocation) == ["yes", {"and": 1}]


@pytest.mark.parametrize(
    "flow",
    [lambda: shop.naps(1), lambda: shop.hears(["a"]), shop.calls, shop.dozes],
    ids=["time", "signal", "child", "async"],
)
def test_a_run_that_waits_for_no_person_is_not_resumed(runner, flow):
    invocation = flow()
    runner.drain()
    before = shop.app.engine.get(invocation.invocation_id)
    assert before.status is InvocationStatus.PAUSED
    for value in ("lost", None):
        assert not invocation.resume(value)
    assert shop.app.engine.get(invocation.invocation_id) == before
    assert not [key for key in shop.app.store.recall(invocation.invocation_id) if key.startswith("resume")]


def test_two_persons_answer_one_pause(runner):
    invocation = shop.main_wf_task({"approval": True})
    runner.drain()
    store, engine = shop.app.store, shop.app.engine
    is_asking = engine.is_asking

    def slowly(store, row):
        """Meanwhile another one answers, and the run comes to its end or to another wait."""
        engine.is_asking = is_asking
        assert is_asking(store, row)
        assert invocation.resume("first")
        return True

    engine.is_asking = slowly
    assert not invocation.resume("second")
    assert (
        engine.codec.decode_value(
            store.recall(invocation.invocation_id)["resume:1"], invocation.invocation_id, "resume"
        )
        == "first"
    )


def test_signals(runner):
    invocation = shop.listens(None)
    assert invocation.signal("a", 1)
    assert invocation.signal("a", 2)
    runner.drain()
    assert invocation.status is InvocationStatus.PAUSED
    assert invocation.signal("c", "nobody waits for it")
    runner.drain()
    assert invocation.signal("b", 3)
    assert runner.result(invocation) == [1, 3, 2]
    assert not invocation.signal("a", 4)


def test_signals_of_several_names_that_came_before(runner):
    invocation = shop.hears(["b", "a", "b", "c"])
    for value, name in enumerate("aabbb"):
        invocation.signal(name, value)
    runner.drain()
    assert invocation.status is InvocationStatus.PAUSED
    invocation.signal("c", 5)
    assert runner.result(invocation) == [2, 0, 3, 5]


def test_a_signal_that_comes_between_two_branches_is_not_missed(runner):
    invocation = shop.hears_itself()
    runner.drain()
    records = shop.app.store.recall(f"{invocation.invocation_id}/0")
    assert [decode_record(record).kind for record in records.values()].count("wait_signal") == 1
    invocation.signal("b", 2)
    assert runner.result(invocation) == [1, 2]


def test_signal_too_late(runner):
    assert runner.result(shop.listens(60)) == ["too late"]


def test_continue_as_new(runner):
    invocation = shop.counts(0, 5)
    for value in (1, 2, 3):
        assert invocation.signal("add", value)
    runner.drain()
    assert shop.app.engine.get(invocation.invocation_id).round == 3
    for value in (4, 5):
        assert invocation.signal("add", value)
        runner.drain()
    assert runner.result(invocation) == 15
    assert shop.app.store.recall(f"{invocation.invocation_id}/0") == {}
    assert shop.app.engine.get(invocation.invocation_id).round == 4


def test_compensation(runner, done):
    invocation = shop.saga(["flight", "broken", "hotel"])
    with pytest.raises(ValueError, match="payment"):
        runner.result(invocation)
    assert done() == ["double 6", "double 6", "double 5", "refuse payment", "undo hotel", "undo broken", "undo flight"]
    assert "failed:" in shop.app.engine.get(invocation.invocation_id).reason


def test_async_branches(runner, done):
    invocation = shop.gathers()
    runner.drain()
    assert invocation.status is InvocationStatus.PAUSED
    runner.advance(150)
    assert invocation.signal("go", "now")
    runner.drain()
    assert invocation.resume("fine")
    assert runner.result(invocation) == [1, 4, 7, "now", "fine"]
    assert sorted(done()) == ["add 0 1", "add 1 1", "add 2 1", "double 0", "double 1", "double 2"]


@pytest.mark.parametrize(
    ("way", "days"), [("semaphore", 2), ("lock", 3), ("event", 1), ("queue", 1)], ids=lambda value: str(value)
)
def test_branches_that_wait_for_one_another(runner, way, days):
    invocation = shop.taking_turns(way)
    for _ in range(days):
        runner.drain()
        assert invocation.status is InvocationStatus.PAUSED
        runner.advance(DAY)
    assert sorted(runner.result(invocation)) == [0, 1, 2]


def test_a_branch_that_reads_a_socket_is_not_cut_off(runner, done):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(0.1)
                    try:
                        connection.recv(1)  # it says nothing, and is there still
                    except TimeoutError:
                        connection.sendall(b"hello\n")

        thread = Thread(target=serve)
        thread.start()
        invocation = shop.keeps_listening(server.getsockname()[1])
        runner.drain()
        assert (invocation.status, done()) == (InvocationStatus.PAUSED, ["read hello"])
        runner.advance(DAY)
        assert runner.result(invocation) == "hello"
        thread.join(20)


def test_cancel_with_members(runner):
    invocation = shop.parent()
    runner.drain()
    (child,) = shop.app.find_invocations(tasks=(shop.child_flow.task_id.key,))
    assert (invocation.status, child.status) == (InvocationStatus.PAUSED, InvocationStatus.PAUSED)
    assert invocation.cancel()
    with pytest.raises(InvocationCancelledError):
        runner.result(child)


def test_cancelling_again_reaches_the_members(runner):
    """Whoever cancelled it did not live to ask them."""
    invocation = shop.parent()
    runner.drain()
    (child,) = shop.app.find_invocations(tasks=(shop.child_flow.task_id.key,))
    assert shop.app.engine.amend([invocation.invocation_id], ChangeKind.CANCEL, "killed after that") == [True]
    assert child.status is InvocationStatus.PAUSED
    assert not invocation.cancel()
    with pytest.raises(InvocationCancelledError):
        runner.result(child)


def test_a_branch_that_is_about_to_run_is_no_branch_that_waits(runner):
    assert runner.result(shop.held_up()) == "no room"


def test_what_an_async_body_waits_for_may_wait_itself(runner):
    assert runner.result(shop.waits_for_one_that_waits()) == 21
