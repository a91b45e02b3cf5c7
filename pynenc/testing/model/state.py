"""A plain model of a store: what it must answer, computed the slow and obvious way.

Theory of operation
-------------------
The model keeps every invocation as a mutable :class:`Row` in one dictionary and scans it for each question: no heaps, no indices, no counters. It
is written from the contract alone. Each operation is told to the model after the store has done it; then
:class:`~pynenc.testing.model.comparing.Comparison` reads the store and demands equality.

The contract leaves a few choices open, and the model must not be stricter than it. They are named *open*: which of several rows of one
running key go first when one operation frees or admits more than one of them; whether a due row was already moved by an
operation other than a claim; whether a row that a claim did not look at has been expired or dropped already. There the
comparison checks that the store's choice is legal (the change of status stands in the table, the history only grew, the
key is neither over its limit nor left idle), and the model follows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from pynenc.core.reaction import FIRING, Reaction, cause_of
from pynenc.core.records import New, Outcome, QueueState
from pynenc.core.status import FINAL, OUTCOMES, InvocationStatus, Place
from pynenc.store.base import Clock
from pynenc.testing.model import waiting
from pynenc.testing.model.row import Row, RunnerRow

S = InvocationStatus
UNCLAIMED = (Place.READY, Place.LATER, Place.PARKED)


class Model:
    """What a store holds, as plain data. ``clock`` is the store's."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.runners: dict[str, RunnerRow] = {}
        self.gone: set[str] = set()
        self.queues: dict[str, QueueState] = {}
        self.reactions: dict[str, list[Reaction]] = {}
        #: What must have been submitted by the end of the operation.
        self.reacted: list[New] = []
        self._seq = 0
        self._touched: dict[str, set[str]] = defaultdict(set)
        #: Ids whose fate the contract leaves open in this operation.
        self.open: set[str] = set()

    # -- one operation ---------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """An operation begins: forget what the last one left open."""
        self._touched.clear()
        self.open.clear()

    def touch(self, row: Row) -> None:
        """Note that the operation frees or admits a row of a key; with more than one, the order is open."""
        if row.key:
            self._touched[row.key].add(row.new.id)

    def is_open_key(self, key: str | None) -> bool:
        """Whether the contract leaves open which rows of a key go first."""
        return key is not None and len(self._touched.get(key, ())) > 1

    # -- places ------------------------------------------------------------------------------------------------------------
    def holders(self, key: str) -> list[Row]:
        """The rows that hold a place of a running key."""
        return [row for row in self.rows.values() if row.key == key and row.place in (Place.READY, Place.CLAIMED)]

    def parked(self, key: str) -> list[Row]:
        """The rows that wait for a running key."""
        return [
            row for row in self.rows.values() if row.key == key and row.place is Place.PARKED and not row.is_unknown
        ]

    def admit(self, row: Row, status: InvocationStatus) -> None:
        """Make ``row``, which is in no place that counts, claimable as ``status``, or set it aside."""
        row.back = status
        row.is_unknown = False
        if row.due > self.clock.now():
            row.change(status, Place.LATER)
            return
        self.touch(row)
        row.place = Place.FINAL  # in nobody's way while the key is looked at
        if row.key and len(self.holders(row.key)) >= row.new.running_limit:
            row.change(status, Place.PARKED)
            row.change(S.CONCURRENCY_CONTROLLED, Place.PARKED)
        else:
            row.change(status, Place.READY)

    def free(self, row: Row) -> None:
        """``row`` has left its place: let the next ones of its key go."""
        self.touch(row)
        if not row.key:
            return
        waiting = sorted(self.parked(row.key), key=lambda other: (-other.rank, other.seq))
        if len({other.boost for other in waiting}) > 1:
            self._touched[row.key] |= {other.new.id for other in waiting}
        for other in waiting:
            if len(self.holders(row.key)) >= other.new.running_limit:
                break
            other.change(other.back, Place.READY)

    def end(self, row: Row, status: InvocationStatus, ended: int) -> None:
        """``row`` becomes final."""
        held = row.place in (Place.READY, Place.CLAIMED)
        row.change(status, Place.FINAL)
        self.note(row)
        row.ended, row.runner, row.holds_registration, row.seen, row.kept_until = ended, None, False, -1, 0
        self.drop_edges(row)
        asleep = []
        for other in self.rows.values():
            if row.new.id in other.waits and other.place is Place.WAITING:
                asleep.append(other)
            other.waits.discard(row.new.id)
        if held:
            self.free(row)
        for other in asleep:
            self.rouse(other)

    def rouse(self, row: Row) -> None:
        """Admit a suspended row."""
        self.drop_edges(row)
        row.due, row.seen = 0, -1
        self.admit(row, S.REGISTERED)

    def note(self, row: Row) -> None:
        """The status of ``row`` has changed to one that may be reacted to."""
        cause = cause_of(row.new.id, row.status, row.round, row.attempt)
        for owner, reactions in sorted(self.reactions.items()):
            for each in reactions:
                is_meant = each.task == row.new.task if each.task else not row.new.task.startswith(FIRING)
                if is_meant and each.status is row.status:
                    self.reacted.append(each.answer(owner, cause))

    def react(self, order: Sequence[str] = ()) -> None:
        """Submit what was reacted; those of ``order`` first, in that order."""
        reacted, self.reacted = self.reacted, []
        for new in sorted(reacted, key=lambda new: order.index(new.id) if new.id in order else len(order)):
            self.submit(new)

    def drop_edges(self, row: Row) -> None:
        """``row`` does not wait any more."""
        for awaited in row.waits:
            self.blur(awaited)
        row.waits.clear()

    def blur(self, awaited: str) -> None:
        """The boost and rank of what was awaited, and of what that waits for, are not known for sure any more."""
        row = self.rows.get(awaited)
        if row and not row.is_fuzzy:
            row.is_fuzzy = True
            for other in row.waits:
                self.blur(other)

    # -- submit ------------------------------------------------------------------------------------------------------------
    def would_answer(self, new: New) -> Row | None:
        """The row that stands in for a submission."""
        if new.id in self.rows:
            return self.rows[new.id]
        for row in self.rows.values():
            if new.registration_key and row.new.registration_key == new.registration_key and row.holds_registration:
                return row
        successes = [
            row
            for row in self.rows.values()
            if new.cache_key and row.new.cache_key == new.cache_key and row.status is S.SUCCESS
        ]
        return max(successes, key=lambda row: row.seq, default=None)

    def refusal(self, batch: Sequence[New], limit: int) -> str:
        """Why a batch is refused as a whole; empty if it is not."""
        lengths: dict[str, int] = defaultdict(int)
        for row in self.rows.values():
            lengths[row.new.queue] += row.place in UNCLAIMED
        ids, keys = set(), set()
        for new in batch:
            if self.would_answer(new) or new.id in ids or (new.registration_key and new.registration_key in keys):
                continue
            ids.add(new.id)
            keys.add(new.registration_key)
            lengths[new.queue] += 1
            parent = self.rows.get(new.parent or "")
            if self.queues.get(new.queue) is QueueState.DRAINING and not (parent and parent.place is Place.CLAIMED):
                return "draining"
            if limit and lengths[new.queue] > limit:
                return "full"
        return ""

    def submit(self, new: New) -> tuple[str, bool]:
        """Accept one; the id that answers, and whether that very id was there."""
        if holder := self.would_answer(new):
            return holder.new.id, holder.new.id == new.id
        now = self.clock.now()
        self._seq += 1
        row = Row(new, self._seq, now, new.priority, new.due, rank=new.priority)
        row.holds_registration = new.registration_key is not None
        self.rows[new.id] = row
        self.queues.setdefault(new.queue, QueueState.ACTIVE)
        self.admit(row, S.REGISTERED)
        return new.id, False

    # -- claim -------------------------------------------------------------------------------------------------------------
    def admit_due(self) -> None:
        """Move what is due; the order within a key is open."""
        now = self.clock.now()
        due = [row for row in self.rows.values() if row.place in (Place.LATER, Place.WAITING) and 0 < row.due <= now]
        for row in sorted(due, key=lambda row: (row.due, row.seq)):
            if row.place is Place.WAITING:
                self.rouse(row)
            else:
                self.admit(row, row.status)

    def passed_over(self, row: Row) -> InvocationStatus | None:
        """How a claim ends a row instead of taking it."""
        if self.is_expired(row):
            return S.CANCELLED
        return S.CONCURRENCY_CONTROLLED_FINAL if self.is_blocked(row) else None

    def is_expired(self, row: Row) -> bool:
        """Whether it waited too long for its first claim, and ends by that at a claim."""
        return row.attempt == 0 and row.round == 0 and self.may_expire(row, is_first=True)

    def may_expire(self, row: Row, *, is_first: bool = False) -> bool:
        """Whether its time is over; what that means after a first claim is open."""
        is_over = row.place in UNCLAIMED and 0 < row.new.expires <= self.clock.now()
        return is_over and (is_first or row.attempt > 0 or row.round > 0)

    def is_blocked(self, row: Row) -> bool:
        """Whether it would be dropped by a claim now."""
        key = row.new.running_key
        if not row.new.drop_blocked or row.place is not Place.READY or key is None:
            return False
        claimed = sum(other.new.running_key == key and other.place is Place.CLAIMED for other in self.rows.values())
        return claimed >= row.new.running_limit

    def pass_over(self, row: Row, status: InvocationStatus, *, is_sure: bool) -> None:
        """End a row that a claim came across; what lies behind the last one taken stays open."""
        if is_sure:
            self.end(row, status, self.clock.now())
        else:
            self.open.add(row.new.id)

    def take(self, row: Row, runner: str) -> None:
        if row.place is Place.PARKED:
            row.change(row.back, Place.READY)
        row.change(S.PENDING, Place.CLAIMED)
        row.attempt += 1
        row.runner, row.holds_registration, row.started = runner, False, 0

    # -- the end of an attempt ---------------------------------------------------------------------------------------------
    def is_owned(self, runner: str, invocation_id: str, attempt: int) -> bool:
        """Whether the fence holds."""
        row = self.rows.get(invocation_id)
        return row is not None and row.place is Place.CLAIMED and (row.attempt, row.runner) == (attempt, runner)

    def finish(self, runner: str, outcome: Outcome) -> bool:
        """Whether the outcome counts; carries it out."""
        row = self.rows.get(outcome.id)
        if row is None or not self.is_owned(runner, outcome.id, outcome.attempt):
            return row is not None and row.place is Place.FINAL and row.last == (runner, outcome)
        assert outcome.status in OUTCOMES
        row.retries, row.crashes, row.alone = outcome.retries, outcome.crashes, outcome.alone
        if outcome.status in FINAL:
            row.payload, row.last = outcome.payload, (runner, outcome)
            row.why = outcome.reason or row.why
            self.end(row, outcome.status, outcome.ended)
        elif row.is_cancelled:
            row.last = None
            self.end(row, S.CANCELLED, 0)
        else:
            is_known = any(name != runner and not self.is_over(other) for name, other in self.runners.items())
            self.give_back(row, outcome.status, outcome.due, is_unknown=outcome.unknown_task and not is_known)
            if outcome.args is not None:
                row.new = msgspec.structs.replace(row.new, args=outcome.args)
                self.next_round(row)
            elif outcome.status is S.PAUSED:
                self.suspend(row, outcome)
        return True

    def suspend(self, row: Row, outcome: Outcome) -> None:
        """A PAUSED row waits for others or for signals, unless these are there or it would be for ever."""
        pending = [name for name in outcome.awaits if name in self.rows and self.rows[name].place is not Place.FINAL]
        is_over = len(pending) < len(outcome.awaits) or -1 < outcome.signals < len(row.signals)
        if is_over or waiting.is_stuck(self, row.new.id, pending):
            self.rouse(row)
            return
        row.seen = outcome.signals
        waiting.wait(self, row.new.id, pending)

    def next_round(self, row: Row) -> None:
        """What belongs to the old round goes."""
        row.round += 1
        row.retries = row.crashes = 0
        row.memory = {}

    def give_back(self, row: Row, status: InvocationStatus, due: int = 0, *, is_unknown: bool = False) -> None:
        """A claimed row goes back, or is suspended."""
        row.change(status, Place.WAITING)
        if status is not S.REGISTERED:
            self.note(row)
        row.runner, row.due = None, due
        self.drop_edges(row)
        self.free(row)
        if is_unknown:
            row.back, row.is_unknown = status, True
            row.change(S.CONCURRENCY_CONTROLLED, Place.PARKED)
        elif status is not S.PAUSED:
            self.admit(row, status)

    def know(self, tasks: Iterable[str]) -> None:
        """A runner knows these tasks: admit what was parked for them."""
        for row in [
            row for row in self.rows.values() if row.is_unknown and row.place is Place.PARKED and row.new.task in tasks
        ]:
            row.place = Place.LATER
            row.due = 0
            row.is_unknown = False
            self.admit_from_parked(row)

    def admit_from_parked(self, row: Row) -> None:
        """Like :meth:`admit`, for a row whose status is that of a parked one."""
        self.touch(row)
        if row.key and len(self.holders(row.key)) >= row.new.running_limit:
            row.place = Place.PARKED
        else:
            row.change(row.back, Place.READY)

    # -- what people do ---------------------------------------------------------------------------------------------------
    def cancel(self, row: Row, reason: str) -> bool:
        """Whether a cancellation is accepted; carries it out."""
        if row.place is Place.CLAIMED:
            row.is_cancelled, row.why = True, row.why if row.is_cancelled else reason
        elif row.place is not Place.FINAL:
            self.end(row, S.CANCELLED, self.clock.now())
        else:
            return False
        return True

    def requeue(self, row: Row) -> bool:
        """Whether a person may put it back to work; carries it out."""
        if row.place is Place.FINAL:
            self.next_round(row)
            row.payload, row.last, row.is_cancelled, row.alone = b"", None, False, False
            row.place, row.due = Place.WAITING, 0
            self.open.add(row.new.id)
            row.change(S.REGISTERED, Place.WAITING)
            self.admit(row, S.REGISTERED)
        elif row.place is Place.LATER and row.due > self.clock.now():
            row.due = 0
            self.admit(row, row.status)
        else:
            return False
        return True

    def resume(self, row: Row) -> bool:
        """Whether a suspended one may go on; carries it out."""
        if row.place is not Place.WAITING:
            return False
        self.rouse(row)
        return True

    def signal(self, row: Row, value: bytes) -> bool:
        """Whether it takes a signal; keeps it."""
        if row.place is Place.FINAL:
            return False
        row.signals.append(value)
        if row.place is Place.WAITING and row.seen >= 0:
            self.rouse(row)
        return True

    def reprioritise(self, row: Row, priority: float) -> bool:
        """Whether it may get another priority; carries it out. Whether an inherited rank is lowered is open."""
        if row.place is Place.FINAL:
            return False
        row.priority = priority
        is_awaited = any(row.new.id in other.waits for other in self.rows.values())
        if priority < row.rank:
            for awaited in row.waits:
                self.blur(awaited)
        if is_awaited or row.is_fuzzy:
            self.blur(row.new.id)
            row.rank = max(row.rank, priority)
        else:
            row.rank = priority
        waiting.raise_ranks(self.rows)
        return True

    def purge(self, ended_before: int) -> int:
        """Remove finals that are over; how many."""
        now = self.clock.now()
        over = {name: row for name, row in self.rows.items() if self.is_mortal(row) and self.end_of_life(row) <= now}
        old = {name: row for name, row in self.rows.items() if row.place is Place.FINAL and row.ended < ended_before}
        kept = {name for name, row in (over | old).items() if self.is_needed(row)}
        for row in [over[name] for name in kept & over.keys()]:
            row.kept_until = now + row.new.result_ttl
        gone = (over | old).keys() - kept
        for name in gone:
            del self.rows[name]
        return len(gone)

    @staticmethod
    def is_mortal(row: Row) -> bool:
        return row.place is Place.FINAL and row.new.result_ttl > 0

    @staticmethod
    def end_of_life(row: Row) -> int:
        return row.kept_until or row.ended + row.new.result_ttl

    def is_needed(self, row: Row) -> bool:
        """Whether the workflow that it belongs to goes on."""
        workflow = row.new.workflow
        owner = (workflow.parent if workflow.id == row.new.id else workflow.id) if workflow else None
        return owner in self.rows and self.rows[owner].place is not Place.FINAL

    # -- runners -----------------------------------------------------------------------------------------------------------
    def is_over(self, runner: RunnerRow) -> bool:
        """Whether the lease of a runner has run out."""
        return runner.until <= self.clock.lease()

    def take_back(self, name: str, *, is_certain: bool) -> list[tuple[str, InvocationStatus]]:
        """Everything that a runner owns goes back; what became of it."""
        runner = self.runners.pop(name)
        self.gone.add(name)
        result = []
        waiting_now = {row.new.id for row in self.rows.values() if row.waits}
        for row in [row for row in self.rows.values() if row.runner == name and row.place is Place.CLAIMED]:
            if is_certain and not runner.is_supervised and row.new.id not in waiting_now:
                row.crashes += row.alone
                if row.alone and row.crashes >= row.new.max_crashes:
                    row.payload = b"worker lost"
                    self.end(row, S.FAILED, self.clock.now())
                    result.append((row.new.id, S.FAILED))
                    continue
                row.alone = True
            if row.is_cancelled or (row.alone and not is_certain):
                self.open.add(row.new.id)
            self.give_back(row, S.REGISTERED)
            result.append((row.new.id, S.REGISTERED))
        return result
