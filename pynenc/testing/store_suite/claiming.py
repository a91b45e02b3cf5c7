"""Clauses *ordered* and *complete* of the claim: what is given out, to whom, in which order."""

from __future__ import annotations

import pytest

from pynenc.core.records import Alone, ChangeKind, Claim, QueueState, Rate
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import RunnerLostError
from pynenc.testing.store_suite.base import SECOND, Clause, new

S = InvocationStatus


class Claiming(Clause):
    """Each READY invocation once, by rank, boost and submission."""

    def test_claim_makes_pending(self) -> None:
        self.put("a")
        self.beat()
        self.clock.advance(1)
        self.take("a")
        row = self.row("a")
        assert (row.status, row.place, row.attempt, row.runner, row.claimed) == (
            S.PENDING,
            Place.CLAIMED,
            1,
            "r1",
            self.clock.now(),
        )
        last = self.store.history(["a"])[-1]
        assert (last.status, last.runner, last.attempt, last.at) == (S.PENDING, "r1", 1, self.clock.now())

    def test_claim_gives_each_row_once(self) -> None:
        self.put("a", "b", "c")
        self.beat("r1")
        self.beat("r2")
        assert self.names(self.claim(2, "r1")) == ["a", "b"]
        assert self.names(self.claim(9, "r2")) == ["c"]
        assert self.ask(9, "r1") == Claim()

    def test_claim_of_nothing(self) -> None:
        self.beat()
        assert self.ask() == Claim()

    def test_claim_with_limit_zero_takes_nothing(self) -> None:
        self.put("a")
        self.beat()
        assert self.claim(0) == ()
        assert self.status("a") is S.REGISTERED

    def test_claim_needs_a_runner_that_beats(self) -> None:
        self.put("a")
        with pytest.raises(RunnerLostError):
            self.claim(1, "unknown")
        assert self.status("a") is S.REGISTERED

    def test_claim_by_priority_then_submission(self) -> None:
        self.store.submit(
            [
                new("a"),
                new("b", priority=5),
                new("c", priority=-3.5),
                new("d", priority=5),
                new("e", priority=0.25),
                new("f"),
            ]
        )
        self.beat()
        assert self.names(self.claim(4)) == ["b", "d", "e", "a"]
        assert self.names(self.claim()) == ["f", "c"]

    def test_claim_one_by_one_keeps_the_order(self) -> None:
        for index in range(20):
            self.put(f"n{index:02}")
        self.beat()
        assert self.drain() == [f"n{index:02}" for index in range(20)]

    def test_claim_order_is_that_of_submission_not_of_ids(self) -> None:
        self.put("z", "m", "a")
        self.put("b")
        self.beat()
        assert self.names(self.claim()) == ["z", "m", "a", "b"]

    def test_claim_aged_ignores_priority(self) -> None:
        self.store.submit([new("a", priority=-9), new("b", priority=9), new("c")])
        self.beat()
        assert self.names(self.claim(2, aged=True)) == ["a", "b"]

    def test_claim_of_all_queues_is_by_priority(self) -> None:
        self.store.submit([new("a", queue="x"), new("b", queue="y", priority=1), new("c", queue="z", priority=2)])
        self.beat()
        assert self.names(self.claim()) == ["c", "b", "a"]

    def test_claim_shares_limit_each_queue(self) -> None:
        self.put("x1", "x2", "x3", queue="x")
        self.put("y1", "y2", queue="y", priority=7)
        self.put("z1", queue="z")
        self.beat()
        assert self.names(self.claim(3, shares=(("x", 2), ("y", 5)))) == ["x1", "x2", "y1"]
        assert sorted(self.names(self.claim(9, shares=(("x", 1), ("y", 1))))) == ["x3", "y2"]
        assert self.claim(9, shares=(("x", 1), ("y", 1))) == ()
        assert self.status("z1") is S.REGISTERED

    def test_claim_takes_queue_after_queue_each_by_rank(self) -> None:
        for name in "xy":
            self.put(f"{name}1", queue=name)
            self.put(f"{name}2", queue=name, priority=5.0)
        self.beat()
        assert self.names(self.claim(9, shares=(("y", 9), ("x", 9)))) == ["y2", "y1", "x2", "x1"]

    def test_claim_from_an_unknown_queue(self) -> None:
        self.put("a")
        self.beat()
        assert self.claim(9, shares=(("nowhere", 9),)) == ()

    def test_claim_without_tasks_passes_them_over(self) -> None:
        self.store.submit(
            [
                new("a", task="m.x"),
                new("b", priority=2),
                new("c", task="m.y", priority=1),
                new("d"),
                new("e", queue="q"),
            ]
        )
        self.beat()
        assert self.names(self.claim(2, without=("m.x", "m.y"))) == ["b", "d"]
        assert self.names(self.claim(aged=True, without=("m.y",))) == ["a", "e"]
        assert self.names(self.claim()) == ["c"]

    def test_claim_ids_takes_only_these(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        assert self.names(self.claim(9, ids=("c", "b", "unknown"))) == ["b", "c"]
        assert self.status("a") is S.REGISTERED

    def test_claim_ids_does_not_take_what_is_not_ready(self) -> None:
        self.put("holder", "parked", running_key="k")
        self.put("later", due=self.clock.now() + SECOND)
        self.beat()
        self.end(self.take("holder"), S.FAILED)
        self.put("gone")
        self.cancel("gone")
        self.take("parked")
        assert self.claim(9, ids=("holder", "parked", "later", "gone")) == ()

    def test_claim_attempts_grow_with_each_claim(self) -> None:
        self.put("a")
        self.beat()
        for attempt in (1, 2, 3):
            claimed = self.take("a")
            assert claimed.attempt == attempt
            self.release(claimed)

    def test_claim_carries_the_counters(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.take("a"), S.RETRY, retries=2, crashes=1)
        claimed = self.take("a")
        assert (claimed.retries, claimed.crashes) == (2, 1)

    def test_claim_after_a_change_of_priority(self) -> None:
        self.put("a", "b", "c")
        answer = self.amend("c", ChangeKind.REPRIORITISE, priority=3.0)
        assert answer.accepted
        row = self.row("c")
        assert (row.priority, row.rank) == (3.0, 3.0)
        self.beat()
        assert [(claimed.id, claimed.priority) for claimed in self.claim(1)] == [("c", 3.0)]
        self.amend("a", ChangeKind.REPRIORITISE, priority=-1.0)
        assert self.names(self.claim()) == ["b", "a"]

    def test_claim_passes_over_suspects(self) -> None:
        self.suspects("a", "b")
        answer = self.ask()
        assert (answer.batch, answer.suspects) == ((), True)

    def test_claim_of_suspects_gives_one_at_a_time(self) -> None:
        self.suspects("a", "b")
        self.put("healthy")
        (first,) = self.claim(9, alone=Alone.ONLY)
        assert (first.id, first.alone) == ("a", True)
        self.end(first)
        (second,) = self.claim(9, alone=Alone.ONLY)
        assert second.id == "b"
        self.end(second)
        answer = self.ask(9, alone=Alone.ONLY)
        assert (answer.batch, answer.suspects) == ((), False)
        assert self.status("healthy") is S.REGISTERED

    def test_heartbeat_tells_of_suspects(self) -> None:
        assert self.beat().suspects is False
        self.suspects("a")
        assert self.renew().suspects is True
        self.end(self.claim(1, alone=Alone.ONLY)[0])
        assert self.renew().suspects is False

    def test_suspicion_ends_with_an_ordinary_end(self) -> None:
        self.suspects("a")
        (claimed,) = self.claim(1, alone=Alone.ONLY)
        self.end(claimed, S.RETRY, retries=1)
        assert self.row("a").alone is False
        assert self.names(self.claim()) == ["a"]

    def suspects(self, *ids: str) -> None:
        """Invocations that go back marked as suspects."""
        self.put(*ids)
        self.beat()
        for invocation_id in ids:
            self.release(self.take(invocation_id), alone=True)


class Expiring(Clause):
    """What waited too long ends instead of starting."""

    def test_expired_ends_cancelled_at_the_claim(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.beat()
        self.clock.advance(1.5)
        assert self.claim() == ()
        row = self.row("a")
        assert (row.status, row.place, row.reason, row.ended) == (S.CANCELLED, Place.FINAL, "expired", self.clock.now())
        assert self.trail("a") == [S.REGISTERED, S.CANCELLED]
        assert self.store.history(["a"])[-1].reason == "expired"

    def test_expired_takes_no_place_in_the_claim(self) -> None:
        self.put("a", "b", expires=self.clock.now() + SECOND)
        self.put("c", "d")
        self.beat()
        self.clock.advance(1.5)
        assert self.names(self.claim(2)) == ["c", "d"]

    def test_expired_leaves_the_order_as_it_is(self) -> None:
        self.put("low", "lower")
        self.put("a", priority=2)
        self.put("old", priority=2, expires=self.clock.now() + SECOND)
        self.put("b", priority=2)
        self.beat()
        self.clock.advance(2)
        assert self.names(self.claim(2)) == ["a", "b"]

    def test_not_expired_runs(self) -> None:
        self.put("a", expires=self.clock.now() + 2 * SECOND)
        self.beat()
        self.clock.advance(1.5)
        assert self.names(self.claim()) == ["a"]

    def test_what_was_claimed_in_time_goes_on(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.beat()
        claimed = self.take("a")
        self.clock.advance(5)
        self.end(claimed)
        assert self.status("a") is S.SUCCESS

    def test_expired_frees_its_running_key(self) -> None:
        self.put("a", running_key="k", expires=self.clock.now() + SECOND)
        self.put("b", running_key="k")
        self.beat()
        self.clock.advance(1.5)
        assert [*self.claim(), *self.claim()][0].id == "b"
        assert self.status("a") is S.CANCELLED

    def test_expired_while_later(self) -> None:
        now = self.clock.now()
        self.put("a", due=now + SECOND, expires=now + 2 * SECOND)
        self.beat()
        self.clock.advance(3)
        assert self.claim() == ()
        assert (self.status("a"), self.row("a").reason) == (S.CANCELLED, "expired")

    def test_expire_ends_what_no_claim_comes_to(self) -> None:
        over = self.clock.now() + SECOND
        self.put("ready", expires=over)
        self.put("later", due=over + SECOND, expires=over)
        self.put("elsewhere", queue="unserved", expires=over)
        self.put("paused", queue="paused", expires=over)
        self.put("holder", running_key="k")
        self.put("parked", running_key="k", expires=over)
        self.store.set_queue("paused", QueueState.PAUSED)
        over_ids = ("ready", "later", "elsewhere", "paused", "parked")
        assert self.store.expire(100) == 0
        self.clock.advance(1.5)
        assert self.store.expire(100) == len(over_ids)
        for row in self.store.get(over_ids):
            now = self.clock.now()
            assert (row.status, row.place, row.reason, row.ended) == (S.CANCELLED, Place.FINAL, "expired", now)
        assert [self.trail(name)[-1] for name in over_ids] == [S.CANCELLED] * len(over_ids)
        assert self.trail("parked") == [S.REGISTERED, S.CONCURRENCY_CONTROLLED, S.CANCELLED]
        assert self.status("holder") is S.REGISTERED
        assert self.store.expire(100) == 0

    def test_expire_leaves_what_was_claimed_or_is_in_a_later_round(self) -> None:
        over = self.clock.now() + SECOND
        self.put("claimed", "released", "retried", "again", expires=over)
        self.beat()
        self.take("claimed")
        self.release(self.take("released"))
        self.end(self.take("retried"), S.RETRY, retries=1, due=self.clock.now() + 9 * SECOND)
        self.cancel("again")
        self.requeue("again")
        self.clock.advance(1.5)
        assert self.store.expire(100) == 0
        assert self.where("claimed", "released", "retried", "again") == [
            Place.CLAIMED,
            Place.READY,
            Place.LATER,
            Place.READY,
        ]

    def test_expire_begins_with_the_longest_overdue_and_is_bounded(self) -> None:
        for n in (3, 1, 2):
            self.put(f"a{n}", expires=self.clock.now() + n * SECOND)
        self.clock.advance(5)
        assert self.store.expire(2) == 2
        assert self.where("a1", "a2", "a3") == [Place.FINAL, Place.FINAL, Place.READY]
        assert (self.store.expire(2), self.store.expire(2)) == (1, 0)

    def test_expire_lets_those_behind_go(self) -> None:
        over = self.clock.now() + SECOND
        self.put("a", running_key="k", registration_key="r", expires=over)
        self.put("b", running_key="k")
        self.put("c", rate=Rate("rate", 1, 60 * SECOND), expires=over)
        self.put("d", rate=Rate("rate", 1, 60 * SECOND))
        self.clock.advance(1.5)
        self.store.expire(100)
        self.beat()
        assert self.names(self.claim()) == ["b", "d"]
        assert not self.put("e", registration_key="r")[0].existing

    def test_expire_leaves_a_claim_nothing_to_look_at(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.put("b", due=self.clock.now() + SECOND, expires=self.clock.now() + SECOND)
        self.clock.advance(1.5)
        self.store.expire(100)
        self.beat()
        answer = self.ask()
        assert (answer.batch, answer.next_due) == ((), 0)

    def test_expired_is_given_to_finals(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.beat()
        self.clock.advance(1.5)
        self.claim()
        (final,) = self.store.finals(["a"])
        assert (final.status, final.reason) == (S.CANCELLED, "expired")
