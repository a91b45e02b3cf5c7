"""DBOS, on SQLite and PostgreSQL: what it does with workflows, measured in a process of its own which also runs them, as DBOS is meant to be used.

``python -m benchmarks.peers.dbos_peer '{"url": ..., "ask": "steps", ...}'`` prints figures as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.latency import PAUSE, WARM_UP, percentiles
from benchmarks.peers import base
from benchmarks.processes import ROOT

PACKAGE = "dbos"
LEFT_OUT = "Not installed, so left out: dbos (`make bench-peers` installs it)."
#: Seconds between two looks of a queue: as DBOS comes, and as often as it helps.
DEFAULT_POLL, TUNED_POLL = 1.0, 0.001
PATIENCE = 120


def ask(url: str, what: str, **options: Any) -> dict[str, Any]:
    """What a process finds that does ``what`` on an empty database."""
    command = base.module("dbos_peer", {"url": url, "ask": what, **options})
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"DBOS: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def url_on(path: str) -> str:
    """The URL of a file."""
    return f"sqlite:///{path}"


def main(options: dict[str, Any]) -> dict[str, Any]:
    """Measure what is asked for."""
    from dbos import DBOS

    url, what = options.pop("url"), options.pop("ask")
    config: dict[str, Any] = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    if options.pop("tuned", False):
        config["system_database_engine"] = _fast_sqlite(url)
    DBOS(config=config)
    measured: Callable[..., dict[str, Any]] = _ASKED[what]
    answer = measured(DBOS, **options)
    DBOS.destroy()
    return answer


def _fast_sqlite(url: str) -> Any:
    """What DBOS makes for a file, and besides the settings of SQLite under which a commit does not wait for the disk."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)

    @sqlalchemy.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        for setting in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {setting}")

    return engine


# -- what is asked for -------------------------------------------------------------------------------------------------
def _steps(dbos: Any, *, count: int, turns: list[tuple[int, int]]) -> dict[str, Any]:
    """Workflows of steps that do nothing, in turns of so many, so many at a time: for each turn the seconds, and what they returned."""

    @dbos.step()
    def same(number: int) -> int:
        return number

    @dbos.workflow()
    def steps(index: int, count: int) -> int:
        return index + sum(same(1) for _ in range(count))

    dbos.launch()
    dbos.start_workflow(steps, 0, 1).get_result()
    found = []
    for flows, together in turns:
        began, results = time.perf_counter(), []
        for first in range(0, flows, together):
            some = range(first, min(first + together, flows))
            handles = [dbos.start_workflow(steps, index, count) for index in some]
            results += [handle.get_result() for handle in handles]
        found.append((time.perf_counter() - began, results))
    return {"turns": found}


def _replay(dbos: Any, *, counts: list[int]) -> dict[str, Any]:
    """Microseconds for each recorded step, by the number of steps: in a fork of a workflow that begins behind its last one."""
    executed = 0

    @dbos.step()
    def same(number: int) -> int:
        nonlocal executed
        executed += 1
        return number

    @dbos.workflow()
    def replayed(count: int) -> float:
        began = time.perf_counter()
        for number in range(count):
            same(number)
        return time.perf_counter() - began

    dbos.launch()
    found = {}
    for count in counts:
        handle = dbos.start_workflow(replayed, count)
        handle.get_result()
        fork = dbos.fork_workflow(handle.get_workflow_id(), count + 1)
        found[str(count)] = fork.get_result(polling_interval_sec=0.01) / count * 1e6
    assert executed == sum(counts), "a fork has not only replayed"
    return found


def _queue(dbos: Any, *, count: int, poll: float) -> dict[str, Any]:
    """Milliseconds from the end of a workflow, whose last act is to enqueue another one, until that one begins."""
    warm_up = min(count, WARM_UP)
    ended, begun = [0.0] * (warm_up + count), [0.0] * (warm_up + count)

    @dbos.workflow()
    def second(index: int) -> int:
        begun[index] = time.perf_counter()
        return index

    @dbos.workflow()
    def first(index: int) -> str:
        handle = dbos.enqueue_workflow("bench", second, index)
        ended[index] = time.perf_counter()
        return str(handle.get_workflow_id())

    dbos.launch()
    dbos.register_queue("bench", polling_interval_sec=poll)
    for index in range(len(ended)):
        time.sleep(PAUSE)
        started = dbos.start_workflow(first, index).get_result()
        assert dbos.retrieve_workflow(started).get_result(polling_interval_sec=0.002) == index
    return percentiles([(two - one) * 1000 for one, two in zip(ended, begun, strict=True)][warm_up:])


_ASKED: dict[str, Callable[..., dict[str, Any]]] = {"steps": _steps, "replay": _replay, "queue": _queue}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
