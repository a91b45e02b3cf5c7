"""What people do to invocations, and what waiting does to those that are waited for."""

from __future__ import annotations

from collections.abc import Sequence

from pynenc.core.records import Amended, Change, ChangeKind, Claim, ClaimRequest, Ref
from pynenc.core.waiting import find_cycle
from pynenc.exceptions import CycleDetectedError
from pynenc.store.sqlite import claiming, life, schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import Row, load
from pynenc.store.sqlite.schema import CLAIMED, FINAL, LATER, STATUSES, WAITING, json_list, of_one

REMEMBER = "INSERT INTO $memo (scope, key, value) VALUES (?, ?, ?) ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value"
HIGHEST_WAITER = "SELECT max(i.rank) FROM $edge e JOIN $inv i ON i.id = e.waiter WHERE e.awaited = ?"
OWNS = "SELECT rank FROM $inv WHERE id = ? AND attempt = ? AND place = 3"
#: A row that must still get a place of its running key, now or when it is due.
_NEEDS_KEY = "running_key IS NOT NULL AND held IS NULL AND drop_blocked = 0"
#: What can be waited for, and whether it waits for something itself: only that can close a circle.
UNFINISHED = (
    f"SELECT id, ({_NEEDS_KEY}) OR EXISTS (SELECT 1 FROM $edge WHERE waiter = i.id) FROM $inv i "
    "WHERE id IN (SELECT value FROM json_each(?)) AND place < 5"
)
AWAITED = "SELECT awaited FROM $edge WHERE waiter IN (SELECT value FROM json_each(?))"
BEHIND = f"SELECT running_key, why = 1, running_limit FROM $inv WHERE id = ? AND place < 5 AND {_NEEDS_KEY}"
HOLDERS = "SELECT id FROM $inv WHERE held = ?"
ADD_EDGE = "INSERT OR IGNORE INTO $edge (waiter, awaited) VALUES (?, ?)"
DROP_EDGE = (
    "DELETE FROM $edge WHERE waiter = ? AND awaited = ? AND EXISTS (SELECT 1 FROM $inv WHERE id = ?1 AND attempt = ?3)"
)
UNFINISHED_ONE = of_one(UNFINISHED)


def amend(tx: Tx, ids: Sequence[str], change: Change) -> list[Amended]:
    """Carry out what a person asks; the answer to each."""
    return [_amend(tx, name, change) for name in ids]


def _amend(tx: Tx, invocation_id: str, change: Change) -> Amended:
    row = load(tx, invocation_id)
    if row is None:
        return Amended(invocation_id, False, None)
    is_accepted = _CHANGES[change.kind](tx, row, change)
    return Amended(invocation_id, is_accepted, STATUSES[row.status])


def _cancel(tx: Tx, row: Row, change: Change) -> bool:
    if row.place == FINAL:
        return False
    if row.place == CLAIMED:
        row.cancel = 1
        row.save(tx)
        tx.orders = True
    else:
        life.end(tx, row, schema.CANCELLED, change.reason)
    return True


def _requeue(tx: Tx, row: Row, change: Change) -> bool:
    if row.place == FINAL:
        entry = (schema.REGISTERED, tx.now, None, row.attempt, row.round + 1, change.reason, b"")
        life.log(tx, row, entry)
        row.status, row.place, row.round, row.due = schema.REGISTERED, WAITING, row.round + 1, 0
        row.retries = row.crashes = row.alone = row.cancel = row.started = row.ended = 0
        row.runner, row.payload, row.reason, row.gone = None, b"", change.reason, None
    elif row.place == LATER and row.due > tx.now:
        row.due = 0
    else:
        return False
    life.admit(tx, row, row.status)
    row.save(tx)
    return True


def _reprioritise(tx: Tx, row: Row, change: Change) -> bool:
    if row.place == FINAL:
        return False
    row.priority = change.priority
    row.rank = max(change.priority, tx.value(HIGHEST_WAITER, row.id) or change.priority)
    row.save(tx)
    raise_awaited(tx, [row.id], row.rank, 0)
    return True


def _resume(tx: Tx, row: Row, change: Change) -> bool:
    if row.place != WAITING:
        return False
    tx.run(REMEMBER, row.id, "resume", change.value)
    life.log(tx, row, life.entry(tx, row, schema.REGISTERED, change.reason or "resumed"))
    row.status, row.due = schema.REGISTERED, 0
    life.admit(tx, row, schema.REGISTERED)
    row.save(tx)
    return True


_CHANGES = {
    ChangeKind.CANCEL: _cancel,
    ChangeKind.REQUEUE: _requeue,
    ChangeKind.REPRIORITISE: _reprioritise,
    ChangeKind.RESUME: _resume,
}


# -- waiting ----------------------------------------------------------------------------------------------------------------
def wait(tx: Tx, waiter: Ref, ids: Sequence[str], request: ClaimRequest | None) -> tuple[bool, Claim]:
    """Record that a claimed invocation waits for others, and raise these; then claim. Whether it need not wait at all, and the claim.

    :raises CycleDetectedError: the wait would never end.
    """
    rank = tx.value(OWNS, waiter.id, waiter.attempt)
    if rank is None:
        return True, Claim()
    found = dict(tx.all(UNFINISHED_ONE, *ids) if len(ids) == 1 else tx.all(UNFINISHED, json_list(ids)))
    blocked = [name for name in ids if found.get(name) or name == waiter.id]
    if blocked:
        _refuse_cycles(tx, waiter.id, blocked)
    tx.many(ADD_EDGE, [(waiter.id, name) for name in found])
    is_over = len(found) < len(set(ids))
    if is_over:
        request = None
    if request and len(found) == 1 and not blocked:
        return False, claiming.claim(tx, request, tuple(found), rank)
    if blocked:
        raise_awaited(tx, [waiter.id], rank, tx.now, only=list(found))
    elif found:
        tx.run(claiming.RAISE, json_list(list(found)), rank, tx.now)
    return is_over, claiming.claim(tx, request) if request else Claim()


def _refuse_cycles(tx: Tx, waiter: str, ids: Sequence[str]) -> None:
    """Search from those that wait for something themselves: a thousand fresh children cost nothing."""

    def edges(node: str) -> list[str]:
        return [name for (name,) in tx.all(AWAITED, json_list([node]))]

    def holders(node: str) -> list[str]:
        for key, is_parked, limit in tx.all(BEHIND, node):
            found = [name for (name,) in tx.all(HOLDERS, key)]
            return found if is_parked or len(found) >= limit else []
        return []

    for name in ids:
        if cycle := find_cycle(waiter, name, edges, holders):
            circle = " -> ".join((*cycle, waiter))
            raise CycleDetectedError(
                f"waiting would never end: {circle}; let one of these tasks not wait for the other", waiter, cycle
            )


def raise_awaited(tx: Tx, waiters: list[str], rank: float, boost: int, only: list[str] | None = None) -> None:
    """Raise rank and boost of all that ``waiters`` wait for, directly or through others.

    :param only: begin with these alone.
    """
    seen = set(waiters)
    level = only if only is not None else waiters
    if only is None:
        level = [name for (name,) in tx.all(AWAITED, json_list(level))]
    while level:
        tx.run(claiming.RAISE, json_list(level), rank, boost)
        seen.update(level)
        level = [name for (name,) in tx.all(AWAITED, json_list(level)) if name not in seen]
