"""The store object: each operation of the contract is a call of one function on the server."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Amended,
    Beat,
    Blob,
    Change,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Final,
    Finished,
    Found,
    HistoryEntry,
    Invocation,
    Microseconds,
    New,
    Orders,
    Outcome,
    Owner,
    Page,
    Progress,
    Purge,
    Purged,
    QueueInfo,
    QueueState,
    Recovered,
    Ref,
    RunnerInfo,
    Submitted,
)
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.store.base import FIRST_PAGE, Clock, IdleListener, Wake
from pynenc.store.base import Watch as WatchOfStore
from pynenc.store.postgres import record, waiting
from pynenc.store.postgres.database import Call, Combiner, Database, Rows
from pynenc.store.postgres.reading import Reading
from pynenc.store.postgres.schema import STATUSES
from pynenc.store.postgres.submitting import Submitting
from pynenc.store.postgres.url import parse
from pynenc.store.postgres.wake import Bell, Known
from pynenc.store.postgres.wire import Numbers, Payloads, Texts

_CYCLE_VALUES = ", ".join(f"${n}" for n in range(1, 30))
CYCLE = f"SELECT * FROM @cycle({_CYCLE_VALUES})"
START = "SELECT @start($1, $2, $3, $4, $5)"
REPORT = "SELECT @report($1, $2, $3, $4, $5)"
AMEND = "SELECT * FROM @amend($1, $2, $3, $4, $5, $6, $7, $8)"
SIGNALS = "SELECT * FROM @signals($1, $2)"
LEASE_TIME = "SELECT set_config('pynenc.lease', $1, true)"
HEARTBEAT = "SELECT * FROM @heartbeat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
RECOVER = "SELECT * FROM @recover($1, $2, $3, $4, $5, $6, $7)"
IS_OVERDUE = "SELECT @is_overdue($1, $2)"
EXPIRE = "SELECT @expire($1, $2, $3)"
RETIRE = "SELECT @retire($1, $2, $3)"
DECLARE_DEAD = "SELECT @declare_dead($1, $2)"
OWNED = "SELECT * FROM @owned($1, $2)"
RUNNERS = (
    "SELECT beat, tasks, started, seen, boot, until, death IS NULL, @time($2) FROM @runner "
    "WHERE app = $1 AND death IS DISTINCT FROM 'gone' ORDER BY started, id"
)
TIME = "SELECT @time($1)"
LEAD = "SELECT @lead($1, $2, $3, $4, $5, $6)"
_REMEMBER = "INSERT INTO @memo (app, scope, key, value) SELECT $1, $2, u.k, u.v FROM unnest($3::text[], $4::bytea[]) AS u (k, v) "
_IF_OWNED = "WHERE EXISTS (SELECT 1 FROM @inv WHERE app = $1 AND id = $5 AND attempt = $6 AND runner = $7 AND place = P_CLAIMED) "
_LAST_WINS, _FIRST_WINS = (
    "ON CONFLICT (app, scope, key) DO UPDATE SET value = excluded.value",
    "ON CONFLICT (app, scope, key) DO NOTHING",
)
#: By whether it is an attempt that remembers, and whether the first wins.
REMEMBER = {
    (False, False): _REMEMBER + _LAST_WINS,
    (False, True): _REMEMBER + _FIRST_WINS,
    (True, False): _REMEMBER + _IF_OWNED + _LAST_WINS,
    (True, True): _REMEMBER + _IF_OWNED + _FIRST_WINS,
}
RECALL = "SELECT key, value FROM @memo WHERE app = $1 AND scope = $2"
RECALL_SOME = "SELECT key, value FROM @memo WHERE app = $1 AND scope = $2 AND key = ANY ($3)"
#: Keeps an attempt what it is until it has remembered.
HOLD = "SELECT 1 FROM @inv WHERE app = $1 AND id = $2 AND attempt = $3 AND runner = $4 AND place = P_CLAIMED FOR NO KEY UPDATE"
PROGRESS = (
    "UPDATE @inv SET crashes = 0, alone = false "
    "WHERE app = $1 AND id = $2 AND attempt = $3 AND runner = $4 AND place = P_CLAIMED AND (crashes > 0 OR alone)"
)
UNSUBSCRIBE = "DELETE FROM @reaction WHERE app = $1 AND owner = $2"
SUBSCRIBE = (
    "INSERT INTO @reaction (app, owner, status, task, n, label, call, args, tail) SELECT $1, $2, u.status, u.task, u.n, u.label, u.call::json, u.args, u.tail "
    "FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[]) WITH ORDINALITY AS u (status, task, label, call, args, tail, n)"
)
PUT_BLOBS = "SELECT @put_blobs($1, @time($2), $3, $4, $5)"
GET_BLOBS = "SELECT key, data FROM @blob WHERE app = $1 AND key = ANY ($2)"
PURGE = "SELECT * FROM @purge($1, $2, $3, $4, $5, $6, $7, $8)"
PURGE_EVERYTHING = "SELECT @purge_everything($1, $2, $3)"
SET_QUEUE = "INSERT INTO @queue (app, name, state) VALUES ($1, $2, $3) ON CONFLICT (app, name) DO UPDATE SET state = excluded.state"

#: Microseconds after which the row of a runner that owns nothing is removed.
RUNNER_GRACE = 24 * 3600 * 1_000_000
#: Seconds for which a claim may leave out the numbers that it knows to be gone, and the least size of a batch that is worth it.
HINT_SECONDS, HINT_BATCH = 1.0, 16


def local_time() -> Microseconds:
    """The time of this machine."""
    return time.time_ns() // 1000


class ServerClock:
    """The clock of the server, as far as this process knows it.

    Each answer that tells the time bounds how far the clock of this machine is off: the server has looked after the question was sent, and before the
    answer came. As long as the own clock can be right, it is believed.
    """

    def __init__(self) -> None:
        self._least, self._most = -sys.maxsize, sys.maxsize
        self._offset = 0

    def learn(self, now: Microseconds, sent: Microseconds, received: Microseconds) -> None:
        """The server has said what time it was, in an answer to a question that was sent and received at these times."""
        self._least, self._most = max(self._least, now - received), min(self._most, now - sent)
        if self._least > self._most:  # one of the clocks was set
            self._least, self._most = now - received, now - sent
        self._offset = 0 if self._least <= 0 <= self._most else (self._least + self._most) // 2

    def now(self) -> Microseconds:
        return time.time_ns() // 1000 + self._offset

    def lease(self) -> Microseconds:
        return self.now()

    def boot_id(self) -> str:
        return ""


class PostgresStore:
    """Invocations of one app in a schema of a PostgreSQL database.

    :param url: ``postgresql://user:password@host:port/database``, with ``?schema=pynenc``, ``prepare=on|off``, ``listen=auto|on|off``, ``pool=16``,
        ``timeout=60`` and any parameter of libpq.
    """

    shared = True

    def __init__(self, url: str, app_id: str, clock: Clock | None = None) -> None:
        settings = parse(url)
        self.display_url = settings.display
        self._server_clock = ServerClock()
        self._given_clock = clock
        self.clock: Clock = clock or self._server_clock
        self._app_id = app_id
        self._database = Database(settings, app_id)
        self._finishing = Combiner(self._database)
        self._reading = Reading(self._database)
        self._bell: Bell | None = None
        self._submitting = Submitting(self._database, self._ring, lambda: self._ringer.id)
        #: Plain rows up to this number are gone, by queues asked for; and until when that may be believed.
        self._hints: dict[tuple[str, ...], tuple[int, float]] = {}
        _stores.add(self)

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if self._bell is not None:
            return
        self._database.open()
        sent = local_time()
        try:
            now = self._database.call(TIME, 0)[0][0]
        except BaseException:
            self._database.close()
            raise
        self._server_clock.learn(now, sent, local_time())
        self._bell = self._new_bell()

    def _new_bell(self) -> Bell:
        return Bell(self._database, self._app_id, self._reading.finals_among)

    def migrate(self) -> list[str]:
        """Bring the schema to the version of this code, beside those who work with it; the statements that it took.

        :raises SchemaError: the schema is of a later version.
        """
        return self._database.migrate()

    def schema_version(self) -> str:
        """The version of the schema that is there, also while this is not open; empty when there is none."""
        return self._database.schema_version()

    def migration(self) -> str:
        """What :meth:`migrate` would do, as SQL to be run by somebody else; empty when there is nothing to do."""
        return self._database.migration()

    def close(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        self._database.close()

    def declare_dead(self, group: str) -> None:
        """Make it certain that the process behind a group of runners is gone."""
        self._call(DECLARE_DEAD, group)

    def _after_fork(self) -> None:
        """In a forked child: nothing of the parent may be used or closed. What is needed is opened again when it is needed."""
        _inherited.append(self._bell)
        self._bell = self._new_bell() if self._bell is not None else None
        self._database.abandon()
        self._finishing = Combiner(self._database)
        self._submitting = Submitting(self._database, self._ring, lambda: self._ringer.id)

    @property
    def _ringer(self) -> Bell:
        bell = self._bell
        if bell is None:
            raise StoreError("the store is closed, or was never opened: call open() first")
        return bell

    @property
    def _at(self) -> Microseconds:
        """The given time; 0 leaves it to the server."""
        return self._given_clock.now() if self._given_clock is not None else 0

    @property
    def _lease(self) -> tuple[Microseconds, str]:
        """The given time for leases (0 leaves it to the server), and its boot."""
        given = self._given_clock
        return (given.lease(), given.boot_id()) if given is not None else (0, "")

    def _call(self, text: str, *values: Any, again: bool = True) -> Rows:
        return self._database.call(text, self._database.app, *values, again=again)

    def _change(self, text: str, *values: Any, orders: bool = False, again: bool = True) -> Rows:
        """The rows of a statement that moves invocations; whoever must hear of it does."""
        app = self._database.app
        calls = [(text, (app, *values)), (SIGNALS, (app, self._ringer.id))]
        rows, signals = self._database.pipeline(calls, again=again)
        self._hints.clear()
        ready, finals, sleepers = signals[0]
        self._ring(ready, finals, sleepers, orders=orders)
        return rows

    def _ring(
        self, ready: int, finals: Sequence[str], sleepers: int, known: Known | None = None, *, orders: bool = False
    ) -> None:
        if ready or finals or orders:
            self._ringer.ring(ready, finals, sleepers, known, orders=orders)

    # -- the life of an invocation -----------------------------------------------------------------------------------
    def submit(
        self,
        new: Sequence[New],
        blobs: Sequence[Blob] = (),
        *,
        max_queue_length: int = 0,
        connection: object | None = None,
    ) -> list[Submitted]:
        if connection is not None:
            channel = self._ringer.channel()
            return self._submitting.join(new, blobs, max_queue_length, self._at, connection, channel) if new else []
        return self._submitting.submit(new, blobs, max_queue_length, self._at) if new else []

    def claim(self, request: ClaimRequest) -> Claim:
        return self._cycle(request.runner, (), request).claim

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        if not outcomes and request is None:
            return Finished()
        return self._cycle(runner, outcomes, request)

    def _cycle(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None) -> Finished:
        """Finish and claim, in one step."""
        key, hint = self._hint(request)
        outcome_values = record.outcome_values(outcomes)
        values = (
            self._database.app,
            self._at,
            runner,
            *outcome_values,
            *record.claim_values(request),
            hint,
            self._ringer.id,
        )
        sent = local_time()
        if self._given_clock is not None and any(each.unknown_task for each in outcomes):
            lease = str(self._given_clock.lease())
            rows = self._database.pipeline([(LEASE_TIME, (lease,)), (CYCLE, values)])[1]
        elif request is None:
            rows = self._finishing.call(CYCLE, *values)
        else:
            rows = self._database.call(CYCLE, *values, again=False)
        head = record.Head(rows.pop())
        self._server_clock.learn(head.created, sent, local_time())
        if request is not None:
            self._learn(key, request, rows)
        if outcome_values[-1] or head.ready:
            self._hints.clear()
        known = None
        if head.success:
            task, payload, round_ = head.success
            known = head.created, Final(outcomes[0].id, InvocationStatus.SUCCESS, task, payload, round_)
        self._ring(head.ready, self._ended(outcomes, head), head.sleepers, known)
        return Finished(tuple(head.lost), self._claim(rows, head, request))

    def _ended(self, outcomes: Sequence[Outcome], head: record.Head) -> list[str]:
        """The ids that have become final."""
        if not outcomes:
            return head.finals
        lost = set(head.lost)
        return [each.id for each in outcomes if each.status.is_final() and each.id not in lost] + head.finals

    def _claim(self, rows: Rows, head: record.Head, request: ClaimRequest | None) -> Claim:
        if request is None:
            return Claim()
        if len(rows) > 1 and not request.ids:  # a sort keeps the order of those that are equal
            rows.sort(key=_by_age)
            if not request.aged:
                rows.sort(key=_by_rank, reverse=True)
            if len(request.shares) > 1:
                places = {queue: place for place, (queue, _) in enumerate(request.shares)}
                rows.sort(key=lambda row: places[row[record.QUEUE]])
        return Claim(tuple([record.claimed(row) for row in rows]), head.next_due, head.has_suspects)

    # -- what is known to be gone ----------------------------------------------------------------------------------------
    def _hint(self, request: ClaimRequest | None) -> tuple[tuple[str, ...], int]:
        """The number up to which plain rows need not be looked for: others pin rows that are gone, and a claim would wade through them."""
        if request is None or request.aged or request.ids or request.without:
            return (), 0
        key = tuple(queue for queue, _ in request.shares)
        hint, until = self._hints.get(key, (0, 0.0))
        return key, hint if time.monotonic() < until else 0

    def _learn(self, key: tuple[str, ...], request: ClaimRequest, rows: Rows) -> None:
        """Remember how far a claim came that got all that it asked for."""
        if len(key) > 1 or request.aged or request.ids or request.without:
            return
        plain = [row[record.SEQ] for row in rows if row[record.RANK] == 0 and row[record.BOOST] == 0]
        if len(rows) < request.limit or len(rows) < HINT_BATCH or not plain:
            self._hints.pop(key, None)
            return
        until = self._hints.get(key, (0, time.monotonic() + HINT_SECONDS))[1]
        if time.monotonic() < until:
            self._hints[key] = (max(plain), until)
        else:
            self._hints.pop(key, None)

    def start(self, runner: str, refs: Sequence[Ref], at: Microseconds) -> list[str]:
        if not refs:
            return []
        ordered = sorted(refs, key=_id_of)
        ids, attempts = Texts([ref.id for ref in ordered]), Numbers([ref.attempt for ref in ordered])
        lost = {ordered[n - 1] for n in self._call(START, runner, ids, attempts, at)[0][0]}
        return [ref.id for ref in refs if ref in lost]

    def report(self, runner: str, progress: Sequence[Progress]) -> list[str]:
        if not progress:
            return []
        values = Payloads([record.encode(each) for each in progress])
        ids, attempts = Texts([each.id for each in progress]), Numbers([each.attempt for each in progress])
        return [ids[n - 1] for n in self._call(REPORT, runner, ids, attempts, values)[0][0]]

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        if not ids:
            return []
        orders = change.kind == "cancel"
        reason = record.without_nul(change.reason)
        values = (change.kind.value, reason, float(change.priority), change.value, change.attempt)
        # Not sent again after a lost reply: a signal would come twice, and what ran meanwhile would be retried once more.
        rows = self._change(AMEND, self._at, Texts(ids), *values, orders=orders, again=False)
        return [
            Amended(name, accepted, None if status is None else STATUSES[status]) for name, accepted, status in rows
        ]

    # -- runners -------------------------------------------------------------------------------------------------------
    def heartbeat(self, beats: Sequence[Beat]) -> list[Orders]:
        if not beats:
            return []
        app, (lease, boot) = self._database.app, self._lease
        calls = [(HEARTBEAT, (app, self._at, lease, boot, *_beat_values(beat))) for beat in beats]
        *answers, signals = self._database.pipeline([*calls, (SIGNALS, (app, self._ringer.id))])
        if signals[0][0]:
            self._hints.clear()
        self._ring(*signals[0])
        return [Orders(alive, tuple(cancel), suspects) for ((alive, cancel, suspects),) in answers]

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        rows = self._change(RECOVER, self._at, *self._lease, by, limit, error)
        return [Recovered(name, runner, STATUSES[status]) for name, runner, status in rows]

    def expire(self, limit: int) -> int:
        if not self._call(IS_OVERDUE, self._at)[0][0]:
            return 0
        return int(self._change(EXPIRE, self._at, limit)[0][0])

    def retire(self, runners: Sequence[str]) -> int:
        return int(self._change(RETIRE, self._at, Texts(runners))[0][0]) if runners else 0

    def owned(self, runner: str) -> list[Claimed]:
        return [record.claimed(row) for row in self._call(OWNED, runner)]

    # -- waiting --------------------------------------------------------------------------------------------------------
    def finals(self, ids: Sequence[str]) -> list[Final]:
        return self._reading.finals(ids) if ids else []

    def watch(
        self, ids: Sequence[str], wake: Wake, *, waiter: Ref | None = None, request: ClaimRequest | None = None
    ) -> WatchOfStore:
        bell = self._ringer
        close = None if waiter is None else lambda left: waiting.stop(self._database, waiter, left)
        watch = bell.watch(ids, wake, close)
        try:
            if waiter is None:
                is_over, watch.began = self._reading.any_final(ids, self._at)
            else:
                rows = waiting.wait(self._database, self._at, waiter, ids, request, bell.id)
                head = record.Head(rows.pop())
                is_over = head.verdict == "over"
                watch.claim = self._claim(rows, head, request)
                self._ring(head.ready, head.finals, head.sleepers)
        except BaseException:
            bell.unwatch(watch)
            raise
        if is_over:
            wake()
        return watch

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:
        return self._ringer.listen(wake, is_picky=bool(queues))

    # -- values ----------------------------------------------------------------------------------------------------------
    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Owner | None = None
    ) -> dict[str, bytes]:
        app, keys = self._database.app, Texts(sorted(items))
        owner = (str(by.id), by.attempt, by.runner) if by else ()
        calls: list[Call] = [(HOLD, (app, *owner)), (PROGRESS, (app, *owner))] if by else []
        if items:
            put = (app, scope, keys, Payloads([items[key] for key in keys]), *owner)
            calls += [(REMEMBER[by is not None, once], put), (RECALL_SOME, (app, scope, keys))]
        answers = self._database.pipeline(calls) if calls else []
        if not items or (by and not answers[0]):
            return {}
        found: dict[str, bytes] = dict(answers[-1])
        return {key: found[key] for key in items}

    def recall(self, scope: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        return dict(self._call(RECALL, scope) if keys is None else self._call(RECALL_SOME, scope, Texts(keys)))

    def put_blobs(self, blobs: Sequence[Blob]) -> None:
        if blobs:
            self._call(PUT_BLOBS, self._at, *_blob_values(blobs))

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        return dict(self._call(GET_BLOBS, Texts(keys))) if keys else {}

    def lease(self, name: str, owner: str, ttl: Microseconds) -> bool:
        return bool(self._call(LEAD, *self._lease, name, owner, ttl)[0][0])

    def purge(self, purge: Purge) -> Purged:
        if purge.everything:
            count = int(self._change(PURGE_EVERYTHING, self._at, purge.limit)[0][0])
            return Purged(count, more=count >= purge.limit)
        grace = (purge.ended_before, purge.blob_grace, RUNNER_GRACE, purge.limit)
        count, kept, blobs, runners = self._change(PURGE, self._at, *self._lease, *grace)[0]
        return Purged(count, blobs, runners, purge.limit in (count + kept, blobs))

    # -- reactions -------------------------------------------------------------------------------------------------------
    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        app = self._database.app
        values = (app, owner, *record.reaction_values(reactions))
        self._database.pipeline([(UNSUBSCRIBE, (app, owner)), (SUBSCRIBE, values)])

    # -- queues -----------------------------------------------------------------------------------------------------------
    def queues(self) -> list[QueueInfo]:
        return self._reading.queues()

    def set_queue(self, name: str, state: QueueState) -> None:
        app = self._database.app
        _, signals = self._database.pipeline([(SET_QUEUE, (app, name, state.value)), (SIGNALS, (app, self._ringer.id))])
        self._hints.clear()
        if state is not QueueState.PAUSED:
            self._ring(sys.maxsize, (), signals[0][2])

    # -- reading -----------------------------------------------------------------------------------------------------------
    def get(self, ids: Sequence[str]) -> list[Invocation]:
        return self._reading.get(ids)

    def find(self, where: Filter, page: Page = FIRST_PAGE) -> Found:
        return self._reading.find(where, page)

    def count(self, where: Filter, by: str = "status") -> dict[str, int]:
        return self._reading.count(where, by)

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        return self._reading.history(ids)

    def runners(self) -> list[RunnerInfo]:
        lease, boot = self._lease
        return [
            RunnerInfo(
                beat=msgspec.structs.replace(record.decode_beat(beat), tasks=tuple(tasks)),
                started=started,
                seen=seen,
                alive=is_known and its_boot == boot and until > now,
            )
            for beat, tasks, started, seen, its_boot, until, is_known, now in self._call(RUNNERS, lease)
        ]

    def check(self) -> list[str]:
        return self._reading.check()


def _id_of(ref: Ref) -> str:
    return ref.id


_by_age, _by_rank = itemgetter(record.SEQ), itemgetter(record.RANK, record.BOOST)


def _beat_values(beat: Beat) -> tuple[Any, ...]:
    bare = msgspec.structs.replace(beat, tasks=())
    return (beat.id, beat.group, beat.supervised, beat.lease, record.encode(bare), Texts(beat.tasks))


def _blob_values(blobs: Sequence[Blob]) -> tuple[Any, ...]:
    return (
        Texts([blob.key for blob in blobs]),
        Numbers([blob.size for blob in blobs]),
        Payloads([blob.data for blob in blobs]),
    )


_stores: weakref.WeakSet[PostgresStore] = weakref.WeakSet()
#: What a forked child got from its parent: kept, because closing it would disturb the parent.
_inherited: list[object] = []


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
