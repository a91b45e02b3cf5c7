"""Claims on a memory store: which rows a request gets, and what changes with that."""

from __future__ import annotations

from typing import Protocol

from pynenc.core.records import Alone, Claim, Claimed, ClaimRequest, Microseconds, QueueState
from pynenc.core.status import InvocationStatus, Place
from pynenc.store._memory_lines import Chosen, Merged, Queue, Ready
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import Row, to_claimed


class Source(Protocol):
    """Calls READY rows one by one, in the order of a request."""

    def __call__(self) -> Row | None: ...


def claim(places: Places, request: ClaimRequest, now: Microseconds) -> Claim:
    """Carry out a claim; its runner is known."""
    asked = _asked(places, request)
    for queue, _ in asked:
        if queue.later.live:
            places.admit_due(queue, now)
    room = min(request.limit, 1) if request.alone is Alone.ONLY else request.limit
    batch: list[Claimed] = []
    if request.shares:
        for queue, most in asked:
            _take(places, request, _source(places, request, [queue]), min(most, room - len(batch)), now, batch)
    elif room > 0:
        _take(places, request, _source(places, request, [queue for queue, _ in asked]), room, now, batch)
    return Claim(tuple(batch), _next_due(asked), any(queue.suspects.live for queue, _ in asked))


def _asked(places: Places, request: ClaimRequest) -> list[tuple[Queue, int]]:
    """The queues that a request may take from, each with the most to take."""
    if not request.shares:
        return [(queue, request.limit) for queue in places.queues.values() if queue.state is not QueueState.PAUSED]
    named = ((places.queues.get(name), most) for name, most in request.shares)
    return [(queue, most) for queue, most in named if queue is not None and queue.state is not QueueState.PAUSED]


def _source(places: Places, request: ClaimRequest, queues: list[Queue]) -> Source:
    """Where the rows of a claim come from."""
    if request.ids:
        names = {queue.name for queue in queues}
        is_alone = request.alone is Alone.ONLY
        named = (places.rows.get(invocation_id) for invocation_id in dict.fromkeys(request.ids))
        rows = [row for row in named if row is not None and row.alone == is_alone and row.new.queue in names]
        return Chosen(rows, lambda row: places.queues[row.new.queue].line_of(row), aged=request.aged).pop
    lines = _lines(queues, request)
    if len(lines) != 1:
        return Merged(lines, aged=request.aged).pop
    return lines[0].pop_oldest if request.aged else lines[0].pop


def _lines(queues: list[Queue], request: ClaimRequest) -> list[Ready]:
    if request.alone is Alone.ONLY:
        return [queue.suspects for queue in queues if queue.suspects.live]
    lines = [queue.ready for queue in queues if queue.ready.live]
    for queue in queues:
        if queue.passed:
            lines += queue.passed_but(request.without)
    return lines


def _take(
    places: Places, request: ClaimRequest, source: Source, most: int, now: Microseconds, batch: list[Claimed]
) -> None:
    """Claim at most ``most`` rows of a source."""
    runner = request.runner
    owned = places.owned[runner]
    until = len(batch) + most
    passed: list[Row] = []
    while len(batch) < until and (row := source()) is not None:
        if row.new.task in request.without:
            passed.append(row)
            continue
        if not row.is_plain and not places.may_start(row, now):
            continue
        row.place = Place.CLAIMED
        row.status = InvocationStatus.PENDING
        row.runner = runner
        row.claimed = now
        row.is_open = True
        row.attempt += 1
        if row.attempt > 1 or row.round:
            row.started, row.reason = 0, ""
        claimed = owned[row.id] = to_claimed(row)
        batch.append(claimed)
    for row in passed:
        places.queues[row.new.queue].pass_over(row)


def _next_due(asked: list[tuple[Queue, int]]) -> Microseconds:
    """When the first row that waits for a time becomes claimable."""
    firsts = [first[0] for queue, _ in asked if queue.later.live and (first := queue.later.first()) is not None]
    return int(min(firsts, default=0))
