"""SQLite, two processes: a call to an idle runner and its result back."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable

from benchmarks.harness import Bench, Report, Turn
from benchmarks.ours import runner, scratch, sqlite_app
from benchmarks.peers import huey_sqlite
from benchmarks.processes import program
from benchmarks.tasks import nothing

#: Seconds between two calls, in which the runner falls asleep.
PAUSE = 0.003
WARM_UP = 20


def measure(bench: Bench) -> Report:
    """Milliseconds from the call until its result is there."""
    count, fewer = bench.size(1000, 50), bench.size(60, 10)
    contestants: dict[str, Turn] = {"pynenc": lambda: _ours(count)}
    if huey_sqlite.is_installed():
        contestants["huey default poll"] = lambda: _huey(max(10, fewer // 3), huey_sqlite.DEFAULT_POLL)
        contestants["huey 1 ms poll"] = lambda: _huey(fewer, huey_sqlite.TUNED_POLL)
    contest = bench.contest(contestants)
    return Report(
        "SQLite: idle round trip between two processes",
        "ms",
        "synchronous=NORMAL; huey with synchronous off",
        contest.figures,
        [*contest.at_most("pynenc p50", 1.0, 0.4, unit="ms"), *contest.at_most("pynenc p99", 5.0, 2.0, unit="ms")],
    )


def _times(count: int, call: Callable[[int], object]) -> dict[str, float]:
    times = []
    for index in range(WARM_UP + count):
        time.sleep(PAUSE)
        began = time.perf_counter()
        assert call(index) == index
        times.append((time.perf_counter() - began) * 1000)
    hundredths = statistics.quantiles(times[WARM_UP:], n=100)
    return {"p50": hundredths[49], "p99": hundredths[98]}


def _ours(count: int) -> dict[str, float]:
    with sqlite_app(), runner("ThreadRunner", threads=10):
        return _times(count, lambda index: nothing(index).result)


def _huey(count: int, poll: dict[str, float]) -> dict[str, float]:
    with scratch() as folder:
        path = str(folder / "huey.db")
        huey, task = huey_sqlite.make(path, fsync=False)
        options = {"path": path, "fsync": False, "workers": 10, **poll}
        waiting = {"backoff": 1.0, "max_delay": 0.001} if poll else {}
        with program("benchmarks.peers.huey_worker", options, signal.SIGINT):
            figures = _times(count, lambda index: task(index).get(blocking=True, **waiting))
        huey.storage.close()
    return figures
