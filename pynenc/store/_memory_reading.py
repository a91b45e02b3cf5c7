"""Readings of a memory store: filters, pages and counts. They look at every row; nothing that is urgent comes through here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from pynenc.core.records import Filter, Page, QueueInfo
from pynenc.store._memory_lines import Queue
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import Row


def page(places: Places, where: Filter, page: Page) -> tuple[list[Row], str]:
    """The rows of a page and the cursor that continues it: the number of submission of the last row."""
    found = list(islice(_after(matching(places, where, oldest_first=page.oldest_first), page), page.limit + 1))
    rows = found[: page.limit]
    return rows, str(rows[-1].seq) if rows and len(found) > len(rows) else ""


def _after(rows: Iterable[Row], page: Page) -> Iterable[Row]:
    if not page.cursor:
        return rows
    cursor = int(page.cursor)
    return (row for row in rows if (row.seq > cursor if page.oldest_first else row.seq < cursor))


def matching(places: Places, where: Filter, *, oldest_first: bool = True) -> Iterator[Row]:
    """The rows that a filter lets through, by submission."""
    rows: Iterable[Row] = places.rows.values() if oldest_first else reversed(places.rows.values())
    if where.ids:
        named = (places.rows.get(invocation_id) for invocation_id in dict.fromkeys(where.ids))
        rows = sorted((row for row in named if row is not None), key=lambda row: row.seq, reverse=not oldest_first)
    return (row for row in rows if _matches(row, where))


def _matches(row: Row, where: Filter) -> bool:
    new = row.new
    return (
        (not where.tasks or new.task in where.tasks)
        and (not where.statuses or row.status in where.statuses)
        and (not where.queues or new.queue in where.queues)
        and (not where.tags or set(where.tags).issubset(new.tags))
        and (where.parent is None or new.parent == where.parent)
        and (where.workflow is None or where.workflow == (new.workflow.id if new.workflow else row.id))
        and (where.runner is None or row.runner == where.runner)
        and (where.running_key is None or new.running_key == where.running_key)
        and where.created_from <= row.created
        and (not where.created_until or row.created < where.created_until)
        and (not where.text or where.text in new.task or row.id.startswith(where.text))
    )


def count(places: Places, where: Filter, by: str) -> dict[str, int]:
    """How many rows a filter lets through, by status, task or queue."""
    rows = matching(places, where)
    if by == "status":
        return dict(Counter(row.status.value for row in rows))
    if by == "task":
        return dict(Counter(row.new.task for row in rows))
    if by == "queue":
        return dict(Counter(row.new.queue for row in rows))
    raise ValueError(f"cannot count by {by!r}: use status, task or queue")


def queues(places: Places) -> list[QueueInfo]:
    """All queues by name."""
    claimed = Counter(claimed.queue for owned in places.owned.values() for claimed in owned.values())
    return [_queue(places, queue, claimed[name]) for name, queue in sorted(places.queues.items())]


def _queue(places: Places, queue: Queue, claimed: int) -> QueueInfo:
    lines = (queue.ready, queue.suspects, *queue.passed.values())
    fronts = [entry for line in lines if (entry := line.oldest()) is not None]
    oldest = [places.rows[entry[3]] for entry in fronts]
    return QueueInfo(
        queue.name,
        queue.state,
        ready=queue.claimable,
        later=queue.later.live - queue.suspended,
        parked=queue.parked,
        claimed=claimed,
        oldest=min((max(row.created, row.due) for row in oldest), default=0),
    )
