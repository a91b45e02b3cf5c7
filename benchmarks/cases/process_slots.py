"""SQLite: two process slots against two thread slots, on calls that do nothing."""

from __future__ import annotations

from benchmarks.harness import Bench, Checked, Report
from benchmarks.ours import drain

SLOTS = 2


def measure(bench: Bench) -> Report:
    """What isolation in processes costs when there is nothing to compute."""
    checked = Checked()
    count = bench.size(40_000, 2_000)
    contest = bench.contest(
        {
            "process slots": lambda: drain(count, "PersistentProcessRunner", checked, processes=SLOTS),
            "thread slots": lambda: drain(count, "ThreadRunner", checked, threads=SLOTS),
        }
    )
    return Report(
        "SQLite: process slots against thread slots",
        "/s",
        f"{SLOTS} slots each; synchronous=NORMAL, every result read",
        contest.figures,
        contest.at_least("process slots", 0.5, 0.7, beside="thread slots"),
        checked,
    )
