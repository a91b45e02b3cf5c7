"""Redis and PostgreSQL: calls that do nothing wait, runners run them; results and history are stored, and every result is read."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.engines import Serving, serving
from benchmarks.harness import Bar, Bench, Checked, Contest, Report, Turn
from benchmarks.ours import app_on, drain, drain_peer
from benchmarks.peers.registry import DRAINING, PGQUEUER_BEST, PROCRASTINATE, installed, notes, slow

THREADS = 10
#: Starting and ending the workers of peers takes most of the time.
ROUNDS = 3


def measure_redis(bench: Bench) -> Report:
    """Calls per second from when the runner may take them until the last result is written."""
    return _measure(bench, "redis", _redis_bars, fewer=bench.size(3000, 300))


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL."""
    return _measure(bench, "postgres", _postgres_bars, fewer=bench.size(4000, 300))


def _redis_bars(contest: Contest) -> list[Bar]:
    contest.add_best("fastest peer", [entry.label for entry in DRAINING["redis"]])
    return [
        *contest.at_least("pynenc", 4, beside="fastest peer"),
        *contest.at_least("pynenc", None, 40_000, unit="/s"),
    ]


def _postgres_bars(contest: Contest) -> list[Bar]:
    return [
        *contest.at_least("pynenc", 1.2, beside=PGQUEUER_BEST.label),
        *contest.at_least("pynenc", 20, beside=PROCRASTINATE.label),
        *contest.at_least("pynenc", None, 25_000, unit="/s"),
    ]


def _measure(bench: Bench, engine: str, bars: Any, *, fewer: int) -> Report:
    checked, count, entries = Checked(), bench.size(30_000, 2_000), installed(DRAINING[engine])
    with serving(engine) as server:
        contestants: dict[str, Turn] = dict(_ours(server, count, checked))
        for entry in entries:
            contestants[entry.label] = partial(_peer, entry.make, server, entry.calls(fewer), checked)
        contest = bench.contest(contestants, rounds=min(bench.rounds, ROUNDS), once=slow(DRAINING[engine]))
        judged = bars(contest)
    return Report(
        f"{server.name}: drain",
        "/s",
        f"{server.durability}; {THREADS} threads, or two processes of five; every result read where there are results",
        contest.figures,
        judged,
        checked,
        notes(DRAINING[engine]),
    )


def _ours(server: Serving, count: int, checked: Checked) -> dict[str, Turn]:
    place = partial(app_on, server)
    half = THREADS // 2
    return {
        "pynenc": lambda: drain(count, "ThreadRunner", checked, place, threads=THREADS),
        "pynenc 2 processes": lambda: drain(count, "MultiThreadRunner", checked, place, processes=2, threads=half),
    }


def _peer(make: Any, server: Serving, count: int, checked: Checked) -> float:
    return drain_peer(make(server.fresh()), count, checked)
