"""The end of attempts, and what is written about them while they run. All behind the fence: id, attempt and runner must match.

Finals without a running key are written by one statement run over the batch, which carries the fence in its condition. What that did not change is looked at
one by one: it holds a key, somebody wants it cancelled, it is lost, or it is the same final sent again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from pynenc.core.records import Claim, ClaimRequest, Final, Finished, Outcome, Owner, Progress, Ref
from pynenc.core.status import FINAL as FINALS
from pynenc.core.status import InvocationStatus
from pynenc.store.base import Clock
from pynenc.store.sqlite import claiming, life, reacting, running, schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import Row, load
from pynenc.store.sqlite.schema import CODES, encode_progress

FINISH = (
    "UPDATE $inv SET place = 5, status = ?4, payload = ?5, retries = ?6, crashes = ?7, started = CASE WHEN ?8 > 0 THEN ?8 ELSE started END, "
    "ended = ?9, reason = ?10, alone = ?11, gone = CASE WHEN result_ttl > 0 THEN ?9 + result_ttl END "
    "WHERE id = ?1 AND attempt = ?2 AND runner = ?3 AND place = 3 AND held IS NULL AND cancel = 0"
)
#: The same for what succeeds at once: fewer values to carry.
FINISH_SIMPLE = (
    "UPDATE $inv SET place = 5, status = 3, payload = ?4, retries = 0, crashes = 0, started = CASE WHEN ?5 > 0 THEN ?5 ELSE started END, "
    "ended = ?6, reason = '', alone = 0, gone = CASE WHEN result_ttl > 0 THEN ?6 + result_ttl END "
    "WHERE id = ?1 AND attempt = ?2 AND runner = ?3 AND place = 3 AND held IS NULL"
)
#: The same for a single one, with what its waiter wants to know.
FINISH_SIMPLE_ONE = FINISH_SIMPLE + " RETURNING task, round"
START = "UPDATE $inv SET status = 2, started = ?4 WHERE id = ?1 AND attempt = ?2 AND runner = ?3 AND place = 3 AND status = 1"
REPORT = "UPDATE $inv SET progress = ?4 WHERE id = ?1 AND attempt = ?2 AND runner = ?3 AND place = 3"
GETS_ON = "SELECT crashes > 0 OR alone > 0 FROM $inv WHERE id = ? AND attempt = ? AND runner = ? AND place = 3"
PROGRESS = "UPDATE $inv SET crashes = 0, alone = 0 WHERE id = ?"
OWNS = "SELECT 1 FROM $inv WHERE id = ? AND attempt = ? AND runner = ? AND place = 3"


def finish(tx: Tx, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None, clock: Clock) -> Finished:
    """End attempts, then claim; see :meth:`pynenc.store.base.Store.finish`."""
    lost: tuple[str, ...] = ()
    if outcomes:
        began = time.monotonic()
        has_edges, has_reactions = tx.execute(tx.texts[life.ANY_INTEREST]).fetchone()
        known = reacting.finals_among(tx, outcomes) if has_reactions else ()
        simple = [
            (o.id, o.attempt, runner, o.payload, o.started, o.ended or tx.now)
            for o in outcomes
            if o.status is InvocationStatus.SUCCESS and not (o.retries or o.crashes or o.reason or o.alone)
        ]
        if len(simple) == len(outcomes) == 1:
            found = tx.execute(tx.texts[FINISH_SIMPLE_ONE], simple[0]).fetchall()
            changed = len(found)
            for only, (task, round_) in zip(outcomes, found, strict=False):
                tx.known = began, Final(only.id, only.status, task, only.payload, round_)
        elif len(simple) == len(outcomes):
            changed = tx.executemany(tx.texts[FINISH_SIMPLE], simple).rowcount
        else:
            changed = tx.many(FINISH, [_final_values(o, runner, tx.now) for o in outcomes if o.status in FINALS])
        if changed == len(outcomes):
            tx.finals += [each.id for each in outcomes]
            if has_edges:
                life.settle_waits(tx, tx.finals[:])
            if has_reactions:
                reacting.note_finals(tx, outcomes)
        else:
            lost = tuple(each.id for each in outcomes if not _end_one(tx, runner, each, clock, known))
    if tx.changes:
        reacting.react(tx)
    return Finished(lost, claiming.claim(tx, request) if request else Claim())


def _final_values(outcome: Outcome, runner: str, now: int) -> tuple[Any, ...]:
    return (
        outcome.id,
        outcome.attempt,
        runner,
        CODES[outcome.status],
        outcome.payload,
        outcome.retries,
        outcome.crashes,
        outcome.started,
        outcome.ended or now,
        outcome.reason,
        outcome.alone,
    )


def _end_one(tx: Tx, runner: str, outcome: Outcome, clock: Clock, known: Collection[str]) -> bool:
    """Whether an outcome counts; carried out if it was not yet. What is ``known`` was final before this transaction."""
    row = load(tx, outcome.id)
    if row is None or (row.attempt, row.runner) != (outcome.attempt, runner):
        return False
    is_asked = row.cancel and outcome.status is InvocationStatus.CANCELLED
    reason = outcome.reason or (row.reason if is_asked else "")
    if row.place == schema.FINAL:
        if (row.status, row.payload, row.reason) != (CODES[outcome.status], outcome.payload, reason):
            return False
        # Written just now by the statement for all, or sent again after a lost reply.
        life.settle_waits(tx, [row.id])
        tx.finals.append(row.id)
        if row.id not in known:
            life.note(tx, row, row.status)
        return True
    if row.place != schema.CLAIMED:
        return False
    row.retries, row.crashes, row.alone = outcome.retries, outcome.crashes, int(outcome.alone)
    row.started = outcome.started or row.started
    is_unknown = outcome.unknown_task and not running.is_known(tx, row.task, runner, clock)
    _end_claimed(tx, row, outcome, reason, is_unknown=is_unknown)
    return True


def _end_claimed(tx: Tx, row: Row, outcome: Outcome, reason: str, *, is_unknown: bool) -> None:
    if outcome.status in FINALS:
        life.end(tx, row, CODES[outcome.status], reason, payload=outcome.payload, ended=outcome.ended)
    elif row.cancel:
        life.end(tx, row, schema.CANCELLED, row.reason)
    else:
        is_unused = outcome.status is InvocationStatus.REGISTERED and not (row.started or row.alone)
        if is_unused and row.rate_key is not None:
            tx.run(life.FORGET_CLAIM, row.rate_key, row.claimed)
        life.give_back(tx, row, outcome, is_unknown=is_unknown)
        if is_unused and row.rate_key is not None:
            life.go_first(tx, row)


def start(tx: Tx, runner: str, refs: Sequence[Ref], at: int) -> list[str]:
    """PENDING → RUNNING; the lost ids."""
    if tx.many(START, [(ref.id, ref.attempt, runner, at) for ref in refs]) == len(refs):
        return []
    return [ref.id for ref in refs if not tx.one(OWNS, ref.id, ref.attempt, runner)]


def get_on(tx: Tx, by: Owner) -> bool:
    """An attempt got on, which forgives crashes; whether it owns its invocation."""
    found = tx.one(GETS_ON, by.id, by.attempt, by.runner)
    if found and found[0]:
        tx.run(PROGRESS, by.id)
    return bool(found)


def report(tx: Tx, runner: str, progress: Sequence[Progress]) -> list[str]:
    """Keep what bodies say of their progress; the lost ids."""
    values = [(each.id, each.attempt, runner, encode_progress(each)) for each in progress]
    if tx.many(REPORT, values) == len(progress):
        return []
    return [each.id for each in progress if not tx.one(OWNS, each.id, each.attempt, runner)]
