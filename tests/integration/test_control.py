"""Concurrency control and retries through the whole engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Thread
from uuid import uuid4

import pytest

from pynenc import Pynenc, Task
from pynenc.exceptions import (
    ConcurrencyControlledError,
    InvocationConcurrencyWithDifferentArgumentsError,
    TaskTimeoutError,
    WorkerLostError,
)
from pynenc.invocation import BaseInvocation, ReusedInvocation
from tests.integration.apps import basic
from tests.integration.conftest import LONG, ROOT, RunnerProgram


def most_at_once(path: Path) -> int:
    """The largest number of bodies that a witness file shows inside at the same time."""
    inside = most = 0
    for line in path.read_text().splitlines():
        inside += 1 if line.startswith("+") else -1
        most = max(most, inside)
    assert inside == 0
    return most


def test_one_at_a_time_per_task(app: Pynenc, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    group = basic.serial.parallelize([(str(witness), str(i)) for i in range(20)])
    assert group.wait(LONG)
    assert most_at_once(witness) == 1
    assert len(witness.read_text().splitlines()) == 40


def test_a_limit_above_one_per_key(app: Pynenc, tmp_path: Path) -> None:
    files = {key: tmp_path / key for key in "ab"}
    group = basic.two_at_once.parallelize([(str(files[key]), key, str(i)) for i in range(12) for key in "ab"])
    assert group.wait(LONG)
    assert all(most_at_once(path) <= 2 for path in files.values())


def test_racing_registrations_give_one_invocation(idle_app: Pynenc) -> None:
    barrier, found = Barrier(8), []

    def race() -> None:
        barrier.wait()
        found.append(basic.registered_once(7))

    threads = [Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert sum(not isinstance(i, ReusedInvocation) for i in found) == 1
    group = basic.registered_once.parallelize([(8,), (8,), (9,)])
    assert len(set(group)) == 2


def test_a_registered_duplicate_with_other_arguments_is_refused(idle_app: Pynenc) -> None:
    first = basic.per_user(1, "hello")
    assert basic.per_user(1, "hello") == first
    with pytest.raises(InvocationConcurrencyWithDifferentArgumentsError) as caught:
        basic.per_user(1, "bye")
    assert set(caught.value.changed) == {"text"}
    assert "hello" in str(caught.value)
    assert "bye" in str(caught.value)


def test_blocked_calls_are_dropped_on_request(app: Pynenc, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = basic.dropped(str(go))
    while first.status != "running":
        assert not first.done()
    second = basic.dropped(str(go))
    with pytest.raises(ConcurrencyControlledError):
        second.get_result(LONG)
    assert second.status == "concurrency_controlled_final"
    go.touch()
    assert first.get_result(LONG) == "ran"


def test_retries_until_it_works(app: Pynenc, tmp_path: Path) -> None:
    invocation = basic.flaky(str(tmp_path / "witness"), 2)
    assert invocation.get_result(LONG) == 3
    assert invocation.num_retries == 2
    assert [e.status for e in invocation.history].count("retry") == 2


def test_retries_are_used_up(app: Pynenc, tmp_path: Path) -> None:
    invocation = basic.flaky_shop(str(tmp_path / "witness"))
    with pytest.raises(basic.ShopError):
        invocation.get_result(LONG)
    assert (tmp_path / "witness").stat().st_size == 3


def test_a_retry_error_chooses_its_delay(app: Pynenc, tmp_path: Path) -> None:
    invocation = basic.retry_with_delay(str(tmp_path / "witness"), 0.2)
    assert invocation.get_result(LONG) == 2
    times = [entry.at for entry in invocation.history if entry.status == "pending"]
    assert times[1] - times[0] >= 200_000


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-multi", "sqlite-fork"], indirect=True)
@pytest.mark.parametrize(
    "pill",
    [lambda: basic.exits(1), lambda: basic.exits(0), basic.segfaults, basic.kills_itself, basic.async_exits],
    ids=["exit-1", "exit-0", "segfault", "sigkill", "async-exit"],
)
def test_a_task_that_kills_its_process_harms_nobody_else(app: Pynenc, pill: object) -> None:
    neighbours = basic.add.parallelize([(i, 0) for i in range(50)])
    culprit = pill()  # type: ignore[operator]
    more = basic.add.parallelize([(i, 1) for i in range(50)])
    with pytest.raises(WorkerLostError):
        culprit.get_result(LONG)
    assert neighbours.get_results(LONG) == list(range(50))
    assert more.get_results(LONG) == [i + 1 for i in range(50)]
    row = app.store.get([culprit.invocation_id])[0]
    assert row.crashes == 3
    assert row.attempt <= 4
    rows = app.store.get([i.invocation_id for i in [*neighbours, *more]])
    assert all(row.crashes == 0 and row.retries == 0 for row in rows)


def test_the_log_names_what_killed_its_process(start_runner: Callable[..., RunnerProgram]) -> None:
    program, culprit = start_runner("PersistentProcessRunner", PROCESSES="1"), basic.exits(1)
    with pytest.raises(WorkerLostError):
        culprit.get_result(LONG)
    assert program.stop() == 0
    log, name = program.log.read_text(), f"{culprit.task.task_id.key} {culprit.invocation_id}"
    assert [f"{name} runs again, alone: crash {n} of 3: exit code 1" in log for n in (1, 2)] == [True, True]
    assert f"{name} failed: crash 3 of 3: exit code 1" in log


@pytest.mark.parametrize("app", ["sqlite-fork"], indirect=True)
@pytest.mark.parametrize("task", [basic.pid_of_runner, basic.async_pid], ids=["sync", "async"])
def test_every_invocation_has_a_process_of_its_own(app: Pynenc, task: Task[[], int]) -> None:
    assert len(set(task.parallelize([()] * 5).get_results(LONG))) == 5


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-fork"], indirect=True)
def test_at_most_once_on_request(app: Pynenc, tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError):
        basic.at_most_once(str(tmp_path / "witness")).get_result(LONG)
    assert (tmp_path / "witness").stat().st_size == 1


def test_one_at_a_time_per_arguments(app: Pynenc, tmp_path: Path) -> None:
    files = {key: tmp_path / key for key in "ab"}
    group = basic.one_per_arguments.parallelize([(str(files[key]), key) for _ in range(8) for key in "ab"])
    assert group.wait(LONG)
    assert {most_at_once(path) for path in files.values()} == {1}


def test_a_rate_limit_holds_in_every_window(app: Pynenc, tmp_path: Path) -> None:
    group = basic.rated.parallelize([(str(tmp_path / "witness"),) for _ in range(7)])
    assert group.wait(LONG)
    claimed = sorted(row.claimed for row in app.store.get([i.invocation_id for i in group]))
    assert all(later - first >= 1_000_000 for first, later in zip(claimed, claimed[3:], strict=False))
    assert claimed[-1] - claimed[0] < 10_000_000


def test_a_rate_limit_counts_per_key(app: Pynenc) -> None:
    users = [app.app_id + uuid4().hex for _ in range(2)]
    calls = [basic.rated_per_user(user) for user in (*users, *users)]
    assert [call.get_result(LONG) for call in calls[:2]] == users
    assert {call.status.value for call in calls[2:]} <= {"registered", "concurrency_controlled"}
    assert [call.cancel() for call in calls[2:]] == [True, True]


def test_racing_processes_register_one_invocation(start_runner: object, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from tests.integration.apps import basic\n"
        "basic.app.store.queues()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "one = basic.registered_once(7)\n"
        "many = basic.registered_once.parallelize([(8,), (8,), (9,), (7,)])\n"
        "print(one.invocation_id, *(i.invocation_id for i in many))"
    )
    environment = {**os.environ, "PYNENC__STORE": basic.app.conf.store, "PYTHONPATH": str(ROOT)}
    gate, go = os.pipe()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=gate, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(4)
    ]
    assert {racer.stdout.readline() for racer in racers} == {"ready\n"}
    os.close(go)  # the end of the input of all of them
    answers = [racer.communicate(timeout=LONG)[0].split() for racer in racers]
    os.close(gate)
    assert len(set(map(tuple, answers))) == 1, answers
    seven, eight, again, nine, seven_again = answers[0]
    assert (eight, seven) == (again, seven_again)
    assert len({seven, eight, nine}) == 3
    assert basic.app.orchestrator.count_invocations() == 3


def test_registration_is_free_again_once_it_is_claimed(app: Pynenc) -> None:
    number = uuid4().int % 10**12
    first = basic.registered_once(number)
    assert first.get_result(LONG) == number
    second = basic.registered_once(number)
    assert second != first
    assert second.get_result(LONG) == number


def test_limits_hold_over_several_runners(start_runner: Callable[..., object], tmp_path: Path) -> None:
    witness, pair = tmp_path / "witness", tmp_path / "pair"
    serial = basic.serial.parallelize([(str(witness), str(i)) for i in range(30)])
    two = basic.two_at_once.parallelize([(str(pair), "k", str(i)) for i in range(30)])
    for kind in ("MultiThreadRunner", "ThreadRunner"):
        start_runner(kind, PROCESSES="2", THREADS="3")
    assert serial.wait(LONG)
    assert two.wait(LONG)
    assert most_at_once(witness) == 1
    assert most_at_once(pair) <= 2


def test_backoff_doubles_and_jitter_spreads_it(app: Pynenc, tmp_path: Path) -> None:
    steady, spread = basic.backs_off(str(tmp_path / "a")), basic.jitters(str(tmp_path / "b"))
    assert steady.wait(LONG)
    assert spread.wait(LONG)
    assert (steady.status, steady.num_retries, spread.num_retries) == ("failed", 3, 4)

    def pauses(invocation: BaseInvocation[..., None]) -> list[float]:
        starts = [
            entry for entry in invocation.history if entry.status == "running"
        ]  # a claim may be given back unused
        return [(after.at - before.at) / 1e6 for before, after in pairwise(starts)]

    # The delay counts from the end of the body, which comes after its start.
    assert len(pauses(steady)) == 3
    assert all(pause >= due - 0.05 for pause, due in zip(pauses(steady), (0.1, 0.2, 0.4), strict=True)), pauses(steady)
    assert len(set(pauses(spread))) > 1, "each is drawn anew"


def test_a_timeout_can_be_retried(app: Pynenc, tmp_path: Path) -> None:
    call = basic.retried_after_its_timeout(str(tmp_path / "witness"))
    assert call.get_result(LONG) == 2
    assert call.num_retries == 1


def test_a_timeout_lets_the_body_clean_up_and_is_not_swallowed(app: Pynenc, tmp_path: Path) -> None:
    with pytest.raises(TaskTimeoutError):
        basic.cleans_up_in_time(str(tmp_path / "cleaned")).get_result(LONG)
    assert (tmp_path / "cleaned").exists()


def test_a_timeout_ends_a_wait(app: Pynenc, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with pytest.raises(TaskTimeoutError):
        basic.waits_too_long(str(go)).get_result(LONG)
    go.touch()


def test_a_timeout_of_one_call(app: Pynenc, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with pytest.raises(TaskTimeoutError, match=r"0\.2 s"):
        basic.wait_until.options(timeout=0.2)(str(go)).get_result(LONG)


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-multi", "sqlite-fork"], indirect=True)
def test_a_body_that_ignores_its_timeout_is_ended_by_force(app: Pynenc, tmp_path: Path) -> None:
    call = basic.ignores_its_timeout(str(tmp_path / "started"))
    with pytest.raises(TaskTimeoutError):
        call.get_result(LONG)
    assert app.store.get([call.invocation_id])[0].crashes == 0
    assert basic.add(1, 1).get_result(LONG) == 2


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-fork"], indirect=True)
def test_a_process_that_ignores_a_cancellation_is_killed_after_a_grace(app: Pynenc, tmp_path: Path) -> None:
    started = tmp_path / "started"
    call = basic.ignores_everything(str(started))
    basic.wait_for(str(started))
    assert call.cancel("out of stock")
    assert call.wait(LONG)
    row = app.store.get([call.invocation_id])[0]
    assert (row.status, row.crashes, row.reason) == ("cancelled", 0, "out of stock")


def test_a_cancelled_task_stops_waiting(app: Pynenc, tmp_path: Path) -> None:
    go, started = tmp_path / "go", tmp_path / "started"
    call = basic.waits_for(str(go), str(started))
    basic.wait_for(str(started))
    assert call.cancel()
    assert call.wait(LONG)
    assert call.status == "cancelled"
    go.touch()
    assert app.get_invocation(started.read_text().strip()).get_result(LONG) == "seen"


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-fork"], indirect=True)
def test_out_of_memory_is_a_crash_like_any_other(app: Pynenc) -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        basic.runs_out_of_memory().get_result(LONG)


def test_an_exit_is_an_error_and_not_the_end_of_a_worker(app: Pynenc) -> None:
    call = basic.system_exit()
    assert call.wait(LONG)
    assert call.status == "failed"
    with pytest.raises(Exception, match="3"):
        call.get_result(LONG)
    assert basic.add(1, 1).get_result(LONG) == 2
