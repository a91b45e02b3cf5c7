"""Who waits for whom: wait edges, inherited rank, boost, and circles that are refused."""

from __future__ import annotations

import pytest

from pynenc.core.records import ChangeKind, Claimed, ClaimRequest
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import CycleDetectedError, RunnerLostError
from pynenc.store.base import Subscription
from pynenc.testing.store_suite.base import SECOND, Clause, Waker, new, ref

S = InvocationStatus


def nothing() -> None:
    """A wake-up that nobody needs."""


class Waiting(Clause):
    """A wait raises what it waits for, and one that could never end is refused by name."""

    def wait(self, waiter: Claimed, *ids: str) -> Subscription:
        """``waiter`` waits for ``ids``."""
        return self.store.watch(ids, nothing, waiter=ref(waiter))

    def edges(self, *ids: str) -> list[tuple[str, ...]]:
        return [tuple(sorted(row.waiting_for)) for row in self.store.get(ids)]

    def test_wait_is_shown(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        self.wait(self.run("a"), "b", "c")
        assert self.edges("a", "b", "c") == [("b", "c"), (), ()]
        assert self.status("a") is S.RUNNING

    def test_wait_may_claim_in_the_same_step(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        waiter = self.run("a")
        watch = self.store.watch(["c"], nothing, waiter=ref(waiter), request=ClaimRequest("r1", 1))
        assert [claimed.id for claimed in watch.claim.batch] == ["c"], "what is awaited comes first"
        assert self.edges("a") == [("c",)]
        assert self.status("c") is S.PENDING

    def test_wait_claims_what_is_more_urgent_than_what_it_waits_for(self) -> None:
        self.put("a", "b")
        self.put("urgent", priority=5.0)
        self.beat()
        waiter = self.run("a")
        watch = self.store.watch(["b"], nothing, waiter=ref(waiter), request=ClaimRequest("r1", 1))
        assert [claimed.id for claimed in watch.claim.batch] == ["urgent"]

    def test_wait_for_a_final_claims_nothing(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        waiter = self.run("a")
        self.end(self.take("c"))
        watch = self.store.watch(["b", "c"], nothing, waiter=ref(waiter), request=ClaimRequest("r1", 1))
        assert watch.claim.batch == ()
        assert self.status("b") is S.REGISTERED

    def test_wait_that_is_refused_claims_nothing(self) -> None:
        self.put("a", "b")
        self.beat()
        waiter = self.run("a")
        with pytest.raises(CycleDetectedError):
            self.store.watch(["a"], nothing, waiter=ref(waiter), request=ClaimRequest("r1", 1))
        with pytest.raises(RunnerLostError):
            self.store.watch(["b"], nothing, waiter=ref(waiter), request=ClaimRequest("unknown", 1))
        assert self.edges("a") == [()]
        assert self.status("b") is S.REGISTERED

    def test_wait_of_nobody_is_not_shown(self) -> None:
        self.put("a")
        self.store.watch(["a"], nothing).close()
        assert self.edges("a") == [()]

    def test_edge_ends_with_the_awaited(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        self.wait(self.run("a"), "b", "c")
        self.end(self.take("b"))
        assert self.edges("a") == [("c",)]
        self.cancel("c")
        assert self.edges("a") == [()]

    def test_edge_ends_with_the_attempt_of_the_waiter(self) -> None:
        for status in (S.SUCCESS, S.FAILED, S.RETRY, S.REGISTERED, S.PAUSED, S.CANCELLED):
            self.put(status.value, "child of " + status.value)
            self.beat()
            waiter = self.run(status.value)
            self.wait(waiter, "child of " + status.value)
            self.end(waiter, status)
            assert self.edges(status.value) == [()]

    def test_edge_ends_with_recovery(self) -> None:
        self.put("a", "b")
        self.beat("gone")
        self.beat("sweeper")
        self.wait(self.run("a", "gone"), "b")
        self.outlive("sweeper")
        self.sweep()
        assert self.edges("a") == [()]
        again = self.run("b", "sweeper")
        self.wait(again, "a")
        assert self.edges("b") == [("a",)]

    def test_edge_ends_with_close(self) -> None:
        self.put("a", "b")
        self.beat()
        subscription = self.wait(self.run("a"), "b")
        subscription.close()
        subscription.close()
        assert self.edges("a") == [()]

    def test_final_makes_no_edge(self) -> None:
        self.put("a", "b")
        self.beat()
        self.end(self.take("b"))
        waker = Waker()
        self.store.watch(["b"], waker, waiter=ref(self.run("a")))
        assert waker.came()
        assert self.edges("a") == [()]

    # -- rank and boost -------------------------------------------------------------------------------------------------
    def test_rank_is_inherited(self) -> None:
        self.store.submit([new("a", priority=5), new("b"), new("c", priority=1)])
        self.beat()
        self.wait(self.run("a"), "b")
        row = self.row("b")
        assert (row.priority, row.rank) == (0.0, 5.0)
        assert self.names(self.claim()) == ["b", "c"]

    def test_rank_is_not_lowered_by_a_lower_waiter(self) -> None:
        self.store.submit([new("a", priority=-5), new("b", priority=2)])
        self.beat()
        self.wait(self.take("a"), "b")
        assert self.row("b").rank == 2.0

    def test_rank_is_inherited_through_others(self) -> None:
        self.store.submit([new("top", priority=9), new("middle"), new("leaf"), new("other", priority=8)])
        self.beat()
        middle = self.run("middle")
        self.wait(middle, "leaf")
        self.wait(self.run("top"), "middle")
        assert [row.rank for row in self.store.get(["top", "middle", "leaf"])] == [9.0, 9.0, 9.0]
        assert self.names(self.claim()) == ["leaf", "other"]

    def test_rank_is_that_of_the_highest_waiter(self) -> None:
        self.store.submit([new("a", priority=3), new("b", priority=7), new("c")])
        self.beat()
        self.wait(self.run("a"), "c")
        self.wait(self.run("b"), "c")
        assert self.row("c").rank == 7.0

    def test_rank_follows_a_new_priority_of_the_waiter(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        self.wait(self.run("a"), "c")
        self.amend("a", ChangeKind.REPRIORITISE, priority=6.0)
        assert self.row("c").rank == 6.0
        assert self.names(self.claim()) == ["c", "b"]

    def test_rank_orders_what_is_parked(self) -> None:
        self.put("a", "b", "c", running_key="k")
        self.put("waiter", priority=4)
        self.beat()
        self.wait(self.run("waiter"), "c")
        assert self.drain() == ["a", "c", "b"]

    def test_awaited_comes_before_its_equals(self) -> None:
        self.put("parent", "a", "b", "child")
        self.beat()
        parent = self.run("parent")
        self.clock.advance(1)
        self.wait(parent, "child")
        assert self.names(self.claim()) == ["child", "a", "b"]

    def test_children_of_the_latest_waiter_come_first(self) -> None:
        self.put("p1", "p2", "c1", "c2", "c3", "c4", "other")
        self.beat()
        for parent, children in (("p2", ("c3", "c2")), ("p1", ("c1", "c4"))):
            self.clock.advance(1)
            self.wait(self.run(parent), *children)
        assert self.names(self.claim()) == ["c1", "c4", "c2", "c3", "other"]

    def test_boost_reaches_what_the_awaited_waits_for(self) -> None:
        self.put("top", "middle", "leaf", "p", "c")
        self.beat()
        self.wait(self.run("middle"), "leaf")
        self.clock.advance(1)
        self.wait(self.run("p"), "c")
        self.clock.advance(1)
        self.wait(self.run("top"), "middle")
        assert self.names(self.claim()) == ["leaf", "c"]

    def test_boost_does_not_beat_rank(self) -> None:
        self.store.submit([new("parent"), new("child"), new("urgent", priority=1)])
        self.beat()
        self.wait(self.run("parent"), "child")
        assert self.names(self.claim()) == ["urgent", "child"]

    # -- circles -------------------------------------------------------------------------------------------------------
    def refused(self, waiter: Claimed, *ids: str) -> set[str]:
        """The circle that ``waiter`` would close; checks that nothing was recorded."""
        before = self.row(waiter.id)
        with pytest.raises(CycleDetectedError) as raised:
            self.wait(waiter, *ids)
        assert self.row(waiter.id) == before
        return set(raised.value.cycle)

    def test_circle_of_one(self) -> None:
        self.put("a")
        self.beat()
        assert self.refused(self.run("a"), "a") == {"a"}

    def test_circle_of_two(self) -> None:
        self.put("a", "b")
        self.beat()
        a, b = self.run("a"), self.run("b")
        self.wait(a, "b")
        assert self.refused(b, "a") == {"a", "b"}

    def test_circle_of_three_in_order(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        a, b, c = self.run("a"), self.run("b"), self.run("c")
        self.wait(a, "b")
        self.wait(b, "c")
        with pytest.raises(CycleDetectedError) as raised:
            self.wait(c, "a")
        assert raised.value.cycle == ("c", "a", "b")

    def test_circle_names_its_tasks(self) -> None:
        self.store.submit([new("a", task="shop.pay"), new("b", task="shop.ship")])
        self.beat()
        a, b = self.run("a"), self.run("b")
        self.wait(a, "b")
        with pytest.raises(
            CycleDetectedError, match=r"shop\.ship \(b\) -> shop\.pay \(a\) -> shop\.ship \(b\)"
        ) as raised:
            self.wait(b, "a")
        assert raised.value.invocation_id == "b"

    def test_circle_among_several_awaited_records_none(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        a, b = self.run("a"), self.run("b")
        self.wait(a, "b")
        assert self.refused(b, "c", "a") == {"a", "b"}
        assert self.row("c").rank == 0.0

    def test_no_circle_in_a_diamond(self) -> None:
        self.put("a", "b", "c", "d")
        self.beat()
        a, b, c = self.run("a"), self.run("b"), self.run("c")
        self.wait(a, "b", "c")
        self.wait(b, "d")
        self.wait(c, "d")
        assert self.edges("a", "b", "c") == [("b", "c"), ("d",), ("d",)]

    def test_no_circle_after_the_edge_ended(self) -> None:
        self.put("a", "b")
        self.beat()
        a, b = self.run("a"), self.run("b")
        self.wait(a, "b").close()
        self.wait(b, "a")
        assert self.edges("a", "b") == [(), ("a",)]

    def test_circle_through_a_key(self) -> None:
        self.put("parent", "child", running_key="k")
        self.beat()
        assert self.refused(self.run("parent"), "child") == {"parent", "child"}

    def test_circle_through_a_key_of_an_ancestor(self) -> None:
        self.put("grandparent", "child", running_key="k")
        self.put("parent")
        self.beat()
        grandparent, parent = self.run("grandparent"), self.run("parent")
        self.wait(grandparent, "parent")
        assert self.refused(parent, "child") == {"grandparent", "parent", "child"}

    def test_circle_through_a_key_closed_from_the_far_side(self) -> None:
        self.put("holder", "parked", running_key="k")
        self.put("other")
        self.beat()
        holder, other = self.run("holder"), self.run("other")
        self.wait(other, "parked")
        assert self.refused(holder, "other") == {"holder", "other", "parked"}

    def test_circle_through_a_key_that_is_needed_later(self) -> None:
        due = self.clock.now() + 3600 * SECOND
        self.put("retried", "parent", running_key="k")
        self.put("delayed", running_key="k", due=due)
        self.beat()
        self.end(self.run("retried"), S.RETRY, due=due)
        parent = self.run("parent")
        for child in ("delayed", "retried"):
            assert self.place(child) is Place.LATER
            assert self.refused(parent, child) == {"parent", child}

    def test_circle_through_a_key_that_is_needed_later_closed_from_the_far_side(self) -> None:
        self.put("delayed", running_key="k", due=self.clock.now() + 3600 * SECOND)
        self.put("holder", running_key="k")
        self.put("other")
        self.beat()
        holder, other = self.run("holder"), self.run("other")
        self.wait(other, "delayed")
        assert self.refused(holder, "other") == {"holder", "other", "delayed"}

    def test_no_circle_through_a_key_that_has_room_later(self) -> None:
        self.put("p", running_key="k", running_limit=2)
        self.put("delayed", running_key="k", running_limit=2, due=self.clock.now() + 3600 * SECOND)
        self.put("dropped", running_key="k", drop_blocked=True, due=self.clock.now() + 3600 * SECOND)
        self.beat()
        p = self.run("p")
        self.wait(p, "delayed", "dropped")
        assert self.edges("p") == [("delayed", "dropped")]

    def test_no_circle_through_a_key_that_another_holds(self) -> None:
        self.put("holder", "child", running_key="k")
        self.put("parent")
        self.beat()
        self.run("holder")
        self.wait(self.run("parent"), "child")
        assert self.edges("parent") == [("child",)]

    def test_no_circle_while_one_place_of_the_key_is_free_to_end(self) -> None:
        self.put("p", "q", "child", running_key="k", running_limit=2)
        self.beat()
        p, q = self.run("p"), self.run("q")
        self.wait(p, "child")
        assert self.edges("p") == [("child",)]
        self.end(q)
        assert self.place("child") is Place.READY

    def test_circle_when_every_place_of_the_key_waits_for_the_same(self) -> None:
        self.put("p", "q", "child", running_key="k", running_limit=2)
        self.beat()
        p, q = self.run("p"), self.run("q")
        self.wait(p, "child")
        assert {"q", "child"} <= self.refused(q, "child")

    def test_circle_when_every_place_of_the_key_waits_for_its_own(self) -> None:
        self.put("p", "q", "one", "two", running_key="k", running_limit=2)
        self.beat()
        p, q = self.run("p"), self.run("q")
        self.wait(p, "one")
        assert {"q", "two"} <= self.refused(q, "two")
