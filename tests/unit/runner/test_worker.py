"""The worker at its edges: bodies that do not end, leases that are lost, coroutines that wait in several branches."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
import pytest

from pynenc import Pynenc
from pynenc.core import outcome
from pynenc.core.records import Beat, Claimed, Outcome, Progress
from pynenc.exceptions import RunnerError, StoreError, TaskTimeoutError
from pynenc.invocation.dist_invocation import DistributedInvocation
from pynenc.runner import pump
from pynenc.runner import worker as worker_module
from pynenc.runner.body import BodySlot
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.worker import Worker

LONG = 30.0
app = Pynenc(app_id="worker-edges", store="memory://")
go = threading.Event()
begun = threading.Event()
running_now: list[int] = [0, 0]
naps: list[int] = []
mine: ContextVar[str] = ContextVar("mine", default="nothing")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(timeout=0.05)
def deaf() -> None:
    """Blocks in C, where no exception reaches it."""
    begun.set()
    go.wait(LONG)


@app.task
def blocks() -> str:
    begun.set()
    go.wait(LONG)
    return "ended"


@app.task
def reports() -> None:
    reports.invocation.set_progress(1, 2)
    go.wait(LONG)


@app.task
async def reports_and_ends() -> None:
    reports_and_ends.invocation.set_progress(3, 4)


@app.task
async def nap() -> int:
    naps.append(1)
    running_now[0] += 1
    running_now[1] = max(running_now)
    await asyncio.sleep(0.01)
    running_now[0] -= 1
    return 1


@app.task
async def gathers(count: int) -> int:
    return sum(await asyncio.gather(*(nap().async_result() for _ in range(count))))


@app.task
async def what_is_set() -> str:
    return mine.get()


@app.task
async def sets_and_waits() -> str:
    inherited = mine.get()
    mine.set("set by another body")
    return inherited + await what_is_set().async_result()


@app.task
async def waits_in_a_thread() -> int:
    child = nap()
    return await asyncio.to_thread(lambda: child.result)


@app.workflow
async def leaves_a_branch() -> str:
    async def branch() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            go.set()

    begun.branch = asyncio.create_task(branch())  # type: ignore[attr-defined]  # kept as asyncio asks for
    await asyncio.sleep(0)
    return "ended"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    app.close()
    go.clear()
    begun.clear()
    running_now[:] = [0, 0]
    naps.clear()
    yield
    go.set()
    app.close()


@contextmanager
def working(**settings: object) -> Iterator[Worker]:
    """A worker in a thread."""
    beat = Beat(id="w", group="w", lease=10**9, tasks=tuple(t.task_id.key for t in app.tasks.values()))
    app.store.heartbeat([beat])

    def keep_up(worker: Worker) -> float:
        app.store.heartbeat([worker.beat])
        return 0.05

    chosen = {"slots": 1, "cancel_grace": 0.05, "shutdown_timeout": 0.2, **settings}
    worker = Worker(app.engine, WorkerSettings(**chosen), beat, keep_up=keep_up)  # type: ignore[arg-type]
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(LONG)
        assert not thread.is_alive()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_thread_that_ignores_its_timeout_is_given_up_and_replaced() -> None:
    with working() as worker:
        call = deaf()
        with pytest.raises(TaskTimeoutError):
            call.get_result(LONG)
        assert add(1, 2).get_result(LONG) == 3, "the slot is free again"
        assert worker.slots.count == 1
        go.set()
        eventually(lambda: not worker.is_active)
        assert worker.slots.free == 1, "the late thread gives no second token"


def test_a_lost_lease_gives_a_new_identity_and_late_results_are_refused() -> None:
    with working() as worker:
        call = blocks()
        assert begun.wait(LONG)
        app.store.retire(["w"])
        eventually(lambda: call.status == "registered")
        go.set()
        assert call.get_result(LONG) == "ended"
        assert worker.beat.id != "w"
        assert app.store.get([call.invocation_id])[0].attempt == 2


def test_what_runs_at_the_end_is_handed_back_and_its_outcome_dropped() -> None:
    with working():
        call = blocks()
        assert begun.wait(LONG)
    assert call.status == "registered"
    go.set()
    assert not call.done()


def test_a_body_that_ends_while_its_worker_stops_waited_for_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "HOPE", 0.0)
    caplog.set_level("INFO", "pynenc.runner")
    with working(shutdown_timeout=LONG) as worker:
        call = blocks()
        assert begun.wait(LONG)
        worker.stop()
        eventually(lambda: "stops; 1 task(s) run here" in caplog.text)
        go.set()
    assert call.status == "success"
    assert "which nobody runs" not in caplog.text


def test_the_pump_rests_after_a_body_that_ended_before_it_was_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "MARK_AFTER", LONG)
    with working() as worker:
        call = blocks()
        eventually(lambda: worker.has_unmarked)  # the pump ticks for it
        go.set()
        assert call.get_result(LONG) == "ended"
        eventually(lambda: not worker.has_unmarked)


def test_a_store_that_does_not_answer_is_asked_nothing_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a poll, nor for a body that is to be marked or has reported something."""
    asked: list[str] = []

    def report(*_: object) -> None:
        asked.append("report")
        raise StoreError("away", retryable=True)

    monkeypatch.setattr(app.store, "report", report)
    monkeypatch.setattr(app.store, "start", lambda *_: asked.append("start"))
    beat = Beat(id="w", group="w", lease=10**9)
    worker = Worker(app.engine, WorkerSettings(), beat, keep_up=lambda _: LONG)
    worker.slots.call()
    assert worker.slots.acquire()
    body = worker._bodies[0] = BodySlot(worker, 0)
    body.claimed = claimed = Claimed(id="a", task="t", args=b"", attempt=1)
    body.running = app.engine.executor.running(claimed, "w", body)
    body.running.progress = Progress("a", 1, 1.0)
    worker.pump.step()
    assert asked == ["start", "report"]
    worker.turns.retry_at += LONG
    asked.clear()
    body.marked = False
    worker.turns.outbox.append(outcome.handed_back(claimed))
    worker.pump._poll_at = 0.0
    worker.pump._do_what_is_due(now := time.monotonic())
    assert worker.pump._pause(now) > 0.05
    assert (asked, worker.slots.calls, worker.turns.retry_at > now) == ([], 0, True)
    monkeypatch.setattr(app.store, "report", lambda *_: asked.append("report"))
    worker.turns.outbox.clear()
    worker.pump._do_what_is_due(worker.turns.retry_at)
    assert (asked, worker.slots.calls, worker.turns.retry_at) == (["start", "report"], 1, 0.0)
    worker.pump._do_what_is_due(time.monotonic())
    assert asked == ["start", "report"], "what was reported is reported once"


def test_what_a_body_reports_as_it_ends_is_written_before_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the pump has just begun to write it."""
    write = app.store.report

    def report(runner: str, news: list[Progress]) -> list[str]:
        if not go.is_set():
            go.set()
            eventually(lambda: call.status.is_final())
        return write(runner, news)

    monkeypatch.setattr(app.store, "report", report)
    with working():
        call = reports()
        assert call.get_result(LONG) is None
    assert call.progress is not None


def test_what_a_coroutine_reports_is_written_before_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the pump never comes to it."""
    monkeypatch.setattr(pump.Pump, "_report", lambda *_: None)
    with working(coroutines=10):
        calls = [reports_and_ends() for _ in range(10)]
        for call in calls:
            call.get_result(LONG)
    assert [call.progress and call.progress.done for call in calls] == [3] * 10


def test_a_report_that_the_store_refuses_keeps_no_outcome_from_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(runner: str, news: list[Progress]) -> list[str]:
        raise StoreError("too large", retryable=False)

    monkeypatch.setattr(app.store, "report", refuse)
    with working(coroutines=10):
        assert reports_and_ends().get_result(LONG) is None


def test_a_coroutine_that_waits_in_many_branches_lends_one_place() -> None:
    with working(coroutines=2) as worker:
        assert gathers(6).get_result(LONG) == 6
        assert worker.coroutines is not None
        eventually(lambda: worker.coroutines.active == 0)
        assert worker.coroutines.parked == 0
    assert running_now[1] <= 2


def test_a_coroutine_inherits_no_context_of_the_body_that_made_room_for_it() -> None:
    calls = [sets_and_waits() for _ in range(10)]
    with working(coroutines=2):
        assert {call.get_result(LONG) for call in calls} == {"nothing" * 2}


def test_branches_that_a_workflow_leaves_behind_do_not_live_on() -> None:
    with working(coroutines=1):
        assert leaves_a_branch().get_result(LONG) == "ended"
        assert go.wait(LONG)


def test_threads_of_a_coroutine_may_wait() -> None:
    with working(coroutines=1):
        assert waits_in_a_thread().get_result(LONG) == 1


def test_async_tasks_run_while_all_threads_are_busy() -> None:
    with working(coroutines=5):
        sync = blocks()
        assert begun.wait(LONG)
        assert nap().get_result(LONG) == 1
        assert not sync.done()
        go.set()
        assert sync.get_result(LONG) == "ended"


def test_a_defect_of_the_store_ends_the_worker_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    beat = Beat(id="w", group="w", lease=10**9)
    app.store.heartbeat([beat])
    worker = Worker(app.engine, WorkerSettings(shutdown_timeout=LONG), beat, keep_up=lambda _: 1.0)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(app.store, "claim", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        worker.run()


@pytest.mark.parametrize(
    "error",
    [RunnerError("it does not start"), OSError(errno.EMFILE, "too many"), ConnectionError("gone"), MemoryError()],
)
def test_what_a_worker_cannot_start_ends_the_worker_and_not_the_call(error: Exception) -> None:
    beat = Beat(id="w", group="w", lease=10**9)
    app.store.heartbeat([beat])

    def execute(_: Claimed, __: BodySlot) -> Outcome:
        raise error

    worker = Worker(app.engine, WorkerSettings(slots=1), beat, keep_up=lambda _: 1.0, execute=execute)
    call = add(1, 2)
    with pytest.raises(type(error)):
        worker.run()
    app.store.retire(["w"])
    assert call.status == "registered"


@pytest.mark.parametrize("by_pump", [False, True])
def test_a_damaged_record_ends_its_attempt_unless_the_pump_did(by_pump: bool) -> None:
    beat = Beat(id="w", group="w", lease=10**9)
    app.store.heartbeat([beat])
    threads = []

    def execute(claimed: Claimed, slot: BodySlot) -> Outcome:
        threads.append(threading.current_thread())
        if claimed.task.endswith("deaf"):
            if by_pump:
                another = threading.Thread(target=slot.worker.give_up, args=(slot, claimed))
                another.start()  # as the pump is: what the thread of a slot takes is its own to end
                another.join()
            raise ValueError("damaged")
        return worker.engine.executor.run(claimed, worker.engine.executor.running(claimed, "w", slot))

    settings = WorkerSettings(slots=1, shutdown_timeout=1.0)
    worker = Worker(app.engine, settings, beat, keep_up=lambda _: 0.05, execute=execute)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        with pytest.raises(TaskTimeoutError if by_pump else ValueError):
            deaf().get_result(LONG)
        assert add(1, 2).get_result(LONG) == 3
    finally:
        worker.stop()
        for each in (thread, *threads):
            each.join(LONG)
            assert not each.is_alive()
    assert worker.slots.free == 1, "no token is given twice, and none is lost"


def waiting_for_the_loop(worker: Worker) -> DistributedInvocation[[], int]:
    """A call that was claimed and cannot begin before ``go``, which the loop waits for."""
    coroutines = worker.coroutines
    assert coroutines is not None
    assert nap().get_result(LONG) == 1, "the loop runs"
    coroutines.on_loop(lambda: go.wait(LONG))
    call = nap()
    eventually(lambda: coroutines.active)
    return call


def test_a_coroutine_that_was_claimed_a_lease_ago_does_not_begin() -> None:
    with working(coroutines=1, stale=LONG) as worker:
        call = waiting_for_the_loop(worker)
        worker.turns.lease = 0.2
        asked_at = worker.turns.asked_at
        eventually(lambda: time.monotonic() - asked_at > worker.turns.lease)
        go.set()
        assert call.get_result(LONG) == 1
        assert "its runner stood still before it began" in [entry.reason for entry in call.history]


def test_what_waits_for_the_loop_when_the_lease_is_lost_belongs_to_others() -> None:
    with working(coroutines=1, stale=LONG, poll=0.05) as worker:
        call = waiting_for_the_loop(worker)
        app.store.retire(["w"])
        eventually(lambda: worker.beat.id != "w")
        go.set()
        assert call.get_result(LONG) == 1
        assert len(naps) == 2, "it began once"


def test_many_damaged_coroutines_in_a_row_end_alone() -> None:
    damaged = Claimed("", nap.task_id.key, 1, b"{}", timeout="x")  # type: ignore[arg-type]
    with working(coroutines=2) as worker:
        coroutines = worker.coroutines
        assert coroutines is not None
        coroutines.on_loop(lambda: go.wait(LONG))
        worker.turns.asked_at = time.monotonic()
        for number in range(2000):
            coroutines.takes(msgspec.structs.replace(damaged, id=f"damaged-{number}"))
        call = nap()
        go.set()
        assert call.get_result(LONG) == 1
        eventually(lambda: not coroutines.active)
