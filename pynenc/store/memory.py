"""The store that lives in one process: for development, tests, and runners on threads.

Theory of operation
-------------------
Each :class:`MemoryStore` is a world of its own; nothing outlives it. One lock guards it, taken once for a batch (:class:`Unit`); wake-ups
are called after it is free. No operation on the path of an invocation looks at more rows than it changes:

===================  ==================================================================================================================
``_memory_rows``     what is kept: mutable rows that are never seen outside
``_memory_lines``    rows in an order: claimable ones by rank and by age, waiting ones by time, parked ones by rank
``_memory_places``   the state machine: which place a row is in, who holds a key, who goes next
``_memory_waits``    the lock, wake-ups, watches and wait edges
``_memory_claim``    what a claim gets; ``_memory_submission``: what a submission becomes; ``_memory_runners``: leases
``_memory_reading``  filters and pages; ``_memory_check``: what must always hold
===================  ==================================================================================================================

This module words the operations of the contract (:mod:`pynenc.store.base`) with them, and holds no state of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Amended,
    Beat,
    Blob,
    Change,
    ChangeKind,
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
from pynenc.core.status import InvocationStatus, Place
from pynenc.core.waiting import never_ending
from pynenc.exceptions import InvocationNotFoundError, RunnerLostError, StoreError
from pynenc.store import _memory_check, _memory_claim, _memory_reading, _memory_submission
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import (
    Row,
    RunnerRow,
    reason_of,
    to_claimed,
    to_final,
    to_history,
    to_invocation,
    to_runner,
)
from pynenc.store._memory_runners import Runners
from pynenc.store._memory_values import signal_key
from pynenc.store._memory_waits import Listener, Unit, Waits, Watch
from pynenc.store.base import Clock, IdleListener, SystemClock, Wake

S = InvocationStatus


class MemoryStore:
    """A store in the memory of this process (see :class:`~pynenc.store.base.Store` for the contract of each method).

    :param url: ``memory://``; two stores with the same URL are two worlds.
    """

    shared = False

    def __init__(self, url: str, app_id: str, clock: Clock | None = None) -> None:
        self.display_url = url
        self.app_id = app_id
        self.clock: Clock = clock or SystemClock()
        self._unit = Unit()
        self._waits = Waits(self._unit)
        self._places = Places(self._waits)
        self._runners = Runners(self.clock)
        self._leases: dict[str, tuple[str, Microseconds, str]] = {}

    def open(self) -> None:
        with self._unit.lock:
            self._unit.is_open = True

    def close(self) -> None:
        with self._unit.lock:
            self._unit.is_open = False
            self._unit.listeners.clear()

    def declare_dead(self, group: str) -> None:
        """Make it certain that the process behind a group of runners is gone."""
        with self._unit:
            self._runners.declare_dead(group)

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
            raise StoreError(
                "calls cannot be a part of a transaction in memory: use the SQLite or the PostgreSQL store"
            )
        with self._unit:
            return _memory_submission.submit(self._places, new, blobs, max_queue_length, self.clock.now())

    def claim(self, request: ClaimRequest) -> Claim:
        with self._unit:
            self._require(request.runner)
            claim = _memory_claim.claim(self._places, request, self.clock.now())
            if self._places.changes:
                self._react()
            return claim

    def start(self, runner: str, refs: Sequence[Ref], at: Microseconds) -> list[str]:
        with self._unit:
            return [ref.id for ref in refs if not self._start(runner, ref, at)]

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        with self._unit:
            if request is not None:
                self._require(request.runner)
            now = self.clock.now()
            owned = self._places.owned.get(runner, {})
            lost = tuple([outcome.id for outcome in outcomes if not self._finish(runner, owned, outcome, now)])
            if self._places.changes:
                self._react()
            if request is None:
                return Finished(lost)
            claim = _memory_claim.claim(self._places, request, now)
            if self._places.changes:
                self._react()
            return Finished(lost, claim)

    def report(self, runner: str, progress: Sequence[Progress]) -> list[str]:
        with self._unit:
            return [item.id for item in progress if not self._report(runner, item)]

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        with self._unit:
            amended = [self._amend(invocation_id, change, self.clock.now()) for invocation_id in ids]
            self._react()
            return amended

    def _react(self) -> None:
        """Submit what the changes of this unit ask for."""
        _memory_submission.accept(self._places, self._places.react(), self.clock.now())

    def _require(self, runner: str) -> None:
        """Refuse a runner that is not known."""
        if runner not in self._runners.rows:
            raise RunnerLostError(f"runner {runner} is not registered, or its lease was taken away: register a new one")

    def _owned(self, runner: str, invocation_id: str, attempt: int) -> Row | None:
        """The row, if the fence holds."""
        owned = self._places.owned.get(runner)
        claimed = owned.get(invocation_id) if owned else None
        return self._places.rows[invocation_id] if claimed is not None and claimed.attempt == attempt else None

    def _start(self, runner: str, ref: Ref, at: Microseconds) -> bool:
        row = self._owned(runner, ref.id, ref.attempt)
        if row is not None and row.status is S.PENDING:
            row.status, row.started = S.RUNNING, at
        return row is not None

    def _report(self, runner: str, progress: Progress) -> bool:
        row = self._owned(runner, progress.id, progress.attempt)
        if row is not None:
            row.progress = progress
        return row is not None

    def _finish(self, runner: str, owned: dict[str, Claimed], outcome: Outcome, now: Microseconds) -> bool:
        claimed = owned.get(outcome.id)
        if claimed is None or claimed.attempt != outcome.attempt:
            return self._was_recorded(runner, outcome)
        row = self._places.rows[outcome.id]
        status, ended = outcome.status, outcome.ended or now
        row.retries, row.crashes, row.alone = outcome.retries, outcome.crashes, outcome.alone
        if outcome.started:
            row.started = outcome.started
        is_unused = status is S.REGISTERED and not (row.started or row.alone)
        if status is S.SUCCESS or status is S.FAILED or status is S.CANCELLED:
            reason = reason_of(row, outcome) if row.cancel else outcome.reason
            self._places.end(row, status, now, ended, reason, outcome.payload)
        else:
            is_unknown = outcome.unknown_task and not self._runners.know(row.new.task, but=runner)
            self._places.give_back(row, outcome, now, is_unknown=is_unknown, is_unused=is_unused)
        return True

    def _was_recorded(self, runner: str, outcome: Outcome) -> bool:
        """Whether this very final is there already: the reply to it was lost, and it is sent again."""
        row = self._places.rows.get(outcome.id)
        if row is None or row.place is not Place.FINAL:
            return False
        recorded = (row.runner, row.attempt, row.status, row.payload, row.reason)
        return recorded == (runner, outcome.attempt, outcome.status, outcome.payload, reason_of(row, outcome))

    def _amend(self, invocation_id: str, change: Change, now: Microseconds) -> Amended:
        row = self._places.rows.get(invocation_id)
        if row is None:
            return Amended(invocation_id, False, None)
        accepted = self._change(row, change, now)
        return Amended(invocation_id, accepted, row.status)

    def _change(self, row: Row, change: Change, now: Microseconds) -> bool:
        """Carry out a change; whether it makes sense."""
        match change.kind:
            case ChangeKind.CANCEL:
                return self._cancel(row, change.reason, now)
            case ChangeKind.REQUEUE:
                return self._requeue(row, change.reason, now)
            case ChangeKind.RESUME:
                return self._resume(row, change, now)
            case ChangeKind.SIGNAL:
                return self._signal(row, change, now)
            case ChangeKind.REPRIORITISE:
                if row.place is not Place.FINAL:
                    self._places.rerank(row, change.priority)
                return row.place is not Place.FINAL

    def _cancel(self, row: Row, reason: str, now: Microseconds) -> bool:
        if row.place is Place.FINAL:
            return False
        if row.place is Place.CLAIMED:
            if not row.cancel:
                row.cancel, row.reason = True, reason
            self._unit.has_orders = True
        else:
            self._places.end(row, S.CANCELLED, now, now, reason, b"")
        return True

    def _requeue(self, row: Row, reason: str, now: Microseconds) -> bool:
        """What waits for its rate waits on: nobody may exceed that."""
        if row.place is Place.FINAL:
            self._places.reopen(row, now, reason)
        elif row.place is Place.LATER and not self._places.is_head(row):
            self._places.leave(row)
            row.due = 0
            self._places.admit(row, row.back, now)
        else:
            return False
        return True

    def _resume(self, row: Row, change: Change, now: Microseconds) -> bool:
        if row.place is not Place.WAITING or change.attempt not in (0, row.attempt):
            return False
        self._places.values.put(row.id, {f"resume:{row.attempt}": change.value})
        self._places.rouse(row, now, change.reason)
        return True

    def _signal(self, row: Row, change: Change, now: Microseconds) -> bool:
        if row.place is Place.FINAL:
            return False
        self._places.values.put(row.id, {signal_key(row.signalled): change.value})
        row.signalled += 1
        if row.place is Place.WAITING and row.seen >= 0:
            self._places.rouse(row, now, change.reason)
        return True

    # -- runners -------------------------------------------------------------------------------------------------------
    def heartbeat(self, beats: Sequence[Beat]) -> list[Orders]:
        with self._unit:
            return [self._beat(beat, self.clock.now()) for beat in beats]

    def _beat(self, beat: Beat, now: Microseconds) -> Orders:
        runner = self._runners.beat(beat)
        if runner is None:
            return Orders(alive=False)
        self._places.owned[beat.id] = runner.owned
        self._places.know(beat.tasks, now)
        rows = self._places.rows
        cancel = tuple(name for name in runner.owned if rows[name].cancel)
        served = (queue for name, queue in self._places.queues.items() if not beat.queues or name in beat.queues)
        suspects = any(queue.suspects.live and queue.state is not QueueState.PAUSED for queue in served)
        return Orders(True, cancel, suspects)

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        with self._unit:
            now = self.clock.now()
            recovered: list[Recovered] = []
            for runner in self._runners.gone(by):
                is_certain = self._runners.is_dead(runner)
                names = list(runner.owned)[: limit - len(recovered)]
                innocent = {name for name in names if runner.beat.supervised or self._waits.awaited_by(name)}
                for name in names:
                    row = self._places.rows[name]
                    if is_certain and name not in innocent:
                        self._suspect(row, error, now)
                    if row.place is Place.CLAIMED:
                        self._take_back(row, "its process died" if is_certain else "its runner lost its lease", now)
                    recovered.append(Recovered(name, runner.beat.id, row.status))
                if not runner.owned:
                    self._forget(runner)
            self._react()
            return recovered

    def _suspect(self, row: Row, error: bytes, now: Microseconds) -> None:
        """The process died under ``row``: whoever was alone in it did that, otherwise everybody is a suspect."""
        row.crashes += row.alone
        if row.alone and row.crashes >= row.new.max_crashes:
            self._places.end(
                row, S.FAILED, now, now, f"its process died {row.crashes} time(s) while it ran alone", error
            )
        row.alone = True

    def _take_back(self, row: Row, reason: str, now: Microseconds) -> None:
        back = Outcome(
            id=row.id,
            attempt=row.attempt,
            status=S.REGISTERED,
            retries=row.retries,
            crashes=row.crashes,
            reason=reason,
            alone=row.alone,
        )
        self._places.give_back(row, back, now)

    def _forget(self, runner: RunnerRow) -> None:
        self._runners.forget(runner.beat.id)
        del self._places.owned[runner.beat.id]

    def expire(self, limit: int) -> int:
        with self._unit:
            count = self._places.expire(self.clock.now(), limit)
            self._react()
            return count

    def retire(self, runners: Sequence[str]) -> int:
        with self._unit:
            now = self.clock.now()
            returned = 0
            for runner in [self._runners.rows[name] for name in dict.fromkeys(runners) if name in self._runners.rows]:
                returned += len(runner.owned)
                for name in list(runner.owned):
                    self._take_back(self._places.rows[name], "runner stopped", now)
                self._forget(runner)
            self._react()
            return returned

    def owned(self, runner: str) -> list[Claimed]:
        with self._unit:
            return [to_claimed(self._places.rows[name]) for name in self._places.owned.get(runner, {})]

    # -- waiting --------------------------------------------------------------------------------------------------------
    def finals(self, ids: Sequence[str]) -> list[Final]:
        with self._unit:
            rows = self._places.rows
            for invocation_id in ids:
                if invocation_id not in rows:
                    raise InvocationNotFoundError(
                        f"invocation {invocation_id} is not in the store; it may have been purged", invocation_id
                    )
            return [to_final(rows[name]) for name in ids if rows[name].place is Place.FINAL]

    def watch(
        self, ids: Sequence[str], wake: Wake, *, waiter: Ref | None = None, request: ClaimRequest | None = None
    ) -> Watch:
        with self._unit:
            if request is not None:
                self._require(request.runner)
            rows = self._places.rows
            row = self._waiting(waiter)
            watch = Watch(self._waits, ids, wake, waiter if row is not None else None)
            pending = [name for name in watch.ids if name in rows and rows[name].place is not Place.FINAL]
            if row is not None:
                self._refuse_cycles(row, pending)
            self._waits.add(watch, pending)
            if row is not None:
                self._places.lift(pending, row.rank, self.clock.now())
            if len(pending) < len(watch.ids):
                self._unit.wakes[watch] = None
            elif request is not None:
                watch.claim = _memory_claim.claim(self._places, request, self.clock.now())
                if self._places.changes:
                    self._react()
            return watch

    def _waiting(self, waiter: Ref | None) -> Row | None:
        """The row of a waiter, if its attempt is still claimed."""
        row = self._places.rows.get(waiter.id) if waiter is not None else None
        if row is None or waiter is None or row.place is not Place.CLAIMED or row.attempt != waiter.attempt:
            return None
        return row

    def _refuse_cycles(self, waiter: Row, ids: Iterable[str]) -> None:
        """Raise for a wait that would never end."""
        for awaited in ids:
            cycle = self._places.circle(waiter.id, awaited)
            if cycle:
                raise never_ending(cycle, {name: self._places.rows[name].new.task for name in cycle})

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:
        with self._unit:
            listener = Listener(self._unit, queues, wake)
            self._unit.listeners[listener] = None
            return listener

    # -- values ----------------------------------------------------------------------------------------------------------
    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Owner | None = None
    ) -> dict[str, bytes]:
        with self._unit:
            if by is not None:
                row = self._owned(by.runner, by.id, by.attempt)
                if row is None:
                    return {}
                row.crashes, row.alone = 0, False
            if not items:
                return {}
            values = self._places.values.put(scope, items, once=once)
            return {key: values[key] for key in items}

    def recall(self, scope: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        with self._unit:
            values = self._places.values.scope(scope)
            return dict(values) if keys is None else {key: values[key] for key in keys if key in values}

    def put_blobs(self, blobs: Sequence[Blob]) -> None:
        with self._unit:
            _memory_submission.keep_blobs(self._places, blobs, self.clock.now())

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self._unit:
            blobs = self._places.blobs
            return {key: blobs[key].data for key in keys if key in blobs}

    def lease(self, name: str, owner: str, ttl: Microseconds) -> bool:
        with self._unit:
            now, boot = self.clock.lease(), self.clock.boot_id()
            holder, until, since = self._leases.get(name, ("", 0, ""))
            if until > now and since == boot and holder != owner:
                return False
            if ttl:
                self._leases[name] = (owner, now + ttl, boot)
            else:
                self._leases.pop(name, None)
            return bool(ttl)

    def purge(self, purge: Purge) -> Purged:
        with self._unit:
            if purge.everything:
                return self._purge_everything(purge.limit)
            now = self.clock.now()
            rows, is_full = self._over(purge, now)
            for row in rows:
                self._places.remove(row, now)
            blobs = self._purge_blobs(now - purge.blob_grace, purge.limit)
            runners = self._runners.purge(purge.limit)
            for name in runners:
                self._forget(self._runners.rows[name])
            self._purge_rates(now)
            return Purged(len(rows), blobs, len(runners), is_full or purge.limit in (len(rows), blobs, len(runners)))

    def _over(self, purge: Purge, now: Microseconds) -> tuple[list[Row], bool]:
        """Finals to remove: first those whose time of life is over, then those that ended too long ago; and whether there may be more."""
        over: dict[str, Row] = {}
        mortal = self._places.mortal
        looks = 0
        while looks < purge.limit and (first := mortal.first()) is not None and first[0] <= now:
            looks += 1
            row = mortal.pop()
            assert row is not None
            if self._is_needed(row):
                mortal.push(row, now + row.new.result_ttl)
            else:
                over[row.id] = row
        if purge.ended_before:
            for row in self._places.rows.values():
                if len(over) >= purge.limit:
                    break
                if row.place is Place.FINAL and row.ended < purge.ended_before and not self._is_needed(row):
                    over[row.id] = row
        return list(over.values()), looks == purge.limit

    def _is_needed(self, row: Row) -> bool:
        """Whether the workflow that it belongs to goes on."""
        workflow = row.new.workflow
        if workflow is None:
            return False
        root = self._places.rows.get((workflow.parent or "") if workflow.id == row.id else workflow.id)
        return root is not None and root.place is not Place.FINAL

    def _purge_blobs(self, border: Microseconds, limit: int) -> int:
        blobs = self._places.blobs
        unused = [key for key, blob in blobs.items() if not blob.references and blob.touched <= border][:limit]
        for key in unused:
            del blobs[key]
        return len(unused)

    def _purge_rates(self, now: Microseconds) -> None:
        rates = self._places.rates
        for key in [key for key, lane in rates.items() if lane.is_over(now)]:
            del rates[key]

    def _purge_everything(self, limit: int) -> Purged:
        """Rows in batches; with the last one all that is left. Queues and runners that live stay: they will go on."""
        places, now = self._places, self.clock.now()
        rows = list(islice(places.rows.values(), limit))
        for row in rows:
            places.remove(row, now)
        if places.rows:
            return Purged(len(rows), more=True)
        blobs = len(places.blobs)
        for index in (places.blobs, places.values, places.rates, self._leases):
            index.clear()
        gone = [runner for runner in self._runners.rows.values() if self._runners.is_over(runner)]
        for runner in gone:
            self._forget(runner)
        return Purged(len(rows), blobs, len(gone))

    # -- reactions -------------------------------------------------------------------------------------------------------
    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        with self._unit:
            self._places.reactions.pop(owner, None)
            if reactions:
                self._places.reactions[owner] = tuple(reactions)

    # -- queues -----------------------------------------------------------------------------------------------------------
    def queues(self) -> list[QueueInfo]:
        with self._unit:
            return _memory_reading.queues(self._places)

    def set_queue(self, name: str, state: QueueState) -> None:
        with self._unit:
            self._places.queue(name).state = state
            self._unit.stirred.add(name)

    # -- reading -----------------------------------------------------------------------------------------------------------
    def get(self, ids: Sequence[str]) -> list[Invocation]:
        with self._unit:
            rows = self._places.rows
            return self._invocations(rows[name] for name in ids if name in rows)

    def find(self, where: Filter, page: Page = Page()) -> Found:  # noqa: B008 - the contract; it is frozen
        with self._unit:
            rows, cursor = _memory_reading.page(self._places, where, page)
            return Found(tuple(self._invocations(rows)), cursor)

    def _invocations(self, rows: Iterable[Row]) -> list[Invocation]:
        return [to_invocation(row, self._waits.awaited_by(row.id)) for row in rows]

    def count(self, where: Filter, by: str = "status") -> dict[str, int]:
        with self._unit:
            return _memory_reading.count(self._places, where, by)

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        with self._unit:
            rows = self._places.rows
            return [entry for name in ids if name in rows for entry in to_history(rows[name])]

    def runners(self) -> list[RunnerInfo]:
        with self._unit:
            return [to_runner(row, alive=self._is_alive(row)) for row in self._runners.rows.values()]

    def _is_alive(self, runner: RunnerRow) -> bool:
        return not self._runners.is_over(runner) and not self._runners.is_dead(runner)

    def check(self) -> list[str]:
        with self._unit:
            return _memory_check.check(self._places)
