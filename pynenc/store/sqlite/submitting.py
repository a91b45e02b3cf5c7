"""Submission: new rows, or the invocations that stand in for them.

A batch of calls with neither keys nor rates is inserted by one statement run over all of them. Only when something was there already, or a call
must be looked at (its key, its queue), rows are handled one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pynenc.core.records import Blob, New, Submitted, are_alike
from pynenc.exceptions import MissingBlobsError, QueueFullError, TaskRoutingError
from pynenc.store.sqlite import life, schema
from pynenc.store.sqlite.database import Database, Tx
from pynenc.store.sqlite.row import Row
from pynenc.store.sqlite.schema import BIG, BIG_ARGS, CAREFUL, LATER, READY, STATUSES, encode_names, json_list

_INSERTED = [
    "id",
    "task",
    "queue",
    "status",
    "place",
    "priority",
    "rank",
    "created",
    "due",
    "timer",
    "held",
    "rated",
    "why",
    "behind",
    "back",
    "special",
    "registration_key",
    "running_key",
    "running_limit",
    "drop_blocked",
    "rate_key",
    "rate_n",
    "rate_period",
    "cache_key",
    "max_crashes",
    "result_ttl",
    "timeout",
    "expires",
    "parent",
    "workflow",
    "workflow_type",
    "workflow_parent",
    "tags",
    "blobs",
    "args_digest",
    "args",
]
INSERT = (
    f"INSERT INTO $inv ({', '.join(_INSERTED)}) VALUES ({', '.join('?' * len(_INSERTED))}) ON CONFLICT (id) DO NOTHING"
)
_SIMPLE = (
    "INSERT INTO $inv (id, task, queue, priority, rank, created, max_crashes, result_ttl, timeout, parent, workflow, workflow_type, "
    "workflow_parent, args) "
)
#: The same for rows in which all but these have their default.
INSERT_SIMPLE = (
    f"{_SIMPLE} VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING"
)
#: The same, unless the queue is new or drains.
INSERT_ALONE = (
    f"{_SIMPLE} SELECT ?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 FROM $queue WHERE name = ?3 AND state != 'draining' "
    "ON CONFLICT (id) DO NOTHING"
)
#: Rows that one statement inserts: half the time of a statement for each.
AT_ONCE = 50
#: The same for several that differ only in id and arguments.
INSERT_ALIKE = (
    f"{_SIMPLE} SELECT column1, ?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, column2 "
    f"FROM (VALUES {', '.join(f'(?{12 + 2 * n}, ?{13 + 2 * n})' for n in range(AT_ONCE))}) WHERE true ON CONFLICT (id) DO NOTHING"
)
QUEUE = "SELECT state FROM $queue WHERE name = ?"
ADD_QUEUE = "INSERT INTO $queue (name, state) VALUES (?, 'active') ON CONFLICT (name) DO NOTHING"
LAST = "SELECT max(seq) FROM $inv"
KNOWN = "SELECT id, seq, status, args_digest FROM $inv WHERE id IN (SELECT value FROM json_each(?))"
BY_ID = "SELECT id, status, args_digest FROM $inv WHERE id = ?"
BY_REGISTRATION = (
    "SELECT i.id, i.status, i.args_digest FROM $registration r JOIN $inv i ON i.seq = r.seq WHERE r.key = ?"
)
BY_CACHE = (
    "SELECT id, status, args_digest FROM $inv WHERE cache_key = ? AND status = 3 ORDER BY ended DESC, seq DESC LIMIT 1"
)
REGISTER = "INSERT INTO $registration (key, seq) VALUES (?, ?)"
IS_CLAIMED = "SELECT 1 FROM $inv WHERE id = ? AND place = 3"
SEQS = "SELECT seq, id FROM $inv WHERE id IN (SELECT value FROM json_each(?))"
ADD_BIG = "INSERT INTO $big (seq, args) VALUES (?, ?)"
ADD_REF = "INSERT OR IGNORE INTO $ref (key, seq) VALUES (?, ?)"
BLOBS = "SELECT key FROM $blob WHERE key IN (SELECT value FROM json_each(?))"
PUT_BLOB = "INSERT INTO $blob (key, size, seen, data) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET seen = max(seen, excluded.seen)"
#: How many wait in a queue, counted no further than the limit.
WAITING = (
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM $inv INDEXED BY $plain WHERE place = 0 AND rank = 0 AND boost = 0 AND queue = ?1 LIMIT ?2)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM $inv INDEXED BY $aged WHERE place = 0 AND (rank != 0 OR boost != 0) AND queue = ?1 LIMIT ?2)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM $inv WHERE timer > 0 AND place = 1 AND queue = ?1 LIMIT ?2)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM $inv WHERE why IN (1, 2, 3) AND why > 0 AND queue = ?1 AND place = 2 LIMIT ?2))"
)


def submit_alone(database: Database, new: New, now: int) -> bool:
    """Insert a call by one statement, if nothing is in the way; most single calls are such."""
    return _is_simple(new) and database.insert(INSERT_ALONE, _simple_values(new, now))


def submit(
    tx: Tx, new: Sequence[New], blobs: Sequence[Blob], max_queue_length: int, *, refuses_draining: bool = True
) -> list[Submitted]:
    """Accept invocations, all or none; see :meth:`pynenc.store.base.Store.submit`."""
    if blobs:
        put_blobs(tx, blobs)
    is_alike = (
        len(new) >= AT_ONCE and are_alike(new) and _is_simple(new[0]) and all(len(each.args) <= BIG for each in new)
    )
    is_simple = is_alike or all(map(_is_simple, new))
    if not is_simple:
        _check_blobs(tx, new)
    states = {name: tx.value(QUEUE, name) for name in {each.queue for each in new}}
    draining = {name for name, state in states.items() if refuses_draining and state == "draining"}
    unknown = {name for name, state in states.items() if state is None}
    if draining or max_queue_length or not (is_simple or all(map(_is_plain, new))):
        room = Room(tx, draining, max_queue_length)
        return [_submit_one(tx, each, room, unknown) for each in new]
    last = tx.value(LAST) if len(new) > 1 else None
    inserted = _insert_alike(tx, new) if is_alike else _insert(tx, new, is_simple=is_simple)
    tx.ready += inserted
    if inserted < len(new):
        return _answer(tx, new, unknown, last)
    _add_parts(tx, new, unknown)
    registered = STATUSES[schema.REGISTERED]
    return [Submitted(each.id, registered, False, each.args_digest) for each in new]


def _is_plain(new: New) -> bool:
    """Whether nothing but its id can make another invocation answer for it, or set it aside."""
    return new.running_key is None and new.registration_key is None and new.rate is None and new.cache_key is None


# -- many at once ----------------------------------------------------------------------------------------------------------
def _insert(tx: Tx, new: Sequence[New], *, is_simple: bool) -> int:
    """Insert calls that are not there; how many."""
    text, values_of = (INSERT_SIMPLE, _simple_values) if is_simple else (INSERT, _plain_values)
    return tx.many(text, [values_of(each, tx.now) for each in new])


def _insert_alike(tx: Tx, new: Sequence[New]) -> int:
    """The same for simple calls that differ only in id and arguments."""
    common = _simple_values(new[0], tx.now)[1:-1]
    rest = len(new) % AT_ONCE
    inserted = _insert(tx, new[:rest], is_simple=True)
    for start in range(rest, len(new), AT_ONCE):
        values = [*common]
        for each in new[start : start + AT_ONCE]:
            values += (each.id, each.args)
        inserted += tx.execute(tx.texts[INSERT_ALIKE], values).rowcount
    return inserted


def _answer(tx: Tx, new: Sequence[New], unknown: set[str], last: int | None) -> list[Submitted]:
    """The answers when some ids were there before, or stand twice in the batch."""
    known = {row[0]: row[1:] for row in tx.all(KNOWN, json_list([each.id for each in new]))}
    was_there = {name for name, (seq, _, _) in known.items() if len(new) == 1 or seq <= (last or 0)}
    answers, fresh = [], []
    for each in new:
        _, status, digest = known[each.id]
        answers.append(Submitted(each.id, STATUSES[status], each.id in was_there, digest))
        if each.id not in was_there:
            fresh.append(each)
        was_there.add(each.id)
    _add_parts(tx, fresh, unknown)
    return answers


def _is_simple(new: New) -> bool:
    """Whether a call has no key, no time, no tags and nothing large."""
    return (new.running_key, new.registration_key, new.rate, new.cache_key) == _NO_KEYS and not (
        new.due or new.expires or new.tags or new.blobs or new.args_digest or len(new.args) > BIG
    )


_NO_KEYS = (None, None, None, None)


def _simple_values(new: New, now: int) -> tuple[Any, ...]:
    """The values of a row that most calls become; each value less is time."""
    workflow = new.workflow
    return (
        new.id,
        new.task,
        new.queue,
        new.priority,
        now,
        new.max_crashes,
        new.result_ttl,
        new.timeout,
        new.parent,
        workflow.id if workflow else None,
        workflow.type if workflow else None,
        workflow.parent if workflow else None,
        new.args,
    )


def _plain_values(new: New, now: int) -> tuple[Any, ...]:
    """The values of an inserted row that has neither key nor rate."""
    is_later = new.due > now
    args = new.args
    special = CAREFUL if new.expires else 0
    if len(args) > BIG:
        special |= BIG_ARGS
    workflow = new.workflow
    return (
        new.id,
        new.task,
        new.queue,
        schema.REGISTERED,
        LATER if is_later else READY,
        new.priority,
        new.priority,
        now,
        new.due,
        new.due if is_later else None,
        None,
        None,
        0,
        None,
        0,
        special,
        None,
        None,
        new.running_limit,
        0,
        None,
        None,
        None,
        None,
        new.max_crashes,
        new.result_ttl,
        new.timeout,
        new.expires,
        new.parent,
        workflow.id if workflow else None,
        workflow.type if workflow else None,
        workflow.parent if workflow else None,
        encode_names(new.tags) if new.tags else None,
        encode_names(new.blobs) if new.blobs else None,
        new.args_digest,
        None if len(args) > BIG else args,
    )


def _add_parts(tx: Tx, new: Sequence[New], unknown: set[str]) -> None:
    """What inserted rows keep in other tables: their queues, large arguments and references to blobs."""
    if unknown:
        tx.many(ADD_QUEUE, [(each.queue,) for each in new if each.queue in unknown])
    parts = [each for each in new if each.blobs or len(each.args) > BIG]
    if not parts:
        return
    seqs = {name: seq for seq, name in tx.all(SEQS, json_list([each.id for each in parts]))}
    tx.many(ADD_BIG, [(seqs[each.id], each.args) for each in parts if len(each.args) > BIG])
    tx.many(ADD_REF, [(key, seqs[each.id]) for each in parts for key in each.blobs])


# -- one by one ------------------------------------------------------------------------------------------------------------
class Room:
    """Which queues take new calls, and how many more."""

    def __init__(self, tx: Tx, draining: set[str], limit: int) -> None:
        self._tx = tx
        self._draining = draining
        self._limit = limit
        self._added: Counter[str] = Counter()

    def check(self, new: New) -> None:
        """Refuse a call that its queue does not take."""
        if new.queue in self._draining and not (new.parent and self._tx.one(IS_CLAIMED, new.parent)):
            raise TaskRoutingError(
                f"queue {new.queue!r} is draining and takes no new calls: use another queue, or `pynenc queues resume {new.queue}`",
                new.task,
            )
        if self._limit:
            if new.queue not in self._added:
                self._added[new.queue] = self._tx.value(WAITING, new.queue, self._limit + 1)
            self._added[new.queue] += 1
            if self._added[new.queue] > self._limit:
                raise QueueFullError(
                    f"queue {new.queue!r} holds {self._limit} invocations already (max_queue_length): wait, or start more runners",
                    new.task,
                )


def _submit_one(tx: Tx, new: New, room: Room, unknown: set[str]) -> Submitted:
    """One call: answered by what is there, or inserted where its key and rate put it."""
    if found := tx.one(BY_ID, new.id):
        return Submitted(found[0], STATUSES[found[1]], True, found[2])
    holder = tx.one(BY_REGISTRATION, new.registration_key) if new.registration_key is not None else None
    if holder is None and new.cache_key is not None:
        holder = tx.one(BY_CACHE, new.cache_key)
    if holder:
        return Submitted(holder[0], STATUSES[holder[1]], False, holder[2])
    room.check(new)
    row = Row.fresh(new, tx.now)
    life.admit(tx, row, schema.REGISTERED)
    seq = tx.run(INSERT, *_values(new, row)).lastrowid
    if new.registration_key is not None:
        tx.run(REGISTER, new.registration_key, seq)
    _add_parts(tx, [new], unknown)
    return Submitted(new.id, STATUSES[row.status], False, new.args_digest)


def _values(new: New, row: Row) -> tuple[Any, ...]:
    """The values of an inserted row that has found its place."""
    values = dict(zip(_INSERTED, _plain_values(new, row.created), strict=True))
    is_careful = new.expires or new.drop_blocked or new.rate or new.registration_key is not None
    values |= {
        name: getattr(row, name)
        for name in ("status", "place", "due", "timer", "held", "rated", "why", "behind", "back")
    }
    values["special"] |= CAREFUL if is_careful else 0
    values |= {"registration_key": new.registration_key, "running_key": new.running_key, "cache_key": new.cache_key}
    values["drop_blocked"] = int(new.drop_blocked)
    if new.rate:
        values |= {"rate_key": new.rate.key, "rate_n": new.rate.n, "rate_period": new.rate.period}
    return tuple(values.values())


# -- blobs -----------------------------------------------------------------------------------------------------------------
def put_blobs(tx: Tx, blobs: Sequence[Blob]) -> None:
    """Store blobs; those that are there become young again."""
    tx.many(PUT_BLOB, [(blob.key, blob.size, tx.now, blob.data) for blob in blobs])


def _check_blobs(tx: Tx, new: Sequence[New]) -> None:
    keys = list(dict.fromkeys(key for each in new for key in each.blobs))
    if not keys:
        return
    there = {key for (key,) in tx.all(BLOBS, json_list(keys))}
    if missing := [key for key in keys if key not in there]:
        raise MissingBlobsError(missing)
