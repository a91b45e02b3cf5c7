"""The claim: READY rows in order become PENDING under a new owner; and before that, what is due becomes READY.

Rows without anything special are taken by one statement for the whole batch. The others (they may expire, drop out, hold a registration key,
be the head of a rate) are looked at one by one, in their turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from pynenc.core.records import Alone, Claim, Claimed, ClaimRequest
from pynenc.exceptions import RunnerLostError
from pynenc.store.sqlite import life, schema, waits
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import BY_SEQ, DUE, Row, rows
from pynenc.store.sqlite.schema import (
    ALONE,
    BIG_ARGS,
    BOOST,
    CAREFUL,
    CLAIM_COLUMNS,
    CLAIMED,
    RANK,
    SEQ,
    SPECIAL,
    claimed_of,
    json_list,
    of_one,
)

_RANKED, _PLAIN = "(rank != 0 OR boost != 0)", "rank = 0 AND boost = 0"
_BY_RANK, _BY_AGE = "rank DESC, boost DESC, seq", "seq"
#: What a claim must know, in one look: the queues that are not paused with their next timer, whether the runner may claim, whether there are suspects, and
#: whether something is READY in the queue.
OVERVIEW = (
    "SELECT name, (SELECT min(timer) FROM $inv WHERE queue = name AND timer > 0), "
    "(SELECT death IS NULL FROM $runner WHERE id = ?), EXISTS (SELECT 1 FROM $inv WHERE why = 4 AND why > 0), "
    f"EXISTS (SELECT 1 FROM $inv INDEXED BY $plain WHERE place = 0 AND {_PLAIN} AND queue = name) "
    f"OR EXISTS (SELECT 1 FROM $inv INDEXED BY $aged WHERE place = 0 AND {_RANKED} AND queue = name) "
    "FROM $queue WHERE state != 'paused'"
)
RUNNER = "SELECT death IS NULL FROM $runner WHERE id = ?"
DUE_PLAIN = (
    "UPDATE $inv SET place = 0, timer = NULL WHERE seq IN (SELECT seq FROM $inv WHERE queue = ? AND timer <= ? AND place = 1 "
    "AND running_key IS NULL AND rate_key IS NULL ORDER BY timer LIMIT ?)"
)


def _ready(index: str, which: str, order: str) -> str:
    """READY rows of a queue from one of the indices."""
    return (
        f"SELECT {CLAIM_COLUMNS} FROM $inv INDEXED BY ${index} WHERE place = 0 AND {which} AND alone = 0 AND queue = ?1 "
        f"ORDER BY {order} LIMIT ?2"
    )


def _ready_seqs(index: str, which: str) -> str:
    return f"SELECT seq FROM $inv INDEXED BY ${index} WHERE place = 0 AND {which} AND queue = ?1"


PLAIN = _ready("plain", _PLAIN, _BY_AGE)
AGED = _ready("aged", _RANKED, _BY_AGE)
#: In the order of the claim: those above the plain ones, the plain ones, those below. SQLite runs the parts one after the other, and only as far as needed.
READY = (
    f"SELECT * FROM ({_ready('ranked', f'{_RANKED} AND rank >= 0', _BY_RANK)}) UNION ALL SELECT * FROM ({PLAIN}) "
    f"UNION ALL SELECT * FROM ({_ready('ranked', f'{_RANKED} AND rank < 0', _BY_RANK)}) LIMIT ?2"
)
#: For a runner that does not know some tasks: rare, and so a sorted scan of what is READY.
_WITHOUT = (
    f"SELECT {CLAIM_COLUMNS} FROM $inv WHERE place = 0 AND alone = ?4 AND queue = ?1 AND task NOT IN (SELECT value FROM json_each(?3)) "
    f"AND seq IN ({_ready_seqs('plain', _PLAIN)} UNION ALL {_ready_seqs('aged', _RANKED)}) ORDER BY "
)
READY_WITHOUT = f"{_WITHOUT} {_BY_RANK} LIMIT ?2"
AGED_WITHOUT = f"{_WITHOUT} {_BY_AGE} LIMIT ?2"
SUSPECT = f"SELECT {CLAIM_COLUMNS} FROM $inv WHERE why = 4 AND why > 0 AND behind = ? ORDER BY rank DESC, boost DESC, seq LIMIT ?"
CHOSEN = (
    f"SELECT {CLAIM_COLUMNS} FROM $inv WHERE id IN (SELECT value FROM json_each(?)) AND place = 0 AND alone = ? "
    "ORDER BY rank DESC, boost DESC, seq"
)
TAKE = (
    "UPDATE $inv SET place = 3, status = 1, attempt = attempt + 1, runner = ?, claimed = ?, started = 0 "
    "WHERE seq IN (SELECT value FROM json_each(?))"
)
TAKE_ONE = of_one(TAKE)
#: One row, if it would be the first of all READY ones with at least this rank and the latest boost.
FIRST = (
    f"SELECT {CLAIM_COLUMNS} FROM $inv i WHERE id = ?1 AND place = 0 AND special = 0 AND alone = 0 AND queue = ?2 AND max(rank, ?3) >= 0 "
    "AND NOT EXISTS (SELECT 1 FROM $inv INDEXED BY $ranked WHERE place = 0 AND (rank != 0 OR boost != 0) AND alone = 0 AND queue = ?2 "
    "AND rank > max(i.rank, ?3))"
)
RAISE_ONE = of_one(waits.RAISE)
CLAIMED_OF_KEY = "SELECT count(*) FROM $inv WHERE held IN (?, ?) AND place = 3"
HOLD_TO_DROP = "UPDATE $inv SET held = ? WHERE seq = ?"
BIG_OF = "SELECT seq, args FROM $big WHERE seq IN (SELECT value FROM json_each(?))"
LOG_RATE = "INSERT INTO $rate (key, at) VALUES (?, ?)"
PRUNE_RATE = "DELETE FROM $rate WHERE key = ? AND at <= ?"
CLEAR = "UPDATE $inv SET why = 0, behind = NULL, rated = NULL WHERE seq = ?"

#: More than any claim asks for.
MOST = 1_000_000
#: Rows that become due in one transaction.
DUE_BATCH = 5000
DUE_BATCH_SLOW = 500


def claim(tx: Tx, request: ClaimRequest, awaited: Sequence[str] = (), rank: float = 0.0) -> Claim:
    """Carry out a claim.

    :param awaited: what is waited for since this transaction, and gets at least this ``rank``. A claim for one takes it without the detour
    through the indices of what is READY if it is the first of these.

    :raises RunnerLostError: the runner is not known, or its lease was taken away.
    """
    overview = tx.execute(tx.texts[OVERVIEW], (request.runner,)).fetchall()
    if not (overview[0][2] if overview else tx.value(RUNNER, request.runner)):
        raise RunnerLostError(f"runner {request.runner} has no lease: it must register again under a new id")
    timers = {row[0]: row[1] for row in overview}
    if any(timer is not None and timer <= tx.now for timer in timers.values()):
        admit_due(tx, timers)
        overview = tx.all(OVERVIEW, request.runner)
        timers = {row[0]: row[1] for row in overview}
    queues = [queue for queue, _ in request.shares] if request.shares else list(timers)
    stocked = [row[0] for row in overview if row[4] and row[0] in queues]
    # The usual claim is from the only queue in which anything is READY, with nothing special in front.
    is_usual = len(stocked) == 1 and not (request.ids or request.aged or request.without)
    is_usual = is_usual and request.alone is not Alone.ONLY
    next_due = min([timers[queue] for queue in queues if timers.get(queue)], default=0)
    if len(awaited) == 1:
        first = tx.one(FIRST, *awaited, stocked[0], rank) if is_usual and request.limit == 1 else None
        if first is not None:
            tx.run(TAKE_ONE, request.runner, tx.now, first[SEQ])
        tx.run(RAISE_ONE, *awaited, rank, tx.now)
        if first is not None:
            return Claim((claimed_of(first, first[2] + 1, tx.now),), next_due, bool(overview[0][3]))
    if not stocked:
        return Claim((), next_due, bool(overview and overview[0][3]))
    if is_usual:
        most = min(request.limit, dict(request.shares).get(stocked[0], MOST))
        found = tx.execute(tx.texts[READY], (stocked[0], most)).fetchall()
        if not [row for row in found if row[SPECIAL] or row[ALONE]]:
            if len(found) == 1:
                tx.execute(tx.texts[TAKE_ONE], (request.runner, tx.now, found[0][SEQ]))
            elif found:
                tx.execute(tx.texts[TAKE], (request.runner, tx.now, str([row[SEQ] for row in found])))
            batch = tuple([claimed_of(row, row[2] + 1, tx.now) for row in found])
            return Claim(batch, next_due, bool(overview[0][3]))
    taken, was_careful = _take_any(tx, request, timers)
    if was_careful:
        overview = tx.all(OVERVIEW, request.runner)
        timers = {row[0]: row[1] for row in overview}
        next_due = min([timers[queue] for queue in queues if timers.get(queue)], default=0)
    return Claim(tuple(taken), next_due, bool(overview and overview[0][3]))


def _take_any(tx: Tx, request: ClaimRequest, timers: Mapping[str, int | None]) -> tuple[list[Claimed], bool]:
    """Any claim; and whether it may have changed timers or suspects."""
    room = min(request.limit, 1) if request.alone is Alone.ONLY else request.limit
    taker = Taker(tx, request)
    for queue, most in request.shares or ((None, room),):
        names = list(timers) if queue is None else [queue] if queue in timers else []
        if names:
            room -= taker.take(names, min(most, room))
    return taker.batch, taker.was_careful


def admit_due(tx: Tx, timers: Mapping[str, int | None]) -> None:
    """What has waited for its time settles; a bounded number in one transaction."""
    for queue, first in timers.items():
        if first is None or first > tx.now:
            continue
        tx.ready += tx.run(DUE_PLAIN, queue, tx.now, DUE_BATCH).rowcount
        for row in rows(tx, DUE, queue, tx.now, DUE_BATCH_SLOW):
            if row.place == schema.WAITING:
                life.rouse(tx, row, "its time has come")
            else:
                life.settle(tx, row)
                row.save(tx)


class Taker:
    """Takes rows for one request until it has enough."""

    def __init__(self, tx: Tx, request: ClaimRequest) -> None:
        self._tx = tx
        self._request = request
        self.batch: list[Claimed] = []
        #: Whether a row was looked at that may have changed timers or suspects.
        self.was_careful = False

    def take(self, queues: list[str], most: int) -> int:
        """Take at most ``most`` rows from some queues; how many it were."""
        before = len(self.batch)
        while (wanted := most - (len(self.batch) - before)) > 0:
            found = self._candidates(queues, wanted)
            self._take_all(found)
            if self._request.ids or len(found) < wanted:
                break
        return len(self.batch) - before

    def _candidates(self, queues: list[str], limit: int) -> list[tuple[Any, ...]]:
        """The first rows in the order of the claim."""
        request = self._request
        if request.ids:
            alone = int(request.alone is Alone.ONLY)
            found = self._tx.all(CHOSEN, json_list(request.ids), alone)
            return [row for row in found if row[5] in queues and row[1] not in request.without][:limit]
        parts = [found for queue in queues if (found := self._of_queue(queue, limit))]
        if len(parts) <= 1:
            return parts[0] if parts else []
        return list(islice(merge(*parts, key=_age if request.aged else _order), limit))

    def _of_queue(self, queue: str, limit: int) -> list[tuple[Any, ...]]:
        """The first rows of one queue: those above the plain ones, the plain ones, those below."""
        tx, request = self._tx, self._request
        if request.without:
            query = AGED_WITHOUT if request.aged else READY_WITHOUT
            return tx.all(query, queue, limit, json_list(request.without), int(request.alone is Alone.ONLY))
        if request.alone is Alone.ONLY:
            return tx.all(SUSPECT, queue, limit)
        if request.aged:
            found = [*tx.all(PLAIN, queue, limit), *tx.all(AGED, queue, limit)]
            return sorted(found, key=_age)[:limit]
        return tx.all(READY, queue, limit)

    def _take_all(self, found: list[tuple[Any, ...]]) -> None:
        """Take rows: runs of plain ones together, each special one for itself."""
        tx = self._tx
        plain: list[tuple[Any, ...]] = []
        if any(row[SPECIAL] or row[ALONE] for row in found):
            big = [row[SEQ] for row in found if row[SPECIAL] & BIG_ARGS]
            args = dict(tx.all(BIG_OF, json_list(big))) if big else {}
            for row in found:
                complete = (*row[:3], args[row[SEQ]], *row[4:]) if row[SPECIAL] & BIG_ARGS else row
                if row[SPECIAL] & CAREFUL or row[ALONE]:
                    self._own(plain)
                    plain = []
                    self._take_carefully(complete)
                else:
                    plain.append(complete)
        else:
            plain = found
        self._own(plain)

    def _own(self, found: list[tuple[Any, ...]]) -> None:
        """Make rows PENDING."""
        if found:
            now, runner = self._tx.now, self._request.runner
            self._tx.run(TAKE, runner, now, str([row[SEQ] for row in found]))
            self.batch += [claimed_of(row, row[2] + 1, now) for row in found]

    def _take_carefully(self, found: tuple[Any, ...]) -> None:
        """Take a row, or end it instead."""
        tx = self._tx
        self.was_careful = True
        (values,) = tx.all(BY_SEQ, found[SEQ])
        row = Row.of(values)
        if row.attempt == 0 and row.round == 0 and 0 < row.expires <= tx.now:
            life.end(tx, row, schema.CANCELLED, "expired")
            return
        if row.drop_blocked and row.running_key is not None and _is_full(tx, row.running_key, row.running_limit):
            life.end(tx, row, schema.DROPPED, "its running key was held")
            return
        if row.registration_key is not None:
            tx.run(life.DROP_REGISTRATION, row.registration_key, row.seq)
        self._own([found])
        if row.why or row.rated is not None:
            tx.run(CLEAR, row.seq)
        if row.drop_blocked and row.running_key is not None:
            tx.run(HOLD_TO_DROP, dropping(row.running_key), row.seq)
        if row.rate_key is not None:
            tx.run(PRUNE_RATE, row.rate_key, tx.now - row.rate_period)
            tx.run(LOG_RATE, row.rate_key, tx.now)
            life.next_head(tx, row.rate_key)


def dropping(key: str) -> str:
    """What a claimed row that would rather have dropped out than parked holds: it counts for its like, but parks nobody."""
    return f"\0{key}"


def _is_full(tx: Tx, key: str, limit: int) -> bool:
    """Whether as many as may are claimed under a key."""
    held: int = tx.value(CLAIMED_OF_KEY, key, dropping(key))
    return held >= limit


def _order(row: tuple[Any, ...]) -> tuple[float, int, int]:
    return (-row[RANK], -row[BOOST], row[SEQ])


def _age(row: tuple[Any, ...]) -> int:
    seq: int = row[SEQ]
    return seq


OWNED_CLAIMS = f"SELECT {CLAIM_COLUMNS} FROM $inv INDEXED BY $owned WHERE place = {CLAIMED} AND runner = ? ORDER BY seq"


def owned(tx: Tx, runner: str) -> list[Claimed]:
    """What a runner owns, as it was claimed."""
    found = tx.all(OWNED_CLAIMS, runner)
    big = [row[SEQ] for row in found if row[SPECIAL] & BIG_ARGS]
    args = dict(tx.all(BIG_OF, json_list(big))) if big else {}
    complete = [(*row[:3], args.get(row[SEQ], row[3]), *row[4:]) for row in found]
    return [claimed_of(row, row[2], row[13]) for row in complete]
