"""The tables of one app, and how their rows become records.

All names of an app begin with its prefix, written ``$`` here and filled in by :class:`~pynenc.store.sqlite.database.Texts`; so no statement can reach another
app's rows. Statuses are stored as their position in :class:`InvocationStatus`, places as their number; zeros and NULLs take no space.

Most READY rows have neither rank nor boost: they lie in one narrow index by age (``plain``), the few others in two, by rank and by age.

The history of the usual way of a call is not stored but derived: from the row itself follow REGISTERED, PENDING, RUNNING and the final
status (:func:`derived`). ``hist`` gets the entries of an attempt only when the row is about to forget them; ``entries`` counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pynenc.core.records import Claimed, HistoryEntry, Invocation, Progress, Rate, WorkflowRef
from pynenc.core.status import FINAL as FINALS
from pynenc.core.status import InvocationStatus, Place

VERSION = 1

STATUSES = tuple(InvocationStatus)
CODES = {status: code for code, status in enumerate(STATUSES)}
REGISTERED, PENDING, RUNNING, SUCCESS, FAILED, RETRY, PAUSED, CANCELLED, PARKED_STATUS, DROPPED = range(len(STATUSES))
FINAL_CODES = frozenset(CODES[status] for status in FINALS)
PLACES = tuple(Place)
READY, LATER, PARKED, CLAIMED, WAITING, FINAL = (int(place) for place in Place)

#: Why a row is parked: behind its running key, behind the head of its rate, or because no runner knows its task. A READY row may be set aside as a suspect.
BEHIND_KEY, BEHIND_RATE, BEHIND_TASK, SUSPECTED = 1, 2, 3, 4

#: Bits of ``special``: what a claim must look at, and arguments that lie in ``big``.
CAREFUL, BIG_ARGS = 1, 2
#: Arguments above this many bytes lie in their own table, so that changes of status do not write them again.
BIG = 2048

APPS = "CREATE TABLE IF NOT EXISTS app (num INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"

TABLES = """
CREATE TABLE $inv (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, queue TEXT NOT NULL,
    status INTEGER NOT NULL DEFAULT 0, place INTEGER NOT NULL DEFAULT 0,
    priority REAL NOT NULL, rank REAL NOT NULL, boost INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0, runner TEXT,
    retries INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, round INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL, claimed INTEGER NOT NULL DEFAULT 0, started INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 0,
    timer INTEGER,                -- when a LATER or WAITING row must be looked at
    held TEXT,                    -- the running key, while the row holds a place of it
    rated TEXT,                   -- the key of its rate, while the row is the head of the line
    why INTEGER NOT NULL DEFAULT 0, behind TEXT, back INTEGER NOT NULL DEFAULT 0,
    alone INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0, special INTEGER NOT NULL DEFAULT 0,
    entries INTEGER NOT NULL DEFAULT 0,
    signals INTEGER NOT NULL DEFAULT 0, -- how many came
    seen INTEGER,                 -- how many a suspended row knew of, if it waits for more
    registration_key TEXT, running_key TEXT, running_limit INTEGER NOT NULL DEFAULT 1, drop_blocked INTEGER NOT NULL DEFAULT 0,
    rate_key TEXT, rate_n INTEGER, rate_period INTEGER, cache_key TEXT,
    max_crashes INTEGER NOT NULL, result_ttl INTEGER NOT NULL, timeout INTEGER NOT NULL,
    expires INTEGER NOT NULL DEFAULT 0,
    gone INTEGER,                 -- when retention removes it
    parent TEXT, workflow TEXT, workflow_type TEXT, workflow_parent TEXT, tags TEXT, blobs TEXT, args_digest TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', progress BLOB, args BLOB, payload BLOB
);
CREATE INDEX $plain ON $inv (queue, seq) WHERE place = 0 AND rank = 0 AND boost = 0;
CREATE INDEX $ranked ON $inv (queue, rank DESC, boost DESC, seq) WHERE place = 0 AND (rank != 0 OR boost != 0);
CREATE INDEX $aged ON $inv (queue, seq) WHERE place = 0 AND (rank != 0 OR boost != 0);
CREATE INDEX $timer ON $inv (queue, timer) WHERE timer IS NOT NULL;
CREATE INDEX $parked ON $inv (why, behind, rank DESC, boost DESC, seq) WHERE why > 0;
CREATE INDEX $held ON $inv (held) WHERE held IS NOT NULL;
CREATE INDEX $rated ON $inv (rated) WHERE rated IS NOT NULL;
CREATE INDEX $owned ON $inv (runner) WHERE place = 3;
CREATE INDEX $gone ON $inv (gone) WHERE gone IS NOT NULL;
CREATE INDEX $cached ON $inv (cache_key, ended) WHERE cache_key IS NOT NULL AND status = 3;
CREATE INDEX $child ON $inv (parent) WHERE parent IS NOT NULL;
CREATE INDEX $member ON $inv (workflow) WHERE workflow IS NOT NULL;
CREATE TABLE $big (seq INTEGER PRIMARY KEY, args BLOB NOT NULL);
CREATE TABLE $hist (
    seq INTEGER NOT NULL, n INTEGER NOT NULL, status INTEGER NOT NULL, at INTEGER NOT NULL, runner TEXT,
    attempt INTEGER NOT NULL, round INTEGER NOT NULL, reason TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (seq, n)
) WITHOUT ROWID;
CREATE TABLE $registration (key TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE $rate (key TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX $rate_at ON $rate (key, at);
CREATE TABLE $edge (waiter TEXT NOT NULL, awaited TEXT NOT NULL, PRIMARY KEY (waiter, awaited)) WITHOUT ROWID;
CREATE INDEX $awaited ON $edge (awaited);
CREATE TABLE $runner (
    id TEXT PRIMARY KEY, beat BLOB NOT NULL, death TEXT, started INTEGER NOT NULL, seen INTEGER NOT NULL,
    boot TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE $queue (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE $memo (scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (scope, key)) WITHOUT ROWID;
CREATE TABLE $blob (key TEXT PRIMARY KEY, size INTEGER NOT NULL, seen INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE $ref (key TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE TABLE $lease (name TEXT PRIMARY KEY, owner TEXT NOT NULL, boot TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
"""

#: Tables and indices that came after the first files were made: added to those when they are opened. Who does not know one works on without it.
ADDED = {
    "reaction": """
CREATE TABLE $reaction (
    owner TEXT NOT NULL, n INTEGER NOT NULL, task TEXT NOT NULL, status INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (owner, n)
) WITHOUT ROWID;
CREATE INDEX $reaction_of ON $reaction (task)""",
    "expiring": """
CREATE INDEX $expiring ON $inv (expires) WHERE expires > 0 AND attempt = 0 AND round = 0 AND place < 3""",
}

#: Everything that is emptied when an app is purged.
CONTENTS = ("big", "hist", "registration", "rate", "edge", "memo", "blob", "ref", "lease")

_names = msgspec.json.Decoder(tuple[str, ...]).decode


def names(text: str | bytes | None) -> tuple[str, ...]:
    """The names that a column holds."""
    return _names(text) if text else ()


encode_names = msgspec.json.encode
encode_progress = msgspec.msgpack.encode
_progress = msgspec.msgpack.Decoder(Progress).decode


def of_one(text: str) -> str:
    """The same statement for a single value, which is the usual case and needs no list."""
    for parameter in ("?1", "?2", "?"):
        text = text.replace(f"IN (SELECT value FROM json_each({parameter}))", f"= {parameter}")
    return text


def json_list(values: Sequence[object]) -> str:
    """Values for ``IN (SELECT value FROM json_each(?))``: any number of them in one parameter. Subclasses of text are text."""
    return msgspec.json.encode(values, enc_hook=str).decode()


# -- claimed rows --------------------------------------------------------------------------------------------------------
#: In the order of :func:`claimed_of`.
CLAIM_COLUMNS = (
    "id, task, attempt, args, blobs, queue, priority, retries, crashes, max_crashes, round, timeout, created, claimed, "
    "parent, workflow, workflow_type, workflow_parent, tags, alone, seq, special, rank, boost"
)
ALONE, SEQ, SPECIAL, RANK, BOOST = 19, 20, 21, 22, 23


def claimed_of(row: tuple[Any, ...], attempt: int, at: int) -> Claimed:
    """What the new owner gets."""
    return Claimed(
        row[0],
        row[1],
        attempt,
        row[3],
        _names(row[4]) if row[4] else (),
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        at,
        row[14],
        WorkflowRef(row[15], row[16], row[17]) if row[15] else None,
        _names(row[18]) if row[18] else (),
        row[19] == 1,
    )


# -- invocations as readers see them -------------------------------------------------------------------------------------
_READ = (
    "seq id task status place args args_digest blobs queue priority rank due expires registration_key running_key running_limit rate_key rate_n "
    "rate_period parent workflow workflow_type workflow_parent tags attempt retries crashes max_crashes round runner created claimed started ended "
    "result_ttl cancel alone reason payload progress entries special"
)
READ_NAMES = _READ.split()
READ_COLUMNS = ", ".join(READ_NAMES)


class Read:
    """A row with all its columns by name."""

    __slots__ = tuple(READ_NAMES)

    def __init__(self, row: tuple[Any, ...]) -> None:
        for name, value in zip(READ_NAMES, row, strict=True):
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:  # only for type checkers: the slots are always filled
        raise AttributeError(name)

    def record(self, args: bytes, waiting_for: tuple[str, ...]) -> Invocation:
        """The invocation; arguments and edges come from their own tables."""
        progress = _progress(self.progress) if self.progress else None
        return Invocation(
            id=self.id,
            task=self.task,
            status=STATUSES[self.status],
            place=PLACES[self.place],
            args=args,
            args_digest=self.args_digest,
            blobs=_names(self.blobs) if self.blobs else (),
            queue=self.queue,
            priority=self.priority,
            rank=self.rank,
            due=self.due,
            expires=self.expires,
            registration_key=self.registration_key,
            running_key=self.running_key,
            running_limit=self.running_limit,
            rate=Rate(self.rate_key, self.rate_n, self.rate_period) if self.rate_key is not None else None,
            parent=self.parent,
            workflow=WorkflowRef(self.workflow, self.workflow_type, self.workflow_parent) if self.workflow else None,
            tags=_names(self.tags) if self.tags else (),
            attempt=self.attempt,
            retries=self.retries,
            crashes=self.crashes,
            max_crashes=self.max_crashes,
            round=self.round,
            runner=self.runner,
            created=self.created,
            claimed=self.claimed,
            started=self.started,
            ended=self.ended,
            result_ttl=self.result_ttl,
            cancel_requested=bool(self.cancel),
            alone=bool(self.alone),
            reason=self.reason,
            payload=self.payload or b"",
            progress=progress if progress and progress.attempt == self.attempt else None,
            waiting_for=waiting_for,
        )


# -- history -------------------------------------------------------------------------------------------------------------
#: status, at, runner, attempt, round, reason, payload
Entry = tuple[int, int, str | None, int, int, str, bytes]


def derived(row: Any) -> list[Entry]:
    """The entries of the history that follow from the row itself."""
    found: list[Entry] = []
    if row.entries == 0:
        found.append((REGISTERED, row.created, None, 0, 0, "", b""))
        if row.place == PARKED:
            found.append((PARKED_STATUS, row.created, None, 0, 0, row.reason, b""))
    if row.place == CLAIMED or (row.place == FINAL and row.runner is not None):
        found.append((PENDING, row.claimed, row.runner, row.attempt, row.round, "", b""))
        if row.started:
            found.append((RUNNING, row.started, row.runner, row.attempt, row.round, "", b""))
    if row.place == FINAL:
        found.append((row.status, row.ended, row.runner, row.attempt, row.round, row.reason, row.payload or b""))
    return found


def history_entry(invocation_id: str, n: int, entry: Entry) -> HistoryEntry:
    """An entry as readers see it."""
    status, at, runner, attempt, round_, reason, payload = entry
    return HistoryEntry(invocation_id, n, STATUSES[status], at, runner, attempt, round_, reason, payload)
