"""SQLite, calls submitted one by one: each returns when its transaction is committed."""

from __future__ import annotations

from benchmarks.harness import Bench, Contest, Report, Turn
from benchmarks.ours import rate, scratch, sqlite_app
from benchmarks.peers import base, raw
from benchmarks.peers.huey_peer import HueySqlite
from benchmarks.tasks import app, nothing
from pynenc.core.records import Filter

WARM_UP = 100


def measure_normal(bench: Bench) -> Report:
    """A commit that survives the death of every process."""
    contest = _contest(bench, "normal", bench.size(4000, 400))
    return Report(
        "SQLite: enqueue one by one",
        "/s",
        "synchronous=NORMAL; huey as it comes (a commit waits for the disk) and with synchronous off",
        contest.figures,
        [
            *contest.at_least("pynenc", 0.25, 0.5, beside="raw row per commit"),
            *contest.at_least("pynenc", 2.5, beside="huey default"),
        ],
    )


def measure_full(bench: Bench) -> Report:
    """A commit that survives a power cut: it waits for the disk."""
    contest = _contest(bench, "full", bench.size(600, 60))
    return Report(
        "SQLite: enqueue one by one, FULL",
        "/s",
        "synchronous=FULL for all: each commit waits for the disk",
        contest.figures,
        [*contest.at_least("pynenc", 0.25, 0.5, beside="raw row per commit")],
    )


def _contest(bench: Bench, synchronous: str, count: int) -> Contest:
    contestants: dict[str, Turn] = {
        "pynenc": lambda: _ours(synchronous, count),
        "raw row per commit": lambda: _raw(synchronous, count),
    }
    if base.version("huey"):
        contestants["huey default"] = lambda: _huey(count, fsync=True)
        if synchronous == "normal":
            contestants["huey synchronous off"] = lambda: _huey(count, fsync=False)
    return bench.contest(contestants)


def _ours(synchronous: str, count: int) -> float:
    with sqlite_app(synchronous):
        return submit_ours(count)


def submit_ours(count: int) -> float:
    """Calls per second on the store that the app has."""
    for index in range(WARM_UP):
        nothing(index)
    figure = rate(count, lambda: [nothing(index) for index in range(count)])
    assert sum(app.store.count(Filter()).values()) == count + WARM_UP
    return figure


def _raw(synchronous: str, count: int) -> float:
    with scratch() as folder:
        connection = raw.connect(folder / "raw.db", synchronous)
        raw.rows_one_by_one(connection, WARM_UP)
        figure = rate(count, lambda: raw.rows_one_by_one(connection, count))
        connection.close()
    return figure


def _huey(count: int, *, fsync: bool) -> float:
    with scratch() as folder:
        return submit_peer(HueySqlite(str(folder / "huey.db"), fsync=fsync, workers=1), count)


def submit_peer(peer: base.Peer, count: int) -> float:
    """The same with another library."""
    peer.submit(WARM_UP)
    figure = rate(count, lambda: peer.submit(count))
    assert peer.accepted() == count + WARM_UP
    peer.close()
    return figure
