"""What time and people do to invocations: due, cancel, requeue, reprioritise, resume."""

from __future__ import annotations

from pynenc.core.records import Change, ChangeKind, Outcome
from pynenc.core.status import InvocationStatus, Place
from pynenc.testing.store_suite.base import SECOND, Clause, ref

S = InvocationStatus
READY, LATER, PARKED, CLAIMED, WAITING, FINAL = Place


class Timing(Clause):
    """LATER becomes claimable when its time has come, on the wall clock."""

    def test_later_is_not_claimed_before_its_time(self) -> None:
        due = self.clock.now() + 5 * SECOND
        self.put("a", due=due)
        assert (self.status("a"), self.place("a"), self.row("a").due) == (S.REGISTERED, LATER, due)
        self.beat()
        self.clock.advance(4.9)
        answer = self.ask()
        assert (answer.batch, answer.next_due) == ((), due)
        self.clock.advance(0.1)
        assert self.names(self.claim()) == ["a"]

    def test_due_in_the_past_is_ready(self) -> None:
        self.put("a", due=self.clock.now() - SECOND)
        self.put("b", due=self.clock.now())
        assert self.where("a", "b") == [READY, READY]

    def test_next_due_is_the_first_of_the_asked_queues(self) -> None:
        now = self.clock.now()
        self.put("a", due=now + 9 * SECOND, queue="x")
        self.put("b", due=now + 5 * SECOND, queue="x")
        self.put("c", due=now + 2 * SECOND, queue="y")
        self.beat()
        assert self.ask().next_due == now + 2 * SECOND
        assert self.ask(shares=(("x", 9),)).next_due == now + 5 * SECOND
        assert self.ask(shares=(("z", 9),)).next_due == 0

    def test_next_due_is_none_without_anything_later(self) -> None:
        self.put("a")
        self.beat()
        assert self.ask().next_due == 0

    def test_due_ones_come_with_those_that_are_ready(self) -> None:
        self.put("a", due=self.clock.now() + SECOND, priority=1)
        self.put("b")
        self.beat()
        self.clock.advance(2)
        assert self.names(self.claim()) == ["a", "b"]

    def test_many_due_at_once(self) -> None:
        ids = [f"n{index:04}" for index in range(1000)]
        self.put(*ids, due=self.clock.now() + SECOND)
        self.beat()
        self.clock.advance(1)
        found: list[str] = []
        while batch := self.claim(300):
            found += self.names(batch)
        assert found == ids

    def test_wall_clock_that_goes_back_delays_but_loses_nothing(self) -> None:
        self.put("a", due=self.clock.now() + SECOND)
        self.put("b")
        self.beat()
        self.clock.jump(-3600)
        claimed = self.take("b")
        self.end(claimed)
        assert self.claim() == ()
        self.clock.advance(1)
        self.clock.jump(3600)
        assert self.names(self.claim()) == ["a"]

    def test_wall_clock_that_goes_forward_makes_due(self) -> None:
        self.put("a", due=self.clock.now() + 3600 * SECOND)
        self.beat()
        self.clock.jump(3601)
        assert self.names(self.claim()) == ["a"]

    def test_suspended_until_a_time(self) -> None:
        self.put("a")
        self.beat()
        due = self.clock.now() + 5 * SECOND
        self.end(self.run("a"), S.PAUSED, due=due)
        assert (self.status("a"), self.place("a")) == (S.PAUSED, WAITING)
        answer = self.ask()
        assert (answer.batch, answer.next_due) == ((), due)
        self.clock.advance(5)
        assert self.names(self.claim()) == ["a"]
        assert self.trail("a")[-3:] == [S.PAUSED, S.REGISTERED, S.PENDING]

    def test_suspended_without_a_time_stays(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.PAUSED)
        self.clock.advance(100_000)
        self.renew()
        answer = self.ask()
        assert (answer.batch, answer.next_due) == ((), 0)
        assert (self.status("a"), self.row("a").runner) == (S.PAUSED, None)


class Amending(Clause):
    """Each id on its own terms, with an answer that says whether it was accepted."""

    def test_cancel_what_is_ready(self) -> None:
        self.put("a")
        assert self.cancel("a").accepted
        row = self.row("a")
        assert (row.status, row.place, row.reason, row.ended) == (S.CANCELLED, FINAL, "by hand", self.clock.now())
        assert self.store.history(["a"])[-1].reason == "by hand"
        self.beat()
        assert self.claim() == ()

    def test_cancel_what_is_later(self) -> None:
        self.put("a", due=self.clock.now() + SECOND)
        assert self.cancel("a").accepted
        self.beat()
        self.clock.advance(2)
        assert (self.claim(), self.status("a")) == ((), S.CANCELLED)

    def test_cancel_what_is_parked(self) -> None:
        self.put("a", "b", running_key="k")
        assert self.cancel("b").accepted
        self.beat()
        assert self.drain() == ["a"]
        assert self.trail("b") == [S.REGISTERED, S.CONCURRENCY_CONTROLLED, S.CANCELLED]

    def test_cancel_what_waits_for_a_retry(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.RETRY, due=self.clock.now() + SECOND)
        assert self.cancel("a").accepted
        assert self.status("a") is S.CANCELLED

    def test_cancel_what_is_suspended(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.PAUSED, due=self.clock.now() + SECOND)
        assert self.cancel("a").accepted
        self.clock.advance(2)
        assert (self.claim(), self.status("a")) == ((), S.CANCELLED)

    def test_cancel_what_is_claimed_asks_its_runner(self) -> None:
        self.put("a", "b")
        self.beat("r1")
        self.beat("r2")
        self.run("a", "r1")
        self.take("b", "r2")
        assert self.cancel("a").accepted
        assert (self.status("a"), self.row("a").cancel_requested) == (S.RUNNING, True)
        assert self.renew("r1").cancel == ("a",)
        assert self.renew("r2").cancel == ()

    def test_cancel_request_is_told_until_it_is_followed(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        self.cancel("a")
        assert self.renew().cancel == self.renew().cancel == ("a",)
        self.end(claimed, S.CANCELLED)
        assert self.renew().cancel == ()

    def test_cancel_request_loses_against_a_result(self) -> None:
        for status in (S.SUCCESS, S.FAILED):
            self.put(status.value)
            self.beat()
            claimed = self.run(status.value)
            self.cancel(status.value)
            self.end(claimed, status, payload=b"1")
            row = self.row(status.value)
            assert (row.status, row.payload, row.reason) == (status, b"1", "")

    def test_cancel_request_turns_what_would_go_on(self) -> None:
        for status in (S.RETRY, S.REGISTERED, S.PAUSED):
            self.put(status.value)
            self.beat()
            claimed = self.run(status.value)
            self.cancel(status.value)
            self.end(claimed, status, due=self.clock.now() + SECOND if status is S.RETRY else 0)
            assert (self.status(status.value), self.place(status.value)) == (S.CANCELLED, FINAL)

    def test_cancel_request_gives_its_reason_to_the_end(self) -> None:
        self.beat()
        for key in (None, "k"):
            for status in (S.CANCELLED, S.RETRY, S.REGISTERED, S.PAUSED):
                name = f"{status} {key}"
                self.put(name, running_key=key)
                claimed = self.run(name)
                self.cancel(name)
                assert (self.status(name), self.row(name).reason) == (S.RUNNING, "by hand")
                self.end(claimed, status, reason="" if status is S.CANCELLED else "again")
                self.ended_by(name, "by hand")

    def ended_by(self, invocation_id: str, reason: str) -> None:
        """It is cancelled for a reason, which is told everywhere."""
        (final,) = self.store.finals([invocation_id])
        assert (final.status, final.reason) == (S.CANCELLED, reason)
        assert self.store.history([invocation_id])[-1].reason == self.row(invocation_id).reason == reason

    def test_cancel_request_gives_its_reason_in_a_batch(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        batch = self.claim()
        self.cancel("b")
        outcomes = [Outcome(id=claimed.id, attempt=claimed.attempt, status=S.CANCELLED) for claimed in batch]
        assert self.store.finish("r1", outcomes).lost == ()
        assert [self.row(name).reason for name in "abc"] == ["", "by hand", ""]
        assert self.store.finish("r1", outcomes).lost == ()

    def test_cancel_request_gives_its_reason_when_the_runner_is_gone(self) -> None:
        self.put("a", "b")
        self.beat("sweeper")
        for name in "ab":
            self.beat(f"r{name}")
            self.run(name, f"r{name}")
            self.cancel(name)
        self.store.retire(["ra"])
        self.outlive("sweeper")
        self.sweep()
        for name in "ab":
            self.ended_by(name, "by hand")

    def test_reason_of_the_first_cancel_request_counts(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        assert self.cancel("a").accepted
        assert self.cancel("a", "once more").accepted
        self.end(claimed, S.CANCELLED)
        self.ended_by("a", "by hand")
        self.requeue("a")
        claimed = self.run("a")
        assert self.cancel("a", "once more").accepted
        self.end(claimed, S.CANCELLED)
        self.ended_by("a", "once more")

    def test_cancel_what_is_final_is_refused(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.take("a"))
        answer = self.cancel("a")
        assert (answer.accepted, answer.status) == (False, S.SUCCESS)
        assert self.status("a") is S.SUCCESS

    def test_cancel_what_is_unknown(self) -> None:
        answer = self.cancel("unknown")
        assert (answer.accepted, answer.status) == (False, None)

    def test_amend_answers_each_in_order(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        self.end(self.take("b"))
        self.take("c")
        answers = self.store.amend(["c", "unknown", "b", "a"], Change(ChangeKind.CANCEL))
        assert [(answer.id, answer.accepted) for answer in answers] == [
            ("c", True),
            ("unknown", False),
            ("b", False),
            ("a", True),
        ]
        assert self.store.amend([], Change(ChangeKind.CANCEL)) == []

    def test_requeue_opens_a_new_round(self) -> None:
        self.put("a")
        self.beat()
        first = self.run("a")
        self.end(first, S.FAILED, payload=b"old error", retries=3, crashes=2, reason="broke")
        self.clock.advance(1)
        self.requeue("a")
        row = self.row("a")
        assert (row.status, row.place, row.round, row.retries, row.crashes, row.payload) == (
            S.REGISTERED,
            READY,
            1,
            0,
            0,
            b"",
        )
        (claimed,) = self.claim()
        assert (claimed.round, claimed.attempt, claimed.retries, claimed.crashes) == (1, 2, 0, 0)
        self.end(claimed, payload=b"good")
        assert [(f.status, f.payload, f.round) for f in self.store.finals(["a"])] == [(S.SUCCESS, b"good", 1)]

    def test_requeue_keeps_the_old_outcome_in_the_history(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.FAILED, payload=b"old error", reason="broke")
        self.requeue("a")
        self.end(self.run("a"), payload=b"good")
        assert self.trail("a") == [
            S.REGISTERED,
            S.PENDING,
            S.RUNNING,
            S.FAILED,
            S.REGISTERED,
            S.PENDING,
            S.RUNNING,
            S.SUCCESS,
        ]
        entries = self.store.history(["a"])
        old = entries[3]
        assert (old.round, old.attempt, old.reason, old.payload) == (0, 1, "broke", b"old error")
        assert [entry.round for entry in entries] == [0, 0, 0, 0, 1, 1, 1, 1]

    def test_requeue_of_every_final(self) -> None:
        self.beat()
        for status in (S.SUCCESS, S.FAILED, S.CANCELLED):
            self.put(status.value)
            self.end(self.take(status.value), status)
            self.requeue(status.value)
            assert self.status(status.value) is S.REGISTERED
            self.end(self.take(status.value))
        self.put("x", "y", running_key="k", drop_blocked=True)
        claimed = self.take("x")
        self.claim()
        assert self.status("y") is S.CONCURRENCY_CONTROLLED_FINAL
        self.end(claimed)
        self.requeue("y")
        self.take("y")

    def test_requeue_of_a_cancelled_one_runs(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        self.cancel("a")
        self.end(claimed, S.CANCELLED)
        self.requeue("a")
        assert self.row("a").cancel_requested is False
        again = self.take("a")
        assert self.renew().cancel == ()
        self.end(again, S.RETRY)
        assert self.status("a") is S.RETRY

    def test_requeue_of_an_expired_one_runs(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.beat()
        self.clock.advance(2)
        self.claim()
        self.requeue("a")
        assert self.names(self.claim()) == ["a"]

    def test_requeue_makes_later_due_now(self) -> None:
        self.put("a", due=self.clock.now() + 500 * SECOND)
        self.requeue("a")
        assert self.place("a") is READY
        assert self.row("a").round == 0
        self.beat()
        claimed = self.take("a")
        self.end(claimed, S.RETRY, due=self.clock.now() + 500 * SECOND, retries=1)
        self.requeue("a")
        (again,) = self.claim()
        assert (again.retries, again.round) == (1, 0)

    def test_requeue_of_others_is_refused(self) -> None:
        self.put("ready", "claimed", "suspended")
        self.put("holder", "parked", running_key="k")
        self.beat()
        self.take("claimed")
        self.end(self.run("suspended"), S.PAUSED)
        for name in ("ready", "claimed", "suspended", "parked", "unknown"):
            before = self.store.get([name])
            assert self.amend(name, ChangeKind.REQUEUE).accepted is False
            assert self.store.get([name]) == before

    def test_reprioritise_what_is_not_final(self) -> None:
        self.put("ready", "claimed")
        self.put("later", due=self.clock.now() + SECOND)
        self.put("holder", "parked", running_key="k")
        self.beat()
        self.take("claimed")
        for name in ("ready", "claimed", "later", "parked"):
            assert self.amend(name, ChangeKind.REPRIORITISE, priority=4.5).accepted
            assert self.row(name).priority == 4.5

    def test_reprioritise_what_is_final_is_refused(self) -> None:
        self.put("a")
        self.cancel("a")
        answer = self.amend("a", ChangeKind.REPRIORITISE, priority=4.5)
        assert (answer.accepted, answer.status) == (False, S.CANCELLED)
        assert self.row("a").priority == 0.0
        assert self.amend("unknown", ChangeKind.REPRIORITISE, priority=1.0).accepted is False

    def test_reprioritise_is_no_change_of_status(self) -> None:
        self.put("a")
        self.amend("a", ChangeKind.REPRIORITISE, priority=1.0)
        assert self.trail("a") == [S.REGISTERED]

    def test_resume_lets_a_suspended_one_go_on(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.PAUSED)
        self.resume("a", b"approved")
        assert (self.status("a"), self.place("a")) == (S.REGISTERED, READY)
        assert self.store.recall("a") == {"resume:1": b"approved"}
        assert self.take("a").attempt == 2

    def test_resume_before_its_time(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.PAUSED, due=self.clock.now() + 50 * SECOND)
        self.resume("a")
        claimed = self.take("a")
        self.end(claimed)
        self.clock.advance(60)
        assert self.claim() == ()
        assert self.status("a") is S.SUCCESS

    def test_resume_of_others_is_refused(self) -> None:
        self.put("ready", "claimed", "done")
        self.put("later", due=self.clock.now() + SECOND)
        self.beat()
        self.take("claimed")
        self.end(self.take("done"))
        for name in ("ready", "claimed", "done", "later", "unknown"):
            before = self.store.get([name])
            assert self.amend(name, ChangeKind.RESUME, value=b"x").accepted is False
            assert self.store.get([name]) == before
            assert self.store.recall(name) == {}

    def test_resume_of_what_another_attempt_suspended_is_refused(self) -> None:
        self.put("w")
        self.beat()
        for number in (1, 2):
            self.end(self.run("w"), S.PAUSED)
            before = self.row("w"), self.store.recall("w")
            for other in (number - 1 or 9, number + 1):
                answer = self.amend("w", ChangeKind.RESUME, value=b"for another", attempt=other)
                assert (answer.accepted, answer.status) == (False, S.PAUSED)
            assert (self.row("w"), self.store.recall("w")) == before
            assert self.amend("w", ChangeKind.RESUME, value=b"yes", attempt=number).accepted
        assert self.store.recall("w") == {"resume:1": b"yes", "resume:2": b"yes"}

    def test_change_before_the_fence_is_seen_by_the_writer(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.cancel("a")
        assert self.store.start("r1", [ref(claimed)], self.clock.now()) == []
        outcome = Outcome(id="a", attempt=claimed.attempt, status=S.RETRY, retries=1)
        assert self.store.finish("r1", [outcome]).lost == ()
        assert self.trail("a")[-1] is S.CANCELLED
