"""What a claim costs when a million calls wait, and when a hundred thousand are parked on one key."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Bench, Contest, Report
from benchmarks.ours import scratch
from pynenc.core.ids import uuid7_head, uuid7_tails
from pynenc.core.records import Beat, ClaimRequest, New, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store

RUNNER, LIMIT, TURNS = "bench", 8, 20
BATCH = 5000


def measure_sqlite(bench: Bench) -> Report:
    """Milliseconds of a turn (eight results written, eight calls claimed) on SQLite."""
    with scratch() as folder:
        return _measure(bench, "SQLite", f"sqlite:///{folder}/{{}}.db")


def measure_memory(bench: Bench) -> Report:
    """The same in memory."""
    return _measure(bench, "memory", "memory://{}")


def _measure(bench: Bench, name: str, url: str) -> Report:
    few, some, many = 1_000, bench.size(100_000, 5_000), bench.size(1_000_000, 20_000)
    with (
        _store(url.format("few"), few) as one,
        _store(url.format("some"), some) as two,
        _store(url.format("many"), many) as three,
        _store(url.format("parked"), few, parked=some) as parked,
        _store(url.format("key"), 0, parked=few) as key,
        _store(url.format("keys"), 0, parked=some) as keys,
    ):
        names = {f"{few:,} wait": one, f"{some:,} wait": two, f"{many:,} wait": three, f"and {some:,} parked": parked}
        turns = {label: _Turns(store, LIMIT) for label, store in names.items()}
        turns |= {f"next of {few:,} behind a key": _Turns(key, 1), f"next of {some:,} behind a key": _Turns(keys, 1)}
        contest = bench.contest({label: each.median for label, each in turns.items()}, rounds=max(bench.rounds, 5))
    return Report(
        f"{name}: cost of a claim",
        "ms",
        f"a turn: {LIMIT} results written and {LIMIT} calls claimed in one transaction",
        contest.figures,
        _bars(contest, few, some, many),
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

    def median(self) -> float:
        times = []
        for _ in range(TURNS):
            began = time.perf_counter()
            claim = self._store.finish(RUNNER, self._outcomes, self._request).claim
            times.append((time.perf_counter() - began) * 1000)
            assert len(claim.batch) == self._request.limit
            self._outcomes = [
                Outcome(id=each.id, attempt=each.attempt, status=InvocationStatus.SUCCESS, payload=b"1")
                for each in claim.batch
            ]
        return statistics.median(times)


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
