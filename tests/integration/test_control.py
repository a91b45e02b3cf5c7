"""Concurrency control and retries through the whole engine."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread

import pytest

from pynenc import Pynenc
from pynenc.exceptions import (
    ConcurrencyControlledError,
    InvocationConcurrencyWithDifferentArgumentsError,
    WorkerLostError,
)
from pynenc.invocation import ReusedInvocation
from tests.integration.apps import basic
from tests.integration.conftest import LONG


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
    [lambda: basic.exits(1), lambda: basic.exits(0), basic.segfaults, basic.kills_itself],
    ids=["exit-1", "exit-0", "segfault", "sigkill"],
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


@pytest.mark.parametrize("app", ["sqlite-processes", "sqlite-fork"], indirect=True)
def test_at_most_once_on_request(app: Pynenc, tmp_path: Path) -> None:
    with pytest.raises(WorkerLostError):
        basic.at_most_once(str(tmp_path / "witness")).get_result(LONG)
    assert (tmp_path / "witness").stat().st_size == 1
