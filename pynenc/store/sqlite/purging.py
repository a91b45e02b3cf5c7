"""Removal: finals whose time is over, blobs without references, runners that are long gone; in bounded batches."""

from __future__ import annotations

import logging

from pynenc.core.records import Purge, Purged
from pynenc.store.base import Clock
from pynenc.store.sqlite import damage, schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import json_list

logger = logging.getLogger("pynenc")

#: Microseconds after which the row of a runner that owns nothing is removed.
RUNNER_GRACE = 24 * 3600 * 1_000_000
#: Microseconds after which the claim of a rate is removed that no purge of its rows has removed.
RATE_GRACE = 30 * RUNNER_GRACE

#: Whether the workflow that a row belongs to goes on.
_NEEDED = (
    "workflow IS NOT NULL AND EXISTS (SELECT 1 FROM $inv r WHERE r.place < 5 "
    "AND r.id = CASE WHEN i.workflow = i.id THEN i.workflow_parent ELSE i.workflow END)"
)
OVER = f"SELECT seq, id, {_NEEDED} FROM $inv i WHERE gone <= ? ORDER BY gone LIMIT ?"
ENDED = f"SELECT seq, id FROM $inv i WHERE place = 5 AND ended < ? AND NOT ({_NEEDED}) ORDER BY seq LIMIT ?"
KEEP = "UPDATE $inv SET gone = ?2 + result_ttl WHERE seq IN (SELECT value FROM json_each(?1))"
ANY = "SELECT seq, id FROM $inv ORDER BY seq LIMIT ?"
#: The blobs of rows; nothing where the list cannot be read, which must not keep the row.
BLOBS = (
    f"SELECT i.seq, i.id, e.value FROM $inv i, json_each(CASE WHEN {damage.no_list('blobs')} THEN '[null]' ELSE CAST(blobs AS TEXT) END) e "
    "WHERE seq IN (SELECT value FROM json_each(?)) AND blobs IS NOT NULL"
)
DROP_REFS = "DELETE FROM $ref WHERE seq IN (SELECT value FROM json_each(?))"
DROP_REF = "DELETE FROM $ref WHERE key = ? AND seq = ?"
DROP_BY_SEQ = tuple(
    f"DELETE FROM ${table} WHERE seq IN (SELECT value FROM json_each(?))" for table in ("big", "hist", "inv")
)
ANY_MEMO = "SELECT 1 FROM $memo LIMIT 1"
#: The scope of an invocation and those below it: ``0`` follows ``/``.
DROP_MEMO = "DELETE FROM $memo WHERE scope = ?1 OR scope > ?1 || '/' AND scope < ?1 || '0'"
DROP_EDGES = "DELETE FROM $edge WHERE waiter IN (SELECT value FROM json_each(?1)) OR awaited IN (SELECT value FROM json_each(?1))"
DROP_REGISTRATIONS = "DELETE FROM $registration WHERE seq IN (SELECT value FROM json_each(?))"
ANY_RATE = "SELECT 1 FROM $rate LIMIT 1"
#: The claims that no window of the rates of rows needs, looked for once for each rate; and those of rates whose rows were gone before that.
DROP_RATES = (
    "DELETE FROM $rate WHERE rowid IN (SELECT r.rowid FROM (SELECT rate_key, max(rate_period) AS period FROM $inv "
    "WHERE seq IN (SELECT value FROM json_each(?1)) AND rate_key IS NOT NULL GROUP BY rate_key) i "
    "JOIN $rate r ON r.key = i.rate_key AND r.at <= ?2 - i.period)"
)
DROP_OLD_RATES = "DELETE FROM $rate WHERE at < ?"
DROP_BLOBS = "DELETE FROM $blob WHERE key IN (SELECT key FROM $blob b WHERE seen < ? AND NOT EXISTS (SELECT 1 FROM $ref r WHERE r.key = b.key) LIMIT ?)"
DROP_RUNNERS = (
    "DELETE FROM $runner WHERE seen < ? AND (death IS NOT NULL OR boot != ? OR until <= ?) "
    "AND NOT EXISTS (SELECT 1 FROM $inv WHERE place = 3 AND runner = $runner.id)"
)


def purge(tx: Tx, what: Purge, clock: Clock) -> Purged:
    """Remove one batch of what ``what`` describes."""
    doomed, kept = _doomed(tx, what)
    _remove(tx, doomed, is_everything=what.everything)
    is_full = len(doomed) + kept >= what.limit
    if what.everything:
        if not is_full:
            for table in schema.CONTENTS:
                tx.run(f"DELETE FROM ${table}")
        return Purged(len(doomed), 0, 0, is_full)
    if not is_full:  # it looks at all of them
        tx.run(DROP_OLD_RATES, tx.now - RATE_GRACE)
    blobs = tx.run(DROP_BLOBS, tx.now - what.blob_grace, what.limit).rowcount
    runners = tx.run(DROP_RUNNERS, tx.now - RUNNER_GRACE, clock.boot_id(), clock.lease()).rowcount
    return Purged(len(doomed), blobs, runners, is_full or blobs >= what.limit)


def _doomed(tx: Tx, what: Purge) -> tuple[list[tuple[int, str]], int]:
    """Number and id of the invocations of this batch; and how many were kept although their time is over."""
    if what.everything:
        return _pairs(tx, ANY, what.limit), 0
    over = tx.all(OVER, tx.now, what.limit)
    kept = [seq for seq, _, is_needed in over if is_needed]
    if kept:
        tx.run(KEEP, json_list(kept), tx.now)
    doomed = {seq: name for seq, name, is_needed in over if not is_needed}
    if what.ended_before and len(doomed) < what.limit:
        doomed |= dict(_pairs(tx, ENDED, what.ended_before, what.limit))
    return list(doomed.items())[: what.limit], len(kept)


def _pairs(tx: Tx, query: str, *values: int) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in tx.all(query, *values)]


def _remove(tx: Tx, doomed: list[tuple[int, str]], *, is_everything: bool) -> None:
    """Remove invocations with all that belongs to them."""
    if not doomed:
        return
    seqs, ids = json_list([seq for seq, _ in doomed]), json_list([name for _, name in doomed])
    blobs = tx.all(BLOBS, seqs)
    tx.many(DROP_REF, [(key, seq) for seq, _, key in blobs if key is not None])
    if damaged := {seq: name for seq, name, key in blobs if key is None}:
        logger.warning(
            "removed although their rows in the store were damaged: %s", ", ".join(map(str, damaged.values()))
        )
        tx.run(DROP_REFS, json_list(list(damaged)))
    if tx.one(ANY_MEMO):
        tx.many(DROP_MEMO, [(name,) for _, name in doomed])
    if is_everything:
        tx.run(DROP_EDGES, ids)
        tx.run(DROP_REGISTRATIONS, seqs)
    if tx.one(ANY_RATE):
        tx.run(DROP_RATES, seqs, tx.now)
    for statement in DROP_BY_SEQ:
        tx.run(statement, seqs)
