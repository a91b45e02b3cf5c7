"""SQLite: a thousand calls that share one argument of 1 MB."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from benchmarks import marks
from benchmarks.harness import Bar, Bench, Checked, Report
from benchmarks.ours import PATIENCE, rate, runner, sqlite_app, timed_drain, verify
from benchmarks.tasks import app, measure_text
from pynenc.core.records import QueueState

COUNT, SIZE = 1000, 2**20


def measure(bench: Bench) -> Report:
    """Enqueued one by one and with ``common_args``; how often it is stored, and loaded by each worker process."""
    checked, stored, loads = Checked(), [], []
    text = "".join(random.Random(1).choices("abcdefghijklmnop", k=SIZE))

    def one_by_one() -> float:
        with sqlite_app() as folder:
            figure = rate(COUNT, lambda: [measure_text(index, text) for index in range(COUNT)])
            stored.append(_blobs(folder))
        return figure

    def in_bulk() -> dict[str, float]:
        with sqlite_app() as folder:
            executed = marks.create(folder / "marks", COUNT)
            app.store.set_queue("default", QueueState.PAUSED)
            params = [{"index": index} for index in range(COUNT)]
            calls = []
            enqueued = rate(COUNT, lambda: calls.append(measure_text.parallelize(params, common_args={"text": text})))
            stored.append(_blobs(folder))
            with runner("ThreadRunner", threads=10) as process:
                drained = COUNT / timed_drain(executed)
            loads.append(process.answer["loads"])
            verify(calls[0].get_results(PATIENCE), [SIZE] * COUNT, executed, checked)
        return {"enqueue": enqueued, "drain": drained}

    contest = bench.contest({"one by one": one_by_one, "common_args": in_bulk})
    return Report(
        "SQLite: 1,000 calls sharing one argument of 1 MB",
        "/s",
        "synchronous=NORMAL; the data store with its defaults",
        contest.figures,
        [
            *contest.at_least("common_args enqueue", 5_000, unit="/s"),
            *contest.at_least("one by one", 5_000, unit="/s"),
            Bar("times it is stored", "one by one", max(stored), 1, at_most=True),
            Bar("times a worker process loads it", "common_args drain", max(loads), 1, at_most=True),
        ],
        checked,
    )


def _blobs(folder: Path) -> int:
    """How many values the data store holds."""
    connection = sqlite3.connect(folder / "bench.db")
    try:
        return int(connection.execute("SELECT count(*) FROM a1_blob").fetchone()[0])
    finally:
        connection.close()
