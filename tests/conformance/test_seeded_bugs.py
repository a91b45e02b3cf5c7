"""The checkers are checked: a store with one deliberate bug must fail the suite, and the model test as well.

The bugs are seeded from outside, around a sound store, so they do not depend on how that store works inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Amended,
    Beat,
    Blob,
    Change,
    ChangeKind,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Finished,
    Invocation,
    New,
    Outcome,
    Page,
    Recovered,
    Ref,
    Submitted,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.store.base import Store, Wake, Watch
from pynenc.store.memory import MemoryStore
from pynenc.testing.clock import VirtualClock
from pynenc.testing.model import StoreMachine
from pynenc.testing.model.machine_base import OPERATIONS
from pynenc.testing.store_suite import APP_ID, LEASE, StoreSuite, base, run_suite

S = InvocationStatus


class Sound:
    """A store that passes everything on to a sound one."""

    def __init__(self, clock: VirtualClock) -> None:
        self.sound = MemoryStore("memory://", APP_ID, clock)
        self.sound.open()

    def __getattr__(self, name: str) -> object:
        return getattr(self.sound, name)

    def hide(self, ids: Sequence[str]) -> None:
        """Claim invocations for somebody who is not there."""
        if ids:
            self.sound.heartbeat([Beat(id="nobody", group="nobody", lease=1000 * LEASE, tasks=("suite.task",))])
            self.sound.claim(ClaimRequest("nobody", len(ids), ids=tuple(ids)))


class SkipsTheFence(Sound):
    """Ends an invocation by its id alone, whoever owns it now."""

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        finished = self.sound.finish(runner, outcomes, request)
        stolen = {row.id: row for row in self.sound.get(finished.lost) if row.place is Place.CLAIMED}
        for outcome in outcomes:
            if row := stolen.get(outcome.id):
                self.sound.finish(row.runner or "", [msgspec.structs.replace(outcome, attempt=row.attempt)])
        return msgspec.structs.replace(finished, lost=tuple(name for name in finished.lost if name not in stolen))


class AcceptsASecondFinal(Sound):
    """A late outcome replaces the result that is there."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.late: dict[str, bytes] = {}

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        finished = self.sound.finish(runner, outcomes, request)
        finals = {row.id for row in self.sound.get(finished.lost) if row.place is Place.FINAL}
        self.late |= {outcome.id: outcome.payload for outcome in outcomes if outcome.id in finals}
        return msgspec.structs.replace(finished, lost=tuple(name for name in finished.lost if name not in finals))

    def get(self, ids: Sequence[str]) -> list[Invocation]:
        return [msgspec.structs.replace(row, payload=self.late.get(row.id, row.payload)) for row in self.sound.get(ids)]


class ForgetsTheKeyOnRetry(Sound):
    """Whoever would be let go by a retry stays out of reach."""

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        keys = {
            row.running_key
            for row in self.sound.get([o.id for o in outcomes if o.status is S.RETRY])
            if row.running_key
        }
        parked = [
            row.id
            for key in keys
            for row in self.sound.find(Filter(running_key=key)).invocations
            if row.place is Place.PARKED
        ]
        finished = self.sound.finish(runner, outcomes)
        self.hide([row.id for row in self.sound.get(parked) if row.place is Place.READY])
        return msgspec.structs.replace(finished, claim=self.sound.claim(request)) if request else finished


class LetsTheSuspendedSleep(Sound):
    """Keeps what a suspended invocation awaits to itself: nothing wakes it."""

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        forgotten = [msgspec.structs.replace(outcome, awaits=()) for outcome in outcomes]
        return self.sound.finish(runner, forgotten, request)


class ForgetsPendingWork(Sound):
    """Takes back what was running, not what had been claimed ahead."""

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        owned = [claimed.id for info in self.sound.runners() for claimed in self.sound.owned(info.beat.id)]
        pending = {row.id for row in self.sound.get(owned) if row.status is S.PENDING}
        recovered = self.sound.recover(by, limit, error)
        forgotten = {item.id for item in recovered if item.id in pending}
        self.hide(sorted(forgotten))
        return [item for item in recovered if item.id not in forgotten]


class ForgetsToExpire(Sound):
    """Says that it ended what had expired, and leaves it to the next claim."""

    def expire(self, limit: int) -> int:
        now = self.sound.clock.now()
        waiting = self.sound.find(Filter(), Page(limit)).invocations
        return sum(row.attempt == row.round == 0 < row.expires <= now and not row.ended for row in waiting)


class AcknowledgesBeforeItInserts(Sound):
    """Loses the last row of a batch, and answers for it."""

    def submit(self, new: Sequence[New], blobs: Sequence[Blob] = (), *, max_queue_length: int = 0) -> list[Submitted]:
        if len(new) < 2:
            return self.sound.submit(new, blobs, max_queue_length=max_queue_length)
        answers = self.sound.submit(new[:-1], blobs, max_queue_length=max_queue_length)
        return [*answers, Submitted(new[-1].id, S.REGISTERED, args_digest=new[-1].args_digest)]


class HandsOutTwice(Sound):
    """Gives the last claimed row to the next who asks as well."""

    last: tuple[Claimed, ...] = ()

    def claim(self, request: ClaimRequest) -> Claim:
        answer = self.sound.claim(request)
        again = self.last[-1:] if len(answer.batch) < request.limit and not request.ids else ()
        self.last = answer.batch
        return msgspec.structs.replace(answer, batch=(*answer.batch, *again))


class ReleasesTheKeyTwice(Sound):
    """One end lets two of those that are parked behind its key go."""

    released: tuple[Invocation, ...] = ()

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        finished = self.sound.finish(runner, outcomes, request)
        keys = Counter(
            row.running_key for row in self.sound.get([outcome.id for outcome in outcomes]) if row.running_key
        )
        parked = [
            row
            for key in keys
            for row in self.sound.find(Filter(running_key=key)).invocations
            if row.place is Place.PARKED
        ]
        self.released = tuple(parked[-1:])
        return finished

    def claim(self, request: ClaimRequest) -> Claim:
        answer = self.sound.claim(request)
        released = [row for row in self.released if len(answer.batch) < request.limit and not request.ids]
        self.released = ()
        more = [
            Claimed(id=row.id, task=row.task, attempt=row.attempt + 1, args=row.args, queue=row.queue)
            for row in released
        ]
        return msgspec.structs.replace(answer, batch=(*answer.batch, *more))


class LosesAWake(Sound):
    """Every second watch is never woken."""

    watches = 0

    def watch(self, ids: Sequence[str], wake: Wake, **more: Any) -> Watch:
        self.watches += 1
        return self.sound.watch(ids, wake if self.watches % 2 else _nothing, **more)


class LosesAReaction(Sound):
    """Forgets the last of the reactions of each owner."""

    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        self.sound.subscribe(owner, reactions[:-1])


class LosesASignal(Sound):
    """Every second signal is accepted and not kept."""

    signals = 0

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        self.signals += change.kind is ChangeKind.SIGNAL
        if change.kind is ChangeKind.SIGNAL and self.signals % 2 == 0:
            rows = {row.id: row for row in self.sound.get(ids)}
            return [
                Amended(name, accepted=name in rows and rows[name].place is not Place.FINAL, status=None)
                for name in ids
            ]
        return self.sound.amend(ids, change)


class RemembersForZombies(Sound):
    """Keeps what an attempt says that owns its invocation no more."""

    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Ref | None = None
    ) -> dict[str, bytes]:
        return self.sound.remember(scope, items, once=once, by=by) or self.sound.remember(scope, items, once=once)


class ForgetsAStep(Sound):
    """What a step made is not kept, so that the next attempt carries it out again."""

    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Ref | None = None
    ) -> dict[str, bytes]:
        kept = {key: value for key, value in items.items() if key != "step"} if once else items
        return {**items, **self.sound.remember(scope, kept, once=once, by=by)}


def _nothing() -> None:
    """What a lost wake-up does."""


BUGS = [
    SkipsTheFence,
    AcceptsASecondFinal,
    ForgetsTheKeyOnRetry,
    LetsTheSuspendedSleep,
    ForgetsPendingWork,
    ForgetsToExpire,
    AcknowledgesBeforeItInserts,
    HandsOutTwice,
    ReleasesTheKeyTwice,
    LosesAWake,
    LosesAReaction,
    LosesASignal,
    RemembersForZombies,
]
#: Tests of the suite by part of their name: the whole suite would take longer, and what should catch a bug is known.
CLAUSES = {
    SkipsTheFence: "fence",
    AcceptsASecondFinal: "final",
    ForgetsTheKeyOnRetry: "key_is_freed",
    LetsTheSuspendedSleep: "suspended",
    ForgetsPendingWork: "recover",
    ForgetsToExpire: "expire_ends",
    AcknowledgesBeforeItInserts: "submit",
    HandsOutTwice: "claim",
    ReleasesTheKeyTwice: "key_is_freed",
    LosesAWake: "watch_by_several",
    LosesAReaction: "reaction_to_each_retry",
    LosesASignal: "signal",
    RemembersForZombies: "owns_nothing_any_more",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up that was lost is not worth waiting for."""
    monkeypatch.setattr(base, "PATIENCE", 0.2)


def suite_of(store: type[Sound]) -> type[StoreSuite]:
    class Seeded(StoreSuite):
        def make_store(self, clock: VirtualClock) -> Store:
            return store(clock)

        def kill_group(self, store: Store, group: str) -> None:
            store.declare_dead(group)

    return Seeded


def machine_of(store: type[Sound]) -> type[StoreMachine]:
    class Seeded(StoreMachine):
        def make_store(self, clock: VirtualClock) -> Store:
            return store(clock)

        def kill_group(self, group: str) -> None:
            self.store.declare_dead(group)

    return Seeded


#: What is to be done more often than usual, for a bug to be met soon.
OFTEN = {
    ForgetsToExpire: ("expire", "pass_time", "set_queue"),
    LosesASignal: ("amend",),
    SkipsTheFence: ("zombie", "recover"),
}

#: No shrinking: that it fails is enough.
SEARCH = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("bug", BUGS)
def test_the_suite_catches(bug: type[Sound]) -> None:
    failures = [name for name, _ in run_suite(suite_of(bug), CLAUSES[bug])]
    assert failures


@pytest.mark.parametrize("bug", BUGS)
def test_the_model_catches(bug: type[Sound], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFTEN.get(bug, ()):
        monkeypatch.setitem(OPERATIONS, name, OPERATIONS[name]._replace(weight=10))
    with pytest.raises(Exception) as caught:
        run_state_machine_as_test(machine_of(bug), settings=SEARCH)
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("clause", sorted(set(CLAUSES.values())))
def test_the_same_clauses_pass_without_a_bug(clause: str) -> None:
    assert list(run_suite(suite_of(Sound), clause)) == []
