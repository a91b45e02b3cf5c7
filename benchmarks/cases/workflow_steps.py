"""Workflows of a hundred steps that do nothing, on SQLite and PostgreSQL: each step is durable before the next one begins."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.engines import serving
from benchmarks.harness import Bar, Bench, Checked, Contest, Report, Turn
from benchmarks.ours import PATIENCE, Place, app_on, runner, scratch, sqlite_app
from benchmarks.peers import base, dbos_peer
from benchmarks.workflows import steps

STEPS, THREADS = 100, 10
ALONE, TOGETHER = "one at a time", f"{THREADS} at a time"
#: Starting a process of DBOS takes as long as what is measured in it.
ROUNDS = 3
#: How many workflows, one after the other and then so many at a time.
Turns = list[tuple[int, int]]


def measure_sqlite(bench: Bench) -> Report:
    """Steps per second from the call of the workflows until all their results are there."""
    checked = Checked()

    def peer(turns: Turns, *, is_tuned: bool) -> dict[str, float]:
        with scratch() as folder:
            return _peer(dbos_peer.url_on(str(folder / "dbos.db")), turns, checked, tuned=is_tuned)

    contestants: dict[str, Turn] = {
        "pynenc": partial(_ours, sqlite_app, _turns(bench, 20, 50), checked),
        "DBOS": partial(peer, _turns(bench, 5, 20), is_tuned=True),
        "DBOS default": partial(peer, _turns(bench, 2, 0), is_tuned=False),
    }
    durability = "synchronous=NORMAL; DBOS with WAL and synchronous=NORMAL, and as it comes (a rollback journal; a commit waits for the disk)"
    return _report("SQLite", durability, contestants, bench, checked)


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL."""
    checked = Checked()
    with serving("postgres") as server:
        contestants: dict[str, Turn] = {
            "pynenc": partial(_ours, partial(app_on, server), _turns(bench, 5, 20), checked),
            "DBOS": lambda: _peer(server.fresh(), _turns(bench, 3, 10), checked),
        }
        return _report(server.name, server.durability, contestants, bench, checked)


def _turns(bench: Bench, alone: int, together: int) -> Turns:
    return [(bench.size(alone, 1), 1), *([(bench.size(together, 2), THREADS)] if together else [])]


def _ours(place: Place, turns: Turns, checked: Checked) -> dict[str, float]:
    """On a runner in a process of its own."""
    found = []
    with place(), runner("ThreadRunner", "benchmarks.workflows", threads=THREADS):
        assert steps(0, 1).result == 1
        for flows, together in turns:
            began, results = time.perf_counter(), []
            for first in range(0, flows, together):
                some = range(first, min(first + together, flows))
                results += steps.parallelize([(index, STEPS) for index in some]).get_results(PATIENCE)
            found.append((time.perf_counter() - began, results))
    return _rates(turns, found, checked)


def _peer(url: str, turns: Turns, checked: Checked, **options: bool) -> dict[str, float]:
    return _rates(turns, dbos_peer.ask(url, "steps", count=STEPS, turns=turns, **options)["turns"], checked)


def _rates(turns: Turns, found: list[tuple[float, list[int]]], checked: Checked) -> dict[str, float]:
    """Steps per second of each turn."""
    rates = {}
    for (flows, together), (seconds, results) in zip(turns, found, strict=True):
        checked.add(flows, lost=sum(result != index + STEPS for index, result in enumerate(results)))
        rates[ALONE if together == 1 else TOGETHER] = flows * STEPS / seconds
    return rates


def _report(name: str, durability: str, contestants: dict[str, Turn], bench: Bench, checked: Checked) -> Report:
    is_there = bool(base.version(dbos_peer.PACKAGE))
    present = {label: turn for label, turn in contestants.items() if is_there or label == "pynenc"}
    contest = bench.contest(present, rounds=min(bench.rounds, ROUNDS), once=["DBOS default"])
    how = "DBOS runs its workflows in the process that starts them, pynenc in a runner beside it."
    return Report(
        f"{name}: workflows of {STEPS} steps",
        "/s",
        f"{durability}; a runner of {THREADS} threads",
        contest.figures,
        _bars(contest),
        checked,
        [how] if is_there else [dbos_peer.LEFT_OUT],
    )


def _bars(contest: Contest) -> list[Bar]:
    return [bar for way in (ALONE, TOGETHER) for bar in contest.at_least(f"pynenc {way}", 1, beside=f"DBOS {way}")]
