"""Suspended invocations: what wakes them, signals, continuing as new, and what belongs to an invocation."""

from __future__ import annotations

from typing import Any

from pynenc.core.records import Alone, Blob, ChangeKind, Claimed, Outcome, Owner, Purge, WorkflowRef
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import CycleDetectedError
from pynenc.testing.store_suite.base import SECOND, Clause, Waker, new, owner, raised_by, ref

S = InvocationStatus
READY, LATER, PARKED, CLAIMED, WAITING, FINAL = Place
SIGNALS = ["signal:000000000", "signal:000000001", "signal:000000002"]


class Suspending(Clause):
    """PAUSED with ``awaits`` or ``signals``."""

    def asleep(self, waiter: str, *awaits: str, **fields: Any) -> None:
        """A suspended invocation that awaits others, all fresh."""
        self.put(waiter, *awaits)
        self.beat()
        self.end(self.run(waiter), S.PAUSED, awaits=awaits, **fields)

    # -- awaiting others -------------------------------------------------------------------------------------------------
    def test_suspended_until_one_of_the_awaited_is_final(self) -> None:
        self.asleep("w", "a", "b")
        assert (self.status("w"), self.place("w")) == (S.PAUSED, WAITING)
        assert set(self.row("w").waiting_for) == {"a", "b"}
        self.end(self.take("b"))
        assert (self.status("w"), self.place("w")) == (S.REGISTERED, READY)
        assert self.row("w").waiting_for == ()
        assert self.trail("w") == [S.REGISTERED, S.PENDING, S.RUNNING, S.PAUSED, S.REGISTERED]
        claimed = self.take("w")
        assert claimed.attempt == 2
        self.end(self.take("a"))
        self.end(claimed)

    def test_suspended_is_admitted_by_every_way_to_end(self) -> None:
        self.asleep("w1", "failed")
        self.end(self.take("failed"), S.FAILED)
        self.asleep("w2", "cancelled")
        self.cancel("cancelled")
        self.put("expired", expires=self.clock.now() + SECOND)
        self.put("w3", "w6")
        self.end(self.run("w3"), S.PAUSED, awaits=("expired",))
        self.clock.advance(2)
        self.claim(1, ids=("expired",))
        self.put("holder", "dropped", running_key="k", drop_blocked=True)
        self.take("holder")
        self.put("w4")
        self.end(self.run("w4"), S.PAUSED, awaits=("dropped",))
        self.claim(1, ids=("dropped",))
        self.put("late", queue="unserved", expires=self.clock.now() + SECOND)
        self.end(self.run("w6"), S.PAUSED, awaits=("late",))
        self.clock.advance(2)
        self.store.expire(10)
        self.asleep("w5", "stopped")
        claimed = self.run("stopped")
        self.cancel("stopped")
        self.end(claimed, S.RETRY)
        assert self.where("w1", "w2", "w3", "w4", "w5", "w6") == [READY] * 6

    def test_suspended_is_admitted_by_a_crash_that_is_final(self) -> None:
        self.put("w", "a")
        self.put("a2", max_crashes=1)
        self.beat("lost")
        self.beat("sweeper")
        self.release(self.take("a2", "lost"), "lost", alone=True)
        self.end(self.take("w", "sweeper"), S.PAUSED, "sweeper", awaits=("a2",))
        assert self.names(self.claim(1, "lost", alone=Alone.ONLY)) == ["a2"]
        self.kill_group(self.store, "lost")
        assert [item.status for item in self.sweep()] == [S.FAILED]
        assert self.place("w") is READY

    def test_suspended_is_not_admitted_by_a_retry(self) -> None:
        self.asleep("w", "a")
        self.end(self.take("a"), S.RETRY, retries=1)
        self.release(self.take("a"))
        self.end(self.take("a"), S.PAUSED)
        assert self.place("w") is WAITING
        self.resume("a")
        self.end(self.take("a"))
        assert self.place("w") is READY

    def test_suspended_is_admitted_at_once_when_one_is_final(self) -> None:
        self.put("w", "a", "b")
        self.beat()
        self.end(self.take("a"))
        self.end(self.run("w"), S.PAUSED, awaits=("a", "b"), due=self.clock.now() + SECOND)
        assert (self.status("w"), self.place("w")) == (S.REGISTERED, READY)
        assert self.trail("w")[-2:] == [S.PAUSED, S.REGISTERED]

    def test_suspended_is_admitted_at_once_when_one_is_unknown(self) -> None:
        self.put("w")
        self.beat()
        self.end(self.run("w"), S.PAUSED, awaits=("purged",))
        assert self.place("w") is READY

    def test_suspended_is_admitted_at_once_when_it_would_never_end(self) -> None:
        self.put("w", "a")
        self.beat()
        waiter = self.run("a")
        watch = self.store.watch(["w"], lambda: None, waiter=ref(waiter))
        self.end(self.run("w"), S.PAUSED, awaits=("a",))
        assert self.place("w") is READY
        watch.close()
        self.end(self.take("w"), S.PAUSED, awaits=("w",))
        assert self.place("w") is READY

    def test_suspended_by_one_outcome_with_the_end_of_what_it_awaits(self) -> None:
        self.put("w", "a")
        self.beat()
        w, a = self.run("w"), self.run("a")
        outcomes = [self.outcome(w, S.PAUSED, awaits=("a",)), self.outcome(a, S.SUCCESS)]
        assert self.store.finish("r1", outcomes).lost == ()
        assert self.place("w") is READY

    def test_suspended_until_its_time_forgets_what_it_awaited(self) -> None:
        self.asleep("w", "a", due=self.clock.now() + 5 * SECOND)
        self.clock.advance(6)
        assert "w" in self.names(self.claim(9, ids=("w",)))
        assert self.row("w").waiting_for == ()

    def test_suspended_and_resumed_forgets_what_it_awaited(self) -> None:
        self.asleep("w", "a")
        self.resume("w")
        assert (self.place("w"), self.row("w").waiting_for) == (READY, ())
        self.end(self.take("a"))
        assert self.place("w") is READY

    def test_suspended_and_cancelled_forgets_what_it_awaited(self) -> None:
        self.asleep("w", "a")
        self.cancel("w")
        assert (self.status("w"), self.row("w").waiting_for) == (S.CANCELLED, ())
        self.requeue("w")
        self.end(self.take("a"))
        self.end(self.take("w"))

    def test_suspended_although_cancelled_ends(self) -> None:
        self.put("w", "a")
        self.beat()
        claimed = self.run("w")
        self.cancel("w")
        self.end(claimed, S.PAUSED, awaits=("a",), signals=0)
        assert (self.status("w"), self.row("w").waiting_for) == (S.CANCELLED, ())

    def test_suspended_raises_what_it_awaits(self) -> None:
        self.put("w", priority=5)
        self.put("other", "a")
        self.beat()
        self.end(self.run("w"), S.PAUSED, awaits=("a",))
        assert self.row("a").rank == 5
        assert self.names(self.claim(1)) == ["a"]

    def test_suspended_raises_what_is_awaited_indirectly(self) -> None:
        self.put("w", priority=5)
        self.put("a", "b", "other")
        self.beat()
        self.end(self.run("a"), S.PAUSED, awaits=("b",))
        self.end(self.run("w"), S.PAUSED, awaits=("a",))
        assert (self.row("a").rank, self.row("b").rank) == (5, 5)

    def test_suspended_is_a_part_of_a_circle(self) -> None:
        self.asleep("w", "a")
        waiter = self.run("a")
        raised_by(lambda: self.store.watch(["w"], lambda: None, waiter=ref(waiter)), CycleDetectedError)

    def test_suspended_survives_a_late_close_of_its_watch(self) -> None:
        self.put("w", "a")
        self.beat()
        waiter = self.run("w")
        watch = self.store.watch(["a"], lambda: None, waiter=ref(waiter))
        self.end(waiter, S.PAUSED, awaits=("a",))
        watch.close()
        self.end(self.take("a"))
        assert self.place("w") is READY

    def test_suspended_takes_its_key_again(self) -> None:
        self.put("w", "next", running_key="k")
        self.put("a")
        self.beat()
        self.end(self.run("w"), S.PAUSED, awaits=("a",))
        assert self.where("w", "next") == [WAITING, READY]
        self.end(self.take("a"))
        assert self.place("w") is PARKED
        self.end(self.take("next"))
        assert self.place("w") is READY

    def test_suspended_listeners_hear_of_it(self) -> None:
        self.asleep("w", "a")
        claimed = self.take("a")
        waker = Waker()
        listener = self.store.listen((), waker)
        listener.idle(True)
        self.end(claimed)
        assert waker.came()
        listener.close()

    def test_suspended_many_in_order(self) -> None:
        names = [f"w{index:02}" for index in range(20)]
        self.put(*names, "a")
        self.beat()
        for name in names:
            self.end(self.run(name), S.PAUSED, awaits=("a",))
        self.end(self.take("a"))
        assert self.drain() == names

    def outcome(self, claimed: Claimed, status: InvocationStatus, **fields: Any) -> Outcome:
        return Outcome(id=claimed.id, attempt=claimed.attempt, status=status, ended=self.clock.now(), **fields)

    # -- resuming -----------------------------------------------------------------------------------------------------------
    def test_resume_values_are_kept_by_attempt(self) -> None:
        self.put("w")
        self.beat()
        for number, value in ((1, b"first"), (2, b"second")):
            claimed = self.run("w")
            assert claimed.attempt == number
            self.end(claimed, S.PAUSED)
            self.resume("w", value)
        assert self.store.recall("w") == {"resume:1": b"first", "resume:2": b"second"}

    # -- signals --------------------------------------------------------------------------------------------------------------
    def signal(self, name: str, value: bytes) -> bool:
        return self.amend(name, ChangeKind.SIGNAL, value=value).accepted

    def test_signals_are_kept_in_order(self) -> None:
        self.put("w")
        assert self.signal("w", b"before it ran")
        self.beat()
        claimed = self.run("w")
        assert self.signal("w", b"while it ran")
        self.end(claimed, S.PAUSED)
        assert self.signal("w", b"while it paused")
        assert self.place("w") is WAITING
        values = [b"before it ran", b"while it ran", b"while it paused"]
        assert self.store.recall("w") == dict(zip(SIGNALS, values, strict=True))

    def test_signal_wakes_who_waits_for_one(self) -> None:
        self.put("w")
        self.beat()
        self.signal("w", b"seen")
        self.end(self.run("w"), S.PAUSED, signals=1)
        assert self.place("w") is WAITING
        self.signal("w", b"new")
        assert (self.status("w"), self.place("w")) == (S.REGISTERED, READY)
        assert self.trail("w")[-2:] == [S.PAUSED, S.REGISTERED]

    def test_signal_that_came_meanwhile_wakes_at_once(self) -> None:
        self.put("w")
        self.beat()
        claimed = self.run("w")
        self.signal("w", b"new")
        self.end(claimed, S.PAUSED, signals=0, due=self.clock.now() + SECOND)
        assert self.place("w") is READY

    def test_signal_does_not_wake_twice(self) -> None:
        self.put("w")
        self.beat()
        self.end(self.run("w"), S.PAUSED, signals=0)
        self.signal("w", b"1")
        self.signal("w", b"2")
        assert self.trail("w").count(S.REGISTERED) == 2
        self.end(self.take("w"), S.PAUSED)
        self.signal("w", b"3")
        assert self.place("w") is WAITING

    def test_signal_to_a_final_is_refused(self) -> None:
        self.put("w", "later")
        self.beat()
        self.end(self.take("w"))
        assert not self.signal("w", b"late")
        assert self.amend("unknown", ChangeKind.SIGNAL, value=b"x").accepted is False
        assert self.store.recall("w") == {}

    # -- continuing as new ---------------------------------------------------------------------------------------------------
    def test_continue_begins_a_round_with_other_arguments(self) -> None:
        self.put("w")
        self.beat()
        self.store.remember("w/0", {"1": b"step"})
        self.store.remember("w/state", {"s": b"state"})
        self.end(self.run("w"), S.RETRY, retries=1)
        claimed = self.take("w")
        self.end(claimed, S.REGISTERED, args=b"new", retries=1, crashes=1, reason="continued")
        row = self.row("w")
        assert (row.status, row.place, row.args, row.round) == (S.REGISTERED, READY, b"new", 1)
        assert (row.retries, row.crashes) == (0, 0)
        assert (self.store.recall("w/0"), self.store.recall("w/state")) == ({}, {"s": b"state"})
        assert self.store.recall("w/1") == {}
        again = self.take("w")
        assert (again.id, again.args, again.round, again.attempt) == ("w", b"new", 1, 3)
        self.end(again, payload=b"done")
        (final,) = self.store.finals(["w"])
        assert (final.payload, final.round) == (b"done", 1)

    def test_continue_with_large_arguments(self) -> None:
        self.put("w")
        self.beat()
        for args in (b"x" * 10_000, b"y" * 10_000, b"small", b""):
            self.end(self.take("w"), S.REGISTERED, args=args)
            assert self.row("w").args == args
        assert self.take("w").args == b""

    def test_continue_exchanges_blobs(self) -> None:
        self.store.submit([new("w", blobs=("k1",))], [Blob("k1", b"1", 1)])
        self.store.put_blobs([Blob("k2", b"2", 1)])
        self.beat()
        self.end(self.take("w"), S.REGISTERED, args=b"new", blobs=("k2",))
        assert self.row("w").blobs == ("k2",)
        self.clock.advance(7200)
        self.beat("r2")
        self.store.purge(Purge())
        assert self.store.get_blobs(["k1", "k2"]) == {"k2": b"2"}
        assert self.take("w", "r2").blobs == ("k2",)

    def test_continue_forgets_what_was_used(self) -> None:
        self.put("w")
        self.beat()
        for value in (b"0", b"1", b"2"):
            self.signal("w", value)
        self.end(self.run("w"), S.PAUSED)
        self.resume("w", b"value")
        self.end(self.take("w"), S.REGISTERED, args=b"new", signals=2)
        assert self.store.recall("w") == {SIGNALS[2]: b"2"}
        self.signal("w", b"3")
        assert self.store.recall("w") == {SIGNALS[2]: b"2", "signal:000000003": b"3"}
        self.end(self.take("w"), S.PAUSED, signals=3)
        assert self.place("w") is READY

    def test_continue_although_cancelled_ends(self) -> None:
        self.put("w")
        self.beat()
        claimed = self.run("w")
        self.cancel("w")
        self.end(claimed, S.REGISTERED, args=b"new")
        assert (self.status("w"), self.row("w").args) == (S.CANCELLED, b"args of w")

    def test_continue_later(self) -> None:
        self.put("w")
        self.beat()
        self.end(self.take("w"), S.REGISTERED, args=b"new", due=self.clock.now() + SECOND)
        assert self.place("w") is LATER

    # -- what belongs to an invocation -----------------------------------------------------------------------------------
    def test_scopes_of_an_invocation_go_with_it(self) -> None:
        self.put("w", result_ttl=SECOND)
        self.put("w2")
        self.beat()
        for scope in ("w", "w/0", "w/state", "w/0/deep", "w2", "w2/0", "other"):
            self.store.remember(scope, {"k": scope.encode()})
        self.end(self.take("w"))
        self.clock.advance(2)
        assert self.store.purge(Purge()).invocations == 1
        for scope in ("w", "w/0", "w/state", "w/0/deep"):
            assert self.store.recall(scope) == {}
        for scope in ("w2", "w2/0", "other"):
            assert self.store.recall(scope) == {"k": scope.encode()}

    def test_scope_of_a_round_goes_with_the_round(self) -> None:
        self.put("w")
        self.beat()
        for scope in ("w", "w/0", "w/1", "w/state"):
            self.store.remember(scope, {"k": b"v"})
        self.end(self.take("w"), S.FAILED)
        self.requeue("w")
        assert self.store.recall("w/0") == {}
        assert [self.store.recall(scope) for scope in ("w", "w/1", "w/state")] == [{"k": b"v"}] * 3

    def test_progress_forgives_crashes(self) -> None:
        self.put("w", "x")
        self.beat()
        for name in ("w", "x"):
            self.end(self.take(name), S.REGISTERED, crashes=2, alone=True)
        for name in ("w", "x"):
            assert self.names(self.claim(1, alone=Alone.ONLY)) == [name]
        by = owner(self.row("w"))
        assert self.store.remember("w/0", {"1": b"v"}, once=True, by=by) == {"1": b"v"}
        assert (self.row("w").crashes, self.row("w").alone) == (0, False)
        assert (self.row("x").crashes, self.row("x").alone) == (2, True)
        owned = {claimed.id: (claimed.crashes, claimed.alone) for claimed in self.store.owned("r1")}
        assert owned == {"w": (0, False), "x": (2, True)}

    def test_an_attempt_that_owns_nothing_any_more_remembers_nothing(self) -> None:
        self.put("w")
        self.beat()
        first = self.take("w")
        self.end(first, S.REGISTERED, crashes=2, alone=True)
        before = self.row("w")
        late = [owner(first), Owner("unknown", 1, "r1")]
        self.remembers_nothing(*late)
        assert self.row("w") == before
        (second,) = self.claim(1, alone=Alone.ONLY)
        self.remembers_nothing(*late, Owner("w", 7, "r1"), owner(second, "r2"))
        assert self.row("w").crashes == 2
        assert self.store.remember("w/state", {"k": b"new"}, by=owner(second)) == {"k": b"new"}
        assert self.row("w").crashes == 0
        self.end(second)
        self.remembers_nothing(*late, owner(second))

    def remembers_nothing(self, *late: Owner) -> None:
        before = [self.store.recall(scope) for scope in ("w/0", "w/state")]
        for each in late:
            assert self.store.remember("w/0", {"1": b"v"}, once=True, by=each) == {}
            assert self.store.remember("w/state", {"k": b"late", "l": b"late"}, by=each) == {}
        assert [self.store.recall(scope) for scope in ("w/0", "w/state")] == before

    def test_whoever_waits_is_no_suspect(self) -> None:
        self.put("w", "a")
        self.beat()
        self.beat("sweeper")
        waiter = self.run("w")
        self.run("a")
        watch = self.store.watch(["a"], lambda: None, waiter=ref(waiter))
        self.kill_group(self.store, "r1")
        self.sweep()
        assert (self.row("w").alone, self.row("a").alone) == (False, True)
        watch.close()

    # -- retention --------------------------------------------------------------------------------------------------------------
    def test_purge_keeps_members_of_a_live_workflow(self) -> None:
        root = WorkflowRef("root", "t")
        self.put("root", result_ttl=SECOND)
        self.put("member", "old", workflow=root, result_ttl=SECOND)
        self.put("sub", workflow=WorkflowRef("sub", "t", "root"), result_ttl=SECOND)
        self.put("free", workflow=WorkflowRef("purged", "t"), result_ttl=SECOND)
        self.beat()
        claimed = self.take("root")
        for name in ("member", "old", "sub", "free"):
            self.end(self.take(name))
        self.clock.advance(2)
        assert self.store.purge(Purge(ended_before=self.clock.now())).invocations == 1
        assert [row.id for row in self.store.get(["member", "old", "sub", "free"])] == ["member", "old", "sub"]
        self.end(claimed)
        assert self.store.purge(Purge()).invocations == 0
        self.clock.advance(2)
        assert self.store.purge(Purge()).invocations == 4

    def test_purge_does_not_meet_kept_members_again(self) -> None:
        self.put("root")
        members = [f"m{index}" for index in range(5)]
        self.put(*members, workflow=WorkflowRef("root", "t"), result_ttl=SECOND)
        self.put("other", result_ttl=3 * SECOND)
        self.beat()
        for name in (*members, "other"):
            self.end(self.take(name))
        self.clock.advance(5)
        found = [self.store.purge(Purge(limit=3)) for _ in range(3)]
        assert [batch.more for batch in found] == [True, True, False]
        assert sum(batch.invocations for batch in found) == 1
