"""The comparison of a store with the plain model: every reading must agree, and open choices must be legal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from pynenc.core.records import Filter, Invocation, Page
from pynenc.core.status import AVAILABLE, STATUSES_OF_PLACE, InvocationStatus, Place, can_transition
from pynenc.store.base import Store
from pynenc.testing.model.row import Row
from pynenc.testing.model.state import Model

S = InvocationStatus


def plain(trail: Sequence[InvocationStatus]) -> list[InvocationStatus]:
    """A trail without the steps that a store may leave out: what goes back and is parked in the same operation need not be shown as given back."""
    pairs = zip(trail[1:], [*trail[2:], None], strict=False)
    return [
        *trail[:1],
        *(
            status
            for status, following in pairs
            if status not in AVAILABLE or following is not S.CONCURRENCY_CONTROLLED
        ),
    ]


class Comparison:
    """Compares one model with the store that it models."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def check(self, store: Store) -> None:
        """Demand that every reading of ``store`` agrees, and follow its choices where the contract leaves one."""
        self._adopt(store)
        ids = list(self.model.rows)
        seen = store.get(ids)
        assert [found.id for found in seen] == ids, "invocations lost"
        trails: dict[str, list[InvocationStatus]] = defaultdict(list)
        for entry in store.history(ids):
            trails[entry.id].append(entry.status)
        # What has ended first: the fields of the others depend on it.
        for found in sorted(seen, key=lambda found: found.place is not Place.FINAL):
            self._compare_status(self.model.rows[found.id], found, trails[found.id])
        if self.model.reacted:  # to what the contract left open
            self.check(store)
            return
        for found in seen:
            self._compare_fields(self.model.rows[found.id], found)
        self._check_keys()
        self._compare_lists(store)
        assert store.check() == []

    def _adopt(self, store: Store) -> None:
        """What was submitted in reaction is in the store; within one operation its order is that of changes of which the model may not know the order."""
        if self.model.reacted:
            order = [row.id for row in store.find(Filter(), Page(10_000, oldest_first=True)).invocations]
            assert not (missing := {new.id for new in self.model.reacted} - set(order)), f"no reaction: {missing}"
            self.model.react(order)

    def _compare_status(self, row: Row, found: Invocation, trail: list[InvocationStatus]) -> None:
        assert trail[: len(row.told)] == row.told, f"{row.new.id}: history was rewritten: {trail}"
        row.told = trail
        if (row.status, row.place, plain(row.trail)) != (found.status, found.place, plain(trail)):
            told, expected = " → ".join(trail), " → ".join(row.trail)
            assert self._may_differ(row, found), (
                f"{row.new.id} is {found.place.name}: {told}; expected {row.place.name}: {expected}"
            )
            self._follow(row, found, trail)

    def _compare_fields(self, row: Row, found: Invocation) -> None:
        call, mine = row.new, (row.priority, row.created, row.attempt, row.retries, row.crashes, row.round)
        assert (found.task, found.args, found.queue) == (call.task, call.args, call.queue), row.new.id
        assert (found.priority, found.created, found.attempt, found.retries, found.crashes, found.round) == mine, (
            row.new.id
        )
        assert (found.runner if row.place is Place.CLAIMED else row.runner) == row.runner, row.new.id
        assert set(found.waiting_for) == row.waits, row.new.id
        if row.place is Place.CLAIMED:
            assert (found.cancel_requested, found.started) == (row.is_cancelled, row.started), row.new.id
        if row.is_cancelled and (row.place is Place.CLAIMED or row.status is S.CANCELLED):
            assert found.reason == row.why, row.new.id
        if row.place is Place.FINAL:
            assert found.payload == row.payload, row.new.id
            row.ended = found.ended
        if row.place is Place.LATER:
            assert found.due == row.due, row.new.id
        if row.new.id in self.model.open:
            row.alone = found.alone
        assert found.alone == row.alone or row.place is Place.FINAL, row.new.id
        self._compare_rank(row, found.rank)

    def _compare_rank(self, row: Row, rank: float) -> None:
        """Ranks are inherited; whether one is lowered when a waiter stops waiting is open."""
        if row.place is Place.FINAL:
            return
        if row.is_fuzzy:
            assert row.priority <= rank <= max(row.rank, row.priority), row.new.id
            row.rank = rank
        assert rank == row.rank, (row.new.id, rank, row.rank)

    def _may_differ(self, row: Row, found: Invocation) -> bool:
        """Whether the contract leaves the place of ``row`` open."""
        if found.place is Place.FINAL:
            is_passed = self.model.is_expired(row) or self.model.may_expire(row) or self.model.is_blocked(row)
            return is_passed or row.new.id in self.model.open
        moves = (Place.READY, Place.PARKED, Place.LATER, Place.WAITING, Place.CLAIMED)
        is_due = (
            row.place in (Place.LATER, Place.WAITING, Place.READY, Place.PARKED)
            and 0 < row.due <= self.model.clock.now()
        )
        return found.place in moves and (self.model.is_open_key(row.key) or is_due or row.new.id in self.model.open)

    def _follow(self, row: Row, found: Invocation, trail: list[InvocationStatus]) -> None:
        """Take over the store's choice after checking that it is legal."""
        assert all(can_transition(*pair) for pair in pairwise(trail)), f"{row.new.id}: {trail}"
        assert trail[-1] is found.status and found.status in STATUSES_OF_PLACE[found.place], f"{row.new.id}: {trail}"
        if found.place is Place.FINAL:
            self.model.end(row, found.status, found.ended)
        elif row.place is Place.WAITING:
            self.model.drop_edges(row)
            row.seen = -1
        row.status, row.place, row.trail = found.status, found.place, list(trail)
        if found.place is Place.CLAIMED:
            row.runner = found.runner

    def _check_keys(self) -> None:
        """No running key is over its limit, none is idle while somebody waits for it."""
        for key in {row.key for row in self.model.rows.values() if row.key}:
            held, waiting = len(self.model.holders(key)), self.model.parked(key)
            limit = next(row.new.running_limit for row in self.model.rows.values() if row.key == key)
            assert held <= limit, f"{key}: {held} hold {limit}"
            assert not waiting or held == limit, f"{key}: {len(waiting)} parked while {held} hold {limit}"

    def _compare_lists(self, store: Store) -> None:
        counts: dict[str, int] = defaultdict(int)
        for row in self.model.rows.values():
            counts[row.status.value] += 1
        assert store.count(Filter()) == counts
        newest = [row.id for row in store.find(Filter(), Page(len(self.model.rows) + 1)).invocations]
        assert newest == [row.new.id for row in sorted(self.model.rows.values(), key=lambda row: -row.seq)]
        for queue in store.queues():
            mine = [row for row in self.model.rows.values() if row.new.queue == queue.name]
            expected = tuple(
                sum(row.place is place for row in mine)
                for place in (Place.READY, Place.LATER, Place.PARKED, Place.CLAIMED)
            )
            assert (queue.ready, queue.later, queue.parked, queue.claimed) == expected, queue
            assert queue.state is self.model.queues[queue.name]
        living = {name for name, runner in self.model.runners.items() if not self.model.is_over(runner)}
        assert living <= {info.beat.id for info in store.runners()}
        for name in self.model.runners:
            owned = {(claimed.id, claimed.attempt) for claimed in store.owned(name)}
            assert owned == {
                (row.new.id, row.attempt)
                for row in self.model.rows.values()
                if row.runner == name and row.place is Place.CLAIMED
            }
