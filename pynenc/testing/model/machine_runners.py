"""The rules of the state machine about runners, waiting and time."""

from __future__ import annotations

from hypothesis import strategies as st

from pynenc.core.records import (
    Beat,
    ClaimRequest,
    Ref,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import CycleDetectedError
from pynenc.testing.model.machine_base import Machine, numbers, operation
from pynenc.testing.model.waiting import can_end_without, is_stuck, wait
from pynenc.testing.store_suite.base import LEASE, LOST_ERROR, Waker

S = InvocationStatus
seconds = st.sampled_from([0.5, 2, 6, 20, 40])


class RunnerRules(Machine):
    """Runners come, beat, die and are swept; bodies wait; time passes."""

    # -- runners -------------------------------------------------------------------------------------------------------------
    @operation(1, when=lambda self: len(self.model.runners) < 4, is_supervised=st.booleans())
    def join(self, is_supervised: bool) -> None:  # noqa: FBT001
        self.add_runner(is_supervised=is_supervised)

    @operation(4, when=lambda self: self.living(), number=numbers, everybody=st.booleans())
    def renew(self, number: int, everybody: bool) -> None:  # noqa: FBT001
        self.step()
        names = self.living() if everybody else [self.runner(number)]
        now = self.clock.lease()
        for name, orders in zip(names, self.store.heartbeat([self.beat_of(name) for name in names]), strict=True):
            runner = self.model.runners[name]
            runner.held_since = now if self.model.is_over(runner) else runner.held_since
            runner.until = now + LEASE
            asked = {
                row.new.id
                for row in self.model.rows.values()
                if row.runner == name and row.is_cancelled and row.place is Place.CLAIMED
            }
            assert (orders.alive, set(orders.cancel)) == (True, asked)
        self.compare()

    def beat_of(self, name: str) -> Beat:
        runner = self.model.runners[name]
        return Beat(id=name, group=runner.group, lease=LEASE, supervised=runner.is_supervised)

    @operation(1, when=lambda self: self.model.gone)
    def renew_by_the_gone(self) -> None:
        self.step()
        for name in sorted(self.model.gone):
            assert self.store.heartbeat([Beat(id=name, group=f"group of {name}", lease=LEASE)])[0].alive is False
        self.compare()

    @operation(3, when=lambda self: len(self.living()) > 1, number=numbers)
    def fall_silent(self, number: int) -> None:
        """All but one runner miss their lease, and that one sweeps."""
        for _ in range(4):
            self.pass_time(6)
            self.renew(number, everybody=False)
        self.recover(number)

    @operation(2, when=lambda self: len(self.living()) > 1, number=numbers)
    def die(self, number: int) -> None:
        self.step()
        name = self.runner(number)
        self.kill_group(self.model.runners[name].group)
        self.model.runners[name].is_dead = True
        self.compare()

    @operation(2, when=lambda self: self.living(), number=numbers)
    def recover(self, number: int) -> None:
        self.step()
        by = self.runner(number)
        sweeper = self.model.runners[by]
        may_judge = not self.model.is_over(sweeper) and self.clock.lease() - sweeper.held_since >= LEASE
        victims = [
            name
            for name, runner in self.model.runners.items()
            if name != by and (runner.is_dead or (may_judge and self.model.is_over(runner)))
        ]
        recovered = self.store.recover(by, 10_000, LOST_ERROR)
        expected = {}
        for name in victims:
            for invocation_id, status in self.model.take_back(name, is_certain=self.model.runners[name].is_dead):
                expected[invocation_id, name] = status is S.FAILED
        assert {(item.id, item.runner): item.status is S.FAILED for item in recovered} == expected
        self.compare()

    @operation(2)
    def expire(self) -> None:
        self.step()
        over = [row for row in self.model.rows.values() if self.model.is_expired(row)]
        assert self.store.expire(10_000) == len(over)
        for row in sorted(over, key=lambda row: (row.new.expires, row.seq)):
            self.model.end(row, S.CANCELLED, self.clock.now())
        self.compare()

    @operation(1, when=lambda self: len(self.living()) > 1, number=numbers)
    def retire(self, number: int) -> None:
        self.step()
        name = self.runner(number)
        owned = [row for row in self.model.rows.values() if row.runner == name and row.place is Place.CLAIMED]
        assert self.store.retire([name]) == len(owned)
        self.model.runners[name].is_supervised = True
        self.model.take_back(name, is_certain=False)
        self.compare()

    # -- waiting -------------------------------------------------------------------------------------------------------------
    @operation(
        5,
        when=lambda self: self.claimed(),
        number=numbers,
        picks=st.lists(numbers, min_size=1, max_size=2),
        limit=st.sampled_from([0, 0, 1, 2]),
    )
    def wait(self, number: int, picks: list[int], limit: int) -> None:
        self.step()
        rows = self.claimed()
        waiter = rows[number % len(rows)]
        ids = tuple({name: None for name in (self.any_row(pick).new.id for pick in picks) if name not in waiter.waits})
        if not ids:
            return
        waker, ref = Waker(), Ref(waiter.new.id, waiter.attempt)
        request = ClaimRequest(waiter.runner, limit) if limit and waiter.runner in self.living() else None
        try:
            subscription = self.store.watch(ids, waker, waiter=ref, request=request)
        except CycleDetectedError as error:
            assert is_stuck(self.model, waiter.new.id, ids), f"refused without a circle: {error.cycle}"
            assert waiter.new.id in error.cycle
        else:
            assert can_end_without(self.model, waiter.new.id, ids), f"{waiter.new.id} waits for {ids} for ever"
            is_over = any(self.model.rows[name].place is Place.FINAL for name in ids)
            wait(self.model, waiter.new.id, ids)
            if request and not is_over:
                self.claimed_by(request, subscription.claim.batch)
            else:
                assert subscription.claim.batch == ()
            self.waits.append((subscription, ref, ids))
            self.watches.append((waker, ids))
        self.compare()

    @operation(2, when=lambda self: self.waits, number=numbers)
    def stop_waiting(self, number: int) -> None:
        self.step()
        subscription, ref, ids = self.waits.pop(number % len(self.waits))
        subscription.close()
        self.watches = [(waker, watched) for waker, watched in self.watches if watched != ids]
        row = self.model.rows.get(ref.id)
        if row and row.place is Place.CLAIMED and row.attempt == ref.attempt:
            for name in set(ids) & row.waits:
                self.model.blur(name)
                row.waits.discard(name)
        self.compare()

    @operation(2, when=lambda self: self.model.rows, number=numbers)
    def watch(self, number: int) -> None:
        self.step()
        ids = (self.any_row(number).new.id,)
        waker = Waker()
        self.store.watch(ids, waker)
        self.watches.append((waker, ids))
        self.compare()

    # -- time ----------------------------------------------------------------------------------------------------------------
    @operation(4, passed=seconds)
    def pass_time(self, passed: float) -> None:
        self.model.begin()
        self.clock.advance(passed)
        self.compare()

    @operation(1, jump=st.sampled_from([-1000.0, -5.0, 5.0, 1000.0]))
    def set_the_clock(self, jump: float) -> None:
        """The wall clock jumps; boosts of before and after cannot be told apart for sure."""
        self.model.begin()
        self.clock.jump(jump)
        self.forget_boosts()
        self.compare()

    @operation(1)
    def reboot(self) -> None:
        """All leases are over."""
        self.model.begin()
        self.clock.reboot()
        for runner in self.model.runners.values():
            runner.until = 0
        self.forget_boosts()
        self.compare()

    def forget_boosts(self) -> None:
        for row in self.model.rows.values():
            row.is_fuzzy = row.is_fuzzy or row.boost > 0
