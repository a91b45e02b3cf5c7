"""Rows that somebody wrote into the store by hand: they fail, and nothing else does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pynenc.core.records import Beat, ClaimRequest, Outcome, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import PynencError
from pynenc.store.sqlite import SqliteStore
from tests.integration.apps import basic
from tests.integration.conftest import LONG, RunnerProgram


def write_by_hand(folder: Path, name: str, change: str) -> None:
    with closing(sqlite3.connect(folder / "test.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE a1_inv SET {change} WHERE id = ?", (name,))


CHANGES = [
    "args = NULL",
    "args = 'text'",
    "timeout = 'x'",
    "tags = '{{{'",
    "blobs = '[\"none\"]'",
    "blobs = '[1]'",
    "task = x'ff00'",
]


@pytest.mark.parametrize("kind", ["ThreadRunner", "MultiThreadRunner", "PersistentProcessRunner", "ProcessRunner"])
def test_damaged_rows_fail_alone(start_runner: Callable[..., RunnerProgram], tmp_path: Path, kind: str) -> None:
    damaged = [(change, task(1, 1)) for change in CHANGES for task in (basic.add, basic.async_add)]
    sound = [task(1, n) for n in range(3) for task in (basic.add, basic.async_add)]
    for change, call in damaged:
        write_by_hand(tmp_path, call.invocation_id, change)
    program = start_runner(kind, PROCESSES="1")
    assert [call.get_result(LONG) for call in sound] == [1, 1, 2, 2, 3, 3]
    for change, call in damaged:
        with pytest.raises((PynencError, TypeError)):
            call.get_result(LONG)
        assert call.status == "failed", change
    assert basic.add(2, 2).get_result(LONG) == 4
    assert program.stop() == 0
    log = program.log.read_text()
    assert "CRITICAL" not in log
    assert kind == "ProcessRunner" or " died " not in log, log


def suspended_by_hand(store: SqliteStore, name: str, awaits: str) -> None:
    """Suspend an invocation until another has ended, as a runner does that has stopped since."""
    store.heartbeat([Beat(id="early", group="early", lease=60_000_000)])
    (claimed,) = store.claim(ClaimRequest("early", 1, ids=(name,))).batch
    ended = Outcome(id=name, attempt=claimed.attempt, status=InvocationStatus.PAUSED, awaits=(awaits,), ended=1)
    assert not store.finish("early", [ended]).lost
    store.retire(["early"])


def claimed_by_who_died(store: SqliteStore, name: str) -> None:
    """Claim an invocation as a runner does whose process is gone."""
    store.heartbeat([Beat(id="dead", group="dead", lease=60_000_000)])
    assert store.claim(ClaimRequest("dead", 1, ids=(name,))).batch
    store.declare_dead("dead")


@pytest.mark.parametrize("kind", ["ThreadRunner", "MultiThreadRunner"])
def test_damaged_rows_stop_no_upkeep_and_no_end_of_others(
    start_runner: Callable[..., RunnerProgram], tmp_path: Path, kind: str
) -> None:
    store = basic.app.store
    assert isinstance(store, SqliteStore)
    overdue = [basic.expires_soon.options(queue="paused")() for _ in range(2)]
    store.set_queue("paused", QueueState.PAUSED)
    child, parent, orphans = basic.add(1, 2), basic.add(3, 4), [basic.add(5, n) for n in range(2)]
    suspended_by_hand(store, parent.invocation_id, child.invocation_id)
    for orphan in orphans:
        claimed_by_who_died(store, orphan.invocation_id)
    write_by_hand(tmp_path, overdue[0].invocation_id, "result_ttl = 'x'")
    write_by_hand(tmp_path, parent.invocation_id, "entries = 'x'")
    write_by_hand(tmp_path, orphans[0].invocation_id, "entries = 'x'")
    program = start_runner(kind, PROCESSES="1")
    assert child.get_result(LONG) == 3
    assert orphans[1].get_result(LONG) == 6
    for call in (overdue[0], parent, orphans[0]):
        with pytest.raises(PynencError):
            call.get_result(LONG)
        assert call.status == "failed"
    with pytest.raises(PynencError):
        overdue[1].get_result(LONG)
    assert overdue[1].status == "cancelled"
    assert store.check() == []
    assert program.stop() == 0
    log = program.log.read_text()
    assert "CRITICAL" not in log
    assert " died " not in log, log
