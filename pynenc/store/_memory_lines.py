"""Lines of the memory store: rows in an order, where joining, leaving and being called cost next to nothing.

Theory of operation
-------------------
An entry ``(key, key, seq, id)`` stands for a row as long as it is the row's ``turn``. A row that leaves a line or changes its order only gets
another turn; the old entry stays behind and is dropped when it comes to the front, or when more than half of a line is such left-overs. So no
operation looks for an entry, and none costs more because a million others wait.

Most rows join in order. They are appended to a plain queue (the *run*) and never see a heap; only those that come out of order do. The front of
the line is the smaller of both fronts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from pynenc.core.records import Microseconds, QueueState, Rate
from pynenc.core.status import Place
from pynenc.store._memory_rows import Entry, Row

#: Rank and boost, both negated: the smallest comes first.
Key = tuple[float, float]
#: Left-overs that are always tolerated.
SLACK = 64


class Line:
    """Rows by their entries, smallest first. ``live`` counts those that are in line."""

    __slots__ = ("_heap", "_rows", "_run", "live")

    def __init__(self, rows: dict[str, Row]) -> None:
        self._rows = rows
        self._run: deque[Entry] = deque()
        self._heap: list[Entry] = []
        self.live = 0

    def push(self, row: Row, major: float, minor: float = 0) -> bool:
        """Let a row join; whether it joined behind others. One that is in line already goes through :meth:`remove` first."""
        entry = row.turn = (major, minor, row.seq, row.id)
        run = self._run
        self.live += 1
        if run and entry > run[-1]:
            run.append(entry)
            return True
        if run:
            heappush(self._heap, entry)
        else:
            run.append(entry)
        return False

    def remove(self, row: Row) -> None:
        """Let a row leave."""
        row.turn = None
        self.live -= 1
        if len(self._run) + len(self._heap) > 2 * self.live + SLACK:
            self._tidy()

    def first(self) -> Entry | None:
        """The entry at the front."""
        run, heap = self._run, self._heap
        while run and not self._is_live(run[0]):
            run.popleft()
        while heap and not self._is_live(heap[0]):
            heappop(heap)
        if run and heap:
            return min(run[0], heap[0])
        return run[0] if run else heap[0] if heap else None

    def pop(self) -> Row | None:
        """Call the row at the front; it has left the line then."""
        run, heap, rows = self._run, self._heap, self._rows
        while run or heap:
            entry = heappop(heap) if heap and (not run or heap[0] < run[0]) else run.popleft()
            row = rows.get(entry[3])
            if row is not None and row.turn is entry:
                row.turn = None
                self.live -= 1
                return row
        return None

    def entries(self) -> Iterator[Entry]:
        """The entries of all that are in line, in no order."""
        return filter(self._is_live, (*self._run, *self._heap))

    def _is_live(self, entry: Entry) -> bool:
        row = self._rows.get(entry[3])
        return row is not None and row.turn is entry

    def _tidy(self) -> None:
        self._run = deque(filter(self._is_live, self._run))
        self._heap = list(filter(self._is_live, self._heap))
        heapify(self._heap)


class Ready:
    """READY rows by rank, boost and submission, and the same by submission alone. ``live`` counts them.

    Ranks are few, so there is a line for each pair of rank and boost, and two heaps of these pairs: by rank, and by the age of the front of their line. The age
    in the heap may be too old, because the front was called since; it is put right when the pair comes to the top. Every line has its pair
    in both heaps; a pair may also be left over from a line that is gone.
    """

    __slots__ = ("_ages", "_keys", "_lines", "_rows", "live")

    def __init__(self, rows: dict[str, Row]) -> None:
        self._rows = rows
        self._lines: dict[Key, Line] = {}
        self._keys: list[Key] = []
        self._ages: list[tuple[int, Key]] = []
        self.live = 0

    def join(self, row: Row) -> None:
        """Let a row join by its rank and boost."""
        key = (-row.rank, -row.boost)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(self._rows)
            heappush(self._keys, key)
        if not line.push(row, *key):
            self._note_age(row.seq, key)
        self.live += 1

    def _note_age(self, seq: int, key: Key) -> None:
        heappush(self._ages, (seq, key))
        if len(self._ages) > 2 * len(self._lines) + SLACK:
            fronts = ((line.first(), key) for key, line in self._lines.items())
            self._ages = sorted((front[2], key) for front, key in fronts if front is not None)

    def remove(self, row: Row) -> None:
        """Let a row leave."""
        assert row.turn is not None
        key = row.turn[:2]
        line = self._lines[key]
        line.remove(row)
        self.live -= 1
        if not line.live:
            del self._lines[key]
            if len(self._keys) > 2 * len(self._lines) + SLACK:
                self._keys = sorted(self._lines)

    def first(self) -> Entry | None:
        """The entry at the front."""
        keys, lines = self._keys, self._lines
        while keys:
            line = lines.get(keys[0])
            if line is not None and line.live:
                return line.first()
            lines.pop(heappop(keys), None)
        return None

    def pop(self) -> Row | None:
        """Call the row at the front; it has left then."""
        keys, lines = self._keys, self._lines
        while keys:
            line = lines.get(keys[0])
            row = line.pop() if line is not None else None
            if row is not None:
                self.live -= 1
                return row
            lines.pop(heappop(keys), None)
        return None

    def oldest(self) -> Entry | None:
        """The entry that was submitted first."""
        ages, lines = self._ages, self._lines
        while ages:
            seq, key = ages[0]
            line = lines.get(key)
            front = line.first() if line is not None else None
            if front is None:
                heappop(ages)
                lines.pop(key, None)
            elif front[2] == seq:
                return front
            else:
                heapreplace(ages, (front[2], key))
        return None

    def pop_oldest(self) -> Row | None:
        """Call the row that was submitted first."""
        entry = self.oldest()
        if entry is None:
            return None
        self.live -= 1
        return self._lines[entry[:2]].pop()

    def entries(self) -> Iterator[Entry]:
        """The entries of all that are in line, in no order."""
        return (entry for line in self._lines.values() for entry in line.entries())


def by_rank(entry: Entry) -> Entry:
    """The order by rank, boost and submission."""
    return entry


def by_age(entry: Entry) -> int:
    """The order by submission alone."""
    return entry[2]


class Merged:
    """Several lines as one: calls the row that comes first in any of them."""

    def __init__(self, lines: Iterable[Ready], *, aged: bool) -> None:
        self._key: Callable[[Entry], Any] = by_age if aged else by_rank
        self._lines = [(line.oldest, line.pop_oldest) if aged else (line.first, line.pop) for line in lines]
        fronts = ((first(), index) for index, (first, _) in enumerate(self._lines))
        self._fronts = [(self._key(front), index) for front, index in fronts if front is not None]
        heapify(self._fronts)

    def pop(self) -> Row | None:
        """Call the row that comes first."""
        fronts = self._fronts
        while fronts:
            index = fronts[0][1]
            first, call = self._lines[index]
            row, front = call(), first()
            if front is None:
                heappop(fronts)
            else:
                heapreplace(fronts, (self._key(front), index))
            if row is not None:
                return row
        return None


class Queue:
    """One queue. ``later`` holds what waits for a time, ``suspended`` counts the PAUSED among it, ``parked`` what is set aside elsewhere.

    ``passed`` holds, by task, the READY rows that a runner has passed over because it does not know their task: so it does that once for each, and others find
    them in their turn. It is empty as long as all runners know all tasks.
    """

    __slots__ = ("_rows", "later", "name", "parked", "passed", "ready", "state", "suspects", "suspended")

    def __init__(self, name: str, rows: dict[str, Row]) -> None:
        self.name = name
        self.state = QueueState.ACTIVE
        self.ready = Ready(rows)
        self.suspects = Ready(rows)
        self.passed: dict[str, Ready] = {}
        self._rows = rows
        self.later = Line(rows)
        self.suspended = 0
        self.parked = 0

    @property
    def unclaimed(self) -> int:
        """How many of its rows are READY, LATER or PARKED."""
        return self.claimable + self.later.live - self.suspended + self.parked

    @property
    def claimable(self) -> int:
        """How many of its rows are READY."""
        return self.ready.live + self.suspects.live + sum(line.live for line in self.passed.values())

    def line_of(self, row: Row) -> Ready:
        """Where a READY row waits."""
        if row.alone:
            return self.suspects
        return self._passed_line(row.new.task) if row.is_passed else self.ready

    def pass_over(self, row: Row) -> None:
        """Let a row that was called wait with those of its task, out of the way of who does not know that."""
        row.is_passed = True
        self.line_of(row).join(row)

    def passed_but(self, tasks: Iterable[str]) -> list[Ready]:
        """Where rows wait that somebody has passed over, except those of ``tasks``."""
        self.passed = {task: line for task, line in self.passed.items() if line.live}
        return [line for task, line in self.passed.items() if task not in tasks]

    def _passed_line(self, task: str) -> Ready:
        line = self.passed.get(task)
        if line is None:
            line = self.passed[task] = Ready(self._rows)
        return line


class KeyLane:
    """One running key: who holds it, how many of those that name it are claimed, and who waits for it by rank and age.

    Most keys are never full, and get no line.
    """

    __slots__ = ("_rows", "claimed", "holders", "parked")

    def __init__(self, rows: dict[str, Row]) -> None:
        self._rows = rows
        self.holders: dict[str, None] = {}
        self.claimed = 0
        self.parked: Line | None = None

    def line(self) -> Line:
        """Where rows wait for the key."""
        if self.parked is None:
            self.parked = Line(self._rows)
        return self.parked

    def pop(self) -> Row | None:
        """Call the next row, if there is room for it."""
        first = self.parked.first() if self.parked is not None else None
        if first is None or len(self.holders) >= self._rows[first[3]].new.running_limit:
            return None
        return self.parked.pop() if self.parked is not None else None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to remember."""
        return not (self.holders or self.claimed or (self.parked is not None and self.parked.live))


class RateLane:
    """One rate key: the one row that may go next, who waits behind it, and the times of the latest claims."""

    __slots__ = ("head", "log", "parked", "period")

    def __init__(self, rows: dict[str, Row]) -> None:
        self.head: str | None = None
        self.parked = Line(rows)
        self.log: deque[Microseconds] = deque()
        self.period: Microseconds = 0

    def opens(self, rate: Rate) -> Microseconds:
        """The first time at which one more claim keeps the rate."""
        return self.log[-rate.n] + rate.period if len(self.log) >= rate.n else 0

    def note(self, rate: Rate, now: Microseconds) -> None:
        """Record a claim. The log never shrinks below what the largest ``n`` needs, unless it is out of every window."""
        self.period = max(self.period, rate.period)
        self.log.append(now)
        while len(self.log) > rate.n and self.log[0] + self.period <= now:
            self.log.popleft()

    def forget(self, claimed: Microseconds) -> None:
        """A claim was not used."""
        if claimed in self.log:
            self.log.remove(claimed)

    def is_over(self, now: Microseconds) -> bool:
        """Whether nothing is left to remember."""
        recent = self.log and self.log[-1] + self.period > now
        return not (recent or self.parked.live) and self.head is None


class Chosen:
    """Rows that a claim names, in their order, as far as they are still READY when they are called."""

    def __init__(self, rows: Iterable[Row], lines: Callable[[Row], Ready], *, aged: bool) -> None:
        ready = [(row.turn, row) for row in rows if row.place is Place.READY and row.turn is not None]
        ready.sort(key=(lambda pair: pair[0][2:]) if aged else (lambda pair: pair[0]), reverse=True)
        self._rows = [row for _, row in ready]
        self._lines = lines

    def pop(self) -> Row | None:
        """Call the row that comes first."""
        while self._rows:
            row = self._rows.pop()
            if row.place is Place.READY and row.turn is not None:
                self._lines(row).remove(row)
                return row
        return None
