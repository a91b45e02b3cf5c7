"""Several threads at once: each row to one of them, each key to one of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import TypeVar

from pynenc.core.records import Claimed, Outcome, Purge
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.testing.store_suite.base import Clause, Waker, new, raised_by, request

S = InvocationStatus
T = TypeVar("T")
THREADS = 8


class Racing(Clause):
    """Eight threads on one store."""

    def race(self, action: Callable[[int], T], threads: int = THREADS) -> list[T]:
        """What ``action`` returns in each of ``threads`` threads that begin together."""
        barrier = Barrier(threads)

        def begin(index: int) -> T:
            barrier.wait()
            return action(index)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(begin, range(threads)))

    def runners(self) -> None:
        for index in range(THREADS):
            self.beat(f"r{index}")

    def test_race_for_rows(self) -> None:
        ids = [f"n{index:03}" for index in range(400)]
        self.put(*ids)
        self.runners()

        def work(index: int) -> list[str]:
            mine: list[str] = []
            while batch := self.claim(7, f"r{index}"):
                mine += self.names(batch)
            return mine

        shares = self.race(work)
        assert sorted(name for share in shares for name in share) == ids

    def test_race_for_rows_while_they_end(self) -> None:
        ids = [f"n{index:03}" for index in range(200)]
        self.put(*ids)
        self.runners()

        def work(index: int) -> int:
            runner, done = f"r{index}", 0
            batch = self.claim(3, runner)
            while batch:
                outcomes = [Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS) for claimed in batch]
                finished = self.store.finish(runner, outcomes, request(runner, 3))
                assert finished.lost == ()
                done += len(outcomes)
                batch = finished.claim.batch
            return done

        assert sum(self.race(work)) == len(ids)
        assert all(self.trail(name) == [S.REGISTERED, S.PENDING, S.SUCCESS] for name in ids[::20])

    def test_race_for_a_registration_key(self) -> None:
        for turn in range(20):

            def work(index: int, turn: int = turn) -> str:
                return self.put(f"t{turn}-{index}", registration_key=f"k{turn}")[0].id

            assert len(set(self.race(work))) == 1

    def test_race_for_an_id(self) -> None:
        answers = self.race(lambda index: self.store.submit([new("same", args=str(index).encode())])[0])
        assert [answer.id for answer in answers] == ["same"] * THREADS
        assert sum(not answer.existing for answer in answers) == 1

    def test_race_for_a_running_key(self) -> None:
        ids = [f"n{index:02}" for index in range(60)]
        self.put(*ids, running_key="k", running_limit=2)
        self.runners()
        held: list[int] = []
        finished: list[str] = []

        def work(index: int) -> None:
            runner = f"r{index}"
            while len(finished) < len(ids):
                for claimed in self.claim(2, runner):
                    held.append(self.claimed_now())
                    self.end(claimed, runner=runner)
                    finished.append(claimed.id)

        self.race(work)
        assert sorted(finished) == ids
        assert max(held) <= 2

    def claimed_now(self) -> int:
        """How many invocations are claimed."""
        return sum(queue.claimed for queue in self.store.queues())

    def test_race_to_end_one_attempt(self) -> None:
        for turn in range(10):
            self.put(f"t{turn}")
            self.beat()
            claimed = self.take(f"t{turn}")

            def work(index: int, claimed: Claimed = claimed) -> tuple[str, ...]:
                return self.finish(claimed, S.SUCCESS, payload=str(index).encode())

            lost = self.race(work)
            assert sum(answer == () for answer in lost) == 1
            winner = lost.index(())
            assert self.row(claimed.id).payload == str(winner).encode()

    def test_race_to_remember_once(self) -> None:
        answers = self.race(lambda index: self.store.remember("s", {"k": str(index).encode()}, once=True)["k"])
        assert len(set(answers)) == 1

    def test_race_for_leadership(self) -> None:
        assert sum(self.race(lambda index: self.store.lease("chore", f"o{index}", 1_000_000))) == 1

    def test_race_of_watchers_and_ends(self) -> None:
        ids = [f"n{index:02}" for index in range(40)]
        self.put(*ids)
        self.beat()
        batch = self.claim()

        def work(index: int) -> bool:
            if index % 2:
                for claimed in batch[index // 2 :: THREADS // 2]:
                    self.end(claimed)
                return True
            came = True
            for name in ids:
                waker = Waker()
                subscription = self.store.watch([name], waker)
                came = came and waker.came()
                subscription.close()
            return came

        assert all(self.race(work))

    def test_race_of_everything_leaves_a_sound_store(self) -> None:
        self.runners()

        def work(index: int) -> int:
            runner, done = f"r{index}", 0
            for turn in range(25):
                self.put(f"{index}-{turn}", running_key=f"k{turn % 3}", running_limit=2, priority=float(turn % 4))
                for claimed in self.claim(2, runner):
                    status = (S.SUCCESS, S.RETRY, S.REGISTERED, S.FAILED)[(turn + claimed.attempt) % 4]
                    self.end(claimed, status, runner)
                    done += 1
                self.cancel(f"{index}-{turn - 3}") if turn > 3 else self.store.purge(Purge())
            return done

        assert sum(self.race(work)) > 0
        assert self.store.check() == []

    def test_the_check_finds_nothing_while_others_work(self) -> None:
        self.runners()
        over = Event()

        def work(index: int) -> list[str]:
            runner = f"r{index}"
            try:
                for turn in range(25):
                    self.put(*(f"c{index}-{turn}-{n}" for n in range(4)), running_key=f"k{turn % 3}", running_limit=4)
                    batch = self.claim(3, runner)
                    outcomes = [Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS) for claimed in batch]
                    self.store.finish(runner, outcomes)
            finally:
                if index == 1:
                    over.set()
            return []

        def look(_index: int) -> list[str]:
            problems = self.store.check()
            while not over.is_set() and not problems:
                problems = self.store.check()
            return problems

        assert self.race(lambda index: work(index) if index else look(index), threads=4) == [[]] * 4


class Closing(Clause):
    """The life of a store object."""

    def test_open_again_changes_nothing(self) -> None:
        self.put("a")
        self.store.open()
        assert self.status("a") is S.REGISTERED

    def test_closed_store_refuses_work(self) -> None:
        store = self.store
        self.store = self.keep(self.make_store(self.clock))
        store.close()
        store.close()
        raised_by(lambda: store.submit([new("a")]), StoreError)
        raised_by(lambda: store.get(["a"]), StoreError)
