"""Clause *parked*: a running key lets so many through, and every way to free it lets the next one go."""

from __future__ import annotations

from collections.abc import Callable

from pynenc.core.records import ChangeKind, Claimed, Purge
from pynenc.core.status import InvocationStatus, Place
from pynenc.testing.store_suite.base import SECOND, Clause, new, ref

S = InvocationStatus
READY, LATER, PARKED, CLAIMED, WAITING, FINAL = Place


class Parking(Clause):
    """At most ``running_limit`` invocations of a key are READY or CLAIMED."""

    def test_parked_at_submission(self) -> None:
        answers = self.put("a", "b", running_key="k")
        assert [answer.status for answer in answers] == [S.REGISTERED, S.CONCURRENCY_CONTROLLED]
        assert self.where("a", "b") == [READY, PARKED]
        assert self.trail("b") == [S.REGISTERED, S.CONCURRENCY_CONTROLLED]
        self.beat()
        assert self.names(self.claim()) == ["a"]

    def test_parked_behind_a_ready_one_of_an_earlier_call(self) -> None:
        self.put("a", running_key="k")
        self.put("b", running_key="k")
        assert self.where("a", "b") == [READY, PARKED]

    def test_parked_only_behind_the_same_key(self) -> None:
        self.put("a", "b", running_key="k")
        self.put("c", running_key="other")
        self.put("d")
        assert self.where("a", "b", "c", "d") == [READY, PARKED, READY, READY]

    def test_limit_above_one(self) -> None:
        self.put("a", "b", "c", "d", running_key="k", running_limit=3)
        assert self.where(*"abcd") == [READY, READY, READY, PARKED]
        self.beat()
        a, b, _ = self.claim()
        self.put("e", running_key="k", running_limit=3)
        assert self.claim() == ()
        self.end(b)
        assert self.names(self.claim()) == ["d"]
        self.end(a)
        assert self.names(self.claim()) == ["e"]

    def test_one_row_holds_one_place(self) -> None:
        self.put("a", "b", "c", running_key="k", running_limit=2)
        self.beat()
        claimed = self.run("a")
        assert self.where(*"abc") == [CLAIMED, READY, PARKED]
        self.end(claimed)
        assert self.where(*"abc") == [FINAL, READY, READY]

    def test_next_is_the_highest_rank_then_the_oldest(self) -> None:
        self.put("a", running_key="k")
        self.store.submit(
            [new("b", running_key="k"), new("c", running_key="k", priority=5), new("d", running_key="k", priority=5)]
        )
        self.beat()
        assert self.drain() == ["a", "c", "d", "b"]

    def test_order_within_a_key_is_that_of_submission(self) -> None:
        ids = [f"n{index:02}" for index in range(30)]
        self.put(*ids, running_key="k")
        self.beat()
        assert self.drain() == ids

    def test_priority_may_change_while_parked(self) -> None:
        self.put("a", "b", "c", running_key="k")
        assert self.amend("c", ChangeKind.REPRIORITISE, priority=9.0).accepted
        self.beat()
        assert self.drain() == ["a", "c", "b"]

    def test_later_does_not_hold_the_key(self) -> None:
        self.put("later", running_key="k", due=self.clock.now() + SECOND)
        self.put("a", running_key="k")
        assert self.where("later", "a") == [LATER, READY]
        self.clock.advance(2)
        self.beat()
        assert self.names(self.claim()) == ["a"]
        assert self.place("later") is PARKED
        assert self.drain_rest("a") == ["later"]

    def drain_rest(self, running: str) -> list[str]:
        row = self.row(running)
        self.end(row, runner=row.runner or "")
        return self.drain()

    # -- all the ways in which a key becomes free -----------------------------------------------------------------------
    def freed(self, free: Callable[[Claimed], object], first: Place) -> None:
        """Check that ``free``, done to a claimed holder, lets exactly the next one go and sends the holder to ``first``."""
        self.put("a", "b", "c", running_key="k")
        self.beat()
        claimed = self.run("a")
        assert self.where(*"abc") == [CLAIMED, PARKED, PARKED]
        free(claimed)
        assert self.where(*"abc") == [first, READY, PARKED]
        assert self.trail("b") == [S.REGISTERED, S.CONCURRENCY_CONTROLLED, S.REGISTERED]
        self.beat("other")
        assert self.names(self.claim(9, "other")) == ["b"]

    def test_key_is_freed_by_success(self) -> None:
        self.freed(self.end, FINAL)

    def test_key_is_freed_by_failure(self) -> None:
        self.freed(lambda claimed: self.end(claimed, S.FAILED), FINAL)

    def test_key_is_freed_by_cancellation(self) -> None:
        self.freed(lambda claimed: self.end(claimed, S.CANCELLED), FINAL)

    def test_key_is_freed_by_a_retry_that_waits(self) -> None:
        self.freed(lambda claimed: self.end(claimed, S.RETRY, retries=1, due=self.clock.now() + SECOND), LATER)

    def test_key_is_freed_by_a_retry_that_is_due(self) -> None:
        self.freed(lambda claimed: self.end(claimed, S.RETRY, retries=1), PARKED)

    def test_key_is_freed_by_a_release(self) -> None:
        self.freed(self.release, PARKED)

    def test_key_is_freed_by_a_suspension(self) -> None:
        self.freed(lambda claimed: self.end(claimed, S.PAUSED), WAITING)

    def test_key_is_freed_by_an_unknown_task(self) -> None:
        self.freed(lambda claimed: self.release(claimed, unknown_task=True), PARKED)

    def test_key_is_freed_by_retirement(self) -> None:
        self.freed(lambda _: self.store.retire(["r1"]), PARKED)

    def test_key_is_freed_by_recovery(self) -> None:
        def recover(_: Claimed) -> None:
            self.beat("sweeper")
            self.outlive("sweeper")
            assert [item.id for item in self.sweep()] == ["a"]

        self.freed(recover, PARKED)

    def test_key_is_freed_by_recovery_of_what_had_not_started(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.beat("sweeper")
        self.take("a")
        self.outlive("sweeper")
        self.sweep()
        assert self.where("a", "b") == [PARKED, READY]

    def test_key_is_freed_by_cancelling_a_ready_holder(self) -> None:
        self.put("a", "b", "c", running_key="k")
        assert self.cancel("a").accepted
        assert self.where(*"abc") == [FINAL, READY, PARKED]

    def test_key_is_not_freed_by_cancelling_a_parked_one(self) -> None:
        self.put("a", "b", "c", running_key="k")
        assert self.cancel("b").accepted
        assert self.where(*"abc") == [READY, FINAL, PARKED]
        self.beat()
        assert self.drain() == ["a", "c"]

    def test_key_is_not_freed_by_asking_a_claimed_one_to_stop(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        claimed = self.run("a")
        self.cancel("a")
        assert self.where("a", "b") == [CLAIMED, PARKED]
        self.end(claimed, S.RETRY)
        assert self.status("a") is S.CANCELLED
        assert self.where("a", "b") == [FINAL, READY]

    def test_key_is_not_freed_by_a_zombie(self) -> None:
        self.put("a", "b", "c", running_key="k")
        self.beat()
        old = self.take("a")
        self.end(old, S.RETRY, retries=1)
        assert self.names(self.claim()) == ["b"]
        assert self.finish(old) == ("a",)
        assert self.claim() == ()
        assert self.where(*"abc") == [PARKED, CLAIMED, PARKED]

    def test_key_is_freed_by_a_purge_of_everything(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.take("a")
        while self.store.purge(Purge(everything=True)).more:
            pass
        self.put("c", running_key="k")
        assert self.place("c") is READY

    def test_key_is_kept_by_a_waiting_body(self) -> None:
        self.put("a", "b", running_key="k")
        self.put("child")
        self.beat()
        waiter = self.run("a")
        subscription = self.store.watch(["child"], lambda: None, waiter=ref(waiter))
        assert self.where("a", "b") == [CLAIMED, PARKED]
        subscription.close()

    # -- what comes back -----------------------------------------------------------------------------------------------
    def test_parked_retry_is_made_ready_as_retry(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.end(self.run("a"), S.RETRY, retries=1)
        assert self.status("a") is S.CONCURRENCY_CONTROLLED
        assert self.trail("a")[-1] is S.CONCURRENCY_CONTROLLED
        self.end(self.take("b"))
        assert (self.status("a"), self.place("a")) == (S.RETRY, READY)

    def test_retry_without_others_keeps_its_key(self) -> None:
        self.put("a", running_key="k")
        self.beat()
        self.end(self.run("a"), S.RETRY, retries=1)
        assert (self.status("a"), self.place("a")) == (S.RETRY, READY)
        assert self.trail("a")[-1] is S.RETRY
        self.put("b", running_key="k")
        assert self.place("b") is PARKED

    def test_resumed_takes_its_key_again(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.end(self.run("a"), S.PAUSED)
        claimed = self.take("b")
        self.resume("a")
        assert (self.status("a"), self.place("a")) == (S.CONCURRENCY_CONTROLLED, PARKED)
        self.end(claimed)
        assert (self.status("a"), self.place("a")) == (S.REGISTERED, READY)

    def test_requeued_takes_its_key_again(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.end(self.run("a"))
        self.requeue("a")
        assert self.where("a", "b") == [PARKED, READY]

    def test_due_retry_meets_a_full_key(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.end(self.run("a"), S.RETRY, retries=1, due=self.clock.now() + SECOND)
        claimed = self.take("b")
        self.clock.advance(2)
        assert self.claim() == ()
        assert self.place("a") is PARKED
        self.end(claimed)
        assert self.names(self.claim()) == ["a"]

    def test_many_parked_leave_one_by_one(self) -> None:
        ids = [f"n{index:03}" for index in range(300)]
        self.put(*ids, running_key="k", running_limit=2)
        self.beat()
        done = 0
        while batch := self.claim():
            assert len(batch) <= 2
            for claimed in batch:
                self.end(claimed)
            done += len(batch)
        assert done == 300

    def test_limit_counts_a_suspect(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        self.release(self.take("a"), alone=True)
        assert self.where("a", "b") == [PARKED, READY]


class Dropping(Clause):
    """``drop_blocked``: what cannot run when it is claimed ends at once."""

    def test_dropped_at_the_claim(self) -> None:
        self.put("a", "b", running_key="k", drop_blocked=True)
        assert self.where("a", "b") == [READY, READY]
        self.beat()
        assert self.names(self.claim()) == ["a"]
        self.claim()
        row = self.row("b")
        assert (row.status, row.place, row.ended) == (S.CONCURRENCY_CONTROLLED_FINAL, FINAL, self.clock.now())
        assert self.trail("b") == [S.REGISTERED, S.CONCURRENCY_CONTROLLED_FINAL]

    def test_dropped_takes_no_place_in_the_claim(self) -> None:
        self.put("a", "b", "c", running_key="k", drop_blocked=True)
        self.put("d")
        self.beat()
        assert self.names(self.claim(2)) == ["a", "d"]

    def test_dropped_in_the_order_of_the_claim_from_several_queues(self) -> None:
        self.put("a", queue="x")
        self.put("b", queue="y", running_key="k", drop_blocked=True)
        self.put("c", queue="x", running_key="k", drop_blocked=True)
        self.beat()
        assert self.names(self.claim()) == ["a", "b"]
        assert self.status("c") is S.CONCURRENCY_CONTROLLED_FINAL

    def test_not_dropped_when_the_key_is_free(self) -> None:
        self.put("a", running_key="k", drop_blocked=True)
        self.beat()
        self.end(self.take("a"))
        self.put("b", running_key="k", drop_blocked=True)
        assert self.names(self.claim()) == ["b"]

    def test_dropped_beyond_a_limit_above_one(self) -> None:
        self.put("a", "b", "c", running_key="k", running_limit=2, drop_blocked=True)
        self.beat()
        assert self.names(self.claim()) == ["a", "b"]
        self.claim()
        assert self.status("c") is S.CONCURRENCY_CONTROLLED_FINAL

    def test_dropped_is_given_to_finals(self) -> None:
        self.put("a", "b", running_key="k", drop_blocked=True)
        self.beat()
        self.claim()
        self.claim()
        assert [(final.id, final.status) for final in self.store.finals(["a", "b"])] == [
            ("b", S.CONCURRENCY_CONTROLLED_FINAL)
        ]

    def test_released_is_not_blocked_by_itself(self) -> None:
        self.put("a", running_key="k", drop_blocked=True)
        self.beat()
        self.release(self.take("a"))
        assert self.names(self.claim()) == ["a"]
