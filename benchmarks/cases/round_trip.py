"""SQLite, two processes: a call to an idle runner and its result back."""

from __future__ import annotations

from benchmarks.harness import Bench, Report, Turn
from benchmarks.latency import times
from benchmarks.ours import runner, scratch, sqlite_app
from benchmarks.peers import base
from benchmarks.peers.huey_peer import DEFAULT_POLL, TUNED_POLL, HueySqlite
from benchmarks.tasks import nothing


def measure(bench: Bench) -> Report:
    """Milliseconds from the call until its result is there."""
    count, fewer = bench.size(1000, 50), bench.size(60, 10)
    contestants: dict[str, Turn] = {"pynenc": lambda: _ours(count)}
    if base.version("huey"):
        contestants["huey default poll"] = lambda: _huey(max(10, fewer // 3), DEFAULT_POLL)
        contestants["huey 1 ms poll"] = lambda: _huey(fewer, TUNED_POLL)
    contest = bench.contest(contestants)
    return Report(
        "SQLite: idle round trip between two processes",
        "ms",
        "synchronous=NORMAL; huey with synchronous off",
        contest.figures,
        [*contest.at_most("pynenc p50", 1.0, 0.4, unit="ms"), *contest.at_most("pynenc p99", 5.0, 2.0, unit="ms")],
    )


def _ours(count: int) -> dict[str, float]:
    with sqlite_app(), runner("ThreadRunner", threads=10):
        return times(count, lambda index: nothing(index).result)


def _huey(count: int, poll: dict[str, float]) -> dict[str, float]:
    with scratch() as folder:
        peer = HueySqlite(str(folder / "huey.db"), fsync=False, workers=10, poll=poll)
        with peer.worker():
            figures = peer.times(count)
        peer.close()
    return figures
