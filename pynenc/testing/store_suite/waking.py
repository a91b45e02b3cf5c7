"""Clause *woken*: who waits for something hears of it by the event; spurious wake-ups are allowed, lost ones are not."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from pynenc.core.records import ChangeKind, Outcome, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.store.base import IdleListener
from pynenc.testing.store_suite.base import SECOND, TASK, Clause, Waker, ref

S = InvocationStatus


class Watching(Clause):
    """``watch``: called when one of the ids has become final."""

    def watched(self, *ids: str) -> Waker:
        waker = Waker()
        self.store.watch(ids, waker)
        return waker

    def test_watch_is_woken_by_every_way_to_end(self) -> None:
        self.beat()
        for status in (S.SUCCESS, S.FAILED, S.CANCELLED):
            self.put(status.value)
            claimed = self.take(status.value)
            waker = self.watched(status.value)
            self.end(claimed, status)
            assert waker.came()

    def test_watch_is_woken_by_a_cancellation_before_the_claim(self) -> None:
        self.put("a")
        waker = self.watched("a")
        self.cancel("a")
        assert waker.came()

    def test_watch_is_woken_by_a_cancellation_instead_of_a_retry(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        waker = self.watched("a")
        self.cancel("a")
        self.end(claimed, S.RETRY)
        assert waker.came()

    def test_watch_is_woken_by_expiry(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        self.beat()
        waker = self.watched("a")
        self.clock.advance(2)
        self.claim()
        assert waker.came()

    def test_watch_is_woken_by_expiry_without_a_claim(self) -> None:
        self.put("a", expires=self.clock.now() + SECOND)
        waker = self.watched("a")
        self.clock.advance(2)
        self.store.expire(10)
        assert waker.came()

    def test_watch_is_woken_by_a_drop(self) -> None:
        self.put("a", "b", running_key="k", drop_blocked=True)
        self.beat()
        waker = self.watched("b")
        self.claim()
        self.claim()
        assert waker.came()

    def test_watch_of_what_is_final_wakes_at_once(self) -> None:
        self.put("a", "b")
        self.beat()
        self.end(self.take("b"))
        assert self.watched("a", "b").came()

    def test_watch_of_several_is_woken_by_each(self) -> None:
        self.put("a", "b", "c")
        self.beat()
        waker = self.watched("a", "b", "c")
        for name in ("b", "c", "a"):
            self.end(self.take(name))
            assert waker.came()

    def test_watch_by_several_wakes_all(self) -> None:
        self.put("a")
        self.beat()
        wakers = [self.watched("a") for _ in range(5)]
        self.end(self.take("a"))
        assert all(waker.came() for waker in wakers)

    def test_watch_with_a_waiter_is_woken(self) -> None:
        self.put("parent", "child")
        self.beat()
        parent = self.run("parent")
        waker = Waker()
        self.store.watch(["child"], waker, waiter=ref(parent))
        self.end(self.take("child"))
        assert waker.came()

    def test_watch_is_woken_by_a_batch(self) -> None:
        ids = [f"n{index}" for index in range(50)]
        self.put(*ids)
        self.beat()
        wakers = [self.watched(name) for name in ids]
        outcomes = [Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS) for claimed in self.claim()]
        self.store.finish("r1", outcomes)
        assert all(waker.came() for waker in wakers)

    def test_watch_is_woken_before_the_end_is_read(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        seen: list[int] = []
        waker = Waker()

        def read_when_woken() -> None:
            if waker.came():
                seen.append(len(self.store.finals(["a"])))

        self.store.watch(["a"], waker)
        reader = Thread(target=read_when_woken)
        reader.start()
        self.end(claimed)
        reader.join()
        assert seen == [1]

    def test_watch_that_is_closed_is_not_woken(self) -> None:
        self.put("a", "b")
        self.beat()
        closed, control = Waker(), Waker()
        subscription = self.store.watch(["a"], closed)
        self.store.watch(["a"], control)
        subscription.close()
        subscription.close()
        closed.forget()
        self.end(self.take("a"))
        assert control.came()
        assert not closed.came_already()


class Listening(Clause):
    """``listen``: called while idle, when work may have become claimable or an order waits."""

    def listening(self, *queues: str) -> tuple[Waker, IdleListener]:
        """An idle listener that was not woken yet."""
        waker = Waker()
        listener = self.store.listen(queues, waker)
        listener.idle(True)
        return waker, listener

    def woken_by(self, action: Callable[[], object]) -> None:
        """Check that ``action`` wakes one who listens to everything."""
        waker, listener = self.listening()
        action()
        assert waker.came()
        listener.close()

    def test_listener_is_woken_by_a_submission(self) -> None:
        self.woken_by(lambda: self.put("a"))

    def test_listener_is_woken_each_time(self) -> None:
        waker, listener = self.listening()
        for index in range(20):
            listener.idle(True)
            self.put(f"n{index}")
            assert waker.came()

    def test_listener_of_a_queue_is_woken(self) -> None:
        waker, _ = self.listening("x", "y")
        self.put("a", queue="y")
        assert waker.came()

    def test_listener_is_woken_by_a_release(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.woken_by(lambda: self.release(claimed))

    def test_listener_is_woken_by_a_retry(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        self.woken_by(lambda: self.end(claimed, S.RETRY))

    def test_listener_is_woken_by_a_key_that_becomes_free(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        claimed = self.take("a")
        self.woken_by(lambda: self.end(claimed))

    def test_listener_is_woken_by_a_key_freed_by_cancellation(self) -> None:
        self.put("a", "b", running_key="k")
        self.woken_by(lambda: self.cancel("a"))

    def test_listener_is_woken_by_a_requeue(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.take("a"))
        self.woken_by(lambda: self.requeue("a"))

    def test_listener_is_woken_by_a_resume(self) -> None:
        self.put("a")
        self.beat()
        self.end(self.run("a"), S.PAUSED)
        self.woken_by(lambda: self.resume("a"))

    def test_listener_is_woken_by_an_open_queue(self) -> None:
        self.store.set_queue("default", QueueState.PAUSED)
        self.put("a")
        self.woken_by(lambda: self.store.set_queue("default", QueueState.ACTIVE))

    def test_listener_is_woken_by_retirement(self) -> None:
        self.put("a")
        self.beat()
        self.take("a")
        self.woken_by(lambda: self.store.retire(["r1"]))

    def test_listener_is_woken_by_recovery(self) -> None:
        self.put("a")
        self.beat("gone")
        self.take("a", "gone")
        self.beat("sweeper")
        self.outlive("sweeper")
        self.woken_by(self.sweep)

    def test_listener_is_woken_by_a_runner_that_knows_the_task(self) -> None:
        self.put("a", task="other.task")
        self.beat()
        self.release(self.take("a"), unknown_task=True)
        self.woken_by(lambda: self.beat("r2", tasks=(TASK, "other.task")))

    def test_listener_is_woken_by_an_order(self) -> None:
        self.put("a")
        self.beat()
        self.run("a")
        self.woken_by(lambda: self.amend("a", ChangeKind.CANCEL))

    def test_listener_is_woken_by_work_that_is_due_sooner(self) -> None:
        self.put("a", due=self.clock.now() + 500 * SECOND)
        self.woken_by(lambda: self.requeue("a"))

    def test_closed_listener_is_not_woken(self) -> None:
        closed, listener = self.listening()
        control, _ = self.listening()
        listener.close()
        listener.close()
        closed.forget()
        self.put("a")
        assert control.came()
        assert not closed.came_already()

    def test_every_idle_listener_hears_of_enough_work(self) -> None:
        wakers = [self.listening()[0] for _ in range(4)]
        self.put(*(f"n{index}" for index in range(100)))
        assert all(waker.came() for waker in wakers)
