"""What only stores have in which several processes can meet: durability beyond the object, isolation, races of processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from pynenc.core.records import Blob, Filter, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store, SystemClock
from pynenc.testing.clock import VirtualClock
from pynenc.testing.store_suite.base import APP_ID, PATIENCE, TASK, Clause, Waker, new

S = InvocationStatus
PROCESSES = 4


class Sharing(Clause):
    """Every store object with the same URL and app sees the same."""

    #: The URL of the store of this test.
    url: str

    def make_url(self) -> str:
        """The URL of a new, empty database, in :attr:`folder` or on a server."""
        raise NotImplementedError("return the URL of an empty database")

    def make_store(self, clock: VirtualClock) -> Store:
        self.url = self.make_url()
        return self.sibling(clock=clock)

    def sibling(self, app_id: str = APP_ID, clock: VirtualClock | None = None) -> Store:
        """Another store object on the same database, opened; closed at the end of the test."""
        store = open_store(self.url, app_id, clock or self.clock)
        store.open()
        return self.keep(store)

    # -- durable ---------------------------------------------------------------------------------------------------------
    def test_accepted_survives_the_store_object(self) -> None:
        self.store.submit(
            [new("a", blobs=("k1",)), new("b", running_key="k"), new("c", running_key="k")], [Blob("k1", b"d", 1)]
        )
        self.beat()
        claimed = self.take("a")
        self.store.remember("s", {"x": b"1"})
        self.store.set_queue("default", QueueState.PAUSED)
        before = (
            list(self.store.find(Filter()).invocations),
            self.store.history(["a", "b", "c"]),
            self.store.queues(),
            [info.beat for info in self.store.runners()],
        )
        self.store.close()
        self.store = self.sibling()
        after = (
            list(self.store.find(Filter()).invocations),
            self.store.history(["a", "b", "c"]),
            self.store.queues(),
            [info.beat for info in self.store.runners()],
        )
        assert after == before
        assert (self.store.recall("s"), self.store.get_blobs(["k1"])) == ({"x": b"1"}, {"k1": b"d"})
        self.end(claimed)
        self.store.set_queue("default", QueueState.ACTIVE)
        assert self.drain() == ["b", "c"]

    def test_siblings_see_each_other_at_once(self) -> None:
        other = self.sibling()
        self.put("a")
        self.beat()
        assert [row.id for row in other.get(["a"])] == ["a"]
        claimed = self.take("a")
        assert [row.status for row in other.get(["a"])] == [S.PENDING]
        self.end(claimed, payload=b"1")
        assert [final.payload for final in other.finals(["a"])] == [b"1"]

    def test_siblings_share_the_running_key(self) -> None:
        other = self.sibling()
        self.put("a", running_key="k")
        assert other.submit([new("b", running_key="k")])[0].status is S.CONCURRENCY_CONTROLLED
        assert other.submit([new("a")])[0].existing

    # -- isolated --------------------------------------------------------------------------------------------------------
    def test_apps_are_apart(self) -> None:
        other = self.sibling("another app")
        self.store.submit([new("a", registration_key="r", running_key="k", blobs=("k1",))], [Blob("k1", b"d", 1)])
        self.store.remember("s", {"x": b"1"})
        self.beat()
        assert (
            other.get(["a"]),
            other.find(Filter()).invocations,
            other.recall("s"),
            other.runners(),
            other.queues(),
        ) == ([], (), {}, [], [])
        (answer,) = other.submit([new("a", registration_key="r", running_key="k")])
        assert (answer.status, answer.existing) == (S.REGISTERED, False)
        self.cancel("a")
        assert [row.status for row in other.get(["a"])] == [S.REGISTERED]
        assert self.claim() == ()
        assert self.store.lease("chore", "x", 1_000_000)
        assert other.lease("chore", "y", 1_000_000)
        assert other.check() == []

    # -- woken -----------------------------------------------------------------------------------------------------------
    def test_watch_is_woken_by_a_sibling(self) -> None:
        other = self.sibling()
        self.put("a")
        self.beat()
        claimed = self.take("a")
        waker = Waker()
        other.watch(["a"], waker)
        self.end(claimed)
        assert waker.came()

    def test_listener_is_woken_by_a_sibling(self) -> None:
        other = self.sibling()
        waker = Waker()
        other.listen((), waker).idle(True)
        self.put("a")
        assert waker.came()

    def test_order_reaches_the_runner_of_a_sibling(self) -> None:
        other = self.sibling()
        self.put("a")
        self.beat()
        self.run("a")
        waker = Waker()
        self.store.listen((), waker).idle(True)
        waker.forget()
        self.cancel_through(other, "a")
        assert waker.came()
        assert self.renew().cancel == ("a",)

    def cancel_through(self, store: Store, invocation_id: str) -> None:
        mine, self.store = self.store, store
        try:
            assert self.cancel(invocation_id).accepted
        finally:
            self.store = mine

    # -- several processes -----------------------------------------------------------------------------------------------
    def processes(self, work: str) -> list[list[str]]:
        """What each of several processes that do the same work says it did."""
        command = [sys.executable, "-m", "pynenc.testing.racer", self.url, APP_ID, TASK, work, str(PROCESSES)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE * 3, check=True)
        got: list[list[str]] = json.loads(ended.stdout)
        return got

    def real_time(self) -> None:
        """Processes share no virtual clock: go on with the machine's."""
        self.store.close()
        store = open_store(self.url, APP_ID, SystemClock())
        store.open()
        self.store = self.keep(store)

    def test_processes_race_for_rows(self) -> None:
        self.real_time()
        ids = [f"n{index:03}" for index in range(300)]
        self.put(*ids)
        shares = self.processes("drain")
        assert Counter(name for share in shares for name in share) == Counter(ids)
        assert [row.attempt for row in self.store.get(ids)] == [1] * len(ids)
        assert self.store.count(Filter()) == {"success": len(ids)}

    def test_processes_race_for_a_running_key(self) -> None:
        self.real_time()
        ids = [f"n{index:02}" for index in range(60)]
        self.put(*ids, running_key="k", running_limit=2)
        shares = self.processes("drain")
        assert Counter(name for share in shares for name in share) == Counter(ids)
        assert self.most_at_once(ids) <= 2

    def most_at_once(self, ids: list[str]) -> int:
        """The most that were claimed at the same time, from the history."""
        changes = sorted(
            (entry.at, entry.status is S.PENDING)
            for entry in self.store.history(ids)
            if entry.status in (S.PENDING, S.SUCCESS)
        )
        now = most = 0
        for _, is_claim in changes:
            now += 1 if is_claim else -1
            most = max(most, now)
        return most

    def test_processes_race_for_a_registration_key(self) -> None:
        self.real_time()
        answers = self.processes("register")
        assert all(answer == answers[0] for answer in answers)
        assert len(self.store.find(Filter()).invocations) == len(answers[0])
