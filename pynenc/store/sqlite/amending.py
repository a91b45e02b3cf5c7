"""What people do to invocations, and what waiting does to those that are waited for."""

from __future__ import annotations

from collections.abc import Sequence

from pynenc.core.records import Amended, Change, ChangeKind, Claim, ClaimRequest, Ref
from pynenc.core.waiting import never_ending
from pynenc.store.sqlite import claiming, life, schema, waits
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import Row, load
from pynenc.store.sqlite.schema import CLAIMED, FINAL, LATER, STATUSES, WAITING, json_list

REMEMBER = "INSERT INTO $memo (scope, key, value) VALUES (?, ?, ?) ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value"
HIGHEST_WAITER = "SELECT max(i.rank) FROM $edge e JOIN $inv i ON i.id = e.waiter WHERE e.awaited = ?"
OWNS = "SELECT rank FROM $inv WHERE id = ? AND attempt = ? AND place = 3"

TASKS = "SELECT id, task FROM $inv WHERE id IN (SELECT value FROM json_each(?))"


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
        if not row.cancel:
            row.cancel, row.reason = 1, change.reason
            row.save(tx)
        tx.orders = True
    else:
        life.end(tx, row, schema.CANCELLED, change.reason)
    return True


def _requeue(tx: Tx, row: Row, change: Change) -> bool:
    if row.place == FINAL:
        entry = (schema.REGISTERED, tx.now, None, row.attempt, row.round + 1, change.reason, b"")
        life.log(tx, row, entry)
        life.next_round(tx, row)
        row.status, row.place, row.due = schema.REGISTERED, WAITING, 0
        row.alone = row.cancel = row.ended = 0
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
    waits.raise_awaited(tx, [row.id], row.rank, 0)
    return True


def _resume(tx: Tx, row: Row, change: Change) -> bool:
    if row.place != WAITING or change.attempt not in (0, row.attempt):
        return False
    tx.run(REMEMBER, row.id, f"resume:{row.attempt}", change.value)
    life.rouse(tx, row, change.reason or "resumed")
    return True


def _signal(tx: Tx, row: Row, change: Change) -> bool:
    if row.place == FINAL:
        return False
    tx.run(REMEMBER, row.id, life.signal_key(row.signals), change.value)
    row.signals += 1
    if row.place == WAITING and row.seen is not None:
        life.rouse(tx, row, change.reason or "signalled")
    else:
        row.save(tx)
    return True


_CHANGES = {
    ChangeKind.CANCEL: _cancel,
    ChangeKind.REQUEUE: _requeue,
    ChangeKind.REPRIORITISE: _reprioritise,
    ChangeKind.RESUME: _resume,
    ChangeKind.SIGNAL: _signal,
}


# -- waiting ----------------------------------------------------------------------------------------------------------------
def wait(tx: Tx, waiter: Ref, ids: Sequence[str], request: ClaimRequest | None) -> tuple[bool, Claim]:
    """Record that a claimed invocation waits for others, and raise these; then claim. Whether it need not wait at all, and the claim.

    :raises CycleDetectedError: the wait would never end.
    """
    rank = tx.value(OWNS, waiter.id, waiter.attempt)
    if rank is None:
        return True, Claim()
    found = waits.unfinished(tx, ids)
    blocked = [name for name in ids if found.get(name) or name == waiter.id]
    if blocked:
        _refuse_cycles(tx, waiter.id, blocked)
    waits.add(tx, waiter.id, list(found))
    is_over = len(found) < len(set(ids))
    if is_over:
        request = None
    if request and len(found) == 1 and not blocked:
        return False, claiming.claim(tx, request, tuple(found), rank)
    if blocked:
        waits.raise_awaited(tx, [waiter.id], rank, tx.now, only=list(found))
    elif found:
        tx.run(waits.RAISE, json_list(list(found)), rank, tx.now)
    return is_over, claiming.claim(tx, request) if request else Claim()


def _refuse_cycles(tx: Tx, waiter: str, ids: Sequence[str]) -> None:
    """Search from those that wait for something themselves: a thousand fresh children cost nothing."""
    for name in ids:
        if cycle := waits.circle(tx, waiter, name):
            raise never_ending(cycle, dict(tx.all(TASKS, json_list(cycle))))
