"""What a claim costs when a million calls wait, and when a hundred thousand are parked on one key."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.engines import serving
from benchmarks.harness import Bench, Contest, Report
from benchmarks.ours import scratch
from pynenc.core.ids import uuid7_head, uuid7_tails
from pynenc.core.records import Beat, ClaimRequest, New, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store

RUNNER, LIMIT, TURNS = "bench", 8, 20
MORE = 64
#: An option of libpq.
WITHOUT_DISK = "?options=-csynchronous_commit%3Doff"
BATCH = 5000


def measure_sqlite(bench: Bench) -> Report:
    """Milliseconds of a turn (eight results written, eight calls claimed) on SQLite."""
    with scratch() as folder:
        return _report("SQLite", bench, _measure(bench, lambda label: f"sqlite:///{folder}/{label}.db"))


def measure_memory(bench: Bench) -> Report:
    """The same in memory."""
    return _report("memory", bench, _measure(bench, lambda label: f"memory://{label}"))


def measure_redis(bench: Bench) -> Report:
    """The same on Redis."""
    with serving("redis") as server:
        return _report(server.name, bench, _measure(bench, lambda _: server.another()))


def measure_postgres(bench: Bench) -> Report:
    """The same on PostgreSQL; and where somebody's snapshot keeps the rows that are finished from being cleaned up."""
    finished = bench.size(30_000, 2_000)
    with serving("postgres") as server:
        contest = _measure(bench, lambda _: server.another() + WITHOUT_DISK, finished)
        note = "Commits do not wait for the disk here: that would hide how the work grows."
        return _report(server.name, bench, contest, note)


def _measure(bench: Bench, url: Callable[[str], str], finished: int = 0) -> Contest:
    """Turns on stores in which more and more wait; then on those in which everything is behind a key."""
    few, some, many = _sizes(bench)
    with (
        _store(url("few"), few) as one,
        _store(url("some"), some) as two,
        _store(url("many"), many) as three,
        _store(url("parked"), few, parked=some) as parked,
        _store(url("key"), few, parked=few) as key,
        ExitStack() as more,
    ):
        names = {f"{few:,} wait": one, f"{some:,} wait": two, f"{many:,} wait": three, f"and {some:,} parked": parked}
        turns = {label: _Turns(store, LIMIT) for label, store in names.items()}
        if finished:
            turns |= more.enter_context(_pinned(url("pinned"), finished))
        waiting = _contest(bench, turns)
        turns[f"and {some:,} parked"].end()
        behind = {f"next of {few:,} behind a key": key, f"next of {some:,} behind a key": parked}
        keyed = _contest(bench, {label: _only_key(store) for label, store in behind.items()})
    return Contest(waiting.samples | keyed.samples)


def _sizes(bench: Bench) -> tuple[int, int, int]:
    return 1_000, bench.size(100_000, 5_000), bench.size(1_000_000, 20_000)


def _contest(bench: Bench, turns: dict[str, _Turns]) -> Contest:
    return bench.contest({label: each.median for label, each in turns.items()}, rounds=max(bench.rounds, 5))


def _only_key(store: Store) -> _Turns:
    """Turns on a store of which all is worked off but what is behind the key."""
    turns = _Turns(store, 100)
    while turns.turn() and turns.claimed > 1:
        pass
    turns.end()
    return _Turns(store, 1)


@contextmanager
def _pinned(url: str, finished: int) -> Iterator[dict[str, _Turns]]:
    """Turns on a store in which so many were finished since somebody took a snapshot, which is still in use."""
    import psycopg

    with _store(url, finished + 12_000) as store, psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        fast = _Turns(store, 250)
        for _ in range(finished // 250):
            fast.turn()
        fast.end()
        label = f"{finished:,} finished under a snapshot"
        yield {label: _Turns(store, LIMIT), f"{label}, {MORE} a turn": _Turns(store, MORE)}


def _report(name: str, bench: Bench, contest: Contest, *notes: str) -> Report:
    return Report(
        f"{name}: cost of a claim",
        "ms",
        f"a turn: {LIMIT} results written and {LIMIT} calls claimed in one transaction",
        contest.figures,
        _bars(contest, *_sizes(bench)),
        notes=list(notes),
    )


def _bars(contest: Contest, few: int, some: int, many: int) -> list:
    least = f"{few:,} wait"
    return [
        *contest.at_most(f"{some:,} wait", 1.5, 1.1, beside=least),
        *contest.at_most(f"{many:,} wait", 1.5, 1.1, beside=least),
        *contest.at_most(f"and {some:,} parked", 1.5, 1.1, beside=least),
        *contest.at_most(f"next of {some:,} behind a key", 1.5, 1.1, beside=f"next of {few:,} behind a key"),
    ]


class _Turns:
    """Turns of a runner over one store."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._request = ClaimRequest(RUNNER, limit)
        self._outcomes: list[Outcome] = []
        self.claimed = 0

    def median(self) -> float:
        """Milliseconds of a turn."""
        times = []
        for _ in range(TURNS):
            times.append(self.turn())
            assert self.claimed == self._request.limit
        return statistics.median(times)

    def turn(self) -> float:
        """Write the results of what was claimed before, and claim: milliseconds."""
        began = time.perf_counter()
        claim = self._store.finish(RUNNER, self._outcomes, self._request).claim
        milliseconds = (time.perf_counter() - began) * 1000
        self.claimed = len(claim.batch)
        self._outcomes = [
            Outcome(id=each.id, attempt=each.attempt, status=InvocationStatus.SUCCESS, payload=b"1")
            for each in claim.batch
        ]
        return milliseconds

    def end(self) -> None:
        """Write the last results, and claim nothing."""
        self._store.finish(RUNNER, self._outcomes)
        self._outcomes = []


@contextmanager
def _store(url: str, waiting: int, *, parked: int = 0) -> Iterator[Store]:
    """A store in which so many calls wait, and so many more stand behind one key."""
    store = open_store(url, "bench")
    store.open()
    try:
        store.heartbeat([Beat(id=RUNNER, group=RUNNER, lease=3_600_000_000)])
        _fill(store, waiting, None)
        _fill(store, parked, "key")
        yield store
    finally:
        store.close()


def _fill(store: Store, count: int, key: str | None) -> None:
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        store.submit([New(id=_id(key, number), task="t", args=b'{"index":1}', running_key=key) for number in numbers])


def _id(key: str | None, number: int) -> str:
    """Ids in order of time, as they are given."""
    return uuid7_head(1_700_000_000_000 + number) + uuid7_tails((b"k" if key else b"w") * 10)[0]
