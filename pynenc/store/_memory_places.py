"""The places of a memory store: where each invocation is, and all indices that say so, kept in step.

Theory of operation
-------------------
A row is in one place (:class:`~pynenc.core.status.Place`). It leaves through :meth:`Places.leave` and arrives through :meth:`Places.admit`
(or :meth:`Places.suspend`, :meth:`Places.park`, :meth:`Places.end`); in between :meth:`Places.let_go` gives up what it held, which lets the next
ones go. A row never takes its own key again before that: others were there first.

What a row can hold: its *running key* while it is READY, CLAIMED or waits for its rate; the *head* of its rate while it is the one that may go next, READY or
LATER. A row of neither is *plain* and skips all of that.

A row that a line has called (``pop``) is READY without a turn for the rest of that operation; it must be claimed or ended in it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

import msgspec

from pynenc.core.reaction import FIRING, Reaction, cause_of
from pynenc.core.records import Claimed, Microseconds, New, Outcome, Rate
from pynenc.core.status import InvocationStatus, Place
from pynenc.core.waiting import find_cycle
from pynenc.store._memory_lines import SLACK, KeyLane, Line, Queue, RateLane
from pynenc.store._memory_rows import Behind, BlobRow, Row, Step, latest_steps
from pynenc.store._memory_values import Values, signal_key
from pynenc.store._memory_waits import Waits

S = InvocationStatus


class Places:
    """All invocations of one store. Every method works inside the store's unit."""

    def __init__(self, waits: Waits) -> None:
        self.waits = waits
        self.rows: dict[str, Row] = {}
        self.queues: dict[str, Queue] = {}
        self.owned: dict[str, dict[str, Claimed]] = {}
        self.keys: dict[str, KeyLane] = {}
        self.rates: dict[str, RateLane] = {}
        self.unknown: dict[str, dict[str, None]] = {}
        self.registered: dict[str, str] = {}
        self.successes: dict[str, list[tuple[int, str]]] = {}
        self.mortal = Line(self.rows)
        #: What may expire, by its time: also what was claimed or ended since, until it is tidied up above so many.
        self.expiring: list[tuple[Microseconds, int, str]] = []
        self._tidy_above = SLACK
        self.blobs: dict[str, BlobRow] = {}
        self.values = Values()
        self.reactions: dict[str, tuple[Reaction, ...]] = {}
        #: Changes of status that may be reacted to: task, status, cause.
        self.changes: list[tuple[str, InvocationStatus, str]] = []
        self._seq = 0

    # -- coming and going -----------------------------------------------------------------------------------------------
    def queue(self, name: str) -> Queue:
        """The queue of a name; known from now on."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name, self.rows)
        return queue

    def insert(self, new: New, now: Microseconds) -> Row:
        """Accept an invocation and admit it."""
        is_plain = new.running_key is None and new.rate is None and new.registration_key is None and not new.expires
        self._seq += 1
        self.queue(new.queue)
        row = Row(new.id, new, self._seq, now, new.priority, new.priority, new.due, is_plain)
        self.rows[new.id] = row
        if new.expires:
            self._note_expiry(row)
        if new.registration_key is not None:
            self.registered[new.registration_key] = new.id
        for key in new.blobs:
            self.blobs[key].references += 1
        if is_plain and new.due <= now:
            self._make_ready(row, now)
        else:
            self.admit(row, S.REGISTERED, now)
        return row

    def remove(self, row: Row, now: Microseconds) -> None:
        """Forget an invocation and all that was kept for it."""
        self.leave(row)
        del self.rows[row.id]
        self.let_go(row, now)
        self._unregister(row)
        self._forget_success(row)
        self.waits.remove(row.id)
        self.values.forget(row.id)
        self._drop_references(row.new.blobs, now)

    # -- expiry -------------------------------------------------------------------------------------------------------------
    def _note_expiry(self, row: Row) -> None:
        heappush(self.expiring, (row.new.expires, row.seq, row.id))
        if len(self.expiring) > self._tidy_above:
            self.expiring = [entry for entry in self.expiring if self._unstarted(entry) is not None]
            heapify(self.expiring)
            self._tidy_above = 2 * len(self.expiring) + SLACK

    def _unstarted(self, entry: tuple[Microseconds, int, str]) -> Row | None:
        """The row of an entry, if it can still expire."""
        row = self.rows.get(entry[2])
        return row if row is not None and row.seq == entry[1] and row.is_unstarted else None

    def expire(self, now: Microseconds, limit: int) -> int:
        """End what is overdue and was never claimed; how many."""
        count = 0
        while count < limit and self.expiring and self.expiring[0][0] <= now:
            row = self._unstarted(heappop(self.expiring))
            if row is not None:
                self.end(row, S.CANCELLED, now, now, "expired", b"")
                count += 1
        return count

    def _drop_references(self, blobs: Iterable[str], now: Microseconds) -> None:
        for key in blobs:
            blob = self.blobs[key]
            blob.references -= 1
            blob.touched = now

    # -- becoming claimable -----------------------------------------------------------------------------------------------
    def admit(self, row: Row, status: InvocationStatus, now: Microseconds) -> None:
        """Make ``row``, which is in no place, claimable as ``status``, or set it aside (see the contract)."""
        row.back = status
        if row.due > now:
            self._put_later(row, row.due, now)
        elif not row.needs_key:
            self._pass_rate(row, now)
        else:
            lane = self._key_lane(row)
            if len(lane.holders) < row.new.running_limit:
                lane.holders[row.id] = None
                self._pass_rate(row, now)
            else:
                self._park_in(lane.line(), row, Behind.KEY, now)

    def admit_due(self, queue: Queue, now: Microseconds) -> None:
        """Admit what has waited for its time."""
        while (first := queue.later.first()) is not None and first[0] <= now:
            row = queue.later.pop()
            assert row is not None
            if row.place is Place.WAITING:
                queue.suspended -= 1
                self._go_on(row, now)
            elif self.is_head(row):
                self._pass_rate(row, now)
            else:
                self.admit(row, row.back, now)

    def _pass_rate(self, row: Row, now: Microseconds) -> None:
        """``row`` has its key: let it wait for its rate, if it has one."""
        rate = row.new.rate
        if rate is None:
            self._make_ready(row, now)
            return
        lane = self._rate_lane(rate)
        if lane.head not in (None, row.id):
            self._park_in(lane.parked, row, Behind.RATE, now)
            return
        lane.head = row.id
        opens = lane.opens(rate)
        if opens > now:
            self._put_later(row, opens, now)
        else:
            self._make_ready(row, now)

    def _make_ready(self, row: Row, now: Microseconds) -> None:
        if row.place is not Place.READY:
            row.place = Place.READY
        if row.status is not row.back:
            self.enter(row, row.back, now)
        name = row.new.queue
        self.queues[name].line_of(row).join(row)
        self.waits.unit.stirred.add(name)

    def _put_later(self, row: Row, due: Microseconds, now: Microseconds) -> None:
        row.place = Place.LATER
        row.due = due
        self.enter(row, row.back, now)
        self._join_later(row)

    def _join_later(self, row: Row) -> None:
        """Wait for ``due``; runners that sleep until something else is due must hear of what comes before it."""
        queue = self.queues[row.new.queue]
        queue.later.push(row, row.due)
        if queue.later.first() is row.turn:
            self.waits.unit.stirred.add(queue.name)

    def suspend(self, row: Row, outcome: Outcome, now: Microseconds) -> None:
        """Keep ``row`` PAUSED until what it waits for is there; that may be now."""
        row.place = Place.WAITING
        if row.due:
            self.queues[row.new.queue].suspended += 1
            self._join_later(row)
        pending = [name for name in dict.fromkeys(outcome.awaits) if self._is_pending(name)]
        is_over = len(pending) < len(set(outcome.awaits)) or -1 < outcome.signals < row.signalled
        if is_over or any(self.circle(row.id, name) for name in pending):
            self.rouse(row, now)
            return
        row.seen = outcome.signals
        self.waits.sleep(row.id, pending)
        self.lift(pending, row.rank, now)

    def _is_pending(self, invocation_id: str) -> bool:
        return invocation_id in self.rows and self.rows[invocation_id].place is not Place.FINAL

    def rouse(self, row: Row, now: Microseconds, reason: str = "") -> None:
        """Admit a suspended row: what it waits for is there, or somebody wants it to go on."""
        self.leave(row)
        self._go_on(row, now, reason)

    def _go_on(self, row: Row, now: Microseconds, reason: str = "") -> None:
        self.waits.stop(row.id)
        row.due, row.seen = 0, -1
        self.enter(row, S.REGISTERED, now, reason)
        self.admit(row, S.REGISTERED, now)

    def circle(self, waiter: str, awaited: str) -> tuple[str, ...]:
        """The circle that a wait would close. What waits for nothing itself can always end; that is nearly everything."""
        holders = self.holders_in_the_way
        if awaited != waiter and not self.waits.awaited_by(awaited) and not holders(awaited):
            return ()
        return find_cycle(waiter, awaited, self.waits.awaited_by, holders)

    def park(self, row: Row, now: Microseconds) -> None:
        """Set ``row`` aside until a runner knows its task."""
        row.back = S.REGISTERED
        self._set_aside(row, Behind.TASK, now)
        self.unknown.setdefault(row.new.task, {})[row.id] = None

    def know(self, tasks: Iterable[str], now: Microseconds) -> None:
        """Admit what was parked until a runner knows these tasks."""
        if not self.unknown:
            return
        for task in tasks:
            for invocation_id in tuple(self.unknown.get(task, ())):
                row = self.rows[invocation_id]
                self.leave(row)
                row.due, row.reason = 0, ""
                self.admit(row, row.back, now)

    def _park_in(self, line: Line, row: Row, behind: Behind, now: Microseconds) -> None:
        self._set_aside(row, behind, now)
        line.push(row, -row.rank)

    def _set_aside(self, row: Row, behind: Behind, now: Microseconds) -> None:
        row.place = Place.PARKED
        row.behind = behind
        self.queues[row.new.queue].parked += 1
        self.enter(row, S.CONCURRENCY_CONTROLLED, now)

    # -- leaving ------------------------------------------------------------------------------------------------------------
    def leave(self, row: Row) -> None:
        """Take ``row`` out of the place where it is; what it holds is still held."""
        if row.place is Place.CLAIMED:
            del self.owned[row.runner or ""][row.id]
            if row.new.running_key is not None:
                self.keys[row.new.running_key].claimed -= 1
        elif row.place is Place.PARKED:
            self._unpark(row)
        elif row.turn is not None:
            queue = self.queues[row.new.queue]
            if row.place is Place.READY:
                queue.line_of(row).remove(row)
            elif row.place is Place.FINAL:
                self.mortal.remove(row)
            else:
                queue.suspended -= row.place is Place.WAITING
                queue.later.remove(row)

    def _unpark(self, row: Row) -> None:
        if row.behind is Behind.TASK:
            waiting = self.unknown[row.new.task]
            del waiting[row.id]
            if not waiting:
                del self.unknown[row.new.task]
        elif row.turn is not None:
            self._parked_line(row).remove(row)
        self.queues[row.new.queue].parked -= 1
        row.behind = Behind.NOTHING

    def let_go(self, row: Row, now: Microseconds) -> None:
        """Give up what ``row`` holds, and let the next ones go."""
        if row.is_plain:
            return
        rate, key = row.new.rate, row.new.running_key
        if rate is not None and self.is_head(row):
            self._next_of_rate(rate.key, now)
        if key is not None and key in self.keys:
            self._next_of_key(key, row.id, now)

    def _next_of_key(self, key: str, leaver: str, now: Microseconds) -> None:
        lane = self.keys[key]
        lane.holders.pop(leaver, None)
        while lane.parked is not None and (row := lane.pop()) is not None:
            self._unpark(row)
            lane.holders[row.id] = None
            self._pass_rate(row, now)
        if lane.is_over:
            del self.keys[key]

    def _next_of_rate(self, key: str, now: Microseconds) -> None:
        lane = self.rates[key]
        lane.head = None
        row = lane.parked.pop()
        if row is not None:
            self._unpark(row)
            self._pass_rate(row, now)

    def _go_first(self, row: Row, lane: RateLane, now: Microseconds) -> None:
        """A claim of a rate was given back unused: ``row`` goes before the head, if it waits for that; whoever is the head may go earlier."""
        if lane.head in (None, row.id):
            return
        head = self.rows[lane.head]
        self.leave(head)
        if row.behind is Behind.RATE:
            lane.head = None
            self._park_in(lane.parked, head, Behind.RATE, now)
            self._unpark(head := row)
        self._pass_rate(head, now)

    def spend_rate(self, rate: Rate, now: Microseconds) -> None:
        """The head of a rate was claimed."""
        self.rates[rate.key].note(rate, now)
        self._next_of_rate(rate.key, now)

    # -- changes of status ---------------------------------------------------------------------------------------------------------------
    def enter(
        self, row: Row, status: InvocationStatus, at: Microseconds, reason: str = "", payload: bytes = b""
    ) -> None:
        """Change the status, if it differs, and write it into the history."""
        if row.status is not status:
            row.status = status
            row.trail += (Step(status, at, row.runner, row.attempt, row.round, reason, payload),)

    def end(
        self, row: Row, status: InvocationStatus, now: Microseconds, ended: Microseconds, reason: str, payload: bytes
    ) -> None:
        """Make ``row`` final."""
        if self.reactions:
            self._note(row, status)
        self.leave(row)
        row.place = Place.FINAL
        row.status = status
        row.ended = ended
        row.reason = reason
        row.payload = payload
        if not row.is_plain:
            self._unregister(row)
            self.let_go(row, now)
        row.seen = -1
        if row.id in self.waits.nodes:
            asleep = [name for name in self.waits.waiters_of(row.id) if self.rows[name].place is Place.WAITING]
            self.waits.end(row.id)
            for name in asleep:
                self.rouse(self.rows[name], now)
        new = row.new
        if new.result_ttl:
            self.mortal.push(row, ended + new.result_ttl)
        if new.cache_key is not None and status is S.SUCCESS:
            insort(self.successes.setdefault(new.cache_key, []), (row.seq, row.id))

    def give_back(
        self, row: Row, outcome: Outcome, now: Microseconds, *, is_unknown: bool = False, is_unused: bool = False
    ) -> None:
        """A claimed row goes back, or is suspended (PAUSED), or ends because somebody asked for that."""
        ended = outcome.ended or now
        if row.cancel:
            self.end(row, S.CANCELLED, now, ended, row.reason, b"")
            return
        if self.reactions and outcome.status is not S.REGISTERED:
            self._note(row, outcome.status)
        self.leave(row)
        self._close(row)
        self.enter(row, outcome.status, ended, outcome.reason, outcome.payload)
        row.reason, row.due, row.runner, row.progress = outcome.reason, outcome.due, None, None
        row.place = Place.WAITING
        self.waits.stop(row.id)
        if is_unused and row.new.rate is not None:
            self._rate_lane(row.new.rate).forget(row.claimed)
        self.let_go(row, now)
        if is_unknown:
            self.park(row, now)
        elif outcome.status is S.PAUSED:
            self.suspend(row, outcome, now)
        else:
            if outcome.args is not None:
                self._continue(row, outcome.args, outcome, now)
            self.admit(row, outcome.status, now)
        if is_unused and row.new.rate is not None:
            self._go_first(row, self._rate_lane(row.new.rate), now)

    def _continue(self, row: Row, args: bytes, outcome: Outcome, now: Microseconds) -> None:
        """The row continues as new: a new round with other arguments."""
        for key in outcome.blobs:
            self.blobs[key].references += 1
        self._drop_references(row.new.blobs, now)
        row.new = msgspec.structs.replace(row.new, args=args, blobs=outcome.blobs)
        self.next_round(row)
        kept = self.values.scope(row.id)
        for key in [
            key for key in kept if key.startswith("resume:") or signal_key(0) <= key < signal_key(outcome.signals)
        ]:
            del kept[key]

    def next_round(self, row: Row) -> None:
        """Count a new round; what was remembered in the old one goes."""
        self.values.drop(f"{row.id}/{row.round}")
        row.round += 1
        row.retries = row.crashes = row.started = 0

    def _note(self, row: Row, status: InvocationStatus) -> None:
        self.changes.append((row.new.task, status, cause_of(row.id, status, row.round, row.attempt)))

    def react(self) -> list[New]:
        """What is to be submitted because of the changes so far."""
        changes, self.changes = self.changes, []
        return [
            reaction.answer(owner, cause)
            for task, status, cause in changes
            for owner, reactions in sorted(self.reactions.items())
            for reaction in reactions
            if reaction.status is status and (reaction.task == task if reaction.task else not task.startswith(FIRING))
        ]

    def reopen(self, row: Row, now: Microseconds, reason: str) -> None:
        """A final row begins a new round."""
        self._forget_success(row)
        self.leave(row)
        self._close(row)
        self.next_round(row)
        row.due = row.ended = 0
        row.payload, row.cancel, row.alone, row.runner, row.progress = b"", False, False, None, None
        row.reason = reason
        self.enter(row, S.REGISTERED, now, reason)
        self.admit(row, S.REGISTERED, now)

    @staticmethod
    def _close(row: Row) -> None:
        """Write into the trail what the row is about to forget."""
        row.trail += latest_steps(row)
        row.is_open = False

    def _unregister(self, row: Row) -> None:
        key = row.new.registration_key
        if key is not None and self.registered.get(key) == row.id:
            del self.registered[key]

    def _forget_success(self, row: Row) -> None:
        key = row.new.cache_key
        if key is not None and row.status is S.SUCCESS:
            successes = self.successes[key]
            successes.remove((row.seq, row.id))
            if not successes:
                del self.successes[key]

    # -- claims -------------------------------------------------------------------------------------------------------------
    def may_start(self, row: Row, now: Microseconds) -> bool:
        """Whether a READY row that was called is claimed now; if not, it has ended."""
        new = row.new
        if 0 < new.expires <= now and row.is_unstarted:
            self.end(row, S.CANCELLED, now, now, "expired", b"")
            return False
        if new.running_key is not None:
            lane = self._key_lane(row)
            if new.drop_blocked and lane.claimed >= new.running_limit:
                self.end(row, S.CONCURRENCY_CONTROLLED_FINAL, now, now, "", b"")
                return False
            lane.claimed += 1
        self._unregister(row)
        if new.rate is not None:
            self.spend_rate(new.rate, now)
        return True

    # -- rank ---------------------------------------------------------------------------------------------------------------
    def rerank(self, row: Row, priority: float) -> None:
        """Give ``row`` another priority of its own, and what it awaits its new rank."""
        row.priority = priority
        row.rank = max([priority, *(self.rows[waiter].rank for waiter in self.waits.waiters_of(row.id))])
        self._reorder(row)
        self.lift(self.waits.awaited_by(row.id), row.rank, None)

    def lift(self, ids: Iterable[str], rank: float, boost: Microseconds | None) -> None:
        """Raise ``ids`` and all that they wait for to a rank at least, with a new boost if one is given."""
        seen: set[str] = set()
        stack = [(invocation_id, rank) for invocation_id in ids]
        while stack:
            invocation_id, rank = stack.pop()
            row = self.rows[invocation_id]
            if invocation_id in seen and rank <= row.rank:
                continue
            seen.add(invocation_id)
            row.rank = max(row.rank, rank)
            row.boost = row.boost if boost is None else boost
            self._reorder(row)
            stack += [(awaited, row.rank) for awaited in self.waits.awaited_by(invocation_id)]

    def _reorder(self, row: Row) -> None:
        """Its rank or boost has changed: let it take its new place in its line."""
        if row.turn is None:
            return
        if row.place is Place.READY:
            line = self.queues[row.new.queue].line_of(row)
            line.remove(row)
            line.join(row)
        elif row.place is Place.PARKED:
            parked = self._parked_line(row)
            parked.remove(row)
            parked.push(row, -row.rank)

    # -- looking -------------------------------------------------------------------------------------------------------------
    def is_head(self, row: Row) -> bool:
        """Whether ``row`` is the one that its rate lets go next."""
        rate = row.new.rate
        return rate is not None and rate.key in self.rates and self.rates[rate.key].head == row.id

    def holders_in_the_way(self, invocation_id: str) -> tuple[str, ...]:
        """Who holds the running key that an invocation is parked behind, or would be if it were due now."""
        row = self.rows.get(invocation_id)
        if row is None or row.is_plain or not row.needs_key or row.place is Place.FINAL:
            return ()
        holders = self._key_lane(row).holders
        is_blocked = row.behind is Behind.KEY or len(holders) >= row.new.running_limit
        return tuple(holders) if is_blocked and row.id not in holders else ()

    def _parked_line(self, row: Row) -> Line:
        if row.behind is Behind.KEY:
            return self._key_lane(row).line()
        assert row.new.rate is not None
        return self._rate_lane(row.new.rate).parked

    def _key_lane(self, row: Row) -> KeyLane:
        key = row.new.running_key
        assert key is not None
        lane = self.keys.get(key)
        if lane is None:
            lane = self.keys[key] = KeyLane(self.rows)
        return lane

    def _rate_lane(self, rate: Rate) -> RateLane:
        lane = self.rates.get(rate.key)
        if lane is None:
            lane = self.rates[rate.key] = RateLane(self.rows)
        return lane
