"""SQLite: tasks that compute for 50 ms in two processes, against a bare ``multiprocessing.Pool``."""

from __future__ import annotations

import multiprocessing
import time

from benchmarks.harness import Bench, Report
from benchmarks.ours import PATIENCE, runner, sqlite_app
from benchmarks.tasks import burn, compute

PROCESSES, MILLISECONDS = 2, 50


def measure(bench: Bench) -> Report:
    """Tasks per second from the first call to the last result; both are warm."""
    count = bench.size(80, 16)

    def ours() -> float:
        with sqlite_app(), runner("PersistentProcessRunner", processes=PROCESSES):
            burn.parallelize([(1,)] * PROCESSES * 4).get_results(PATIENCE)
            began = time.perf_counter()
            results = burn.parallelize([(MILLISECONDS,)] * count).get_results(PATIENCE)
            seconds = time.perf_counter() - began
        assert results == [MILLISECONDS] * count
        return count / seconds

    def pool() -> float:
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as workers:
            workers.map(compute, [1] * PROCESSES * 4, chunksize=1)
            began = time.perf_counter()
            workers.map(compute, [MILLISECONDS] * count, chunksize=1)
            return count / (time.perf_counter() - began)

    contest = bench.contest({"pynenc": ours, "multiprocessing.Pool": pool})
    ideal = PROCESSES * 1000 / MILLISECONDS
    return Report(
        "SQLite: CPU-bound, 2 processes, 50 ms each",
        "/s",
        f"synchronous=NORMAL; the ideal is {ideal:g}/s on two free processors",
        contest.figures,
        contest.at_least("pynenc", 0.95, 0.99, beside="multiprocessing.Pool"),
    )
