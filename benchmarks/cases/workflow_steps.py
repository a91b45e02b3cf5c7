"""Workflows of a hundred steps that do nothing, on SQLite and PostgreSQL: each step is durable before the next one begins."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.engines import serving
from benchmarks.harness import Bar, Bench, Checked, Contest, Report, Turn
from benchmarks.ours import PATIENCE, Place, app_on, runner, scratch, sqlite_app
from benchmarks.peers import base, dbos_peer
from benchmarks.workflows import steps

STEPS, THREADS = 100, 10
ALONE, TOGETHER = "one at a time", f"{THREADS} at a time"
#: Starting a process of DBOS takes as long as what is measured in it.
ROUNDS = 3


def measure_sqlite(bench: Bench) -> Report:
    """Steps per second from the call of the workflows until all their results are there."""
    checked = Checked()

    def peer(what: str, is_tuned: bool, flows: int, together: int) -> float:
        with scratch() as folder:
            url = dbos_peer.url_on(str(folder / "dbos.db"))
            return _peer(url, what, flows, together, checked, tuned=is_tuned)

    few = bench.size(6, 1)
    many = bench.size(20, 2)
    contestants = _ours(bench, sqlite_app, checked)
    if base.version(dbos_peer.PACKAGE):
        contestants |= {
            f"DBOS {ALONE}": partial(peer, "steps", True, few, 1),
            f"DBOS {TOGETHER}": partial(peer, "steps", True, many, THREADS),
            f"DBOS async, {ALONE}": partial(peer, "steps async", True, few, 1),
            f"DBOS async, {TOGETHER}": partial(peer, "steps async", True, many, THREADS),
            f"DBOS default, {ALONE}": partial(peer, "steps", False, few, 1),
        }
    durability = "synchronous=NORMAL; DBOS with WAL and synchronous=NORMAL, and as it comes (a rollback journal; a commit waits for the disk)"
    return _report("SQLite", durability, contestants, bench, checked)


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL."""
    checked = Checked()
    few, many = bench.size(2, 1), bench.size(10, 2)
    with serving("postgres") as server:

        def peer(what: str, flows: int, together: int) -> float:
            return _peer(server.fresh(), what, flows, together, checked)

        contestants = _ours(bench, partial(app_on, server), checked)
        if base.version(dbos_peer.PACKAGE):
            contestants |= {
                f"DBOS {ALONE}": partial(peer, "steps", few, 1),
                f"DBOS {TOGETHER}": partial(peer, "steps", many, THREADS),
                f"DBOS async, {ALONE}": partial(peer, "steps async", few, 1),
                f"DBOS async, {TOGETHER}": partial(peer, "steps async", many, THREADS),
            }
        return _report(server.name, server.durability, contestants, bench, checked)


def _ours(bench: Bench, place: Place, checked: Checked) -> dict[str, Turn]:
    return {
        f"pynenc {ALONE}": partial(_run, place, bench.size(20, 1), 1, checked),
        f"pynenc {TOGETHER}": partial(_run, place, bench.size(50, 2), THREADS, checked),
    }


def _run(place: Place, flows: int, together: int, checked: Checked) -> float:
    """Steps per second on a runner in a process of its own."""
    with place(), runner("ThreadRunner", "benchmarks.workflows", threads=THREADS):
        assert steps(0, 1).result == 1
        began, results = time.perf_counter(), []
        for first in range(0, flows, together):
            some = range(first, min(first + together, flows))
            results += steps.parallelize([(index, STEPS) for index in some]).get_results(PATIENCE)
        seconds = time.perf_counter() - began
    return _rate(flows, seconds, results, checked)


def _peer(url: str, what: str, flows: int, together: int, checked: Checked, **options: Any) -> float:
    answer = dbos_peer.ask(url, what, flows=flows, count=STEPS, together=together, **options)
    return _rate(flows, answer["seconds"], answer["results"], checked)


def _rate(flows: int, seconds: float, results: list[int], checked: Checked) -> float:
    checked.add(flows, lost=sum(result != index + STEPS for index, result in enumerate(results)))
    return flows * STEPS / seconds


def _report(name: str, durability: str, contestants: dict[str, Turn], bench: Bench, checked: Checked) -> Report:
    contest = bench.contest(contestants, rounds=min(bench.rounds, ROUNDS))
    notes = ["DBOS runs its workflows in the process that starts them, pynenc in a runner beside it."]
    return Report(
        f"{name}: workflows of {STEPS} steps",
        "/s",
        f"{durability}; a runner of {THREADS} threads",
        contest.figures,
        _bars(contest),
        checked,
        notes if base.version(dbos_peer.PACKAGE) else [dbos_peer.LEFT_OUT],
    )


def _bars(contest: Contest) -> list[Bar]:
    """Beside the better one of the two ways to write a workflow of DBOS."""
    for way in (ALONE, TOGETHER):
        contest.add_best(f"best DBOS, {way}", [f"DBOS {way}", f"DBOS async, {way}"])
    return [
        bar for way in (ALONE, TOGETHER) for bar in contest.at_least(f"pynenc {way}", 1, beside=f"best DBOS, {way}")
    ]
