"""SQLite, many calls at once: ``parallelize`` in its batches."""

from __future__ import annotations

from benchmarks.harness import Bench, Report
from benchmarks.ours import rate, scratch, sqlite_app
from benchmarks.peers import raw
from benchmarks.tasks import app, nothing
from pynenc.core.records import Filter


def measure(bench: Bench) -> Report:
    """Submit many calls, which becomes one transaction a batch."""
    count = bench.size(40_000, 2_000)

    def ours() -> float:
        with sqlite_app():
            return parallelize(count)

    def bare() -> float:
        with scratch() as folder:
            connection = raw.connect(folder / "raw.db", "normal")
            figure = rate(count, lambda: raw.rows_in_bulk(connection, count))
            connection.close()
        return figure

    contest = bench.contest({"pynenc": ours, "raw rows in one commit": bare})
    return Report(
        "SQLite: parallelize",
        "/s",
        f"synchronous=NORMAL; {nothing.conf.parallel_batch_size} calls a transaction",
        contest.figures,
        contest.at_least("pynenc", 60_000, 120_000, unit="/s"),
    )


def parallelize(count: int) -> float:
    """Calls per second on the store that the app has."""
    nothing.parallelize([(index,) for index in range(100)])
    params = [(index,) for index in range(count)]
    figure = rate(count, lambda: nothing.parallelize(params))
    assert sum(app.store.count(Filter()).values()) == count + 100
    return figure
