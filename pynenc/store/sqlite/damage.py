"""Rows that cannot be read: written by hand, by another program, or by a later version that knows more.

One such row would stop every claim, every expiry, every recovery or the end of what it waits for. So when an operation fails on what it read, what is not
final and cannot be read ends FAILED, and is made readable; the operation is then carried out again. The condition is one text over the types of all
columns, and ``check`` uses it as well. The search looks at all that is not final, so it goes beside the writers, and one that did not help is not
repeated at once: see :meth:`~pynenc.store.sqlite.store.SqliteStore._again`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pynenc.store.sqlite import life, schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import json_list

#: What reading a row raises when it holds something else than was ever written.
DAMAGE = (TypeError, ValueError, LookupError, msgspec.MsgspecError)
REASON = "its row in the store cannot be read"

_TEXTS = ("id", "task", "queue", "args_digest", "reason")
_NULLABLE_TEXTS = [
    "runner",
    "held",
    "rated",
    "behind",
    "registration_key",
    "running_key",
    "rate_key",
    "cache_key",
    "parent",
    "workflow",
    "workflow_type",
    "workflow_parent",
]
_NUMBERS = [
    "status",
    "place",
    "boost",
    "attempt",
    "retries",
    "crashes",
    "round",
    "created",
    "claimed",
    "started",
    "ended",
    "due",
    "why",
    "back",
    "alone",
    "cancel",
    "special",
    "entries",
    "signals",
    "running_limit",
    "drop_blocked",
    "max_crashes",
    "result_ttl",
    "timeout",
    "expires",
]
_NULLABLE_NUMBERS = ("timer", "seen", "rate_n", "rate_period", "gone")
_RANKS = ("priority", "rank")
_LISTS = ("tags", "blobs")


def no_list(column: str) -> str:
    """Whether a column that holds a list of texts, or nothing, cannot be read as such."""
    text = f"CAST({column} AS TEXT)"
    is_none = f"json_type({text}) != 'array' OR EXISTS (SELECT 1 FROM json_each({text}) e WHERE e.type != 'text')"
    return f"CASE WHEN {column} IS NULL THEN 0 WHEN json_valid({text}) THEN {is_none} ELSE 1 END"


#: Whether a row cannot be read.
DAMAGED = " OR ".join(
    (
        *(f"typeof({name}) != 'text'" for name in _TEXTS),
        *(f"typeof({name}) NOT IN ('text', 'null')" for name in _NULLABLE_TEXTS),
        *(f"typeof({name}) != 'integer'" for name in _NUMBERS),
        *(f"typeof({name}) NOT IN ('integer', 'null')" for name in _NULLABLE_NUMBERS),
        *(f"typeof({name}) NOT IN ('real', 'integer')" for name in _RANKS),
        *map(no_list, _LISTS),
        f"status NOT BETWEEN 0 AND {len(schema.STATUSES) - 1} OR place NOT BETWEEN 0 AND {len(schema.PLACES) - 1}",
        "CASE WHEN special & 2 THEN NOT EXISTS (SELECT 1 FROM $big b WHERE b.seq = i.seq) ELSE typeof(args) != 'blob' END",
    )
)
_BROKEN = f"(place != {schema.FINAL} OR typeof(place) != 'integer') AND ({DAMAGED})"
BROKEN = f"SELECT seq FROM $inv i WHERE {_BROKEN} ORDER BY seq LIMIT 10000"
#: What is so still, when it is its turn.
STILL_BROKEN = (
    f"SELECT seq, held, rated FROM $inv i WHERE seq IN (SELECT value FROM json_each(?)) AND {_BROKEN} ORDER BY seq"
)
END = (
    f"UPDATE $inv SET status = {schema.FAILED}, place = {schema.FINAL}, reason = ?2, payload = x'', ended = ?3, held = NULL, rated = NULL, "
    f"runner = CASE WHEN place = {schema.CLAIMED} AND typeof(runner) = 'text' THEN runner END, "
    "entries = (SELECT count(*) FROM $hist h WHERE h.seq = ?1), "
    "gone = CASE WHEN typeof(result_ttl) = 'integer' AND result_ttl > 0 THEN ?3 + result_ttl END, "
    "why = 0, behind = NULL, timer = NULL, seen = NULL, special = 0, args = CASE WHEN typeof(args) = 'blob' THEN args ELSE x'' END, "
    "rate_key = NULL, rate_n = NULL, rate_period = NULL, "
    + ", ".join(f"{name} = CASE WHEN {no_list(name)} THEN NULL ELSE CAST({name} AS TEXT) END" for name in _LISTS)
    + "".join(f", {name} = CAST({name} AS REAL)" for name in _RANKS)
    + "".join(
        f", {name} = CASE WHEN typeof({name}) = 'text' THEN {name} ELSE hex({name}) END"
        for name in ("id", "task", "queue", "args_digest")
    )
    + "".join(
        f", {name} = CASE WHEN typeof({name}) = 'text' THEN {name} END"
        for name in _NULLABLE_TEXTS
        if name not in ("runner", "held", "rated", "behind", "rate_key")
    )
    + "".join(
        f", {name} = CAST({name} AS INTEGER)"
        for name in _NUMBERS
        if name not in ("status", "place", "ended", "why", "special", "entries")
    )
    + " WHERE seq = ?1 RETURNING id, task, status, round, attempt"
)
DROP_REGISTRATIONS = "DELETE FROM $registration WHERE seq IN (SELECT value FROM json_each(?))"
DROP_BIG = "DELETE FROM $big WHERE seq IN (SELECT value FROM json_each(?))"
#: References to blobs that the row does not name any more.
DROP_REFS = (
    "DELETE FROM $ref WHERE seq IN (SELECT value FROM json_each(?)) AND NOT EXISTS "
    "(SELECT 1 FROM $inv i, json_each(i.blobs) b WHERE i.seq = $ref.seq AND b.value = $ref.key)"
)


def end_unreadable(tx: Tx, seqs: Sequence[int]) -> list[str]:
    """End those of ``seqs`` that are not final and cannot be read; the ids of it."""
    found = tx.all(STILL_BROKEN, json_list(seqs))
    if not found:
        return []
    changes = [change for seq, _, _ in found for change in tx.all(END, seq, REASON, tx.now)]
    ended = [change[0] for change in changes]
    for text in (DROP_REGISTRATIONS, DROP_BIG, DROP_REFS):
        tx.run(text, json_list([seq for seq, _, _ in found]))
    for _, key, rate in found:
        if isinstance(key, str):
            life.let_go(tx, key)
        if isinstance(rate, str):
            life.next_head(tx, rate)
    life.settle_waits(tx, ended)
    tx.finals += ended
    tx.changes += changes
    return ended
