"""What each recorded step costs when the body of a workflow runs again, on SQLite and PostgreSQL."""

from __future__ import annotations

from functools import partial

from benchmarks.engines import serving
from benchmarks.harness import Bench, Report, Turn
from benchmarks.ours import PATIENCE, Place, app_on, runner, scratch, sqlite_app
from benchmarks.peers import base, dbos_peer
from benchmarks.workflows import replayed

COUNTS = (100, 1000)
ROUNDS = 3


def measure_sqlite(bench: Bench) -> Report:
    """Microseconds for each recorded step, from the first line of the body to where the record ends."""

    def peer() -> dict[str, float]:
        with scratch() as folder:
            return _peer(dbos_peer.url_on(str(folder / "dbos.db")), tuned=True)

    durability = "synchronous=NORMAL; DBOS with WAL and synchronous=NORMAL"
    return _report("SQLite", durability, {"pynenc": partial(_ours, sqlite_app), "DBOS": peer}, bench)


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL."""
    with serving("postgres") as server:
        contestants: dict[str, Turn] = {
            "pynenc": partial(_ours, partial(app_on, server)),
            "DBOS": lambda: _peer(server.fresh()),
        }
        return _report(server.name, server.durability, contestants, bench)


def _ours(place: Place) -> dict[str, float]:
    """In a runner that has run such a workflow before."""
    found = {}
    with place(), runner("ThreadRunner", "benchmarks.workflows", threads=1):
        replayed(COUNTS[0]).get_result(PATIENCE)
        for count in COUNTS:
            found[_label(count)] = replayed(count).get_result(PATIENCE) / count * 1e6
    return found


def _peer(url: str, **options: bool) -> dict[str, float]:
    answer = dbos_peer.ask(url, "replay", counts=[COUNTS[0], *COUNTS], **options)
    return {_label(count): answer[str(count)] for count in COUNTS}


def _label(count: int) -> str:
    return f"{count:,} steps"


def _report(name: str, durability: str, contestants: dict[str, Turn], bench: Bench) -> Report:
    is_there = bool(base.version(dbos_peer.PACKAGE))
    present = {label: turn for label, turn in contestants.items() if is_there or label != "DBOS"}
    contest = bench.contest(present, rounds=min(bench.rounds, ROUNDS))
    few, many = (_label(count) for count in COUNTS)
    how = "DBOS: the fork of a workflow behind its last step, which takes each output from the record"
    return Report(
        f"{name}: replay of a workflow, for each recorded step",
        "µs",
        durability,
        contest.figures,
        [
            *contest.at_most(f"pynenc {many}", 1.5, beside=f"pynenc {few}"),
            *contest.at_least(f"DBOS {many}", 1, beside=f"pynenc {many}"),
        ],
        notes=[f"{how}."] if is_there else [dbos_peer.LEFT_OUT],
    )
