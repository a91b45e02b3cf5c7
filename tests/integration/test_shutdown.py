"""How runners stop, die and are replaced; with real signals and real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from pynenc import Pynenc
from pynenc.core.records import QueueState
from pynenc.exceptions import RunnerError, StoreGoneError
from pynenc.runner.base import EXIT_FORCED
from tests.integration.apps import basic
from tests.integration.conftest import LONG, RunnerProgram, configured, eventually, running, url_of

Start = Callable[..., RunnerProgram]
KINDS = ["ThreadRunner", "PersistentProcessRunner", "MultiThreadRunner", "ProcessRunner"]


def lines(path: Path) -> list[str]:
    """The lines of a witness file, which may not be there yet."""
    return path.read_text().split() if path.exists() else []


def is_alive(pid: int) -> bool:
    """Whether a process runs, zombies apart."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sort", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_graceful_stop_lets_running_tasks_finish_and_gives_the_rest_back(
    start_runner: Start, tmp_path: Path, kind: str, sort: signal.Signals
) -> None:
    program = start_runner(kind, PROCESSES="1", THREADS="1", MAX_THREADS="1")
    go, started = tmp_path / "go", tmp_path / "started"
    first = basic.runs_until(str(go), str(started))
    eventually(lambda: lines(started), "the first task runs")
    rest = basic.add.parallelize([(i, 0) for i in range(5)])
    program.process.send_signal(sort)
    eventually(lambda: "stops; 1 task(s) run here" in program.log.read_text(), "nothing more is started")
    go.touch()
    assert first.get_result(LONG) == int(lines(started)[0])
    assert program.wait() == 0
    assert {invocation.status.value for invocation in rest} == {"registered"}
    assert not is_alive(int(lines(started)[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_finish_in_time_is_handed_back(start_runner: Start, tmp_path: Path, kind: str) -> None:
    program = start_runner(kind, PROCESSES="1", SHUTDOWN_TIMEOUT="0.2")
    never, started = tmp_path / "never", tmp_path / "started"
    calls = [basic.runs_until(str(never), str(started)), basic.async_runs_until(str(never), str(started))]
    eventually(lambda: lines(started), "a task runs")
    assert program.stop() == 0
    rows = [call.app.store.get([call.invocation_id])[0] for call in calls]
    assert {(row.status.value, row.crashes, row.retries) for row in rows} == {("registered", 0, 0)}


@pytest.mark.parametrize("store", ["memory", "sqlite", "valkey", "postgres"])
def test_an_async_task_that_is_handed_back_has_not_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, store: str
) -> None:
    started = tmp_path / "started"
    with configured(url_of(store, tmp_path), shutdown_timeout=0.05) as app:
        with running(app):
            call = basic.async_sleeper(str(started))
            eventually(started.exists, "it runs")
        assert call.status == "registered"
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_does_not_wait(start_runner: Start, tmp_path: Path, kind: str) -> None:
    program = start_runner(kind, PROCESSES="1")
    started = tmp_path / "started"
    call = basic.ignores_everything(str(started))
    eventually(lambda: lines(started), "the task runs")
    program.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in program.log.read_text(), "the signal was noticed")
    began = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == EXIT_FORCED
    assert time.monotonic() - began < 10, "shutdown_timeout is 30 s"
    assert call.status == "registered"
    eventually(lambda: not is_alive(int(lines(started)[0])), "its process is gone")


@pytest.mark.parametrize("kind", ["PersistentProcessRunner", "ProcessRunner"])
def test_children_leave_signals_to_their_supervisor(start_runner: Start, tmp_path: Path, kind: str) -> None:
    program = start_runner(kind, PROCESSES="1")
    go, started = tmp_path / "go", tmp_path / "started"
    call = basic.runs_until(str(go), str(started))
    eventually(lambda: lines(started), "the task runs")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(int(lines(started)[0]), number)
    go.touch()
    assert call.get_result(LONG) == int(lines(started)[0])
    assert program.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_another_runner_goes_on_within_a_second_after_kill_nine(start_runner: Start, tmp_path: Path, kind: str) -> None:
    program = start_runner(kind, PROCESSES="1", THREADS="1")
    go, started = tmp_path / "go", tmp_path / "started"
    call = basic.runs_until(str(go), str(started))
    eventually(lambda: lines(started), "the task runs, in the only slot")
    other = start_runner(kind, PROCESSES="1")
    assert basic.add(1, 1).wait(LONG), "the other one works"
    began = time.time()
    program.process.kill()
    eventually(lambda: len(lines(started)) == 2, "another runner has begun it again")
    row = call.app.store.get([call.invocation_id])[0]
    assert row.claimed / 1e6 - began < 1.5, "the bound is 1 s; some slack for a busy machine"
    assert (row.attempt, row.crashes, row.retries) == (2, 0, 0)
    eventually(lambda: not is_alive(int(lines(started)[0])), "children die with their supervisor")
    go.touch()
    assert call.get_result(LONG) == int(lines(started)[1])
    assert other.stop() == 0


def test_several_runner_processes_share_the_work_of_one_file(start_runner: Start, tmp_path: Path) -> None:
    programs = [start_runner("PersistentProcessRunner", PROCESSES="1") for _ in range(2)]
    started = tmp_path / "started"
    calls = [basic.runs_until(str(tmp_path / "go"), str(started)) for _ in range(2)]
    eventually(lambda: len(set(lines(started))) == 2, "both runners work at the same time")
    (tmp_path / "go").touch()
    assert {call.get_result(LONG) for call in calls} == set(map(int, lines(started)))
    many = basic.add.parallelize([(i, 1) for i in range(500)])
    assert many.get_results(LONG) == [i + 1 for i in range(500)]
    rows = calls[0].app.store.get([i.invocation_id for i in many])
    assert {row.attempt for row in rows} == {1}
    assert [program.stop() for program in programs] == [0, 0]


def test_a_burst_ends_when_nothing_is_left(start_runner: Start) -> None:
    calls = basic.add.parallelize([(i, 0) for i in range(20)])
    nested = basic.fib(5)
    later = basic.add.options(delay=3600)(1, 1)
    for kind in ("ThreadRunner", "MultiThreadRunner"):
        assert start_runner(kind, PROCESSES="2", BURST="true").wait() == 0
        assert calls.get_results(0) == list(range(20))
        assert nested.get_result(0) == 5
        assert not later.done()
        calls = basic.add.parallelize([(i, 0) for i in range(20)])
        nested = basic.fib(5)


def test_a_child_is_replaced_after_so_many_tasks_without_losing_any(start_runner: Start, tmp_path: Path) -> None:
    program = start_runner(
        "MultiThreadRunner", PROCESSES="1", THREADS="2", MAX_TASKS_PER_CHILD="8", HEARTBEAT_SECONDS="0.1"
    )
    go, started = tmp_path / "go", tmp_path / "started"
    long = basic.runs_until(str(go), str(started))
    eventually(lambda: lines(started), "a long task runs")
    pids = basic.pid_of_runner.parallelize([() for _ in range(20)]).get_results(LONG)
    assert all(pids.count(pid) <= 8 for pid in pids)
    assert len(set(pids)) >= 3
    assert not long.done(), "its process is replaced but ends no task"
    go.touch()
    assert long.get_result(LONG) == int(lines(started)[0])
    assert long.app.store.get([long.invocation_id])[0].attempt == 1
    counts: list[int] = []
    eventually(
        lambda: counts.append(sum(info.beat.finished for info in long.app.store.runners())) or counts[-1] == 21,
        "what replaced workers finished is counted",
    )
    assert program.stop() == 0


def test_a_child_that_grew_too_large_is_replaced(start_runner: Start) -> None:
    program = start_runner("PersistentProcessRunner", PROCESSES="1", MAX_MEMORY_PER_CHILD="200MB")
    large = basic.eats_memory(250).get_result(LONG)
    eventually(lambda: not is_alive(large), "the large process ends")
    assert basic.pid_of_runner().get_result(LONG) != large
    assert "uses more than" in program.log.read_text()
    assert program.stop() == 0


@pytest.mark.parametrize(
    ("store", "kind"), [("memory", "ThreadRunner"), *(("sqlite", kind) for kind in KINDS)], ids=lambda value: value
)
def test_a_runner_can_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, store: str, kind: str) -> None:
    with configured(url_of(store, tmp_path), kind, threads=2, processes=1) as app:
        runner = app.runner
        for i in range(2):
            app.runner = runner
            with running(app):
                assert basic.add(i, 1).get_result(LONG) == i + 1
        assert not [info for info in app.store.runners() if info.alive]
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_runner_at_work_does_not_run_twice(tmp_path: Path) -> None:
    with configured(url_of("sqlite", tmp_path), threads=1) as app, running(app):
        assert basic.add(1, 1).get_result(LONG) == 2
        with pytest.raises(RunnerError, match="at work already, in runner-under-test"):
            app.runner.run()
        assert basic.add(1, 2).get_result(LONG) == 3


def test_forked_processes_that_run_the_same_runner_are_several(tmp_path: Path) -> None:
    with configured(url_of("sqlite", tmp_path), threads=1) as app:
        children = [get_context("fork").Process(target=app.runner.run) for _ in range(2)]
        for child in children:
            child.start()
        eventually(lambda: len({info.beat.id for info in app.store.runners() if info.alive}) == 2, "both are there")
        for child in children:
            child.terminate()
            child.join(LONG)
        assert [child.exitcode for child in children] == [0, 0]


@pytest.mark.parametrize("app", ["memory-threads", "sqlite-threads"], indirect=True)
def test_stopping_lets_waiting_tasks_finish(app: Pynenc, tmp_path: Path) -> None:
    go, started = tmp_path / "go", tmp_path / "started"
    call = basic.waits_for(str(go), str(started))
    eventually(lambda: lines(started), "the outer task waits")
    eventually(lambda: app.get_invocation(lines(started)[0]).status == "running", "the inner task runs")
    app.runner.stop_runner_loop()
    go.touch()
    assert call.get_result(LONG) == "seen"


def test_memory_is_for_one_process() -> None:
    from pynenc.exceptions import ConfigError, RunnerNotExecutableError

    for kind in ("MultiThreadRunner", "PersistentProcessRunner", "ProcessRunner"):
        with configured("memory://", kind) as app, pytest.raises(ConfigError, match="sqlite"):
            app.runner.run()
    with configured("memory://", "DummyRunner") as app, pytest.raises(RunnerNotExecutableError, match="runner start"):
        app.runner.run()


@pytest.mark.parametrize("kind", ["ThreadRunner", "PersistentProcessRunner"])
def test_tasks_that_wait_for_what_nobody_runs_do_not_delay_a_stop(
    start_runner: Start, tmp_path: Path, kind: str
) -> None:
    program = start_runner(kind, PROCESSES="1", MAX_THREADS="1")
    basic.app.store.set_queue("closed", QueueState.PAUSED)
    call = basic.waits_for_closed_queue(str(tmp_path / "started"))
    eventually(lambda: lines(tmp_path / "started"), "it waits")
    began = time.monotonic()
    assert program.stop() == 0
    assert time.monotonic() - began < 15, "shutdown_timeout is 30 s"
    assert call.status == "registered"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_runner_and_who_waits_end_when_their_file_is_gone(
    start_runner: Start, tmp_path: Path, kind: str, change: str
) -> None:
    program = start_runner(kind, PROCESSES="1")
    started, path = tmp_path / "started", tmp_path / "test.db"
    call = basic.runs_until(str(tmp_path / "never"), str(started))
    eventually(lambda: lines(started), "the task runs")
    if change == "removed":
        path.unlink()
    else:
        (tmp_path / "other.db").touch()
        (tmp_path / "other.db").rename(path)
    assert program.wait() == 1
    log = program.log.read_text()
    assert log.splitlines()[-1].startswith(f"error: {path} was {change} while it was in use: nothing more is written")
    assert log.count("CRITICAL") == log.count(f"the runner ends: {path} was {change}") == 1, log
    assert "Traceback" not in log
    eventually(lambda: not is_alive(int(lines(started)[0])), "no process of it is left")
    with pytest.raises(StoreGoneError, match=change):
        call.get_result(LONG)
    with pytest.raises(StoreGoneError, match=change):
        basic.add(1, 1)
