"""Memory: the same drain inside one process."""

from __future__ import annotations

from benchmarks import marks
from benchmarks.harness import Bench, Checked, Report
from benchmarks.ours import PATIENCE, on_store, rate, scratch, verify
from benchmarks.tasks import app, nothing
from pynenc.runner import ThreadRunner

THREADS = 10


def measure(bench: Bench) -> Report:
    """Calls per second that a runner works off until nothing is left."""
    checked = Checked()
    count = bench.size(60_000, 3_000)

    def ours() -> float:
        with scratch() as folder, on_store("memory://"):
            executed = marks.create(folder / "marks", count)
            group = nothing.parallelize([(index,) for index in range(count)])
            app.conf.runner.threads, app.conf.runner.burst = THREADS, True
            figure = rate(count, ThreadRunner(app).run)
            verify(group.get_results(PATIENCE), list(range(count)), executed, checked)
        return figure

    contest = bench.contest({"pynenc": ours})
    return Report(
        "memory: drain",
        "/s",
        f"{THREADS} threads; every result read",
        contest.figures,
        contest.at_least("pynenc", 40_000, 120_000, unit="/s"),
        checked,
    )
