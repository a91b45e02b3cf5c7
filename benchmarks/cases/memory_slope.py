"""SQLite: whether a runner grows while it works."""

from __future__ import annotations

import statistics

from benchmarks import marks
from benchmarks.harness import Bench, Checked, Report
from benchmarks.ours import PATIENCE, runner, sqlite_app
from benchmarks.processes import resident, wait_until
from benchmarks.tasks import app, nothing

STEPS = 20
#: The cache of pages, the buffers and the pools fill during the first looks.
WARM_UP = 5


def measure(bench: Bench) -> Report:
    """Megabytes of resident memory per 100,000 tasks: the slope of a line through the looks after the warm-up."""
    count = bench.size(200_000, 4_000)
    checked = Checked()
    looks: list[float] = []

    def ours() -> dict[str, float]:
        with sqlite_app() as folder:
            executed = marks.create(folder / "marks", count)
            step = count // STEPS
            with runner("ThreadRunner", threads=10) as process:
                for first in range(0, count, step):
                    group = nothing.parallelize([(index,) for index in range(first, first + step)])
                    wait_until(_is_idle, pause=0.02, what="the last result")
                    looks.append(resident(process.pid))
                    results = group.get_results(PATIENCE)
                    checked.add(
                        step, lost=sum(one != two for one, two in zip(results, range(first, first + step), strict=True))
                    )
            checked.add(0, duplicates=executed.duplicates())
        tasks = [(number + 1) * step / 100_000 for number in range(STEPS)]
        slope = statistics.linear_regression(tasks[WARM_UP:], looks[WARM_UP:]).slope
        return {"MB per 100,000": slope, "MB at the end": looks[-1]}

    contest = bench.contest({"pynenc": ours}, rounds=1)
    shown = ", ".join(f"{look:.1f}" for look in looks)
    return Report(
        f"SQLite: memory of a runner over {count:,} tasks",
        "MB",
        "ThreadRunner with ten threads; synchronous=NORMAL, every result read",
        contest.figures,
        contest.at_most("pynenc MB per 100,000", 1, 0, unit="MB"),
        checked,
        [f"Megabytes after every {count // STEPS:,} tasks: {shown}."],
    )


def _is_idle() -> bool:
    return not any(info.ready or info.claimed for info in app.store.queues())
