"""What a worker counts, when somebody asked for metrics; once a turn, not once an invocation.

A worker keeps one :class:`Numbers`. A worker process publishes it on its board now and then, and its supervisor adds up those of
the processes that live and of those that are gone, so that no total ever falls. Names of tasks and queues become labels of time
series: there is a most of them, and what comes later is counted as ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from threading import Lock

import msgspec

from pynenc.core.outcome import SECOND
from pynenc.core.records import Claimed, Outcome
from pynenc.core.status import FINAL, InvocationStatus

#: Upper bounds of the classes of durations, in seconds; above the last one there is one more.
BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0)
#: Most names of tasks, and of queues, that are told apart, and most characters of one.
MOST_NAMES, LONGEST_NAME = 200, 200
OTHER = "other"


class Spread(msgspec.Struct):
    """Durations by class, and their sum in seconds."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Numbers(msgspec.Struct):
    """Totals since a worker began; ``finished`` by task and status, ``retried`` by task, ``durations`` by queue."""

    claims: int = 0
    claimed: int = 0
    released: int = 0
    refused: int = 0
    deaths: int = 0
    store_errors: int = 0
    finished: dict[str, dict[str, int]] = {}
    retried: dict[str, int] = {}
    durations: dict[str, Spread] = {}

    def add(self, other: Numbers) -> None:
        """Add the totals of another worker."""
        for name in ("claims", "claimed", "released", "refused", "deaths", "store_errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for task, counts in other.finished.items():
            for status, count in counts.items():
                self._finish(task, status, count)
        for task, count in other.retried.items():
            name = _within(self.retried, task)
            self.retried[name] = self.retried.get(name, 0) + count
        for queue, spread in other.durations.items():
            own = self._spread(queue)
            own.counts = [mine + theirs for mine, theirs in zip(own.counts, spread.counts, strict=True)]
            own.total += spread.total

    def count(self, claimed: Claimed, ended: Outcome) -> None:
        """Count how an attempt ended."""
        if ended.status in FINAL:
            self._finish(claimed.task, ended.status.value, 1)
        elif ended.status is InvocationStatus.RETRY:
            name = _within(self.retried, claimed.task)
            self.retried[name] = self.retried.get(name, 0) + 1
        elif ended.status is InvocationStatus.REGISTERED:
            self.released += 1
            return
        if ended.started:
            seconds = max(0, ended.ended - ended.started) / SECOND
            spread = self._spread(claimed.queue)
            spread.counts[bisect_left(BOUNDS, seconds)] += 1
            spread.total += seconds

    def _finish(self, task: str, status: str, count: int) -> None:
        counts = self.finished.setdefault(_within(self.finished, task), {})
        counts[status] = counts.get(status, 0) + count

    def _spread(self, queue: str) -> Spread:
        return self.durations.setdefault(_within(self.durations, queue), Spread())


def _within(
    known: dict[str, object] | dict[str, int] | dict[str, dict[str, int]] | dict[str, Spread], name: str
) -> str:
    """The name itself, or the one for all that are too many."""
    name = name[:LONGEST_NAME]
    return name if name in known or len(known) < MOST_NAMES else OTHER


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Numbers).decode


def decode(data: bytes) -> Numbers:
    """The numbers that a worker published; zeros before it has."""
    return _decode(data) if data else Numbers()


class Measures:
    """Counts for one worker: it is told of claims and of what was written, both a batch at a time."""

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._held: dict[tuple[str, int], Claimed] = {}
        self._lock = Lock()

    def note_claim(self, batch: Iterable[Claimed]) -> None:
        """A claim round has ended."""
        with self._lock:
            self._numbers.claims += 1
            for claimed in batch:
                self._numbers.claimed += 1
                self._held[claimed.id, claimed.attempt] = claimed

    def note_written(self, outcomes: Iterable[Outcome], lost: Sequence[str]) -> None:
        """Outcomes were written, but for those that another attempt owns."""
        with self._lock:
            self._numbers.refused += len(lost)
            for ended in outcomes:
                claimed = self._held.pop((ended.id, ended.attempt), None)
                if claimed is not None and ended.id not in lost:
                    self._numbers.count(claimed, ended)

    def note_error(self) -> None:
        """The store did not do what it was asked."""
        with self._lock:
            self._numbers.store_errors += 1

    def forget(self) -> None:
        """What was claimed belongs to others now."""
        with self._lock:
            self._held.clear()

    def encode(self) -> bytes:
        """All totals until now, to be published."""
        with self._lock:
            return _encode(self._numbers)


class Totals:
    """The numbers of several workers: of those that are gone, and by key what the others last said."""

    def __init__(self) -> None:
        self._gone = Numbers()
        self._last: dict[int, Numbers] = {}

    def hear(self, key: int, published: bytes | None) -> None:
        """What a worker says now; None for nothing that can be read."""
        if published is not None:
            self._last[key] = decode(published)

    def bury(self, key: int) -> None:
        """A worker is gone; its totals stay."""
        self._gone.add(self._last.pop(key, Numbers()))

    def note_death(self) -> None:
        """A worker died without saying that it is done."""
        self._gone.deaths += 1

    def settle(self, owned: Iterable[Claimed], outcomes: Iterable[Outcome]) -> None:
        """Outcomes were written on behalf of a worker that is gone."""
        for claimed, ended in zip(owned, outcomes, strict=True):
            self._gone.count(claimed, ended)

    def total(self) -> Numbers:
        """The sum of all."""
        total = Numbers()
        for numbers in (self._gone, *self._last.values()):
            total.add(numbers)
        return total
