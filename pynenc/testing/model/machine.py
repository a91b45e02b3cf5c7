"""The model test: hypothesis does random operations to a store and to the plain :mod:`~pynenc.testing.model`, which must agree after each.

A store author subclasses :class:`StoreMachine` and gives it to pytest::

    class MyMachine(StoreMachine):
        def make_store(self, clock): ...
        def kill_group(self, group): ...

    class TestModel(MyMachine.TestCase):
        settings = model_settings(60)

``PYNENC_MODEL_EXAMPLES=20000`` asks for as many random examples instead of the fixed ones; ``PYNENC_MODEL_STEPS`` sets their
length. A failure prints the shortest program that shows it and a blob for ``@reproduce_failure``.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from pynenc.core.reaction import FIRING, Reaction
from pynenc.core.records import (
    Alone,
    Change,
    ChangeKind,
    ClaimRequest,
    New,
    Outcome,
    Owner,
    Purge,
    QueueState,
    Ref,
    WorkflowRef,
)
from pynenc.core.status import REACTED, InvocationStatus, Place
from pynenc.exceptions import QueueFullError, RunnerLostError, TaskRoutingError
from pynenc.testing.clock import SECOND
from pynenc.testing.model.machine_base import OPERATIONS, OWNERS, numbers, operation, programs
from pynenc.testing.model.machine_runners import RunnerRules
from pynenc.testing.model.row import Row

S = InvocationStatus

#: Running keys: each with one limit; ``d…`` drop.
KEYS = {None: 1, "k1": 1, "k2": 2, "d1": 1, "d2": 2}

calls = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(["x", "x", "y"]),
        "priority": st.sampled_from([0.0, 0.0, 0.0, -1.0, 2.0]),
        "delay": st.sampled_from([0, 0, 0, 0, 3, 25]),
        "key": st.sampled_from([None, None, "k1", "k1", "k2", "k2", "d1", "d2"]),
        "registration_key": st.sampled_from([None, None, None, "r1", "r2"]),
        "cache_key": st.sampled_from([None, None, None, "c1"]),
        "task": st.sampled_from(["suite.t0", "suite.t0", "suite.t1"]),
        "expires": st.sampled_from([0, 0, 0, 12]),
        "max_crashes": st.sampled_from([1, 2, 3]),
        "result_ttl": st.sampled_from([0, 0, 30]),
        "again": st.sampled_from([None, None, None, None, None, 0, 1, 2]),
        "child_of": st.sampled_from([None, None, 0, 1]),
        "member_of": st.sampled_from([None, None, None, 0, 1, 2]),
        "is_root": st.booleans(),
    }
)
batches = st.lists(calls, min_size=1, max_size=6)
#: A call that can be made at any time.
USUAL: dict[str, Any] = {
    "queue": "x",
    "priority": 0.0,
    "delay": 0,
    "key": "k1",
    "registration_key": None,
    "cache_key": None,
    "task": "suite.t0",
}
USUAL |= {"expires": 0, "max_crashes": 3, "result_ttl": 0, "again": None, "child_of": None, "member_of": None}
ways = st.sampled_from(
    [S.SUCCESS, S.SUCCESS, S.FAILED, S.RETRY, S.RETRY, S.REGISTERED, S.REGISTERED, S.PAUSED, S.CANCELLED]
)
shares = st.sampled_from([(), (), (("x", 2),), (("x", 1), ("y", 1)), (("y", 3), ("x", 3))])


class StoreMachine(RunnerRules):
    """Random operations; each tells the model what was done and compares."""

    @initialize(batch=batches)
    def begin(self, batch: list[dict[str, Any]]) -> None:
        self.set_up()
        self.submit(batch, 0)

    @rule(step=programs())
    def do(self, step: tuple[str, dict[str, Any]]) -> None:
        """One operation; where it is not possible now, one that leads there."""
        name, arguments = step
        if OPERATIONS[name].when(self):
            getattr(self, name)(**arguments)
        elif len(self.living()) < 2:
            self.join(is_supervised=len(self.model.gone) % 2 == 0)
        elif any(row.place is Place.READY for row in self.model.rows.values()):
            self.open_queues()
            self.claim(0, 3, (), "")
        else:
            self.open_queues()
            self.submit([USUAL, USUAL | {"key": None}], 0)

    def open_queues(self) -> None:
        for name, state in self.model.queues.items():
            if state is not QueueState.ACTIVE:
                self.set_queue(name, QueueState.ACTIVE)

    # -- submit --------------------------------------------------------------------------------------------------------------
    @operation(6, batch=batches, limit=st.sampled_from([0, 0, 0, 6]))
    def submit(self, batch: list[dict[str, Any]], limit: int) -> None:
        self.step()
        rows = [self.new_call(call) for call in batch]
        refusal = self.model.refusal(rows, limit)
        try:
            answers = self.store.submit(rows, max_queue_length=limit)
        except TaskRoutingError as error:
            assert refusal, f"refused: {error}"
            assert isinstance(error, QueueFullError) or refusal == "draining"
        else:
            assert not refusal, f"accepted although {refusal}"
            for row, answer in zip(rows, answers, strict=True):
                expected, is_there = self.model.submit(row)
                assert (answer.id, answer.existing and answer.id == row.id) == (expected, is_there)
            assert [answer.status for answer in answers] == [
                found.status for found in self.store.get([answer.id for answer in answers])
            ]
        self.compare()

    def new_call(self, call: dict[str, Any]) -> New:
        if call["again"] is not None and self.model.rows:
            return self.any_row(call["again"]).new
        now, name, key = self.clock.now(), self.fresh("i"), call["key"]
        claimed = self.claimed()
        expires = call["expires"] and key is None
        return New(
            id=name,
            task=call["task"],
            args=b"args of " + name.encode(),
            queue=call["queue"],
            priority=call["priority"],
            due=now + call["delay"] * SECOND if call["delay"] else 0,
            expires=now + call["expires"] * SECOND if expires else 0,
            registration_key=call["registration_key"],
            running_key=key,
            running_limit=KEYS[key],
            drop_blocked=key in ("d1", "d2"),
            cache_key=call["cache_key"],
            max_crashes=call["max_crashes"],
            result_ttl=call["result_ttl"] * SECOND,
            parent=claimed[call["child_of"] % len(claimed)].new.id
            if call["child_of"] is not None and claimed
            else None,
            workflow=self.workflow(name, call),
        )

    def workflow(self, name: str, call: dict[str, Any]) -> WorkflowRef | None:
        """A call of a workflow, or the root of one that another one started."""
        if call["member_of"] is None or not self.model.rows:
            return None
        owner = self.any_row(call["member_of"]).new.id
        return WorkflowRef(name, "suite.t0", owner) if call["is_root"] else WorkflowRef(owner, "suite.t0")

    @operation(
        2,
        owner=st.sampled_from(OWNERS),
        statuses=st.lists(st.sampled_from(sorted(REACTED)), max_size=3, unique=True),
        task=st.sampled_from(["suite.t0", "suite.t1", ""]),
        key=st.sampled_from([None, "k1", "k2"]),
    )
    def subscribe(self, owner: str, statuses: list[InvocationStatus], task: str, key: str | None) -> None:
        """Reactions; the tasks of their invocations are known to all, and no reaction reacts to itself."""
        self.step()
        template = New(
            id="", task=f"{FIRING}{owner}", args=b"because ", queue="x", running_key=key, running_limit=KEYS[key]
        )
        reactions = [Reaction(task, status, template, b".") for status in statuses]
        self.store.subscribe(owner, reactions)
        self.model.reactions[owner] = reactions
        self.compare()

    # -- claim and finish --------------------------------------------------------------------------------------------------
    def request(self, runner: str, limit: int, part: tuple[tuple[str, int], ...], kind: str) -> ClaimRequest:
        return ClaimRequest(
            runner, limit, part, aged=kind == "aged", alone=Alone.ONLY if kind == "alone" else Alone.NEVER
        )

    @operation(
        8,
        when=lambda self: self.living(),
        number=numbers,
        limit=st.sampled_from([2, 1, 3, 5, 0]),
        part=shares,
        kind=st.sampled_from(["", "", "", "aged", "alone"]),
    )
    def claim(self, number: int, limit: int, part: tuple[tuple[str, int], ...], kind: str) -> None:
        self.step()
        request = self.request(self.runner(number), limit, part, kind)
        self.claimed_by(request, self.store.claim(request).batch)
        self.compare()

    @operation(1, when=lambda self: self.model.gone)
    def claim_by_the_gone(self) -> None:
        self.step()
        for name in self.model.gone:
            try:
                self.store.claim(ClaimRequest(name, 5))
            except RunnerLostError:
                continue
            raise AssertionError(f"{name} is gone, and was given work")
        self.compare()

    @operation(4, when=lambda self: self.claimed(), number=numbers, count=st.integers(1, 3))
    def start(self, number: int, count: int) -> None:
        self.step()
        rows = self.some_of_one_runner(number, count)
        refs = [Ref(row.new.id, row.attempt) for row in rows]
        assert self.store.start(rows[0].runner or "", refs, self.clock.now()) == []
        for row in rows:
            if row.status is S.PENDING:
                row.change(S.RUNNING, Place.CLAIMED)
                row.started = self.clock.now()
        self.compare()

    def some_of_one_runner(self, number: int, count: int) -> list[Row]:
        rows = self.claimed()
        first = rows[number % len(rows)]
        return [first, *(row for row in rows if row.runner == first.runner and row is not first)][:count]

    @operation(
        10,
        when=lambda self: self.claimed(),
        number=numbers,
        endings=st.lists(ways, min_size=1, max_size=3),
        detail=st.integers(0, 5),
        limit=st.integers(0, 3),
        picks=st.lists(numbers, max_size=2),
    )
    def finish(self, number: int, endings: list[InvocationStatus], detail: int, limit: int, picks: list[int]) -> None:
        self.step()
        rows = self.some_of_one_runner(number, len(endings))
        runner = rows[0].runner or ""
        outcomes = [self.outcome(row, status, detail, picks) for row, status in zip(rows, endings, strict=False)]
        request = self.request(runner, limit, (), "") if limit else None
        finished = self.store.finish(runner, outcomes, request)
        assert finished.lost == ()
        for outcome in outcomes:
            assert self.model.finish(runner, outcome)
        self.model.react()
        if request:
            self.claimed_by(request, finished.claim.batch)
        self.compare()

    def outcome(self, row: Row, status: InvocationStatus, detail: int, picks: list[int]) -> Outcome:
        now = self.clock.now()
        delay = (0, 0, 4, 0, 0, 30)[detail] if status in (S.RETRY, S.PAUSED) else 0
        is_release = status is S.REGISTERED
        return Outcome(
            id=row.new.id,
            attempt=row.attempt,
            status=status,
            payload=self.fresh("payload").encode() if status in (S.SUCCESS, S.FAILED) else b"",
            due=now + delay * SECOND if delay else 0,
            retries=row.retries + (status is S.RETRY),
            crashes=row.crashes,
            started=row.started,
            ended=0 if is_release else now,
            reason=status.value if detail % 2 else "",
            alone=is_release and detail == 1,
            unknown_task=is_release and detail == 2,
            args=self.fresh("args").encode() if is_release and detail in (3, 4) else None,
            awaits=tuple({self.any_row(pick).new.id: None for pick in picks}) if status is S.PAUSED else (),
            signals=len(row.signals) - detail % 2 if status is S.PAUSED and detail < 4 else -1,
        )

    @operation(3, when=lambda self: self.refs, number=numbers, status=ways)
    def zombie(self, number: int, status: InvocationStatus) -> None:
        """Anybody who ever owned something tries to end it."""
        self.step()
        runner, ref = self.refs[number % len(self.refs)]
        row = self.model.rows.get(ref.id)
        if row is None or not self.model.is_owned(runner, ref.id, ref.attempt):
            outcome = Outcome(
                id=ref.id,
                attempt=ref.attempt,
                status=status,
                payload=self.fresh("zombie").encode(),
                ended=self.clock.now(),
            )
            assert self.store.finish(runner, [outcome]).lost == (ref.id,), "a zombie was accepted"
            assert self.store.start(runner, [ref], self.clock.now()) == [ref.id], "a zombie was accepted"
            scope = f"{ref.id}/{row.round if row else 0}"
            assert self.store.remember(scope, {"1": b"zombie"}, by=Owner(ref.id, ref.attempt, runner)) == {}, (
                "a zombie was accepted"
            )
        self.compare()

    @operation(2, when=lambda self: any(row.last for row in self.model.rows.values()), number=numbers)
    def send_again(self, number: int) -> None:
        """A lost reply: the same outcome once more."""
        self.step()
        lasts = [row.last for row in self.model.rows.values() if row.last]
        runner, outcome = lasts[number % len(lasts)]
        lost = self.store.finish(runner, [outcome]).lost
        assert lost == (() if self.model.finish(runner, outcome) else (outcome.id,))
        self.compare()

    # -- people --------------------------------------------------------------------------------------------------------------
    @operation(
        5,
        when=lambda self: self.model.rows,
        number=numbers,
        kind=st.sampled_from([*ChangeKind, ChangeKind.CANCEL]),
        priority=st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
    )
    def amend(self, number: int, kind: ChangeKind, priority: float) -> None:
        self.step()
        row = self.any_row(number)
        is_due = row.place in (Place.LATER, Place.WAITING) and 0 < row.due <= self.clock.now()
        if is_due:
            return  # a store may have moved it already, or not: what a change means is open
        was = row.status
        change = Change(kind, self.fresh("why"), priority, self.fresh("value").encode())
        (answer,) = self.store.amend([row.new.id], change)
        assert answer.accepted == self.amended(row, change), (answer, was)
        kept = self.store.recall(row.new.id)
        assert [kept[key] for key in sorted(kept) if key.startswith("signal:")] == row.signals
        self.compare()

    def amended(self, row: Row, change: Change) -> bool:
        """What the model makes of a change."""
        match change.kind:
            case ChangeKind.SIGNAL:
                return self.model.signal(row, change.value)
            case ChangeKind.CANCEL:
                return self.model.cancel(row, change.reason)
            case ChangeKind.REQUEUE:
                return self.model.requeue(row)
            case ChangeKind.RESUME:
                return self.model.resume(row)
            case ChangeKind.REPRIORITISE:
                return self.model.reprioritise(row, change.priority)

    @operation(3, when=lambda self: self.claimed(), number=numbers, once=st.booleans(), key=st.sampled_from(["1", "2"]))
    def remember(self, number: int, once: bool, key: str) -> None:  # noqa: FBT001
        """A body gets on and says so."""
        self.step()
        rows = self.claimed()
        row = rows[number % len(rows)]
        scope, value = f"{row.new.id}/{row.round}", self.fresh("step").encode()
        assert self.store.recall(scope) == row.memory
        if not (once and key in row.memory):
            row.memory[key] = value
        assert self.store.remember(
            scope, {key: value}, once=once, by=Owner(row.new.id, row.attempt, row.runner or "")
        ) == {key: row.memory[key]}
        row.crashes, row.alone = 0, False
        self.compare()

    @operation(
        1,
        name=st.sampled_from(["x", "y"]),
        state=st.sampled_from([QueueState.ACTIVE, QueueState.ACTIVE, QueueState.PAUSED, QueueState.DRAINING]),
    )
    def set_queue(self, name: str, state: QueueState) -> None:
        self.step()
        self.store.set_queue(name, state)
        self.model.queues[name] = state
        self.compare()

    @operation(2, age=st.sampled_from([0, 1, 10]))
    def purge(self, age: int) -> None:
        self.step()
        border = self.clock.now() - age * SECOND
        purged = self.store.purge(Purge(ended_before=border, limit=10_000))
        assert purged.invocations == self.model.purge(border)
        self.compare()


def model_settings(examples: int, steps: int = 40) -> settings:
    """``examples`` fixed programs of ``steps`` operations, or as many random ones as ``PYNENC_MODEL_EXAMPLES`` says."""
    asked = os.environ.get("PYNENC_MODEL_EXAMPLES")
    return settings(
        max_examples=int(asked or examples),
        stateful_step_count=int(os.environ.get("PYNENC_MODEL_STEPS", steps)),
        derandomize=asked is None,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
