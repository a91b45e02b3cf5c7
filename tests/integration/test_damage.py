"""Rows that somebody wrote into the store by hand: they fail, and nothing else does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pynenc.exceptions import PynencError
from tests.integration.apps import basic
from tests.integration.conftest import LONG, RunnerProgram

CHANGES = ["args = NULL", "args = 'text'", "timeout = 'x'", "tags = '{{{'", "blobs = '[\"none\"]'", "task = x'ff00'"]


@pytest.mark.parametrize("kind", ["ThreadRunner", "MultiThreadRunner", "PersistentProcessRunner", "ProcessRunner"])
def test_damaged_rows_fail_alone(start_runner: Callable[..., RunnerProgram], tmp_path: Path, kind: str) -> None:
    damaged = [(change, task(1, 1)) for change in CHANGES for task in (basic.add, basic.async_add)]
    sound = [task(1, n) for n in range(3) for task in (basic.add, basic.async_add)]
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as connection:
        for change, call in damaged:
            connection.execute(f"UPDATE a1_inv SET {change} WHERE id = ?", (call.invocation_id,))
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
