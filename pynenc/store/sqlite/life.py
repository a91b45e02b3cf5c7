"""What happens to one row: it is admitted, parked, let go, given back, ended. Theory of operation.

A row that is not final, owned or suspended waits for up to three things, in this order: its time (``due``), a place of its running key, its
turn in the line of its rate. ``settle`` finds where it stands. What it holds on the way is written in the row itself: ``held`` is the key of which it
has a place, ``rated`` the rate of which it is the head. So the slots of a key are the rows that hold it, and nothing can leak: whoever leaves
gives both up in :func:`leave`, which lets the next ones go in the same transaction.

Callers of these functions see to it that a row is saved before others that depend on it are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from pynenc.core.records import Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store.sqlite import schema, waits
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import NEXT_BEHIND, Row, load, rows
from pynenc.store.sqlite.schema import (
    BEHIND_KEY,
    BEHIND_RATE,
    BEHIND_TASK,
    CLAIMED,
    CODES,
    FINAL,
    LATER,
    PARKED,
    PARKED_STATUS,
    READY,
    SUSPECTED,
    WAITING,
    encode_names,
    names,
)

HOLDERS = "SELECT count(*) FROM $inv WHERE held = ?"
HEAD = "SELECT id FROM $inv WHERE rated = ? LIMIT 1"
FORGET_CLAIM = "DELETE FROM $rate WHERE rowid = (SELECT rowid FROM $rate WHERE key = ? AND at = ? LIMIT 1)"
CLAIMS_OF_RATE = "SELECT at FROM $rate WHERE key = ? AND at > ? ORDER BY at DESC LIMIT ?"
ADD_ENTRY = (
    "INSERT INTO $hist (seq, n, status, at, runner, attempt, round, reason, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
DROP_REGISTRATION = "DELETE FROM $registration WHERE key = ? AND seq = ?"
DROP_SCOPE = "DELETE FROM $memo WHERE scope = ?"
DROP_SEEN = (
    "DELETE FROM $memo WHERE scope = ?1 AND (key >= 'resume:' AND key < 'resume;' OR key >= 'signal:' AND key < ?2)"
)
BLOBS_OF = "SELECT blobs FROM $inv WHERE seq = ?"
DROP_REF = "DELETE FROM $ref WHERE key = ? AND seq = ?"
DROP_BIG = "DELETE FROM $big WHERE seq = ?"
SET_ARGS = "UPDATE $inv SET args = ?, blobs = ?, special = ? WHERE seq = ?"
ADD_BIG = "INSERT INTO $big (seq, args) VALUES (?, ?)"
ADD_REF = "INSERT OR IGNORE INTO $ref (key, seq) VALUES (?, ?)"
#: What the end of an invocation may concern, in one look: who waits, and reactions.
ANY_INTEREST = "SELECT EXISTS (SELECT 1 FROM $edge), EXISTS (SELECT 1 FROM $reaction)"


# -- history ---------------------------------------------------------------------------------------------------------------
def log(tx: Tx, row: Row, *entries: schema.Entry) -> None:
    """Keep what the row is about to forget, and ``entries`` after it. To be called before the row changes."""
    kept = [*schema.derived(row), *entries]
    tx.many(ADD_ENTRY, [(row.seq, row.entries + n, *entry) for n, entry in enumerate(kept)])
    row.entries += len(kept)


def entry(tx: Tx, row: Row, status: int, reason: str = "", payload: bytes = b"") -> schema.Entry:
    """A change of status, now, by whoever owns the row."""
    return (status, tx.now, row.runner, row.attempt, row.round, reason, payload)


# -- on the way to being claimable ------------------------------------------------------------------------------------------
def admit(tx: Tx, row: Row, status: int) -> None:
    """Let a row that has left its place wait for its time, or settle at once. Its status is ``status`` already, unless it is parked."""
    row.back = status
    if row.due > tx.now:
        row.place, row.timer = LATER, row.due
        tx.ready += 1  # whoever sleeps until a later time must know
    else:
        settle(tx, row)


def settle(tx: Tx, row: Row) -> None:
    """Find the place of a row that is due: READY, or LATER or PARKED for its key or rate. Not saved."""
    row.timer = None
    key = None if row.drop_blocked else row.running_key
    if key is not None and row.held is None:
        if tx.value(HOLDERS, key) >= row.running_limit:
            park(tx, row, BEHIND_KEY, key)
            return
        row.held = key
    if row.rate_key is not None:
        if row.rated is None and tx.one(HEAD, row.rate_key):
            park(tx, row, BEHIND_RATE, row.rate_key)
            return
        row.rated = row.rate_key
        opens = rate_opens(tx, row)
        if opens > tx.now:
            unpark(tx, row)
            row.place, row.timer, row.due = LATER, opens, opens
            tx.ready += 1
            return
    unpark(tx, row)
    row.place = READY
    if row.alone:
        row.why, row.behind = SUSPECTED, row.queue
    tx.ready += 1


def park(tx: Tx, row: Row, why: int, behind: str, reason: str = "") -> None:
    """Set a row aside. A fresh one tells by itself that it was parked as it was submitted."""
    if row.status != PARKED_STATUS:
        is_fresh = row.entries == 0 and row.attempt == 0 and row.created == tx.now
        if not is_fresh:
            log(tx, row, (PARKED_STATUS, tx.now, None, row.attempt, row.round, reason, b""))
        row.status = PARKED_STATUS
        row.reason = reason
    row.place, row.why, row.behind = PARKED, why, behind


def unpark(tx: Tx, row: Row) -> None:
    """A row that was set aside goes on with the status that it had."""
    if row.status == PARKED_STATUS:
        log(tx, row, (row.back, tx.now, None, row.attempt, row.round, "", b""))
        row.status, row.reason = row.back, ""
    row.why, row.behind = 0, None


def rate_opens(tx: Tx, row: Row) -> int:
    """When the rate of a row lets it be claimed: as soon as fewer than ``n`` claims lie in the window before."""
    if row.rate_key is None:
        return tx.now
    found = tx.all(CLAIMS_OF_RATE, row.rate_key, tx.now - row.rate_period, row.rate_n)
    if len(found) < row.rate_n:
        return tx.now
    # Claims of a clock that has been set back since lie in the future; nobody waits longer than a period.
    oldest: int = found[-1][0]
    return min(oldest, tx.now) + row.rate_period


# -- leaving -----------------------------------------------------------------------------------------------------------------
def leave(tx: Tx, row: Row) -> None:
    """A row that has changed its place gives up what it held; it is saved, and the next ones go on."""
    key, rate = row.held, row.rated
    row.held = row.rated = None
    row.save(tx)
    if key is not None:
        let_go(tx, key)
    if rate is not None:
        next_head(tx, rate)


def let_go(tx: Tx, key: str) -> None:
    """Make those that wait for a running key READY while it has places."""
    while (waiting := tx.one(NEXT_BEHIND, BEHIND_KEY, key)) is not None:
        row = Row.of(waiting)
        if tx.value(HOLDERS, key) >= row.running_limit:
            return
        settle(tx, row)
        row.save(tx)


def next_head(tx: Tx, rate: str) -> None:
    """The next one in the line of a rate becomes its head."""
    for row in rows(tx, NEXT_BEHIND, BEHIND_RATE, rate):
        settle(tx, row)
        row.save(tx)


def go_first(tx: Tx, row: Row) -> None:
    """A claim of a rate was given back unused: ``row`` goes before the head, if it waits for that; whoever is the head may go earlier."""
    head = load(tx, tx.value(HEAD, row.rate_key))
    if head is None or head.seq == row.seq:
        return
    if row.why == BEHIND_RATE:
        head.rated = head.timer = None
        park(tx, head, BEHIND_RATE, row.rate_key or "")
        head.save(tx)
        head = row
    settle(tx, head)
    head.save(tx)


def give_back(tx: Tx, row: Row, outcome: Outcome, *, is_unknown: bool = False) -> None:
    """The attempt of a claimed row ends without a final status: it is admitted again, suspended, or parked until its task is known."""
    status, reason, due = CODES[outcome.status], outcome.reason, outcome.due
    log(tx, row, entry(tx, row, status, reason, outcome.payload))
    if status != schema.REGISTERED:
        note(tx, row, status)
    row.status, row.place, row.reason = status, WAITING, reason
    row.runner, row.due, row.timer, row.started = None, due, due or None, 0
    leave(tx, row)
    waits.drop(tx, [row.id], [])
    if is_unknown:
        row.back = status
        park(tx, row, BEHIND_TASK, row.task, reason)
        row.timer = None
    elif status == schema.PAUSED:
        suspend(tx, row, outcome)
    else:
        if outcome.args is not None:
            renew(tx, row, outcome.args, outcome)
        admit(tx, row, status)
    row.save(tx)


# -- suspended --------------------------------------------------------------------------------------------------------------
def suspend(tx: Tx, row: Row, outcome: Outcome) -> None:
    """Keep a row that has left PAUSED, until what it waits for is there; that may be now."""
    found = waits.unfinished(tx, outcome.awaits) if outcome.awaits else {}
    is_over = len(found) < len(set(outcome.awaits)) or -1 < outcome.signals < row.signals
    suspects = [name for name, is_waiting in found.items() if is_waiting or name == row.id]
    if is_over or any(waits.circle(tx, row.id, name) for name in suspects):
        rouse(tx, row, "")
        return
    row.seen = outcome.signals if outcome.signals >= 0 else None
    if found:
        waits.add(tx, row.id, list(found))
        waits.raise_awaited(tx, [row.id], row.rank, tx.now, only=list(found))


def rouse(tx: Tx, row: Row, reason: str) -> None:
    """Admit a suspended row: what it waits for is there, or somebody wants it to go on."""
    log(tx, row, entry(tx, row, schema.REGISTERED, reason))
    row.status, row.due, row.seen = schema.REGISTERED, 0, None
    waits.drop(tx, [row.id], [])
    admit(tx, row, schema.REGISTERED)
    row.save(tx)


def next_round(tx: Tx, row: Row) -> None:
    """Count a new round; what was remembered in the old one goes."""
    tx.run(DROP_SCOPE, f"{row.id}/{row.round}")
    row.round += 1
    row.retries = row.crashes = row.started = 0


def renew(tx: Tx, row: Row, args: bytes, outcome: Outcome) -> None:
    """A row continues as new: a new round with other arguments."""
    (before,) = tx.one(BLOBS_OF, row.seq) or (None,)
    tx.many(DROP_REF, [(key, row.seq) for key in names(before)])
    tx.run(DROP_BIG, row.seq)
    is_big = len(args) > schema.BIG
    row.special = (row.special & ~schema.BIG_ARGS) | (schema.BIG_ARGS if is_big else 0)
    blobs = outcome.blobs
    tx.run(SET_ARGS, None if is_big else args, encode_names(blobs) if blobs else None, row.special, row.seq)
    if is_big:
        tx.run(ADD_BIG, row.seq, args)
    tx.many(ADD_REF, [(key, row.seq) for key in blobs])
    tx.run(DROP_SEEN, row.id, signal_key(outcome.signals))
    next_round(tx, row)


def signal_key(number: int) -> str:
    """The key under which a signal is remembered; keys sort as numbers do."""
    return f"signal:{max(0, number):09d}"


def end(tx: Tx, row: Row, status: int, reason: str, *, payload: bytes = b"", ended: int = 0) -> None:
    """A row becomes final, wherever it is."""
    if row.place == PARKED and row.entries == 0:
        log(tx, row)
    if row.place != CLAIMED:
        row.runner = None
    row.status, row.place, row.reason, row.payload = status, FINAL, reason, payload
    row.ended = ended or tx.now
    row.gone = row.ended + row.result_ttl if row.result_ttl else None
    row.timer, row.why, row.behind = None, 0, None
    if row.registration_key is not None:
        tx.run(DROP_REGISTRATION, row.registration_key, row.seq)
    row.seen = None
    leave(tx, row)
    settle_waits(tx, [row.id])
    tx.finals.append(row.id)
    note(tx, row, status)


def note(tx: Tx, row: Row, status: int) -> None:
    """There may be a reaction to this change."""
    tx.changes.append((row.id, row.task, status, row.round, row.attempt))


def settle_waits(tx: Tx, finals: Sequence[str]) -> None:
    """Invocations have become final: they wait for nothing, and what was suspended until then goes on."""
    for name in waits.drop(tx, finals, finals):
        row = load(tx, name)
        if row is not None:
            rouse(tx, row, "what it waited for has ended")


def lose_owner(tx: Tx, row: Row, reason: str) -> int:
    """The runner of a claimed row is gone: it goes back, or ends where that was asked for. Its status then."""
    if row.cancel:
        end(tx, row, schema.CANCELLED, row.reason)
    else:
        given_back = Outcome(id=row.id, attempt=row.attempt, status=InvocationStatus.REGISTERED, reason=reason)
        give_back(tx, row, given_back)
    return row.status if row.place == FINAL else schema.REGISTERED
