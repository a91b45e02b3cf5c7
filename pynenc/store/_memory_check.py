"""What must always hold in a memory store, looked up the slow way: from the rows alone, against all indices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from pynenc.core.status import STATUSES_OF_PLACE, InvocationStatus, Place, can_transition
from pynenc.store._memory_lines import Line, Ready
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import Behind, Row, to_history

S = InvocationStatus
_WAITERS = (Place.CLAIMED, Place.WAITING)
Problems = Iterator[str]


def check(places: Places) -> list[str]:
    """One line for each problem."""
    checks: tuple[Callable[[Places], Problems], ...] = (
        _statuses,
        _owners,
        _lines,
        _keys,
        _rates,
        _unknown_tasks,
        _expiring,
        _registrations,
        _successes,
        _edges,
        _ranks,
        _blobs,
    )
    return [problem for each in checks for problem in each(places)]


def _in(places: Places, place: Place) -> Iterator[Row]:
    return (row for row in places.rows.values() if row.place is place)


def _statuses(places: Places) -> Problems:
    """The status fits the place, and the history leads to it by legal steps."""
    for row in places.rows.values():
        if row.status not in STATUSES_OF_PLACE[row.place]:
            yield f"{row.id}: {row.status} in {row.place.name}"
        trail = [entry.status for entry in to_history(row)]
        if trail[-1] is not row.status:
            yield f"{row.id}: {row.status}, but its history ends with {trail[-1]}"
        yield from (f"{row.id}: {a} → {b} is no legal step" for a, b in pairwise(trail) if not can_transition(a, b))


def _owners(places: Places) -> Problems:
    """What is CLAIMED is owned by the runner that it names, and nothing else is."""
    claimed = {(row.runner, row.id, row.attempt) for row in _in(places, Place.CLAIMED)}
    owned = {(runner, item.id, item.attempt) for runner, items in places.owned.items() for item in items.values()}
    yield from (f"{name}: claimed by {runner}, which does not own it" for runner, name, _ in claimed - owned)
    yield from (f"{name}: owned by {runner}, but not claimed by it" for runner, name, _ in owned - claimed)


def _lines(places: Places) -> Problems:
    """Each row that waits is in its line, once, and each line counts what is in it."""
    for queue in places.queues.values():
        mine = [row for row in places.rows.values() if row.new.queue == queue.name]
        ready = [row for row in mine if row.place is Place.READY]
        suspended = [row for row in mine if row.place is Place.WAITING and row.turn is not None]
        later = [row for row in mine if row.place is Place.LATER]
        passed = [row for row in ready if row.is_passed and not row.alone]
        yield from _line(
            queue.ready, (row for row in ready if not row.alone and not row.is_passed), f"ready in {queue.name}"
        )
        for task in {row.new.task for row in passed} | queue.passed.keys():
            line = queue.passed.get(task, Ready({}))
            yield from _line(
                line, (row for row in passed if row.new.task == task), f"{task} passed over in {queue.name}"
            )
        yield from _line(queue.suspects, (row for row in ready if row.alone), f"suspects in {queue.name}")
        yield from _line(queue.later, [*later, *suspended], f"later in {queue.name}")
        counts = sum(row.place is Place.PARKED for row in mine), len(suspended)
        if counts != (queue.parked, queue.suspended):
            yield f"{queue.name}: counts {(queue.parked, queue.suspended)} parked and suspended of {counts}"
    yield from _line(places.mortal, (row for row in _in(places, Place.FINAL) if row.new.result_ttl), "finals")


def _line(line: Line | Ready, rows: Iterable[Row], name: str) -> Problems:
    """A line holds exactly these rows, in the order that they have now."""
    listed = Counter(entry[3] for entry in line.entries())
    expected = Counter(row.id for row in rows)
    if listed != expected:
        yield f"{name}: {sorted((listed - expected) + (expected - listed))} wrongly in line or out of it"
    if line.live != listed.total():
        yield f"{name}: counts {line.live} of {listed.total()}"


def _holds_key(row: Row) -> bool:
    """Whether a row of a running key must hold it."""
    return row.place in (Place.READY, Place.CLAIMED) or (row.place is Place.PARKED and row.behind is Behind.RATE)


def _keys(places: Places) -> Problems:
    """No key is over its limit, and nobody is parked while there is room."""
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in places.rows.values():
        if row.new.running_key is not None:
            by_key[row.new.running_key].append(row)
    for key in by_key.keys() | places.keys.keys():
        yield from _key(places, key, by_key[key])


def _key(places: Places, key: str, rows: list[Row]) -> Problems:
    held = {row.id for row in rows if row.needs_key and (_holds_key(row) or places.is_head(row))}
    claimed = sum(row.place is Place.CLAIMED for row in rows)
    parked = [row for row in rows if row.behind is Behind.KEY]
    lane = places.keys.get(key)
    if lane is None:
        if held or claimed or parked:
            yield f"key {key}: used, but not known"
        return
    if (set(lane.holders), lane.claimed) != (held, claimed):
        yield f"key {key}: holders {sorted(lane.holders)} and {lane.claimed} claimed, found {sorted(held)} and {claimed}"
    yield from _line(lane.line(), parked, f"parked behind key {key}")
    limits = {row.new.running_limit for row in rows}
    if len(held) > max(limits, default=0):
        yield f"key {key}: {len(held)} hold it, at most {max(limits, default=0)} may"
    if parked and len(held) < min(limits):
        yield f"key {key}: {len(parked)} parked while only {len(held)} hold it"


def _rates(places: Places) -> Problems:
    """The head of a rate is READY or LATER; nobody is parked behind a rate without a head."""
    behind: dict[str, list[Row]] = defaultdict(list)
    for row in places.rows.values():
        if row.behind is Behind.RATE and row.new.rate is not None:
            behind[row.new.rate.key].append(row)
    for key in behind.keys() | places.rates.keys():
        lane = places.rates.get(key)
        head = places.rows.get(lane.head or "") if lane else None
        if lane is None or (head is None and (behind[key] or lane.head)):
            yield f"rate {key}: {len(behind[key])} parked behind nobody"
        elif head is not None and head.place not in (Place.READY, Place.LATER):
            yield f"rate {key}: its head {head.id} is {head.place.name}"
        if lane is not None:
            yield from _line(lane.parked, behind[key], f"parked behind rate {key}")


def _unknown_tasks(places: Places) -> Problems:
    listed = {(task, name) for task, names in places.unknown.items() for name in names}
    found = {(row.new.task, row.id) for row in places.rows.values() if row.behind is Behind.TASK}
    yield from (f"{name}: wrongly listed, or not, as waiting for {task}" for task, name in listed ^ found)
    for row in places.rows.values():
        if (row.place is Place.PARKED) != (row.behind is not Behind.NOTHING):
            yield f"{row.id}: {row.place.name}, behind {row.behind.name}"


def _expiring(places: Places) -> Problems:
    listed = {(name, seq) for _, seq, name in places.expiring}
    for row in places.rows.values():
        if row.new.expires and row.is_unstarted and (row.id, row.seq) not in listed:
            yield f"{row.id}: nobody will see that it expires"


def _registrations(places: Places) -> Problems:
    """A registration key is held by what names it and was never claimed."""
    for key, name in places.registered.items():
        row = places.rows.get(name)
        if row is None or row.new.registration_key != key or row.attempt or row.place is Place.FINAL:
            yield f"registration key {key}: held by {name}"


def _successes(places: Places) -> Problems:
    listed = {(key, *item) for key, items in places.successes.items() for item in items}
    rows = _in(places, Place.FINAL)
    found = {(row.new.cache_key, row.seq, row.id) for row in rows if row.new.cache_key and row.status is S.SUCCESS}
    yield from (f"cache key {key}: {name} is wrongly listed, or not" for key, _, name in listed ^ found)


def _edges(places: Places) -> Problems:
    """Whoever waits is CLAIMED or suspended, what is awaited is not final, and both ends of an edge know of it."""
    nodes = places.waits.nodes
    edges = {(waiter, awaited) for waiter, node in nodes.items() for awaited in node.awaits}
    back = {(waiter, awaited) for awaited, node in nodes.items() for waiter in node.waiters}
    yield from (f"only one of {waiter} and {awaited} knows that the first waits" for waiter, awaited in edges ^ back)
    for waiter, awaited in edges:
        rows = places.rows.get(waiter), places.rows.get(awaited)
        if rows[0] is None or rows[0].place not in _WAITERS or rows[1] is None or rows[1].place is Place.FINAL:
            yield f"{waiter} waits for {awaited}, but one of them has ended"
        elif rows[1].rank < rows[0].rank:
            yield f"{waiter} of rank {rows[0].rank} waits for {awaited} of rank {rows[1].rank}"


def _ranks(places: Places) -> Problems:
    """Ranks are never below the own priority, and a line knows the rank that its rows have now."""
    for row in places.rows.values():
        if row.rank < row.priority:
            yield f"{row.id}: rank {row.rank} below its priority {row.priority}"
        if row.place is Place.READY and (row.turn or ())[:2] != (-row.rank, -row.boost):
            yield f"{row.id}: in line as {row.turn}, but its rank is {row.rank} and its boost {row.boost}"
        if row.place is Place.PARKED and row.turn is not None and row.turn[0] != -row.rank:
            yield f"{row.id}: parked as {row.turn}, but its rank is {row.rank}"


def _blobs(places: Places) -> Problems:
    references = Counter(key for row in places.rows.values() for key in row.new.blobs)
    for key in references.keys() | places.blobs.keys():
        blob = places.blobs.get(key)
        if blob is None or blob.references != references[key]:
            yield f"blob {key}: counts {blob and blob.references} of {references[key]} references"
