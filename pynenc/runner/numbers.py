"""What a worker counts, when somebody asked for metrics; once a turn, not once an invocation.

A worker keeps one :class:`Numbers`. A worker process publishes it on its board now and then, and its supervisor adds up those of
the processes that live and of those that are gone, so that no total ever falls. Names of tasks and queues become labels of time
series: there is a most of them, and what comes later is counted as ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
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
            self._retry(task, count)
        for queue, spread in other.durations.items():
            own = self._spread(queue)
            own.counts = [mine + theirs for mine, theirs in zip(own.counts, spread.counts, strict=True)]
            own.total += spread.total

    def count(self, ends: Sequence[tuple[Claimed, Outcome]]) -> None:
        """Count how attempts ended: a few calls for all of them, however many there are."""
        for (task, status), count in Counter([(c.task, e.status) for c, e in ends if e.status in FINAL]).items():
            self._finish(task, status.value, count)
        retry, released = InvocationStatus.RETRY, InvocationStatus.REGISTERED
        for task, count in Counter([claimed.task for claimed, ended in ends if ended.status is retry]).items():
            self._retry(task, count)
        self.released += sum([ended.status is released for _, ended in ends])
        ran = [(c.queue, (e.ended - e.started) / SECOND) for c, e in ends if e.started and e.status is not released]
        for name in {queue for queue, _ in ran}:
            spread = self._spread(name)
            for queue, seconds in ran:
                if queue == name:
                    spread.counts[bisect_left(BOUNDS, seconds)] += 1
                    spread.total += max(0.0, seconds)

    def _retry(self, task: str, count: int) -> None:
        name = _within(self.retried, task)
        self.retried[name] = self.retried.get(name, 0) + count

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

    def note_claim(self, batch: Sequence[Claimed]) -> None:
        """A claim round has ended."""
        with self._lock:
            self._numbers.claims += 1
            self._numbers.claimed += len(batch)
            self._held.update({(claimed.id, claimed.attempt): claimed for claimed in batch})

    def note_written(self, outcomes: Iterable[Outcome], lost: Sequence[str]) -> None:
        """Outcomes were written, but for those that another attempt owns."""
        with self._lock:
            self._numbers.refused += len(lost)
            ends = [(self._held.pop((ended.id, ended.attempt), None), ended) for ended in outcomes]
            self._numbers.count([(claimed, ended) for claimed, ended in ends if claimed and ended.id not in lost])

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
        self._gone.count(list(zip(owned, outcomes, strict=True)))

    def total(self) -> Numbers:
        """The sum of all."""
        total = Numbers()
        for numbers in (self._gone, *self._last.values()):
            total.add(numbers)
        return total
