"""Reactions: what a store submits by itself when an invocation ends, waits for a retry or pauses."""

from __future__ import annotations

from typing import Any

from pynenc.core.reaction import FIRING, Reaction, cause_of
from pynenc.core.records import Alone, Beat, ChangeKind, Filter, Outcome, Page, Purge, QueueState
from pynenc.core.status import InvocationStatus, Place
from pynenc.testing.clock import SECOND
from pynenc.testing.store_suite.base import LEASE, TASK, Clause, Waker, new, request

S = InvocationStatus
ANSWER = f"{FIRING}suite"


def reaction(status: InvocationStatus = S.SUCCESS, task: str = TASK, **fields: Any) -> Reaction:
    """A reaction whose invocations are of the task :data:`ANSWER`."""
    template = new("", **{"task": ANSWER, "args": b'{"cause":"'} | fields)
    return Reaction(task, status, template, b'"}')


class Reacting(Clause):
    """``subscribe``, and every operation that changes a status."""

    def answers(self) -> list[str]:
        """The ids of what was submitted as a reaction, oldest first."""
        found = self.store.find(Filter(), Page(limit=100, oldest_first=True)).invocations
        return [row.id for row in found if "~" in row.id]

    def test_a_reaction_is_submitted_with_the_final(self) -> None:
        self.store.subscribe("o", [reaction(queue="other", priority=3.0, result_ttl=99, tags=("t",), max_crashes=1)])
        self.put("a")
        self.beat()
        self.end(self.run("a"))
        (found,) = self.store.get(["o~a~success~0~1"])
        assert (found.task, found.args) == (ANSWER, b'{"cause":"a~success~0~1"}')
        seen = (found.status, found.place, found.queue, found.priority, found.result_ttl, found.tags, found.max_crashes)
        assert seen == (S.REGISTERED, Place.READY, "other", 3.0, 99, ("t",), 1)
        assert found.created == self.clock.now()
        (claimed,) = self.claim()
        assert (claimed.id, claimed.args) == (found.id, found.args)

    def test_a_reaction_is_for_its_task_and_status(self) -> None:
        self.store.subscribe("o", [reaction(S.FAILED), reaction(task="suite.other")])
        self.put("a", "b")
        self.put("c", task="suite.other")
        self.beat(tasks=(TASK, "suite.other"))
        self.end(self.take("a"))
        self.end(self.take("b"), S.FAILED, payload=b"error")
        self.end(self.take("c"), S.FAILED, payload=b"error")
        assert self.answers() == ["o~b~failed~0~1"]

    def test_a_reaction_to_any_task_leaves_out_firings(self) -> None:
        self.store.subscribe("o", [reaction(task="")])
        self.store.subscribe("p", [reaction(task=f"{FIRING}named")])
        self.put("a")
        self.put("b", task=f"{FIRING}named")
        self.beat()
        self.end(self.take("a"))
        self.end(self.take("b"))
        assert self.answers() == ["o~a~success~0~1", "p~b~success~0~1"]
        self.end(self.take("o~a~success~0~1"))
        assert len(self.answers()) == 2

    def test_a_reaction_to_a_batch_keeps_the_order(self) -> None:
        self.store.subscribe("p", [reaction(), reaction(S.FAILED)])
        self.store.subscribe("o", [reaction()])
        self.put("a", "b", "c")
        self.beat()
        taken = {claimed.id: claimed for claimed in self.claim()}
        ways = {"c": S.SUCCESS, "a": S.FAILED, "b": S.SUCCESS}
        outcomes = [Outcome(id=name, attempt=taken[name].attempt, status=status) for name, status in ways.items()]
        assert self.store.finish("r1", outcomes).lost == ()
        expected = ["o~c~success~0~1", "p~c~success~0~1", "p~a~failed~0~1", "o~b~success~0~1", "p~b~success~0~1"]
        assert self.answers() == expected

    def test_a_reaction_to_many_successes(self) -> None:
        self.store.subscribe("o", [reaction()])
        names = [f"i{number:03}" for number in range(50)]
        self.put(*names)
        self.beat()
        outcomes = [Outcome(id=each.id, attempt=1, status=S.SUCCESS, payload=b"1") for each in reversed(self.claim())]
        self.store.finish("r1", outcomes)
        assert self.answers() == [f"o~{name}~success~0~1" for name in reversed(names)]

    def test_a_reaction_can_be_claimed_by_the_finish_that_submits_it(self) -> None:
        self.store.subscribe("o", [reaction()])
        self.put("a")
        self.beat()
        taken = self.take("a")
        finished = self.store.finish("r1", [Outcome(id="a", attempt=taken.attempt, status=S.SUCCESS)], request())
        assert self.names(finished.claim.batch) == ["o~a~success~0~1"]

    def test_a_reaction_wakes_who_is_idle(self) -> None:
        self.store.subscribe("o", [reaction(due=0)])
        self.put("a")
        self.beat()
        taken = self.take("a")
        waker = Waker()
        listener = self.store.listen((), waker)
        listener.idle(True)
        assert self.claim() == ()
        waker.forget()
        self.end(taken)
        assert waker.came()
        listener.close()

    def test_a_reaction_to_each_retry(self) -> None:
        self.store.subscribe("o", [reaction(S.RETRY), reaction(S.FAILED)])
        self.put("a")
        self.beat()
        self.end(self.take("a"), S.RETRY, retries=1)
        self.end(self.take("a"), S.RETRY, retries=2)
        self.end(self.take("a"), S.FAILED, retries=2)
        assert self.answers() == ["o~a~retry~0~1", "o~a~retry~0~2", "o~a~failed~0~3"]

    def test_a_reaction_to_a_pause(self) -> None:
        self.store.subscribe("o", [reaction(S.PAUSED)])
        self.put("a")
        self.beat()
        self.end(self.take("a"), S.PAUSED)
        self.resume("a")
        self.end(self.take("a"), S.PAUSED)
        assert self.answers() == ["o~a~paused~0~1", "o~a~paused~0~2"]

    def test_no_reaction_to_what_goes_back(self) -> None:
        self.store.subscribe("o", [reaction(status) for status in (S.RETRY, S.FAILED, S.CANCELLED, S.SUCCESS)])
        self.put("a")
        self.beat()
        self.release(self.take("a"))
        self.end(self.take("a"))
        self.requeue("a")
        self.store.retire(["r1"])
        assert self.answers() == ["o~a~success~0~2"]

    def test_a_reaction_to_each_round(self) -> None:
        self.store.subscribe("o", [reaction()])
        self.put("a")
        self.beat()
        for _ in range(2):
            self.end(self.take("a"))
            self.requeue("a")
        assert self.answers() == ["o~a~success~0~1", "o~a~success~1~2"]

    def test_a_reaction_to_a_cancellation(self) -> None:
        self.store.subscribe("o", [reaction(S.CANCELLED)])
        self.put("a", "b")
        self.beat()
        taken = self.take("b")
        self.cancel("a")
        self.cancel("b")
        assert self.answers() == ["o~a~cancelled~0~0"]
        self.release(taken)
        assert self.answers() == ["o~a~cancelled~0~0", "o~b~cancelled~0~1"]

    def test_a_reaction_to_what_expires_or_is_dropped(self) -> None:
        self.store.subscribe("o", [reaction(S.CANCELLED), reaction(S.CONCURRENCY_CONTROLLED_FINAL)])
        self.put("a", expires=self.clock.now() + SECOND)
        self.put("b", "c", running_key="k", drop_blocked=True)
        self.beat()
        self.clock.advance(2)
        assert self.names(self.claim()) == ["b"]
        assert self.answers() == ["o~a~cancelled~0~0", "o~c~concurrency_controlled_final~0~0"]

    def test_a_reaction_to_what_expires_without_a_claim(self) -> None:
        self.store.subscribe("o", [reaction(S.CANCELLED)])
        self.put("a", queue="unserved", expires=self.clock.now() + SECOND)
        self.clock.advance(2)
        self.store.expire(10)
        assert self.answers() == ["o~a~cancelled~0~0"]

    def test_a_reaction_to_the_death_of_a_process(self) -> None:
        self.store.subscribe("o", [reaction(S.FAILED)])
        self.put("a", max_crashes=1)
        self.store.heartbeat([Beat(id="victim", group="victim", lease=LEASE, tasks=(TASK,))])
        self.beat("sweeper")
        taken = self.take("a", "victim")
        self.end(taken, S.REGISTERED, "victim", alone=True, reason="suspected", ended=0)
        (taken,) = self.claim(1, "victim", alone=Alone.ONLY)
        self.kill_group(self.store, "victim")
        self.sweep()
        assert self.answers() == ["o~a~failed~0~2"]

    def test_a_reaction_only_behind_the_fence(self) -> None:
        self.store.subscribe("o", [reaction()])
        self.put("a")
        self.beat()
        taken = self.take("a")
        self.release(taken)
        again = self.take("a")
        assert self.finish(taken) == ("a",)
        assert self.answers() == []
        self.end(again)
        assert self.answers() == ["o~a~success~0~2"]

    def test_a_reaction_once_when_a_final_is_sent_again(self) -> None:
        self.store.subscribe("o", [reaction()])
        self.put("a")
        self.beat()
        taken = self.take("a")
        self.end(taken, payload=b"1", ended=7)
        self.end(taken, payload=b"1", ended=7)
        assert self.answers() == ["o~a~success~0~1"]
        assert self.store.submit([new("o~a~success~0~1")])[0].existing

    def test_reactions_are_replaced(self) -> None:
        self.store.subscribe("o", [reaction(), reaction(S.FAILED)])
        self.store.subscribe("o", [reaction(S.FAILED, args=b"2 ")])
        self.store.subscribe("p", [reaction()])
        self.store.subscribe("p", [])
        self.put("a", "b")
        self.beat()
        self.end(self.take("a"))
        self.end(self.take("b"), S.FAILED)
        assert self.answers() == ["o~b~failed~0~1"]
        assert self.row("o~b~failed~0~1").args == b'2 b~failed~0~1"}'

    def test_a_reaction_waits_behind_its_key(self) -> None:
        self.store.subscribe("o", [reaction(running_key="k")])
        self.put("a", "b")
        self.beat()
        for claimed in self.claim():
            self.end(claimed)
        assert self.where("o~a~success~0~1", "o~b~success~0~1") == [Place.READY, Place.PARKED]

    def test_a_reaction_enters_a_queue_that_drains(self) -> None:
        self.store.subscribe("o", [reaction(queue="q")])
        self.put("a")
        self.put("b", queue="q")
        self.beat()
        self.store.set_queue("q", QueueState.DRAINING)
        self.end(self.take("a"))
        assert self.answers() == ["o~a~success~0~1"]

    def test_reactions_outlive_a_purge_of_everything(self) -> None:
        self.store.subscribe("o", [reaction(S.CANCELLED)])
        while self.store.purge(Purge(everything=True)).more:
            pass
        self.put("a")
        self.amend("a", ChangeKind.CANCEL)
        assert self.answers() == ["o~a~cancelled~0~0"]

    def test_the_cause_tells_changes_apart(self) -> None:
        assert cause_of("a", S.RETRY, 2, 5) == "a~retry~2~5"
