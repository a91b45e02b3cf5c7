"""Reading: nothing here changes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pynenc.core.records import (
    Filter,
    Final,
    Found,
    HistoryEntry,
    Invocation,
    Microseconds,
    Page,
    QueueInfo,
    QueueState,
)
from pynenc.core.status import STATUSES_OF_PLACE
from pynenc.exceptions import InvocationNotFoundError, StoreError
from pynenc.store.sqlite import schema
from pynenc.store.sqlite.claiming import BIG_OF
from pynenc.store.sqlite.damage import DAMAGE, DAMAGED
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import BIG_ARGS, CODES, PLACES, READ_COLUMNS, STATUSES, Read, history_entry, json_list

FINALS = "SELECT id, status, task, payload, round, reason, place FROM $inv WHERE id IN (SELECT value FROM json_each(?))"
FINAL = "SELECT id, status, task, payload, round, reason, place FROM $inv WHERE id = ?"
ANY_FINAL = "SELECT 1 FROM $inv WHERE id IN (SELECT value FROM json_each(?)) AND place = 5 LIMIT 1"
ALL_FINAL = "SELECT id FROM $inv WHERE id IN (SELECT value FROM json_each(?)) AND place = 5"
GET = f"SELECT {READ_COLUMNS} FROM $inv WHERE id IN (SELECT value FROM json_each(?))"
EDGES = "SELECT waiter, awaited FROM $edge WHERE waiter IN (SELECT value FROM json_each(?))"
HISTORY = "SELECT seq, n, status, at, runner, attempt, round, reason, payload FROM $hist WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq, n"
QUEUES = "SELECT name, state FROM $queue ORDER BY name"
PLAIN_OF = "SELECT count(*) FROM $inv INDEXED BY $plain WHERE place = 0 AND rank = 0 AND boost = 0 AND queue = ?"
RANKED_OF = "SELECT count(*) FROM $inv INDEXED BY $aged WHERE place = 0 AND (rank != 0 OR boost != 0) AND queue = ?"
LATER_OF = "SELECT count(*) FROM $inv WHERE timer > 0 AND place = 1 AND queue = ?"
PARKED_OF = "SELECT queue, count(*) FROM $inv WHERE why IN (1, 2, 3) AND why > 0 AND place = 2 GROUP BY queue"
CLAIMED_OF = "SELECT queue, count(*) FROM $inv INDEXED BY $owned WHERE place = 3 GROUP BY queue"
_SINCE = "SELECT max(created, due) FROM $inv INDEXED BY"
OLDEST_PLAIN = f"{_SINCE} $plain WHERE place = 0 AND rank = 0 AND boost = 0 AND queue = ? ORDER BY seq LIMIT 1"
OLDEST_RANKED = f"{_SINCE} $aged WHERE place = 0 AND (rank != 0 OR boost != 0) AND queue = ? ORDER BY seq LIMIT 1"
RECALL = "SELECT key, value FROM $memo WHERE scope = ?"
RECALL_SOME = "SELECT key, value FROM $memo WHERE scope = ? AND key IN (SELECT value FROM json_each(?))"
BLOBS = "SELECT key, data FROM $blob WHERE key IN (SELECT value FROM json_each(?))"


def finals(found: Sequence[tuple[Any, ...]], ids: Sequence[str]) -> list[Final]:
    """Those of ``ids`` that are final, in their order, from the rows of :data:`FINAL` or :data:`FINALS`.

    :raises InvocationNotFoundError: one is unknown.
    """
    rows = {row[0]: row for row in found}
    answers = []
    for name in ids:
        row = rows.get(name)
        if row is None:
            raise InvocationNotFoundError(f"no invocation {name}: it was purged, or belongs to another app", name)
        if row[6] == schema.FINAL:
            answers.append(Final(name, STATUSES[row[1]], row[2], row[3] or b"", row[4], row[5]))
    return answers


# -- invocations ----------------------------------------------------------------------------------------------------------
def get(tx: Tx, ids: Sequence[str]) -> list[Invocation]:
    """The invocations that exist, in the order of ``ids``."""
    found = {row.id: row for row in _records(tx, tx.all(GET, json_list(ids)))}
    return [found[name] for name in ids if name in found]


def _records(tx: Tx, found: Sequence[tuple[Any, ...]]) -> list[Invocation]:
    rows = [Read(values) for values in found]
    big = [row.seq for row in rows if row.special & BIG_ARGS]
    args = dict(tx.all(BIG_OF, json_list(big))) if big else {}
    waiting: dict[str, list[str]] = defaultdict(list)
    waiters = [row.id for row in rows if row.place in (schema.CLAIMED, schema.WAITING)]
    for waiter, awaited in tx.all(EDGES, json_list(waiters)) if waiters else ():
        waiting[waiter].append(awaited)
    return [_record(row, args.get(row.seq, row.args), tuple(waiting.get(row.id, ()))) for row in rows]


def _record(row: Read, args: bytes, waiting_for: tuple[str, ...]) -> Invocation:
    """:raises StoreError: the row holds something else than was ever written."""
    try:
        return row.record(args, waiting_for)
    except DAMAGE as error:
        raise StoreError(
            f"invocation {row.id} cannot be read ({error}): see `pynenc store check`, and repair or remove its row"
        ) from error


def find(tx: Tx, where: Filter, page: Page) -> Found:
    """One page, by submission."""
    conditions, values = _conditions(where)
    if page.cursor:
        conditions.append("seq > ?" if page.oldest_first else "seq < ?")
        values.append(int(page.cursor))
    query = f"SELECT {READ_COLUMNS} FROM $inv{_where(conditions)} ORDER BY seq {'ASC' if page.oldest_first else 'DESC'} LIMIT ?"
    found = tx.all(query, *values, page.limit + 1)
    cursor = str(found[page.limit - 1][0]) if len(found) > page.limit else ""
    return Found(tuple(_records(tx, found[: page.limit])), cursor)


def count(tx: Tx, where: Filter, by: str) -> dict[str, int]:
    """Counts by status, task or queue."""
    conditions, values = _conditions(where)
    column = {"status": "status", "task": "task", "queue": "queue"}[by]
    found = tx.all(f"SELECT {column}, count(*) FROM $inv{_where(conditions)} GROUP BY {column}", *values)
    return {STATUSES[name].value if by == "status" else name: number for name, number in found}


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _conditions(where: Filter) -> tuple[list[str], list[Any]]:
    """The conditions of a filter and their values; the texts are ours, the values are bound."""
    found: list[tuple[str, tuple[Any, ...]]] = []
    for column, wanted in (("id", where.ids), ("task", where.tasks), ("queue", where.queues)):
        if wanted:
            found.append((f"{column} IN (SELECT value FROM json_each(?))", (json_list(wanted),)))
    if where.statuses:
        found.append((f"status IN ({', '.join(str(CODES[status]) for status in where.statuses)})", ()))
    found += [("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)", (tag,)) for tag in where.tags]
    if where.workflow is not None:
        found.append(("(workflow = ? OR (id = ? AND workflow IS NULL))", (where.workflow, where.workflow)))
    for column, text in (("parent", where.parent), ("running_key", where.running_key)):
        if text is not None:
            found.append((f"{column} = ?", (text,)))
    if where.runner is not None:
        found.append(("runner = ?", (where.runner,)))
    if where.created_from:
        found.append(("created >= ?", (where.created_from,)))
    if where.created_until:
        found.append(("created < ?", (where.created_until,)))
    if where.text:
        found.append(("(instr(task, ?) > 0 OR substr(id, 1, ?) = ?)", (where.text, len(where.text), where.text)))
    return [text for text, _ in found], [value for _, values in found for value in values]


def history(tx: Tx, ids: Sequence[str]) -> list[HistoryEntry]:
    """All changes of status: those that were kept, then those that follow from the row."""
    rows = {row.id: row for row in map(Read, tx.all(GET, json_list(ids)))}
    kept: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for seq, n, *values in tx.all(HISTORY, json_list([row.seq for row in rows.values() if row.entries])):
        kept[seq].append((n, tuple(values)))
    entries = []
    for name in ids:
        if row := rows.get(name):
            entries += [history_entry(name, n, entry) for n, entry in kept[row.seq]]
            entries += [history_entry(name, row.entries + n, entry) for n, entry in enumerate(schema.derived(row))]
    return entries


# -- the rest ----------------------------------------------------------------------------------------------------------------
def queues(tx: Tx) -> list[QueueInfo]:
    """All queues by name, counted through the indices of what is not final."""
    parked, claimed = dict(tx.all(PARKED_OF)), dict(tx.all(CLAIMED_OF))
    return [
        QueueInfo(
            name,
            QueueState(state),
            ready=tx.value(PLAIN_OF, name) + tx.value(RANKED_OF, name),
            later=tx.value(LATER_OF, name),
            parked=parked.get(name, 0),
            claimed=claimed.get(name, 0),
            oldest=_oldest(tx, name),
        )
        for name, state in tx.all(QUEUES)
    ]


def _oldest(tx: Tx, queue: str) -> Microseconds:
    found = [tx.value(OLDEST_PLAIN, queue), tx.value(OLDEST_RANKED, queue)]
    return min((time for time in found if time), default=0)


def recall(tx: Tx, scope: str, keys: Iterable[str] | None) -> dict[str, bytes]:
    """The values of a scope."""
    found = tx.all(RECALL, scope) if keys is None else tx.all(RECALL_SOME, scope, json_list(list(keys)))
    return dict(found)


def get_blobs(tx: Tx, keys: Sequence[str]) -> dict[str, bytes]:
    """The data of the blobs that exist."""
    return dict(tx.all(BLOBS, json_list(keys)))


# -- invariants ---------------------------------------------------------------------------------------------------------------
#: What must not be found: a sentence for each query, with the columns of its rows filled in.
PROBLEMS = {
    "{0} cannot be read: a column holds what was never written there": f"SELECT id FROM $inv i WHERE {DAMAGED}",
    "{0} is claimed by nobody": "SELECT id FROM $inv WHERE place = 3 AND runner IS NULL",
    "{0} is not claimed but has an owner": "SELECT id FROM $inv WHERE place NOT IN (3, 5) AND runner IS NOT NULL",
    "{0} is parked behind nothing, or stands behind something without being parked": (
        "SELECT id FROM $inv WHERE (place = 2) != (why IN (1, 2, 3)) OR (why > 0) != (behind IS NOT NULL) "
        "OR (why = 4) != (alone = 1 AND place = 0)"
    ),
    "{0} has a timer that it should not have, or lacks one": (
        "SELECT id FROM $inv WHERE place = 1 AND timer IS NULL OR timer IS NOT NULL AND place NOT IN (1, 4)"
    ),
    "{0} can run without holding its running key": (
        "SELECT id FROM $inv WHERE place IN (0, 3) AND running_key IS NOT NULL AND drop_blocked = 0 AND held IS NOT running_key"
    ),
    "{0} holds a running key that it has no use for": (
        "SELECT id FROM $inv WHERE held IS NOT NULL AND (place IN (4, 5) OR why IN (1, 3))"
    ),
    "running key {0} is held by {1}, more than its limit": (
        "SELECT held, count(*) AS n FROM $inv WHERE held IS NOT NULL GROUP BY held HAVING n > max(running_limit)"
    ),
    "{0} is parked while running key {1} has room": (
        "SELECT i.id, i.behind FROM $inv i WHERE i.why = 1 "
        "AND (SELECT count(*) FROM $inv h WHERE h.held = i.behind) < i.running_limit"
    ),
    "rate {0} has {1} heads": (
        "SELECT rated, count(*) AS n FROM $inv WHERE rated IS NOT NULL GROUP BY rated HAVING n > 1"
    ),
    "{0} waits in line for rate {1}, which has no head": (
        "SELECT i.id, i.behind FROM $inv i WHERE i.why = 2 AND NOT EXISTS (SELECT 1 FROM $inv h WHERE h.rated = i.behind)"
    ),
    "{0} waits for {1} but is neither claimed nor suspended": (
        "SELECT e.waiter, e.awaited FROM $edge e LEFT JOIN $inv i ON i.id = e.waiter WHERE i.place IS NULL OR i.place NOT IN (3, 4)"
    ),
    "{0} waits for signals but is not suspended": "SELECT id FROM $inv WHERE seen IS NOT NULL AND place != 4",
    "{0} waits for {1}, which is final or purged": (
        "SELECT e.waiter, e.awaited FROM $edge e LEFT JOIN $inv i ON i.id = e.awaited WHERE i.place IS NULL OR i.place = 5"
    ),
    "registration key {0} is held by an invocation that has been claimed or is gone": (
        "SELECT r.key FROM $registration r LEFT JOIN $inv i ON i.seq = r.seq WHERE i.attempt IS NOT 0 OR i.place = 5"
    ),
    "row {0} has a history but is gone": (
        "SELECT DISTINCT h.seq FROM $hist h LEFT JOIN $inv i ON i.seq = h.seq WHERE i.seq IS NULL"
    ),
    "the history of {0} has gaps": (
        "SELECT i.id FROM $inv i WHERE i.entries != (SELECT count(*) FROM $hist h WHERE h.seq = i.seq)"
    ),
    "{0} is owned by a runner that is gone": (
        "SELECT i.id FROM $inv i WHERE i.place = 3 "
        "AND NOT EXISTS (SELECT 1 FROM $runner r WHERE r.id = i.runner AND r.death IS NOT 'gone')"
    ),
}


def check(tx: Tx) -> list[str]:
    """Everything that is not as it must be."""
    problems = [text for (text,) in tx.all("PRAGMA quick_check") if text != "ok"]
    for place, statuses in STATUSES_OF_PLACE.items():
        allowed = ", ".join(str(CODES[status]) for status in statuses)
        for name, status in tx.all(
            f"SELECT id, status FROM $inv WHERE place = {int(place)} AND status NOT IN ({allowed})"
        ):
            known = STATUSES[status] if status in range(len(STATUSES)) else f"of an unknown status {status!r}"
            problems.append(f"{name} is {known} in place {PLACES[place].name}")
    for text, query in PROBLEMS.items():
        problems += [text.format(*row) for row in tx.all(f"{query} LIMIT 20")]
    return problems
