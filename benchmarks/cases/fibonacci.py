"""SQLite: naive recursive ``fibonacci(15)`` on one slot: 1,973 invocations that wait for one another."""

from __future__ import annotations

import time

from benchmarks.harness import Bench, Checked, Report
from benchmarks.ours import PATIENCE, runner, sqlite_app
from benchmarks.tasks import app, fibonacci
from pynenc.core.records import Filter

VALUES = {10: (55, 177), 15: (610, 1973)}


def measure(bench: Bench) -> Report:
    """Invocations per second; it must not deadlock."""
    n = bench.size(15, 10)
    value, invocations = VALUES[n]
    checked = Checked()

    def ours() -> float:
        with sqlite_app(), runner("ThreadRunner", threads=1):
            began = time.perf_counter()
            found = fibonacci(n).get_result(PATIENCE)
            seconds = time.perf_counter() - began
            count = sum(app.store.count(Filter(tasks=(fibonacci.task_id.key,))).values())
        checked.add(invocations, lost=int(found != value), duplicates=count - invocations)
        return invocations / seconds

    contest = bench.contest({"pynenc": ours})
    return Report(
        f"SQLite: fibonacci({n}), one slot",
        "/s",
        "synchronous=NORMAL; ThreadRunner with one thread",
        contest.figures,
        contest.at_least("pynenc", 1_500, 5_000, unit="/s"),
        checked,
    )
