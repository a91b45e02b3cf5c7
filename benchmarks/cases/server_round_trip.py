"""Redis and PostgreSQL, two processes: a call to an idle runner and its result back."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import marks
from benchmarks.engines import Serving, serving
from benchmarks.harness import Bench, Report, Turn
from benchmarks.latency import WARM_UP, times
from benchmarks.ours import app_on, runner, scratch
from benchmarks.peers.registry import ANSWERING, installed, notes, slow
from benchmarks.tasks import nothing

ROUNDS = 3


def measure_redis(bench: Bench) -> Report:
    """Milliseconds from the call until its result is there."""
    return _measure(bench, "redis", p50=(1.2, 0.7), p99=(5.0, 2.5))


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL; where a peer has no results, until it was executed."""
    return _measure(bench, "postgres", p50=(4.0, 2.5), p99=(12.0, 10.0))


def _measure(bench: Bench, engine: str, *, p50: tuple[float, float], p99: tuple[float, float]) -> Report:
    count, fewer, entries = bench.size(400, 40), bench.size(200, 20), installed(ANSWERING[engine])
    with serving(engine) as server:
        contestants: dict[str, Turn] = {"pynenc": partial(_ours, server, count)}
        for entry in entries:
            calls = max(10, fewer // 5) if entry.is_slow else fewer
            contestants[entry.label] = partial(_peer, entry.make, server, calls)
        contest = bench.contest(contestants, rounds=min(bench.rounds, ROUNDS), once=slow(ANSWERING[engine]))
    return Report(
        f"{server.name}: idle round trip between two processes",
        "ms",
        f"{server.durability}; peers that keep no results: until the call was executed",
        contest.figures,
        [*contest.at_most("pynenc p50", *p50, unit="ms"), *contest.at_most("pynenc p99", *p99, unit="ms")],
        notes=notes(ANSWERING[engine]),
    )


def _ours(server: Serving, count: int) -> dict[str, float]:
    with app_on(server), runner("ThreadRunner", threads=10):
        return times(count, lambda index: nothing(index).result)


def _peer(make: Any, server: Serving, count: int) -> dict[str, float]:
    with scratch() as folder:
        marks.create(folder / "marks", count + WARM_UP)
        peer = make(server.fresh())
        with peer.worker():
            found = peer.times(count)
        peer.close()
    return found
