"""Clauses *fenced*, *final* and *idempotent* of the end of an attempt."""

from __future__ import annotations

import pytest

from pynenc.core.records import Claim, Finished, Outcome, Progress, Ref
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import InvocationNotFoundError
from pynenc.testing.store_suite.base import SECOND, TASK, Clause, ref, request

S = InvocationStatus

#: Every way to end an attempt.
WAYS = (S.SUCCESS, S.FAILED, S.RETRY, S.PAUSED, S.REGISTERED, S.CANCELLED)


class Finishing(Clause):
    """How attempts end, and what the end leaves in the books."""

    def test_start_makes_running(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.clock.advance(1)
        at = self.clock.now()
        self.clock.advance(1)
        assert self.store.start("r1", [ref(claimed)], at) == []
        row = self.row("a")
        assert (row.status, row.place, row.started) == (S.RUNNING, Place.CLAIMED, at)
        entry = self.store.history(["a"])[-1]
        assert (entry.status, entry.at, entry.runner, entry.attempt) == (S.RUNNING, at, "r1", 1)

    def test_start_again_is_no_loss(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        assert self.store.start("r1", [ref(claimed)], self.clock.now()) == []
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.RUNNING]

    def test_start_of_nothing(self) -> None:
        self.beat()
        assert self.store.start("r1", [], self.clock.now()) == []

    def test_finish_with_success(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        started = self.clock.now()
        self.clock.advance(1)
        self.end(claimed, payload=b"42", started=started, retries=0)
        row = self.row("a")
        assert (row.status, row.place, row.payload, row.ended) == (S.SUCCESS, Place.FINAL, b"42", self.clock.now())
        assert (row.started, row.attempt) == (started, 1)
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.RUNNING, S.SUCCESS]

    def test_finish_without_start(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.take("a"), payload=b"42")
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.SUCCESS]

    def test_body_that_began_is_in_the_history(self) -> None:
        for way in (S.SUCCESS, S.FAILED, S.RETRY, S.PAUSED, S.REGISTERED, S.CANCELLED):
            self.put(way.value)
            self.beat()
            claimed = self.take(way.value)
            self.clock.advance(1)
            started = self.clock.now()
            self.clock.advance(1)
            self.end(claimed, way, started=started)
            entries = self.store.history([way.value])
            assert [entry.status for entry in entries] == [S.REGISTERED, S.PENDING, S.RUNNING, way]
            assert entries[2].at == started

    def test_finish_with_failure(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.FAILED, payload=b"error", reason="because", retries=2, crashes=1)
        row = self.row("a")
        assert (row.status, row.payload, row.reason, row.retries, row.crashes) == (S.FAILED, b"error", "because", 2, 1)
        entry = self.store.history(["a"])[-1]
        assert (entry.status, entry.reason, entry.runner, entry.attempt) == (S.FAILED, "because", "r1", 1)

    def test_finish_with_cancellation(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        assert self.cancel("a").accepted
        self.end(claimed, S.CANCELLED, reason="cancelled")
        assert (self.status("a"), self.place("a"), self.row("a").reason) == (S.CANCELLED, Place.FINAL, "cancelled")

    def test_finish_gives_work_back(self) -> None:
        self.put("a")
        self.beat()
        self.release(self.take("a"), reason="no time")
        row = self.row("a")
        assert (row.status, row.place, row.runner, row.attempt) == (S.REGISTERED, Place.READY, None, 1)
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.REGISTERED]
        assert self.store.history(["a"])[-1].reason == "no time"

    def test_given_back_work_keeps_its_turn(self) -> None:
        self.put("a", "b")
        self.beat()
        self.release(self.take("a"))
        assert self.names(self.claim()) == ["a", "b"]

    def test_finish_batch_of_all_kinds(self) -> None:
        self.put(*(way.value for way in WAYS))
        self.beat()
        batch = {claimed.id: claimed for claimed in self.claim()}
        outcomes = [
            Outcome(id=way.value, attempt=batch[way.value].attempt, status=way, ended=self.clock.now()) for way in WAYS
        ]
        assert self.store.finish("r1", outcomes) == Finished()
        assert [self.status(way.value) for way in WAYS] == list(WAYS)

    def test_finish_nothing(self) -> None:
        self.beat()
        assert self.store.finish("r1", []) == Finished()

    def test_finish_ten_thousand_at_once(self) -> None:
        ids = [f"n{i:05}" for i in range(10_000)]
        self.put(*ids)
        self.beat()
        batch = self.claim(10_000)
        outcomes = [Outcome(id=c.id, attempt=c.attempt, status=S.SUCCESS, payload=c.id.encode()) for c in batch]
        assert self.store.finish("r1", outcomes).lost == ()
        finals = self.store.finals(ids)
        assert [(final.id, final.payload) for final in finals] == [(name, name.encode()) for name in ids]

    def test_finish_and_claim_in_one_step(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        claimed = self.take("a")
        answer = self.store.finish("r1", [Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS)], request(limit=1))
        assert answer.lost == ()
        assert self.names(answer.claim.batch) == ["b"]
        assert (self.status("a"), self.status("b"), self.status("c")) == (S.SUCCESS, S.PENDING, S.REGISTERED)

    def test_finish_claims_what_it_frees(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        claimed = self.take("a")
        answer = self.store.finish("r1", [Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS)], request())
        assert self.names(answer.claim.batch) == ["b"]

    def test_finish_of_nothing_claims(self) -> None:
        self.put("a")
        self.beat()
        assert self.names(self.store.finish("r1", [], request()).claim.batch) == ["a"]

    def test_finish_without_request_claims_nothing(self) -> None:
        self.put("a", "b")
        self.beat()
        claimed = self.take("a")
        assert self.store.finish("r1", [Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS)]).claim == Claim()
        assert self.status("b") is S.REGISTERED

    def test_finals_are_complete_and_in_order(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        self.end(self.take("c"), S.FAILED, payload=b"no", reason="why")
        self.end(self.take("a"), payload=b"yes")
        finals = self.store.finals(["c", "b", "a"])
        assert [(f.id, f.status, f.task, f.payload, f.round) for f in finals] == [
            ("c", S.FAILED, TASK, b"no", 0),
            ("a", S.SUCCESS, TASK, b"yes", 0),
        ]
        assert finals[0].reason == "why"

    def test_finals_of_an_unknown_id(self) -> None:
        self.put("a")
        with pytest.raises(InvocationNotFoundError):
            self.store.finals(["a", "unknown"])

    def test_finals_of_nothing(self) -> None:
        assert self.store.finals([]) == []

    def test_report_progress(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        progress = Progress("a", claimed.attempt, 3.0, 10.0, "third ☃")
        assert self.store.report("r1", [progress]) == []
        assert self.row("a").progress == progress


class Fencing(Clause):
    """Only the attempt that owns an invocation may write it."""

    def test_fence_refuses_every_way_of_an_old_attempt(self) -> None:
        for way in WAYS:
            self.put(way.value)
        self.beat()
        for way in WAYS:
            old = self.take(way.value)
            self.release(old)
            now = self.take(way.value)
            before = self.row(way.value)
            assert self.finish(old, way, payload=b"zombie") == (way.value,)
            assert self.row(way.value) == before
            self.end(now)

    def test_fence_refuses_another_runner(self) -> None:
        self.put("a")
        self.beat("r1")
        self.beat("r2")
        claimed = self.take("a", "r1")
        for way in WAYS:
            assert self.finish(claimed, way, "r2") == ("a",)
        assert self.status("a") is S.PENDING

    def test_fence_refuses_an_attempt_that_never_was(self) -> None:
        self.put("a")
        self.beat()
        self.take("a")
        assert self.finish(Ref("a", 2)) == ("a",)
        assert self.finish(Ref("a", 0)) == ("a",)
        assert self.status("a") is S.PENDING

    def test_fence_refuses_what_is_not_claimed(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.release(claimed)
        for way in WAYS:
            assert self.finish(claimed, way) == ("a",)
        assert (self.status("a"), self.place("a")) == (S.REGISTERED, Place.READY)

    def test_fence_refuses_an_unknown_id(self) -> None:
        self.beat()
        assert self.finish(Ref("unknown", 1)) == ("unknown",)

    def test_fence_of_start(self) -> None:
        self.put("a", "b")
        self.beat("r1")
        self.beat("r2")
        old = self.take("a")
        self.release(old)
        now = self.take("a")
        other = self.take("b", "r2")
        lost = self.store.start("r1", [ref(old), ref(other), Ref("unknown", 1), ref(now)], self.clock.now())
        assert lost == ["a", "b", "unknown"]
        assert (self.status("a"), self.status("b")) == (S.RUNNING, S.PENDING)

    def test_fence_of_report(self) -> None:
        self.put("a")
        self.beat()
        old = self.run("a")
        self.release(old)
        now = self.run("a")
        assert self.store.report("r1", [Progress("a", old.attempt, 1.0), Progress("unknown", 1, 1.0)]) == [
            "a",
            "unknown",
        ]
        assert self.row("a").progress is None
        assert self.store.report("r2", [Progress("a", now.attempt, 1.0)]) == ["a"]

    def test_fence_lets_the_rest_of_the_batch_through(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        a, b, c = self.claim()
        self.release(b)
        outcomes = [Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS) for claimed in (a, b, c)]
        assert self.store.finish("r1", outcomes).lost == ("b",)
        assert [self.status(name) for name in "abc"] == [S.SUCCESS, S.REGISTERED, S.SUCCESS]

    def test_fence_refuses_the_zombie_of_a_swept_runner(self) -> None:
        self.put("a")
        self.beat("zombie")
        self.beat("sweeper")
        old = self.run("a", "zombie")
        self.outlive("sweeper")
        assert [item.id for item in self.sweep()] == ["a"]
        assert self.finish(old, S.SUCCESS, "zombie", payload=b"late") == ("a",)
        assert self.store.start("zombie", [ref(old)], self.clock.now()) == ["a"]
        now = self.take("a", "sweeper")
        assert self.finish(old, S.SUCCESS, "zombie", payload=b"late") == ("a",)
        self.end(now, runner="sweeper", payload=b"good")
        assert self.finish(old, S.SUCCESS, "zombie", payload=b"late") == ("a",)
        assert self.row("a").payload == b"good"

    def test_final_does_not_change(self) -> None:
        for status in (S.SUCCESS, S.FAILED, S.CANCELLED):
            self.put(status.value)
            self.beat()
            claimed = self.take(status.value)
            self.end(claimed, status, payload=b"first")
            before = self.row(status.value), self.store.history([status.value])
            for way in WAYS:
                self.finish(claimed, way, payload=b"second", reason="again")
            assert self.store.start("r1", [ref(claimed)], self.clock.now()) == [status.value]
            assert (self.row(status.value), self.store.history([status.value])) == before

    def test_final_refuses_another_outcome_of_the_same_attempt(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.end(claimed, S.SUCCESS, payload=b"1")
        assert self.finish(claimed, S.FAILED, payload=b"1") == ("a",)
        assert self.finish(claimed, S.RETRY) == ("a",)
        assert self.finish(claimed, S.SUCCESS, payload=b"2") == ("a",)

    def test_equal_final_sent_again_is_no_loss(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        claimed = self.take("a")
        outcome = Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS, payload=b"1", ended=self.clock.now())
        assert self.store.finish("r1", [outcome]).lost == ()
        before = self.row("a"), self.store.history(["a"])
        self.clock.advance(1)
        assert self.store.finish("r1", [outcome]).lost == ()
        assert (self.row("a"), self.store.history(["a"])) == before
        assert self.place("b") is Place.READY

    def test_equal_final_of_an_earlier_round_is_lost(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        outcome = Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS, payload=b"1", ended=self.clock.now())
        self.store.finish("r1", [outcome])
        self.requeue("a")
        assert self.store.finish("r1", [outcome]).lost == ("a",)
        assert self.status("a") is S.REGISTERED

    def test_twice_in_one_batch_is_written_once(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        good = Outcome(id="a", attempt=claimed.attempt, status=S.SUCCESS, payload=b"1")
        bad = Outcome(id="a", attempt=claimed.attempt, status=S.FAILED, payload=b"2")
        assert self.store.finish("r1", [good, bad]).lost == ("a",)
        assert (self.status("a"), self.row("a").payload) == (S.SUCCESS, b"1")
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.SUCCESS]

    def test_history_grows_only(self) -> None:
        self.put("a")
        self.beat()
        seen = self.store.history(["a"])
        for status in (S.REGISTERED, S.RETRY, S.PAUSED, S.SUCCESS):
            claimed = self.run("a")
            self.end(claimed, status)
            if status is S.PAUSED:
                self.resume("a")
            now = self.store.history(["a"])
            assert [(e.status, e.attempt) for e in now[: len(seen)]] == [(e.status, e.attempt) for e in seen]
            seen = now
        assert [entry.seq for entry in seen] == sorted({entry.seq for entry in seen})
        assert [entry.at for entry in seen] == sorted(entry.at for entry in seen)
        expected = [S.REGISTERED]
        for status in (S.REGISTERED, S.RETRY, S.PAUSED, S.SUCCESS):
            expected += [S.PENDING, S.RUNNING, status, *([S.REGISTERED] if status is S.PAUSED else [])]
        assert [entry.status for entry in seen] == expected

    def test_retry_waits_for_its_time(self) -> None:
        self.put("a")
        self.beat()
        due = self.clock.now() + 10 * SECOND
        self.end(self.run("a"), S.RETRY, due=due, retries=1, payload=b"error", reason="retry")
        row = self.row("a")
        assert (row.status, row.place, row.due, row.retries, row.runner) == (S.RETRY, Place.LATER, due, 1, None)
        answer = self.ask()
        assert (answer.batch, answer.next_due) == ((), due)
        self.clock.advance(10)
        (again,) = self.claim()
        assert (again.id, again.attempt, again.retries) == ("a", 2, 1)
