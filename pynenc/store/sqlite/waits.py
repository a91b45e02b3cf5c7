"""Wait edges: who waits for whom, whether that could end, and what it raises. A waiter is a claimed invocation, or a suspended one (PAUSED)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pynenc.core.waiting import find_cycle
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import json_list, of_one

#: A row that must still get a place of its running key, now or when it is due.
_NEEDS_KEY = "running_key IS NOT NULL AND held IS NULL AND drop_blocked = 0"
#: What can be waited for, and whether it waits for something itself: only that can close a circle.
UNFINISHED = (
    f"SELECT id, ({_NEEDS_KEY}) OR EXISTS (SELECT 1 FROM $edge WHERE waiter = i.id) FROM $inv i "
    "WHERE id IN (SELECT value FROM json_each(?)) AND place < 5"
)
UNFINISHED_ONE = of_one(UNFINISHED)
AWAITED = "SELECT awaited FROM $edge WHERE waiter IN (SELECT value FROM json_each(?))"
BEHIND = f"SELECT running_key, why = 1, running_limit FROM $inv WHERE id = ? AND place < 5 AND {_NEEDS_KEY}"
HOLDERS = "SELECT id FROM $inv WHERE held = ?"
ADD_EDGE = "INSERT OR IGNORE INTO $edge (waiter, awaited) VALUES (?, ?)"
DROP_EDGE = "DELETE FROM $edge WHERE waiter = ?1 AND awaited = ?2 AND EXISTS (SELECT 1 FROM $inv WHERE id = ?1 AND attempt = ?3 AND place = 3)"
ANY_EDGE = "SELECT 1 FROM $edge LIMIT 1"
ASLEEP = "SELECT DISTINCT i.id FROM $edge e JOIN $inv i ON i.id = e.waiter WHERE e.awaited IN (SELECT value FROM json_each(?)) AND i.place = 4 ORDER BY i.seq"
ASLEEP_FOR_ONE = (
    "SELECT i.id FROM $edge e CROSS JOIN $inv i ON i.id = e.waiter WHERE e.awaited = ? AND i.place = 4 ORDER BY i.seq"
)
DROP_EDGES = "DELETE FROM $edge WHERE waiter IN (SELECT value FROM json_each(?1)) OR awaited IN (SELECT value FROM json_each(?2))"
DROP_EDGES_OF_ONE = of_one(DROP_EDGES)
RAISE = "UPDATE $inv SET rank = max(rank, ?2), boost = max(boost, ?3) WHERE id IN (SELECT value FROM json_each(?1)) AND place < 5"


def unfinished(tx: Tx, ids: Sequence[str]) -> Mapping[str, int]:
    """Those of ``ids`` that are not final, each with whether it may wait for something itself."""
    return dict(tx.all(UNFINISHED_ONE, *ids) if len(ids) == 1 else tx.all(UNFINISHED, json_list(ids)))


def add(tx: Tx, waiter: str, ids: Sequence[str]) -> None:
    """Record that one waits for others."""
    tx.many(ADD_EDGE, [(waiter, name) for name in ids])


def drop(tx: Tx, waiters: Sequence[str], awaited: Sequence[str]) -> list[str]:
    """Forget who waited, and what was waited for; those that were suspended until then."""
    if tx.execute(tx.texts[ANY_EDGE]).fetchone() is None:
        return []
    if len(waiters) == len(awaited) == 1:
        asleep = tx.all(ASLEEP_FOR_ONE, *awaited)
        tx.run(DROP_EDGES_OF_ONE, *waiters, *awaited)
    else:
        asleep = tx.all(ASLEEP, json_list(awaited)) if awaited else []
        tx.run(DROP_EDGES, json_list(waiters), json_list(awaited))
    return [name for (name,) in asleep]


def circle(tx: Tx, waiter: str, awaited: str) -> tuple[str, ...]:
    """The circle that a wait would close; empty if it can end."""

    def edges(node: str) -> list[str]:
        return [name for (name,) in tx.all(AWAITED, json_list([node]))]

    def holders(node: str) -> list[str]:
        for key, is_parked, limit in tx.all(BEHIND, node):
            found = [name for (name,) in tx.all(HOLDERS, key)]
            return found if is_parked or len(found) >= limit else []
        return []

    return find_cycle(waiter, awaited, edges, holders)


def raise_awaited(tx: Tx, waiters: list[str], rank: float, boost: int, only: list[str] | None = None) -> None:
    """Raise rank and boost of all that ``waiters`` wait for, directly or through others.

    :param only: begin with these alone.
    """
    seen = set(waiters)
    level = only if only is not None else waiters
    if only is None:
        level = [name for (name,) in tx.all(AWAITED, json_list(level))]
    while level:
        tx.run(RAISE, json_list(level), rank, boost)
        seen.update(level)
        level = [name for (name,) in tx.all(AWAITED, json_list(level)) if name not in seen]
