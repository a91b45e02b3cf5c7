"""The durable operations of one attempt: what the cursor decides, carried out on the store.

What was recorded is read once, at the first durable operation of an attempt (an invocation that was never claimed before has no records), together with the
finals of all recorded children. So a replay costs two reads, however long it is. A new operation is carried out and then recorded under its position.

What an operation waits for is never waited for here: the body is left (:class:`~pynenc.engine.suspension.Suspended`) with what wakes it. Async bodies are
left when all their branches wait (:mod:`~pynenc.workflow.branches`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from pynenc import context
from pynenc.core.records import Final, Owner
from pynenc.core.status import InvocationStatus
from pynenc.engine.spec import TaskSpec
from pynenc.engine.suspension import Departure, EndOfRecord, GivenUp, Suspended
from pynenc.engine.transaction import refuse_inside
from pynenc.exceptions import (
    InvocationCancelledError,
    InvocationNotFoundError,
    NonDeterminismError,
    StoreError,
    WorkflowError,
)
from pynenc.workflow import compensation, difference, waiting
from pynenc.workflow.compensation import FAILING, Submit, Undo
from pynenc.workflow.inbox import Inbox
from pynenc.workflow.replay import (
    BEGUN,
    CALL,
    TURNS,
    Branch,
    Cursor,
    Record,
    begun_at,
    decode_record,
    encode_record,
    position_of,
)
from pynenc.workflow.turns import Grade

logger = logging.getLogger("pynenc.workflow")
T = TypeVar("T")

NOTHING: Mapping[str, Record] = MappingProxyType({})
STEP, SLEEP, PAUSE, SIGNAL = "step", "sleep", "pause", "wait_signal"

#: The flow whose branches are told apart in this context, and which of them runs here. What a body runs in its own place inherits them, and has others.
running_flow: ContextVar[Flow | None] = ContextVar("pynenc_flow", default=None)
branch_here: ContextVar[Branch | None] = ContextVar("pynenc_branch", default=None)
#: The flow of which a step runs in this context.
in_step: ContextVar[Flow | None] = ContextVar("pynenc_in_step", default=None)

encode = msgspec.msgpack.encode
_called = msgspec.msgpack.Decoder(tuple[int, dict[int, str]]).decode
_number = msgspec.msgpack.Decoder(int).decode


class Flow:
    """The durable operations of one running invocation.

    :param records: a history to check; nothing is read or written then, and the body is left where the history ends.
    :ivar is_workflow: it is one of ``@app.workflow``: plain calls in its body are durable operations, and it is suspended where it waits.
    """

    def __init__(
        self, running: context.Running, spec: TaskSpec, records: History | None = None, *, follow: bool = True
    ) -> None:
        self.running = running
        self.engine = running.engine
        self.is_workflow = spec.is_workflow
        self.is_async = spec.is_async
        self.id = running.id
        self.scope = f"{running.id}/{running.claimed.round}"
        self.root = Branch()
        self.undos: dict[str, Undo] = {}  # by the place in the body, which is the same in each replay
        self.branches: Any = None
        self.inbox: Inbox | None = None  # of the first wait for a signal that is new
        self.source = Cursor((self.engine.app_id, self.id, str(running.claimed.round)), {})  # for what needs no record
        self._is_told = False
        self._history = records
        self._cursor: Cursor | None = None
        self._finals: dict[str, Final] = {}
        #: Exceptions of steps, by branch, that are not known to have been survived.
        self._pending: dict[str, list[tuple[str, Record]]] = {}
        if follow and self.is_async and self.is_workflow:
            self.follow_branches()

    def follow_branches(self) -> None:
        """Tell the branches of an async body apart, from now on."""
        from pynenc.workflow.branches import Branches

        if self.branches is None:
            self.branches = Branches(self, self.root)

    def close(self, *, is_end: bool) -> None:
        """The attempt is over."""
        if self.branches is not None:
            self.branches.close(is_end=is_end)

    # -- where the body is -----------------------------------------------------------------------------------------------
    @property
    def branch(self) -> Branch:
        """The branch that runs here."""
        return (running_flow.get() is self and branch_here.get()) or self.root

    @property
    def cursor(self) -> Cursor:
        """The cursor, over what was recorded before this attempt."""
        if self._cursor is None:
            self._cursor = Cursor(self.source.source, self._load())
        return self._cursor

    def _load(self) -> dict[str, Record]:
        if self._history is not None:
            self._finals = dict(self._history.finals)
            return self._history.records
        if self.running.attempt == 1:
            return {}
        stored = self.insist(lambda: self.engine.store.recall(self.scope))
        records = {position: decode_record(value) for position, value in stored.items()}
        compensation.face_death(self, records)
        self._finals = {final.id: final for final in self.finals_of(records)}
        return records

    def finals_of(self, records: dict[str, Record]) -> list[Final]:
        """The finals of all recorded children."""
        calls = [(position, record) for position, record in records.items() if record.kind == CALL]
        ids = [name for position, record in calls for name in ids_of(self.source.child_ids, position, record)]
        try:
            return list(self.insist(lambda: self.engine.store.finals(ids))) if ids else []
        except InvocationNotFoundError:
            return []  # one was removed by hand; who asks for it is told

    @property
    def is_checked(self) -> bool:
        """Whether this is no run, but the check of a history."""
        return self._history is not None

    @property
    def is_replaying(self) -> bool:
        """Whether the body has been here before."""
        return not self.is_first and self.cursor.is_replaying(self.branch)

    @property
    def is_first(self) -> bool:
        """Whether nothing can have been recorded."""
        return self.running.attempt == 1 and self._history is None

    @property
    def is_failing(self) -> bool:
        """Whether the workflow has failed in an earlier attempt, and is being compensated."""
        return not (self.is_first or self._cursor is None) and FAILING in self.cursor.records

    @property
    def has_failed(self) -> bool:
        """The same, also before the first operation of an attempt."""
        return not self.is_first and FAILING in self.cursor.records

    @property
    def records_calls(self) -> bool:
        """Whether a plain call here is a durable operation."""
        return self.is_workflow and in_step.get() is not self

    def covers(self, engine: object) -> bool:
        """Whether calls and results of an engine are those of this run; in the check of a history all are."""
        return self.is_checked or self.engine is engine

    # -- recording -------------------------------------------------------------------------------------------------------
    def meet(self, kind: str, name: str = "") -> tuple[str, Record | None]:
        """The next operation: its position, and its record if it was made before."""
        self.check()
        if context.transaction() is not None:  # recorded whatever becomes of that of the user
            refuse_inside(self.engine.store, f"{kind} in the body of a workflow", "or put the whole block into a step")
        position, record = self.meet_in(self.branch, kind, name, difference.caller)
        if record is None and self.is_failing:
            raise self.failure()
        return position, record

    def meet_in(self, branch: Branch, kind: str, name: str, where: Callable[[], str]) -> tuple[str, Record | None]:
        """The next operation of a branch."""
        try:
            return self.cursor.meet(branch, kind, name, where)
        except NonDeterminismError as error:
            raise difference.stop(self, error) from error

    def check(self) -> None:
        """Refuse to go on after the body was left or cancelled, and inside a step."""
        if self.running.departure is not None:
            raise self.running.departure
        if self.running.cancel_requested and not (
            self.is_async or self._is_told
        ):  # once: the body may clean up; asyncio tells tasks itself
            self._is_told = True
            raise InvocationCancelledError(f"workflow {self.id} was cancelled", self.id)
        if in_step.get() is self:
            raise WorkflowError("a step cannot use task.wf: it may run again as a whole; use task.wf around it")

    def check_all_met(self) -> None:
        """Refuse the end of a body that has failed, or did not come to all that it did before."""
        if self.has_failed:
            raise self.failure()
        if self._cursor is not None and (left := self._cursor.left()):
            raise difference.stop(self, difference.not_all_met(left))

    def stop_early(self, error: BaseException, told: str) -> str:
        """Leave a body whose code was broken since, as it has raised before it came to all that it did: that is no failure of what it does. Returns why;
        nothing if it has failed.
        """
        if self.is_first or not isinstance(error, difference.BROKEN) or not (left := self.cursor.left()):
            return ""
        return str(difference.stop(self, difference.raised_early(told, error, left)))

    def failure(self) -> BaseException:
        """The error that a workflow failed with, raised again where it left the body."""
        payload = self.cursor.records[FAILING].payload
        spec = self.engine.executor.resolve(self.running.task)
        final = Final(self.id, InvocationStatus.FAILED, self.running.task, payload)
        error: BaseException = self.engine.codec.decode_error(spec, final)
        return error

    def write(
        self, position: str, record: Record, *, once: bool = True, also: Mapping[str, Record] = NOTHING
    ) -> Record:
        """Record an operation, with the turns that were taken before it and the exceptions of steps that its branch has survived; the record that counts."""
        if self._history is not None:
            raise self.leave(EndOfRecord())
        if once:
            record = self._with_turns(record)
        items = {place: encode_record(each) for place, each in (*also.items(), (position, record))}
        pending = self._pending.pop(self.branch.path, [])
        items |= {before: encode_record(failure) for before, failure in pending}
        stored = self.remember(self.scope, items, once=once)
        self.get_on()
        for before, failure in (*also.items(), *pending):
            self.cursor.add(before, failure)
        if once and stored[position] != items[position]:
            record = decode_record(stored[position])
        elif record.turns:
            del self.branches.turns.new[: len(record.turns)]
        self.cursor.add(position, record)
        return record

    def get_on(self) -> None:
        """Something durable was done, which forgives crashes."""
        claimed = self.running.claimed
        if claimed.crashes or claimed.alone:
            self.running.claimed = msgspec.structs.replace(claimed, crashes=0, alone=False)

    def _with_turns(self, record: Record) -> Record:
        """A record that tells which turns were taken since the one before."""
        if self.branches is None or not (new := self.branches.turns.new):
            return record
        return msgspec.structs.replace(record, turn=self.cursor.next_turn, turns=tuple(new))

    def remember(self, scope: str, items: Mapping[str, bytes], *, once: bool = False) -> dict[str, bytes]:
        """Store values as long as this attempt owns the invocation: one that woke up too late changes nothing, also when its round is over."""
        if context.transaction() is not None:
            refuse_inside(self.engine.store, "remembering a value")
        by = Owner(self.id, self.running.attempt, self.running.runner)
        stored: dict[str, bytes] = self.insist(lambda: self.engine.store.remember(scope, items, once=once, by=by))
        if items and not stored:
            raise self.leave(GivenUp())
        return stored

    def insist(self, call: Callable[[], T]) -> T:
        """Carry out an operation that may be sent twice, also on a store that does not answer at first: a run does not fail because of that."""
        pause = 0.05
        while True:
            try:
                return call()
            except StoreError as error:
                running = self.running
                if not error.retryable or running.interrupt is not None or running.cancel_requested:
                    raise
                logger.warning("the store did not answer (%s); trying again", error)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def leave(self, departure: Departure) -> Departure:
        """The body is left here; to be raised."""
        self.running.departure = self.running.departure or departure
        if self.branches is not None:
            self.branches.leave()
        return departure

    def suspend(self, reason: str, *, due: int = 0, awaits: tuple[str, ...] = (), signals: int = -1) -> Departure:
        """The body is suspended here; to be raised."""
        if self._history is not None:
            return self.leave(EndOfRecord())
        return self.leave(Suspended(reason, due=due, awaits=awaits, signals=signals))

    def encode(self, value: Any, position: str) -> bytes:
        payload: bytes = self.engine.codec.encode_value(value, self.scope, position)
        return payload

    def decode(self, record: Record, position: str) -> Any:
        return self.engine.codec.decode_value(record.payload, self.scope, position)

    def value(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        """A value that is made once."""
        position, record = self.meet(kind, name)
        if record is None:
            record = self.write(position, Record(kind, name, self.encode(make(), position)))
        return self.decode(record, position)

    def mark(self, kind: str, name: str, act: Callable[[], object]) -> None:
        """Something that is done once and has no value."""
        position, record = self.meet(kind, name)
        if record is None:
            if self._history is None:
                act()
            self.write(position, Record(kind, name))

    # -- turns -----------------------------------------------------------------------------------------------------------
    async def take_turn(self, label: str, *, has_failed: bool = False) -> None:
        """Something that an async body waited for is there: let it in when it is its turn."""
        if self.branches is None or not self.branches.turns.are_taken:
            return
        await self.branches.take_turn(self.branch, label, Grade.FAILURE if has_failed else Grade.VALUE)
        if has_failed and label in self.branches.turns.new and not self.is_checked:
            position = position_of(TURNS, self.cursor.next_turn)
            self.write(position, Record("turns"))

    async def come(self) -> None:
        """A branch of an async body comes to an operation. In a run that has failed it got no farther than to what is recorded: what the others did then comes
        first, and the error that ended them.
        """
        self.follow_branches()
        if self.branches.turns.are_taken and self.has_failed and not self.cursor.is_recorded(self.branch):
            await self.branches.take_turn(self.branch, "", Grade.END)

    # -- steps -----------------------------------------------------------------------------------------------------------
    def begin_step(self, name: str) -> tuple[str, Record | None]:
        """Where a step stands, and its record."""
        position, record = self.meet(STEP, name)
        if record is None and self._history is not None and not self.is_async:
            raise self.leave(EndOfRecord())
        return position, record

    def end_step(self, position: str, name: str, value: Any) -> Any:
        """A step returned; its value, or that of whoever ran it before."""
        return self.step_value(position, self.write(position, Record(STEP, name, self.encode(value, position))))

    def fail_step(self, position: str, name: str, error: Exception) -> None:
        """A step raised: recorded with the next operation of its branch, since the body went on then."""
        spec = self.engine.executor.resolve(self.running.task)
        payload = self.engine.codec.encode_error(spec, self.running.claimed, error)
        pending = self._pending.setdefault(self.branch.path, [])
        pending.append((position, Record(STEP, name, payload, failed=True)))

    def survive(self, path: str) -> None:
        """A branch has ended: whoever goes on above it has survived what failed there."""
        if pending := self._pending.pop(path, []):
            above = path[: path.rstrip("/").rfind("/") + 1]
            self._pending.setdefault(above, []).extend(pending)

    def step_value(self, position: str, record: Record) -> Any:
        """The value of a recorded step, or its exception raised."""
        if not record.failed:
            return self.decode(record, position)
        spec = self.engine.executor.resolve(self.running.task)
        raise self.engine.codec.decode_error(
            spec, Final(self.id, InvocationStatus.FAILED, self.running.task, record.payload)
        )

    @contextmanager
    def step_context(self) -> Iterator[None]:
        """What runs inside is a step."""
        token = in_step.set(self)
        try:
            yield
        finally:
            in_step.reset(token)

    # -- calls -----------------------------------------------------------------------------------------------------------
    def call(self, name: str, count: int, submit: Submit) -> tuple[list[str], bool]:
        """Make ``count`` calls of a task as one operation; the ids of the invocations, and whether they were made now."""
        position, record = self.meet(CALL, name)
        return self.call_at(position, record, name, count, submit), record is None

    def call_at(self, position: str, record: Record | None, name: str, count: int, submit: Submit) -> list[str]:
        ids = self.cursor.child_ids(position, count)
        if record is None:
            if self._history is not None:
                raise self.leave(EndOfRecord())
            answers = self.insist(lambda: submit(ids))
            others = {index: answer.id for index, answer in enumerate(answers) if answer.id != ids[index]}
            record = self.write(position, Record(CALL, name, encode((count, others))))
        recorded, others = _called(record.payload)
        if recorded != count:
            raise difference.stop(self, difference.other_count(position, name, count, recorded))
        return [others.get(index, own) for index, own in enumerate(ids)]

    # -- waiting for others ------------------------------------------------------------------------------------------------
    def begin(self, position: str, operation: str, payload: bytes) -> Record:
        """Record that an operation (kind and name) has begun; the record that counts."""
        return self.cursor.begun(position) or self.write(begun_at(position), Record(BEGUN, operation, payload))

    def deadline(self, position: str, operation: str, microseconds: int) -> int:
        """Until when an operation takes at most, counted from when it began."""
        due = self.engine.store.clock.now() + microseconds
        return int(_number(self.begin(position, operation, encode(due)).payload))

    def wait(
        self, ids: Sequence[str], timeout: float | None, look: waiting.Look, *, is_race: bool = False
    ) -> list[Final]:
        """Wait for other invocations (:func:`pynenc.workflow.waiting.wait`)."""
        return waiting.wait(self, ids, timeout, look, is_race=is_race)

    async def wait_async(self, ids: Sequence[str], timeout: float | None, look: waiting.AsyncLook) -> list[Final]:
        """The same for async bodies."""
        return await waiting.wait_async(self, ids, timeout, look)

    def known(self, ids: Sequence[str]) -> list[Final]:
        """The finals of ``ids`` that need not be read."""
        return [self._finals[name] for name in ids if name in self._finals]

    async def end_branch(self) -> None:
        """The history of a branch that is only checked ends here; others may go on."""

        async def for_ever() -> None:
            await asyncio.get_running_loop().create_future()

        import asyncio

        self.follow_branches()
        await self.branches.block(self.branch, Suspended("end of the record"), for_ever)

    def keep(self, finals: list[Final]) -> list[Final]:
        """Remember finals for the rest of the attempt."""
        self._finals.update({final.id: final for final in finals})
        return finals

    def is_over(self, due: int) -> bool:
        """Whether a time has come; 0 never does. In a history that is checked it has."""
        return bool(due) and (self.is_checked or self.engine.store.clock.now() >= due)

    def mark_reached(self) -> None:
        """Note how far the body got, before it is suspended where nothing is recorded."""
        if self._history is None and (mark := self.cursor.mark(self.branch)) is not None:
            self.write(*mark, once=False)

    # -- failing ---------------------------------------------------------------------------------------------------------
    def register(self, undo: Undo) -> None:
        """Note what undoes the work that was done so far."""
        branch = self.branch
        branch.undos += 1
        self.undos[f"{branch.path}{branch.undos}"] = undo

    def compensate(self, error: bytes) -> tuple[bytes, str]:
        """Undo what was done (:func:`pynenc.workflow.compensation.compensate`)."""
        return compensation.compensate(self, error)


class History(NamedTuple):
    """What a workflow did, to be checked: its records by position, and the finals of its children by id."""

    records: dict[str, Record]
    finals: dict[str, Final]


def ids_of(derive: Callable[[str, int], list[str]], position: str, record: Record) -> list[str]:
    """The ids of the invocations of a recorded call."""
    count, others = _called(record.payload)
    return [others.get(index, own) for index, own in enumerate(derive(position, count))]


def flow_here() -> Flow:
    """The durable operations of the invocation that runs here.

    :raises RuntimeError: none does.
    """
    running = context.current()
    if running is None:
        raise RuntimeError("task.wf works inside a running task only: call the task and use it in its body")
    flow: Flow = running.flow or running.engine.executor.flow(running)
    return flow


def recording(engine: object) -> Flow | None:
    """The flow that records plain calls made here through ``engine``, if there is one."""
    running = context.current()
    if running is None or running.flow is None:
        return None
    flow: Flow = running.flow
    return flow if flow.records_calls and flow.covers(engine) else None
