"""Redis and PostgreSQL, calls submitted one by one: each returns when the server has accepted it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.cases.enqueue import WARM_UP, submit_ours, submit_peer
from benchmarks.engines import Serving, serving
from benchmarks.harness import Bench, Contest, Report, Turn
from benchmarks.ours import app_on, rate
from benchmarks.peers.raw_postgres import RawPostgres
from benchmarks.peers.raw_redis import RawRedis
from benchmarks.peers.registry import SUBMITTING, installed, left_out


def measure_redis(bench: Bench) -> Report:
    """Beside one call of a short script per row."""
    return _measure(bench, "redis", "raw script call per row", RawRedis, bench.size(4000, 300))


def measure_postgres(bench: Bench) -> Report:
    """Beside one INSERT per commit."""
    return _measure(bench, "postgres", "raw INSERT per commit", RawPostgres, bench.size(1500, 100))


def _measure(bench: Bench, engine: str, bare: str, raw: Callable[[str], Any], count: int) -> Report:
    with serving(engine) as server:
        contest = _contest(bench, engine, server, {bare: partial(_raw, server, raw, count)}, count)
        return Report(
            f"{server.name}: enqueue one by one",
            "/s",
            server.durability,
            contest.figures,
            contest.at_least("pynenc", 0.7, 0.9, beside=bare),
            notes=left_out(SUBMITTING[engine]),
        )


def _contest(bench: Bench, engine: str, server: Serving, bare: dict[str, Turn], count: int) -> Contest:
    contestants: dict[str, Turn] = {"pynenc": partial(_ours, server, count), **bare}
    for entry in installed(SUBMITTING[engine]):
        contestants[entry.package] = lambda make=entry.make: submit_peer(make(server.fresh()), count // 4)
    return bench.contest(contestants)


def _ours(server: Serving, count: int) -> float:
    with app_on(server):
        return submit_ours(count)


def _raw(server: Serving, raw: Callable[[str], Any], count: int) -> float:
    engine = raw(server.fresh())
    engine.rows_one_by_one(WARM_UP)
    figure = rate(count, lambda: engine.rows_one_by_one(count))
    engine.close()
    return figure
