"""SQLite, two processes on one file."""

from __future__ import annotations

from benchmarks.cases.drain import drain_huey
from benchmarks.harness import Bench, Checked, Report, Turn
from benchmarks.ours import drain
from benchmarks.peers import base

PROCESSES, THREADS = 2, 8


def measure(bench: Bench) -> Report:
    """As ``drain``, with the default runner of two processes."""
    checked = Checked()
    count, fewer = bench.size(40_000, 2_000), bench.size(8_000, 500)
    contestants: dict[str, Turn] = {
        "pynenc 2 processes": lambda: drain(count, "MultiThreadRunner", checked, processes=PROCESSES, threads=THREADS),
        "pynenc 1 process": lambda: drain(count, "ThreadRunner", checked, threads=THREADS),
    }
    if base.version("huey"):
        contestants["huey 2 processes, synchronous off"] = lambda: drain_huey(
            fewer, checked, workers=PROCESSES, worker_type="process", fsync=False
        )
    contest = bench.contest(contestants)
    return Report(
        "SQLite: drain, two processes",
        "/s",
        f"{PROCESSES} processes of {THREADS} threads; synchronous=NORMAL, every result read",
        contest.figures,
        [
            *contest.at_least("pynenc 2 processes", 15_000, 40_000, unit="/s"),
            *contest.at_least("pynenc 2 processes", 1, beside="huey 2 processes, synchronous off"),
        ],
        checked,
        ["The engine has one writer at a time: a second process helps when tasks take time, not when they do nothing."],
    )
