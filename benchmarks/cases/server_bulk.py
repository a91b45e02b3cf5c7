"""Redis and PostgreSQL, many calls at once: ``parallelize`` in its batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.cases.bulk import parallelize
from benchmarks.engines import Serving, serving
from benchmarks.harness import Bench, Contest, Report, Turn
from benchmarks.ours import app_on, rate
from benchmarks.peers import base
from benchmarks.peers.raw_postgres import RawPostgres
from benchmarks.peers.raw_redis import RawRedis
from benchmarks.peers.registry import IN_BULK, PGQUEUER, installed, left_out
from benchmarks.tasks import nothing


def measure_redis(bench: Bench) -> Report:
    """Beside the calls of a short script in a pipeline."""
    with serving("redis") as server:
        contest = _contest(bench, "redis", server, "raw scripts in a pipeline", RawRedis)
        return _report("redis", server, contest, contest.at_least("pynenc", 60_000, 150_000, unit="/s"))


def measure_postgres(bench: Bench) -> Report:
    """Beside pgqueuer, and COPY into one narrow table."""
    with serving("postgres") as server:
        contest = _contest(bench, "postgres", server, "raw COPY", RawPostgres)
        bars = [
            *contest.at_least("pynenc", 1, beside=PGQUEUER.package),
            *contest.at_least("pynenc", None, 90_000, unit="/s"),
        ]
        return _report("postgres", server, contest, bars)


def _report(engine: str, server: Serving, contest: Contest, bars: list) -> Report:
    return Report(
        f"{server.name}: parallelize",
        "/s",
        f"{server.durability}; {nothing.conf.parallel_batch_size} calls a batch",
        contest.figures,
        bars,
        notes=left_out(IN_BULK[engine]),
    )


def _contest(bench: Bench, engine: str, server: Serving, bare: str, raw: Callable[[str], Any]) -> Contest:
    count, fewer = bench.size(40_000, 2_000), bench.size(10_000, 1_000)
    contestants: dict[str, Turn] = {
        "pynenc": partial(_ours, server, count),
        bare: partial(_raw, server, raw, count),
    }
    for entry in installed(IN_BULK[engine]):
        contestants[entry.package] = lambda make=entry.make: _peer(make(server.fresh()), fewer)
    return bench.contest(contestants)


def _ours(server: Serving, count: int) -> float:
    with app_on(server):
        return parallelize(count)


def _raw(server: Serving, raw: Callable[[str], Any], count: int) -> float:
    engine = raw(server.fresh())
    figure = rate(count, lambda: engine.rows_in_bulk(count))
    engine.close()
    return figure


def _peer(peer: base.Peer, count: int) -> float:
    peer.submit_many(100)
    figure = rate(count, lambda: peer.submit_many(count))
    assert peer.accepted() == count + 100
    peer.close()
    return figure
