"""SQLite, two processes: from an event, and from the end of another task, until the call that it triggers has run."""

from __future__ import annotations

import time

from benchmarks.harness import Bench, Report, Turn
from benchmarks.latency import percentiles
from benchmarks.ours import runner, scratch, sqlite_app
from benchmarks.peers import base, dbos_peer
from benchmarks.processes import wait_until
from benchmarks.tasks import app
from benchmarks.triggered import heard, heard_of
from pynenc.core.records import Filter, Invocation, Page

#: Seconds between two events, in which the runner falls asleep.
PAUSE = 0.003
WARM_UP = 20


def measure(bench: Bench) -> Report:
    """Milliseconds to the end of the body of the triggered call, as the runner noted it."""
    contestants: dict[str, Turn] = {"pynenc": lambda: _ours(bench.size(300, 30))}
    notes = [dbos_peer.LEFT_OUT]
    if base.version(dbos_peer.PACKAGE):
        contestants["DBOS queue, 1 ms poll"] = lambda: _peer(bench.size(100, 20), dbos_peer.TUNED_POLL)
        contestants["DBOS queue, default poll"] = lambda: _peer(bench.size(5, 2), dbos_peer.DEFAULT_POLL)
        notes = [
            "DBOS knows no triggers: beside them, from the end of a workflow that enqueues another one as its last act until that one begins, in one process."
        ]
    contest = bench.contest(contestants, rounds=min(bench.rounds, 3), once=["DBOS queue, default poll"])
    return Report(
        "SQLite: an event, the call that it triggers, and the call that its result triggers",
        "ms",
        "synchronous=NORMAL; each call is decided by an invocation of its own; DBOS with WAL and synchronous=NORMAL",
        contest.figures,
        [
            *contest.at_most("pynenc event p50", 10.0, 5.0, unit="ms"),
            *contest.at_most("pynenc result p50", 10.0, 5.0, unit="ms"),
            *contest.at_least("DBOS queue, 1 ms poll p50", None, 1.0, beside="pynenc result p50"),
        ],
        notes=notes,
    )


def _peer(count: int, poll: float) -> dict[str, float]:
    with scratch() as folder:
        return dbos_peer.ask(dbos_peer.url_on(str(folder / "dbos.db")), "queue", count=count, poll=poll, tuned=True)


def _ours(count: int) -> dict[str, float]:
    with sqlite_app(), runner("ThreadRunner", "benchmarks.triggered", threads=10):
        began = [_emit(index) for index in range(WARM_UP + count)]
        wait_until(lambda: len(_ended(heard_of.task_id.key)) == len(began), what="the last call")
        first, second = _ended(heard.task_id.key), _ended(heard_of.task_id.key)
    times = [(row.ended - at) / 1000 for row, at in zip(first, began, strict=True)][WARM_UP:]
    later = [(row.ended - before.ended) / 1000 for row, before in zip(second, first, strict=True)][WARM_UP:]
    told = {"event": percentiles(times), "result": percentiles(later)}
    return {f"{name} {which}": value for name, found in told.items() for which, value in found.items()}


def _emit(index: int) -> int:
    """When an event was emitted."""
    time.sleep(PAUSE)
    now = time.time_ns() // 1000
    app.trigger.emit_event("heard", {"index": index})
    return now


def _ended(task: str) -> list[Invocation]:
    """The calls of a task that have ended, in the order of the events."""
    rows = app.store.find(Filter(tasks=(task,)), Page(10_000)).invocations
    spec = app.tasks[heard.task_id].spec
    return sorted((row for row in rows if row.ended), key=lambda row: app.engine.codec.decode(spec, row)["index"])
