"""SQLite, one process: calls that do nothing wait, a runner of ten threads runs them; results and history are stored."""

from __future__ import annotations

import signal
import time

from benchmarks import marks
from benchmarks.harness import Bench, Checked, Report, Turn
from benchmarks.ours import drain, scratch
from benchmarks.peers import huey_sqlite
from benchmarks.processes import program, wait_until

THREADS = 10


def measure(bench: Bench) -> Report:
    """Calls per second from when the runner may take them until the last result is written."""
    checked = Checked()
    count, fewer = bench.size(40_000, 2_000), bench.size(5_000, 500)
    contestants: dict[str, Turn] = {
        "pynenc": lambda: drain(count, "ThreadRunner", checked, threads=THREADS),
    }
    if huey_sqlite.is_installed():
        contestants["huey synchronous off"] = lambda: drain_huey(fewer, checked, workers=THREADS, fsync=False)
        contestants["huey default"] = lambda: drain_huey(fewer // 2, checked, workers=THREADS, fsync=True)
    contest = bench.contest(contestants)
    return Report(
        "SQLite: drain, one process",
        "/s",
        f"{THREADS} threads; synchronous=NORMAL, every result read; huey with synchronous off and as it comes",
        contest.figures,
        [
            *contest.at_least("pynenc", 5, beside="huey synchronous off"),
            *contest.at_least("pynenc", 15_000, 40_000, unit="/s"),
        ],
        checked,
    )


def drain_huey(count: int, checked: Checked, *, fsync: bool, workers: int, worker_type: str = "thread") -> float:
    """The same with huey: from the first execution until the last result is written."""
    with scratch() as folder:
        executed = marks.create(folder / "marks", count)
        path = str(folder / "huey.db")
        huey, task = huey_sqlite.make(path, fsync=fsync)
        handles = [task(index) for index in range(count)]
        options = {"path": path, "fsync": fsync, "workers": workers, "worker_type": worker_type}
        with program("benchmarks.peers.huey_worker", {**options, **huey_sqlite.TUNED_POLL}, signal.SIGINT):
            wait_until(executed.has_begun, what="the first execution")
            began = time.perf_counter()
            wait_until(executed.are_complete, what="the execution of all calls")
            wait_until(lambda: huey.result_count() >= count, pause=0.002, what="the last result")
            seconds = time.perf_counter() - began
        results = [handle.get(blocking=False) for handle in handles]
        huey.storage.close()
    checked.add(count, sum(one != two for one, two in zip(results, range(count), strict=True)), executed.duplicates())
    return count / seconds
