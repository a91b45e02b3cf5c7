"""Values, blobs, leadership, and what is removed in the end."""

from __future__ import annotations

import pytest

from pynenc.core.records import Blob, Filter, Purge, Purged, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import MissingBlobsError
from pynenc.testing.store_suite.base import SECOND, Clause, new

S = InvocationStatus
HOUR = 3600


class Remembering(Clause):
    """``remember`` and ``recall``."""

    def test_remember_and_recall(self) -> None:
        assert self.store.remember("s", {"a": b"1", "b": b"\x00\xff"}) == {"a": b"1", "b": b"\x00\xff"}
        assert self.store.recall("s") == {"a": b"1", "b": b"\x00\xff"}
        assert self.store.recall("s", ["b", "missing"]) == {"b": b"\x00\xff"}
        assert self.store.recall("s", []) == {}
        assert self.store.recall("unknown") == {}

    def test_remember_replaces(self) -> None:
        self.store.remember("s", {"a": b"1", "b": b"2"})
        assert self.store.remember("s", {"a": b"3"}) == {"a": b"3"}
        assert self.store.recall("s") == {"a": b"3", "b": b"2"}

    def test_remember_once_keeps_the_first(self) -> None:
        assert self.store.remember("s", {"a": b"1"}, once=True) == {"a": b"1"}
        assert self.store.remember("s", {"a": b"2", "b": b"3"}, once=True) == {"a": b"1", "b": b"3"}
        assert self.store.recall("s") == {"a": b"1", "b": b"3"}

    def test_scopes_are_apart(self) -> None:
        self.store.remember("s", {"a": b"1"})
        self.store.remember("t", {"a": b"2"})
        assert self.store.recall("s") == {"a": b"1"}

    def test_remember_nothing(self) -> None:
        assert self.store.remember("s", {}) == {}
        assert self.store.recall("s") == {}

    def test_remember_any_text_and_bytes(self) -> None:
        items = {"snow ☃ 𝄞": b"", "quote '": b"x" * 1_048_576, "": b"\x00"}
        self.store.remember("scope '☃", items)
        assert self.store.recall("scope '☃") == items


class Leading(Clause):
    """``lease``: leadership of bounded chores."""

    def test_lease_has_one_owner(self) -> None:
        assert self.store.lease("chore", "a", 10 * SECOND)
        assert not self.store.lease("chore", "b", 10 * SECOND)
        assert self.store.lease("other", "b", 10 * SECOND)

    def test_lease_is_renewed_by_its_owner(self) -> None:
        self.store.lease("chore", "a", 10 * SECOND)
        self.clock.advance(8)
        assert self.store.lease("chore", "a", 10 * SECOND)
        self.clock.advance(8)
        assert not self.store.lease("chore", "b", 10 * SECOND)

    def test_lease_ends(self) -> None:
        self.store.lease("chore", "a", 10 * SECOND)
        self.clock.advance(10.1)
        assert self.store.lease("chore", "b", 10 * SECOND)
        assert not self.store.lease("chore", "a", 10 * SECOND)

    def test_lease_is_given_back(self) -> None:
        self.store.lease("chore", "a", 10 * SECOND)
        assert not self.store.lease("chore", "b", 0)
        assert not self.store.lease("chore", "b", SECOND)
        self.store.lease("chore", "a", 0)
        assert self.store.lease("chore", "b", SECOND)

    def test_lease_ignores_the_wall_clock(self) -> None:
        self.store.lease("chore", "a", 10 * SECOND)
        self.clock.jump(1e6)
        assert not self.store.lease("chore", "b", 10 * SECOND)


class Keeping(Clause):
    """Blobs: content-addressed, needed before they are referred to, kept while they are."""

    BLOB = Blob("k1", b"\x00data", 99)

    def test_blobs_are_kept(self) -> None:
        other = Blob("k2", b"x" * 1_048_576, 2_000_000)
        self.store.put_blobs([self.BLOB, other])
        self.store.put_blobs([self.BLOB])
        assert self.store.get_blobs(["k2", "missing", "k1"]) == {"k1": b"\x00data", "k2": other.data}
        assert self.store.get_blobs([]) == {}

    def test_blobs_come_with_the_submission(self) -> None:
        self.store.submit([new("a", blobs=("k1",))], [self.BLOB])
        assert self.store.get_blobs(["k1"]) == {"k1": b"\x00data"}
        assert self.row("a").blobs == ("k1",)
        self.beat()
        assert self.take("a").blobs == ("k1",)

    def test_blobs_that_are_stored_need_not_be_sent(self) -> None:
        self.store.put_blobs([self.BLOB])
        self.put("a", "b", blobs=("k1",))
        assert self.row("b").blobs == ("k1",)

    def test_blobs_that_miss_are_named(self) -> None:
        self.store.put_blobs([self.BLOB])
        with pytest.raises(MissingBlobsError) as raised:
            self.store.submit([new("a", blobs=("k1", "m1")), new("b", blobs=("m2",))], [Blob("unused", b"", 0)])
        assert sorted(raised.value.keys) == ["m1", "m2"]
        assert self.store.get(["a", "b"]) == []

    def test_blobs_without_references_go(self) -> None:
        self.store.put_blobs([self.BLOB])
        self.clock.advance(5)
        assert self.store.purge(Purge(blob_grace=10 * SECOND)).blobs == 0
        self.clock.advance(6)
        assert self.store.purge(Purge(blob_grace=10 * SECOND)).blobs == 1
        assert self.store.get_blobs(["k1"]) == {}

    def test_blobs_put_again_are_young_again(self) -> None:
        self.store.put_blobs([self.BLOB])
        self.clock.advance(8)
        self.store.put_blobs([self.BLOB])
        self.clock.advance(8)
        self.store.purge(Purge(blob_grace=10 * SECOND))
        assert self.store.get_blobs(["k1"]) == {"k1": b"\x00data"}

    def test_blobs_with_references_stay(self) -> None:
        self.store.submit([new("a", blobs=("k1",)), new("b", blobs=("k1",))], [self.BLOB])
        self.beat()
        self.end(self.take("a"))
        self.clock.advance(10 * HOUR)
        self.store.purge(Purge(ended_before=self.clock.now()))
        assert self.store.get(["a"]) == []
        assert self.store.get_blobs(["k1"]) == {"k1": b"\x00data"}

    def test_blobs_go_after_their_last_reference(self) -> None:
        self.store.submit([new("a", blobs=("k1",))], [self.BLOB])
        self.beat()
        self.end(self.take("a"))
        for _ in range(3):
            self.clock.advance(2 * HOUR)
            self.store.purge(Purge(ended_before=self.clock.now()))
        assert self.store.get_blobs(["k1"]) == {}


class Purging(Clause):
    """``purge``: bounded batches; nothing that is not over is removed."""

    def ended(self, *ids: str, **fields: object) -> None:
        self.put(*ids, **fields)
        self.beat()
        for name in ids:
            self.end(self.take(name))

    def test_purge_by_time_of_life(self) -> None:
        self.ended("a", result_ttl=10 * SECOND)
        self.ended("b", result_ttl=20 * SECOND)
        self.ended("c")
        self.clock.advance(9)
        assert self.store.purge(Purge()).invocations == 0
        self.clock.advance(2)
        assert self.store.purge(Purge()).invocations == 1
        assert [row.id for row in self.store.get(["a", "b", "c"])] == ["b", "c"]
        self.clock.advance(1e7)
        assert self.store.purge(Purge()).invocations == 1
        assert [row.id for row in self.store.get(["b", "c"])] == ["c"]

    def test_purge_by_time_of_end(self) -> None:
        self.ended("a")
        self.clock.advance(10)
        border = self.clock.now() - 5 * SECOND
        self.ended("b")
        assert self.store.purge(Purge(ended_before=border)).invocations == 1
        assert [row.id for row in self.store.get(["a", "b"])] == ["b"]

    def test_purge_removes_the_history(self) -> None:
        self.ended("a", result_ttl=SECOND)
        self.clock.advance(2)
        self.store.purge(Purge())
        assert self.store.history(["a"]) == []
        assert self.store.find(Filter()).invocations == ()

    def test_purged_id_may_be_used_again(self) -> None:
        self.ended("a", result_ttl=SECOND)
        self.clock.advance(2)
        self.store.purge(Purge())
        (answer,) = self.put("a")
        assert not answer.existing
        assert self.take("a").attempt == 1

    def test_purge_keeps_what_is_not_final(self) -> None:
        self.put("ready", "claimed", "suspended", result_ttl=SECOND)
        self.put("later", due=self.clock.now() + HOUR * SECOND, result_ttl=SECOND)
        self.put("holder", "parked", running_key="k", result_ttl=SECOND)
        self.beat()
        self.take("claimed")
        self.end(self.take("suspended"), S.PAUSED)
        self.clock.advance(HOUR / 2)
        assert self.store.purge(Purge(ended_before=self.clock.now())).invocations == 0
        assert len(self.store.get(["ready", "claimed", "suspended", "later", "holder", "parked"])) == 6

    def test_purge_keeps_a_requeued_one(self) -> None:
        self.ended("a", result_ttl=SECOND)
        self.requeue("a")
        self.clock.advance(5)
        assert self.store.purge(Purge(ended_before=self.clock.now())).invocations == 0

    def test_purge_in_bounded_batches(self) -> None:
        self.ended(*(f"n{index}" for index in range(10)), result_ttl=SECOND)
        self.clock.advance(2)
        batches = []
        while True:
            batch = self.store.purge(Purge(limit=4))
            batches.append(batch.invocations)
            if not batch.more:
                break
        assert (sum(batches), max(batches)) == (10, 4)

    def test_purge_of_nothing(self) -> None:
        assert self.store.purge(Purge()) == Purged()

    def test_purge_everything(self) -> None:
        self.store.submit(
            [new("a", blobs=("k1",), running_key="k", registration_key="r"), new("b", running_key="k")],
            [Blob("k1", b"d", 1)],
        )
        self.put("later", due=self.clock.now() + SECOND)
        self.store.remember("s", {"a": b"1"})
        self.beat()
        self.take("a")
        removed = 0
        while True:
            batch = self.store.purge(Purge(everything=True, limit=2))
            removed += batch.invocations
            if not batch.more:
                break
        assert removed == 3
        assert self.store.find(Filter()).invocations == ()
        assert (self.store.get_blobs(["k1"]), self.store.recall("s"), self.store.history(["a", "b"])) == ({}, {}, [])
        assert self.put("a", registration_key="r")[0].id == "a"
        self.beat()
        assert self.take("a").attempt == 1

    def test_purge_everything_keeps_queues_and_their_states(self) -> None:
        """Else the work that comes next would start, although somebody has paused its queue."""
        self.put("a", queue="x")
        self.put("b", queue="y")
        self.store.set_queue("y", QueueState.PAUSED)
        self.store.purge(Purge(everything=True))
        assert [(queue.name, queue.state, queue.ready) for queue in self.store.queues()] == [
            ("x", QueueState.ACTIVE, 0),
            ("y", QueueState.PAUSED, 0),
        ]
        self.put("b", queue="y")
        self.beat()
        assert self.claim() == ()

    def test_purged_final_is_no_cached_answer(self) -> None:
        self.ended("a", cache_key="c", result_ttl=SECOND)
        self.clock.advance(2)
        self.store.purge(Purge())
        assert self.put("b", cache_key="c")[0].id == "b"

    def test_purge_forgets_runners_that_are_long_gone(self) -> None:
        self.beat("idle")
        self.beat("working")
        self.put("a")
        self.take("a", "working")
        self.clock.advance(30 * 24 * HOUR)
        self.beat("alive")
        self.store.purge(Purge())
        left = [info.beat.id for info in self.store.runners()]
        assert "idle" not in left
        assert {"working", "alive"} <= set(left)
