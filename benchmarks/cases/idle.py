"""What a runner costs while there is nothing to do."""

from __future__ import annotations

import time

from benchmarks.harness import Bench, Report, Turn
from benchmarks.ours import runner, scratch, sqlite_app
from benchmarks.peers import base
from benchmarks.peers.huey_peer import DEFAULT_POLL, HueySqlite
from benchmarks.processes import Program, processor_seconds, resident

SETTLE = 2.0


def measure(bench: Bench) -> Report:
    """Percent of a processor, and resident memory, of a thread runner on SQLite."""
    seconds = bench.size(10, 2)

    def ours() -> dict[str, float]:
        with sqlite_app(), runner("ThreadRunner", threads=8) as process:
            return _look(process, seconds)

    def huey() -> dict[str, float]:
        with scratch() as folder:
            peer = HueySqlite(str(folder / "huey.db"), fsync=False, workers=8, poll=DEFAULT_POLL)
            with peer.worker() as process:
                found = _look(process, seconds)
            peer.close()
            return found

    contestants: dict[str, Turn] = {"pynenc": ours}
    if base.version("huey"):
        contestants["huey"] = huey
    contest = bench.contest(contestants, rounds=min(bench.rounds, 3))
    return Report(
        "SQLite: idle runner",
        "",
        "ThreadRunner with eight threads; huey with eight threads and its default poll",
        contest.figures,
        [
            *contest.at_most("pynenc CPU %", 0.5, 0.1, unit="%"),
            *contest.at_most("pynenc RSS MB", 45, 35, unit="MB"),
        ],
    )


def _look(process: Program, seconds: float) -> dict[str, float]:
    time.sleep(SETTLE)
    used, began = processor_seconds(process.pid), time.monotonic()
    time.sleep(seconds)
    percent = (processor_seconds(process.pid) - used) / (time.monotonic() - began) * 100
    return {"CPU %": percent, "RSS MB": resident(process.pid)}
