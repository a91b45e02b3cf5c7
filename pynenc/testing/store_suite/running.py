"""Runners: sign of life, leases, and what becomes of the work of those that are gone."""

from __future__ import annotations

import pytest

from pynenc.core.records import UNKNOWN_TASK, Alone, Beat, Recovered
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import RunnerLostError
from pynenc.testing.store_suite.base import LEASE, LOST_ERROR, SECOND, TASK, Clause, ref

S = InvocationStatus
READY, LATER, PARKED, CLAIMED, WAITING, FINAL = Place


class Beating(Clause):
    """``heartbeat``, ``owned``, ``retire`` and what readers see of runners."""

    def test_beat_registers(self) -> None:
        beat = Beat(
            id="r1", group="g", lease=LEASE, name="n", kind="threads", host="h", pid=7, supervised=True, queues=("a", "b"), slots=4,
            running=1, finished=2, tasks=(TASK, "other.task"), version="1.0",
        )  # fmt: skip
        (orders,) = self.store.heartbeat([beat])
        assert (orders.alive, orders.cancel, orders.suspects) == (True, (), False)
        (info,) = self.store.runners()
        assert info.beat == beat
        assert (info.started, info.seen, info.alive) == (self.clock.now(), self.clock.now(), True)

    def test_beat_renews(self) -> None:
        self.beat()
        started = self.clock.now()
        self.clock.advance(5)
        self.renew(running=3, finished=9)
        (info,) = self.store.runners()
        assert (info.started, info.seen, info.beat.running, info.beat.finished) == (started, self.clock.now(), 3, 9)
        assert info.beat.tasks == (TASK,)

    def test_beat_of_several_answers_in_order(self) -> None:
        self.put("a")
        self.beat("r2")
        self.run("a", "r2")
        self.cancel("a")
        beats = [Beat(id=name, group="g", lease=LEASE, tasks=(TASK,)) for name in ("r1", "r2", "r3")]
        assert [orders.cancel for orders in self.store.heartbeat(beats)] == [(), ("a",), ()]
        assert sorted(info.beat.id for info in self.store.runners()) == ["r1", "r2", "r3"]
        assert self.store.heartbeat([]) == []

    def test_runner_is_not_alive_after_its_lease(self) -> None:
        self.beat()
        self.clock.advance(LEASE / SECOND - 0.1)
        assert [info.alive for info in self.store.runners()] == [True]
        self.clock.advance(0.2)
        assert [info.alive for info in self.store.runners()] == [False]

    def test_late_beat_renews_what_nobody_took(self) -> None:
        self.put("a")
        self.beat()
        self.beat("sweeper")
        claimed = self.run("a")
        self.clock.advance(2 * LEASE / SECOND)
        assert self.renew().alive
        self.renew("sweeper")
        assert self.sweep() == []
        self.end(claimed)

    def test_owned_is_what_was_claimed(self) -> None:
        self.put("a", "b", "c", tags=("t",))
        self.beat("r1")
        self.beat("r2")
        a, b = self.claim(2, "r1")
        c = self.take("c", "r2")
        self.store.start("r1", [ref(b)], self.clock.now())
        assert sorted(self.store.owned("r1"), key=lambda claimed: claimed.id) == [a, b]
        assert self.store.owned("r2") == [c]
        self.end(a)
        self.release(b)
        assert self.store.owned("r1") == []
        assert self.store.owned("unknown") == []

    def test_retire_gives_work_back(self) -> None:
        self.put("a", "b", "c")
        self.beat("r1")
        self.beat("r2")
        self.run("a")
        self.take("b")
        self.take("c", "r2")
        assert self.store.retire(["r1"]) == 2
        assert self.where("a", "b", "c") == [READY, READY, CLAIMED]
        assert self.trail("a") == [S.REGISTERED, S.PENDING, S.RUNNING, S.REGISTERED]
        assert self.store.history(["a"])[-1].reason == "runner stopped"
        assert [info.beat.id for info in self.store.runners()] == ["r2"]

    def test_retired_runner_may_not_claim(self) -> None:
        self.put("a")
        self.beat()
        self.store.retire(["r1"])
        with pytest.raises(RunnerLostError):
            self.claim()

    def test_retire_of_the_unknown(self) -> None:
        assert self.store.retire(["unknown"]) == 0
        assert self.store.retire([]) == 0

    def test_unknown_task_is_parked_until_a_runner_knows_it(self) -> None:
        self.put("a", task="other.task")
        self.beat()
        self.release(self.take("a"), reason=UNKNOWN_TASK, unknown_task=True)
        row = self.row("a")
        assert (row.status, row.place, row.reason) == (S.CONCURRENCY_CONTROLLED, PARKED, UNKNOWN_TASK)
        assert self.claim() == ()
        self.beat("r2", tasks=(TASK, "third.task"))
        assert self.claim() == ()
        self.beat("r3", tasks=(TASK, "other.task"))
        assert self.names(self.claim(9, "r3")) == ["a"]

    def test_unknown_task_stays_claimable_while_another_runner_knows_it(self) -> None:
        self.put("a", "b", task="other.task")
        self.beat("r2", tasks=("other.task",))
        self.beat()
        claimed = self.take("a")
        self.release(claimed, reason=UNKNOWN_TASK, unknown_task=True)
        assert self.place("a") is READY
        assert self.claim(without=("other.task",)) == ()
        assert self.names(self.claim(9, "r2", without=("third.task",))) == ["a", "b"]

    def test_unknown_task_is_parked_when_who_knows_it_is_gone(self) -> None:
        self.put("a", task="other.task")
        self.beat("r2", tasks=("other.task",))
        self.clock.advance(LEASE / SECOND + 1)
        self.beat()
        self.release(self.take("a"), reason=UNKNOWN_TASK, unknown_task=True)
        assert self.place("a") is PARKED

    def test_unknown_task_can_be_cancelled(self) -> None:
        self.put("a", task="other.task")
        self.beat()
        self.release(self.take("a"), reason=UNKNOWN_TASK, unknown_task=True)
        assert self.cancel("a").accepted
        self.beat("r2", tasks=("other.task",))
        assert (self.claim(9, "r2"), self.status("a")) == ((), S.CANCELLED)

    def test_unknown_task_meets_a_full_key(self) -> None:
        self.put("a", task="other.task", running_key="k")
        self.put("b", running_key="k")
        self.beat()
        self.release(self.take("a"), reason=UNKNOWN_TASK, unknown_task=True)
        claimed = self.take("b")
        self.beat("r2", tasks=("other.task",))
        row = self.row("a")
        assert (row.place, row.reason) == (PARKED, "")
        self.end(claimed)
        assert self.names(self.claim()) == ["a"]


class Recovering(Clause):
    """``recover``: nothing that a dead runner owned is lost, and nothing is taken from the living."""

    def owner_and_sweeper(self, *ids: str, **fields: object) -> None:
        """``gone`` has claimed ``ids``; ``sweeper`` looks on."""
        self.put(*ids)
        self.beat("gone", **fields)
        self.beat("sweeper")
        for name in ids:
            self.take(name, "gone")

    def test_recover_what_was_running_and_what_was_not(self) -> None:
        self.put("running", "pending")
        self.beat("gone")
        self.beat("sweeper")
        self.run("running", "gone")
        self.take("pending", "gone")
        self.outlive("sweeper")
        recovered = self.sweep()
        assert sorted(recovered, key=lambda item: item.id) == [
            Recovered("pending", "gone", S.REGISTERED),
            Recovered("running", "gone", S.REGISTERED),
        ]
        for name in ("running", "pending"):
            row = self.row(name)
            assert (row.status, row.place, row.runner, row.crashes, row.retries, row.alone) == (
                S.REGISTERED,
                READY,
                None,
                0,
                0,
                False,
            )
        assert self.trail("running") == [S.REGISTERED, S.PENDING, S.RUNNING, S.REGISTERED]
        assert self.store.history(["running"])[-1].reason != ""
        assert sorted(self.names(self.claim(9, "sweeper"))) == ["pending", "running"]

    def test_recover_nothing_from_the_living(self) -> None:
        self.put("a")
        self.beat("r1")
        self.beat("sweeper")
        claimed = self.run("a")
        for _ in range(10):
            self.clock.advance(LEASE / SECOND / 2)
            self.renew("r1")
            self.renew("sweeper")
            assert self.sweep() == []
        self.end(claimed)

    def test_recover_is_done_once(self) -> None:
        self.owner_and_sweeper("a")
        self.outlive("sweeper")
        assert len(self.sweep()) == 1
        assert self.sweep() == []

    def test_recover_in_bounded_batches(self) -> None:
        self.owner_and_sweeper("a", "b", "c", "d", "e")
        self.outlive("sweeper")
        sizes = []
        while batch := self.sweep(limit=2):
            sizes.append(len(batch))
        assert sizes == [2, 2, 1]
        assert self.where(*"abcde") == [READY] * 5

    def test_recover_forgets_the_runner(self) -> None:
        self.owner_and_sweeper("a")
        self.beat("idle")
        self.outlive("sweeper")
        self.sweep()
        assert [info.beat.id for info in self.store.runners()] == ["sweeper"]

    def test_runner_that_was_swept_is_told(self) -> None:
        self.owner_and_sweeper("a")
        self.outlive("sweeper")
        self.sweep()
        assert self.renew("gone").alive is False
        with pytest.raises(RunnerLostError):
            self.claim(9, "gone")
        assert self.row("a").runner is None

    def test_sweeper_must_have_held_its_lease_for_a_term(self) -> None:
        self.put("a")
        self.beat("gone")
        self.take("a", "gone")
        self.clock.advance(2 * LEASE / SECOND)
        self.beat("sweeper")
        assert self.sweep() == []
        self.clock.advance(LEASE / SECOND * 0.9)
        self.renew("sweeper")
        assert self.sweep() == []
        self.clock.advance(LEASE / SECOND * 0.2)
        self.renew("sweeper")
        assert [item.id for item in self.sweep()] == ["a"]

    def test_sweeper_that_lost_its_own_lease_begins_anew(self) -> None:
        self.owner_and_sweeper("a")
        self.outlive("sweeper", 0.6 * LEASE / SECOND)
        self.clock.advance(3 * LEASE / SECOND)
        self.renew("sweeper")
        assert self.sweep() == []
        assert self.renew("gone").alive
        self.outlive("sweeper")
        assert [item.id for item in self.sweep()] == ["a"]

    def test_unknown_sweeper_takes_nothing(self) -> None:
        self.owner_and_sweeper("a")
        self.outlive("sweeper")
        assert self.sweep("stranger") == []
        assert self.place("a") is CLAIMED

    def test_wall_clock_jumps_take_nothing(self) -> None:
        self.owner_and_sweeper("a")
        for jump in (10 * LEASE / SECOND, -20 * LEASE / SECOND, 1e9, -1e9):
            self.clock.jump(jump)
            self.clock.advance(1)
            self.renew("sweeper")
            assert self.sweep() == []
            assert all(info.alive for info in self.store.runners())
        self.outlive("sweeper")
        assert [item.id for item in self.sweep()] == ["a"]

    def test_leases_of_another_boot_are_over(self) -> None:
        self.owner_and_sweeper("a")
        self.clock.reboot()
        self.beat("second sweeper")
        assert [info.alive for info in self.store.runners() if info.beat.id == "gone"] == [False]
        self.outlive("second sweeper")
        assert [item.id for item in self.sweep("second sweeper")] == ["a"]

    def test_recover_makes_a_new_attempt(self) -> None:
        self.owner_and_sweeper("a")
        self.outlive("sweeper")
        self.sweep()
        assert self.take("a", "sweeper").attempt == 2

    def test_recover_does_not_lose_a_request_to_cancel(self) -> None:
        self.owner_and_sweeper("a")
        self.cancel("a")
        self.outlive("sweeper")
        self.sweep()
        row = self.row("a")
        assert row.status is S.CANCELLED or row.cancel_requested

    # -- certain death -------------------------------------------------------------------------------------------------
    def died(self, *ids: str, supervised: bool = False, **fields: object) -> list[Recovered]:
        """``ids`` run in a process whose death is certain; what is taken back at once."""
        self.put(*ids, **fields)
        self.beat("sweeper")
        self.die(*ids, supervised=supervised)
        return self.sweep()

    def die(self, *ids: str, runner: str = "doomed", supervised: bool = False, alone: bool = False) -> None:
        self.beat(runner, group=f"group of {runner}", supervised=supervised)
        for name in ids:
            (claimed,) = self.claim(1, runner, ids=(name,), alone=Alone.ONLY if alone else Alone.NEVER)
            self.store.start(runner, [ref(claimed)], self.clock.now())
        self.kill_group(self.store, f"group of {runner}")

    def test_certain_death_needs_no_lease(self) -> None:
        recovered = self.died("a", "b")
        assert sorted((item.id, item.runner, item.status) for item in recovered) == [
            ("a", "doomed", S.REGISTERED),
            ("b", "doomed", S.REGISTERED),
        ]
        assert [info.beat.id for info in self.store.runners()] == ["sweeper"]

    def test_certain_death_without_supervisor_makes_suspects(self) -> None:
        self.died("a", "b")
        assert [(row.alone, row.crashes, row.place) for row in self.store.get(["a", "b"])] == [(True, 0, READY)] * 2
        answer = self.ask(9, "sweeper")
        assert (answer.batch, answer.suspects) == ((), True)

    def test_certain_death_under_a_supervisor_makes_no_suspects(self) -> None:
        self.died("a", "b", supervised=True)
        assert [(row.alone, row.crashes) for row in self.store.get(["a", "b"])] == [(False, 0)] * 2
        assert self.names(self.claim(9, "sweeper")) == ["a", "b"]

    def test_certain_death_of_one_alone_is_counted(self) -> None:
        self.died("a")
        self.die("a", runner="second", alone=True)
        assert self.sweep() == [Recovered("a", "second", S.REGISTERED)]
        row = self.row("a")
        assert (row.crashes, row.alone, row.status) == (1, True, S.REGISTERED)

    def test_certain_death_too_often_is_final(self) -> None:
        self.died("a", max_crashes=2)
        self.die("a", runner="second", alone=True)
        assert self.sweep() == [Recovered("a", "second", S.REGISTERED)]
        self.die("a", runner="third", alone=True)
        assert self.sweep() == [Recovered("a", "third", S.FAILED)]
        row = self.row("a")
        assert (row.status, row.place, row.crashes, row.payload) == (S.FAILED, FINAL, 2, LOST_ERROR)
        assert [final.payload for final in self.store.finals(["a"])] == [LOST_ERROR]

    def test_certain_death_takes_nothing_from_another_group(self) -> None:
        self.put("a", "b")
        self.beat("sweeper")
        self.beat("healthy", group="another group")
        claimed = self.take("b", "healthy")
        self.die("a")
        assert [item.id for item in self.sweep()] == ["a"]
        self.end(claimed, runner="healthy")

    def test_certain_death_takes_every_runner_of_the_group(self) -> None:
        self.put("a", "b")
        self.beat("sweeper")
        self.beat("first", group="group of doomed")
        self.take("a", "first")
        self.die("b")
        assert sorted(item.id for item in self.sweep()) == ["a", "b"]

    def test_certain_death_frees_the_key_once(self) -> None:
        self.put("b", "c", running_key="k", due=self.clock.now() + SECOND)
        self.died("a", running_key="k")
        self.clock.advance(2)
        self.renew("sweeper")
        claimed = self.claim(9, "sweeper")
        assert len(claimed) <= 1
        held = [row for row in self.store.get(["a", "b", "c"]) if row.place in (READY, CLAIMED)]
        assert len(held) == 1
