"""Removal: finals whose time is over, blobs without references, runners that are long gone; in bounded batches."""

from __future__ import annotations

from pynenc.core.records import Purge, Purged
from pynenc.store.base import Clock
from pynenc.store.sqlite import schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import json_list

#: Microseconds after which the row of a runner that owns nothing is removed.
RUNNER_GRACE = 24 * 3600 * 1_000_000

OVER = "SELECT seq, id FROM $inv WHERE gone <= ? ORDER BY gone LIMIT ?"
ENDED = "SELECT seq, id FROM $inv WHERE place = 5 AND ended < ? ORDER BY seq LIMIT ?"
ANY = "SELECT seq, id FROM $inv ORDER BY seq LIMIT ?"
WITH_BLOBS = (
    "SELECT seq, value FROM $inv, json_each(blobs) WHERE seq IN (SELECT value FROM json_each(?)) AND blobs IS NOT NULL"
)
DROP_REF = "DELETE FROM $ref WHERE key = ? AND seq = ?"
DROP_BY_SEQ = tuple(
    f"DELETE FROM ${table} WHERE seq IN (SELECT value FROM json_each(?))" for table in ("big", "hist", "inv")
)
DROP_MEMO = "DELETE FROM $memo WHERE scope IN (SELECT value FROM json_each(?))"
DROP_EDGES = "DELETE FROM $edge WHERE waiter IN (SELECT value FROM json_each(?1)) OR awaited IN (SELECT value FROM json_each(?1))"
DROP_REGISTRATIONS = "DELETE FROM $registration WHERE seq IN (SELECT value FROM json_each(?))"
DROP_BLOBS = "DELETE FROM $blob WHERE key IN (SELECT key FROM $blob b WHERE seen < ? AND NOT EXISTS (SELECT 1 FROM $ref r WHERE r.key = b.key) LIMIT ?)"
DROP_RUNNERS = (
    "DELETE FROM $runner WHERE seen < ? AND (death IS NOT NULL OR boot != ? OR until <= ?) "
    "AND NOT EXISTS (SELECT 1 FROM $inv WHERE place = 3 AND runner = $runner.id)"
)


def purge(tx: Tx, what: Purge, clock: Clock) -> Purged:
    """Remove one batch of what ``what`` describes."""
    doomed = _doomed(tx, what)
    _remove(tx, doomed, is_everything=what.everything)
    is_full = len(doomed) >= what.limit
    if what.everything:
        if not is_full:
            for table in schema.CONTENTS:
                tx.run(f"DELETE FROM ${table}")
        return Purged(len(doomed), 0, 0, is_full)
    blobs = tx.run(DROP_BLOBS, tx.now - what.blob_grace, what.limit).rowcount
    runners = tx.run(DROP_RUNNERS, tx.now - RUNNER_GRACE, clock.boot_id(), clock.lease()).rowcount
    return Purged(len(doomed), blobs, runners, is_full or blobs >= what.limit)


def _doomed(tx: Tx, what: Purge) -> list[tuple[int, str]]:
    """Number and id of the invocations of this batch."""
    if what.everything:
        return _pairs(tx, ANY, what.limit)
    doomed = dict(_pairs(tx, OVER, tx.now, what.limit))
    if what.ended_before and len(doomed) < what.limit:
        doomed |= dict(_pairs(tx, ENDED, what.ended_before, what.limit))
    return list(doomed.items())[: what.limit]


def _pairs(tx: Tx, query: str, *values: int) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in tx.all(query, *values)]


def _remove(tx: Tx, doomed: list[tuple[int, str]], *, is_everything: bool) -> None:
    """Remove invocations with all that belongs to them."""
    if not doomed:
        return
    seqs, ids = json_list([seq for seq, _ in doomed]), json_list([name for _, name in doomed])
    tx.many(DROP_REF, [(key, seq) for seq, key in tx.all(WITH_BLOBS, seqs)])
    tx.run(DROP_MEMO, ids)
    if is_everything:
        tx.run(DROP_EDGES, ids)
        tx.run(DROP_REGISTRATIONS, seqs)
    for statement in DROP_BY_SEQ:
        tx.run(statement, seqs)
