"""Rows that cannot be read: written by hand, by another program, or by a later version that knows more.

One such row among the READY ones would stop every claim. So when a claim fails on what it read, what waits and cannot be read ends FAILED, and is
made readable; the claim is then carried out again. The condition is one text over the types of all columns, and ``check`` uses it as well.
"""

from __future__ import annotations

import msgspec

from pynenc.store.sqlite import life, schema
from pynenc.store.sqlite.database import Tx

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


def _no_list(column: str) -> str:
    text = f"CAST({column} AS TEXT)"
    return f"CASE WHEN {column} IS NULL THEN 0 WHEN json_valid({text}) THEN json_type({text}) != 'array' ELSE 1 END"


#: Whether a row cannot be read.
DAMAGED = " OR ".join(
    (
        *(f"typeof({name}) != 'text'" for name in _TEXTS),
        *(f"typeof({name}) NOT IN ('text', 'null')" for name in _NULLABLE_TEXTS),
        *(f"typeof({name}) != 'integer'" for name in _NUMBERS),
        *(f"typeof({name}) NOT IN ('integer', 'null')" for name in _NULLABLE_NUMBERS),
        *(f"typeof({name}) NOT IN ('real', 'integer')" for name in _RANKS),
        *map(_no_list, _LISTS),
        f"status NOT BETWEEN 0 AND {len(schema.STATUSES) - 1} OR place NOT BETWEEN 0 AND {len(schema.PLACES) - 1}",
        "CASE WHEN special & 2 THEN NOT EXISTS (SELECT 1 FROM $big b WHERE b.seq = i.seq) ELSE typeof(args) != 'blob' END",
    )
)
WAITING = f"SELECT seq, held, rated FROM $inv i WHERE (place < 3 OR typeof(place) != 'integer') AND ({DAMAGED}) ORDER BY seq LIMIT 500"
END = (
    f"UPDATE $inv SET status = {schema.FAILED}, place = {schema.FINAL}, reason = ?2, payload = x'', ended = ?3, runner = NULL, held = NULL, rated = NULL, "
    "gone = CASE WHEN typeof(result_ttl) = 'integer' AND result_ttl > 0 THEN ?3 + result_ttl END, "
    "why = 0, behind = NULL, timer = NULL, seen = NULL, special = 0, args = CASE WHEN typeof(args) = 'blob' THEN args ELSE x'' END, "
    "rate_key = NULL, rate_n = NULL, rate_period = NULL, "
    + ", ".join(f"{name} = CASE WHEN {_no_list(name)} THEN NULL ELSE {name} END" for name in _LISTS)
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
        if name not in ("status", "place", "ended", "why", "special")
    )
    + " WHERE seq = ?1 RETURNING id"
)
DROP_REGISTRATION = "DELETE FROM $registration WHERE seq = ?"
DROP_BIG = "DELETE FROM $big WHERE seq = ?"


def end_unreadable(tx: Tx) -> list[str]:
    """End what waits and cannot be read; the ids of it."""
    found = tx.all(WAITING)
    ended = [str(tx.value(END, seq, REASON, tx.now)) for seq, _, _ in found]
    for seq, _, _ in found:
        tx.run(DROP_REGISTRATION, seq)
        tx.run(DROP_BIG, seq)
    for _, key, rate in found:
        if isinstance(key, str):
            life.let_go(tx, key)
        if isinstance(rate, str):
            life.next_head(tx, rate)
    life.settle_waits(tx, ended)
    tx.finals += ended
    return ended
