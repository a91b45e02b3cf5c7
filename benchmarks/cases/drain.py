"""SQLite, one process: calls that do nothing wait, a runner of ten threads runs them; results and history are stored."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from benchmarks.harness import Bench, Checked, Report, Turn
from benchmarks.ours import drain, drain_peer
from benchmarks.peers import base
from benchmarks.peers.huey_peer import HueySqlite

THREADS = 10


def measure(bench: Bench) -> Report:
    """Calls per second from when the runner may take them until the last result is written."""
    checked = Checked()
    count, fewer = bench.size(40_000, 2_000), bench.size(5_000, 500)
    contestants: dict[str, Turn] = {
        "pynenc": lambda: drain(count, "ThreadRunner", checked, threads=THREADS),
    }
    if base.version("huey"):
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
    """The same with huey."""
    with TemporaryDirectory(prefix="pynenc-bench-") as folder:
        peer = HueySqlite(f"{folder}/huey.db", fsync=fsync, workers=workers, worker_type=worker_type)
        return drain_peer(peer, count, checked)
