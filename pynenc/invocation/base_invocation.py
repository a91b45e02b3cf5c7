"""Handles of invocations: they hold an id, not a row; every property is read from the store when it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic

from pynenc import context
from pynenc.arguments import Arguments
from pynenc.core.ids import CallId, InvocationId
from pynenc.core.records import ChangeKind, Claimed, Final, HistoryEntry, Invocation, Progress, WorkflowRef
from pynenc.core.status import InvocationStatus
from pynenc.engine.results import timed_out
from pynenc.exceptions import InvocationError
from pynenc.serializer.errors import ErrorInfo, read_error
from pynenc.types import Params, Result
from pynenc.workflow.flow import recording
from pynenc.workflow.workflow_identity import WorkflowIdentity

if TYPE_CHECKING:
    from pynenc.app import Pynenc
    from pynenc.engine import Engine
    from pynenc.task import Task

#: Ids that one read of results asks for.
CHUNK = 256


class BaseInvocation(Generic[Params, Result]):
    """One call of a task: its identity, its state and its result. Equal and hashed by id; picklable.

    :ivar task: the task that was called. :ivar invocation_id: its id.
    """

    __slots__ = ("_arguments", "_claimed", "_engine", "_final", "invocation_id", "task")

    def __init__(
        self,
        task: Task[Params, Result],
        invocation_id: str,
        engine: Engine,
        *,
        arguments: Arguments | None = None,
        claimed: Claimed | None = None,
    ) -> None:
        self.task = task
        self.invocation_id = InvocationId(invocation_id)
        self._engine = engine
        self._arguments = arguments
        self._claimed = claimed
        self._final: Final | None = None

    @property
    def app(self) -> Pynenc:
        """The app of its task."""
        return self.task.app

    # -- state -------------------------------------------------------------------------------------------------------
    def _row(self) -> Invocation:
        return self._engine.get(self.invocation_id)

    @property
    def status(self) -> InvocationStatus:
        """Its status now."""
        return self._final.status if self._final else self._row().status

    @property
    def arguments(self) -> Arguments:
        """The arguments of the call, own copies, bound by name with defaults applied."""
        if self._arguments is None:
            row = self._row()
            self._arguments = Arguments(self._engine.codec.decode(self.task.spec, row), self.task._hidden_names)
        return self._arguments

    @property
    def call_id(self) -> CallId:
        """Identity of the call: the task and a digest of its arguments."""
        return CallId(self.task.task_id, self._engine.codec.digest_row(self._row()))

    @property
    def num_retries(self) -> int:
        """How often it was retried; crashes do not count."""
        return self._claimed.retries if self._claimed else self._row().retries

    @property
    def history(self) -> list[HistoryEntry]:
        """Every change of its status, oldest first."""
        return self._engine.store.history([self.invocation_id])

    @property
    def workflow(self) -> WorkflowIdentity:
        """The workflow it belongs to; a call made outside any task is the root of its own."""
        record: Claimed | Invocation = self._claimed or self._row()
        ref = record.workflow or WorkflowRef(self.invocation_id, self.task.task_id.key)
        return WorkflowIdentity(ref.id, ref.type, ref.parent)

    @property
    def parent_invocation_id(self) -> str | None:
        """The invocation whose body made the call, if any."""
        return (self._claimed or self._row()).parent

    @property
    def progress(self) -> Progress | None:
        """What its body reported last with :meth:`set_progress`."""
        return self._row().progress

    @property
    def exception(self) -> Exception | None:
        """The error that it ended with, None while it runs or when it succeeded."""
        final = self._peek()
        if final is None or final.status is InvocationStatus.SUCCESS:
            return None
        return self._engine.results.error(self.task.spec, final)

    @property
    def traceback(self) -> str | None:
        """The traceback text of the process in which it failed."""
        final = self._peek()
        info: ErrorInfo | None = (
            read_error(self._engine.codec.open_error(final))
            if final and final.status is InvocationStatus.FAILED
            else None
        )
        return info.traceback if info else None

    # -- result ------------------------------------------------------------------------------------------------------
    def _peek(self) -> Final | None:
        if self._final is None:
            finals = self._engine.store.finals([self.invocation_id])
            self._final = finals[0] if finals else None
        return self._final

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._peek() is not None

    @property
    def result(self) -> Result:
        """The value that the task returned; blocks until it has ended.

        :raises Exception: what the task raised, with the remote traceback attached.
        :raises CycleDetectedError: the wait would never end.
        """
        return self.get_result()

    def get_result(self, timeout: float | None = None) -> Result:
        """The same with a limit in seconds.

        :raises ResultTimeoutError: there is no result in time; the invocation goes on.
        """
        if self._final is None and not self.wait(timeout):
            raise timed_out([self.invocation_id], timeout)
        assert self._final is not None
        value: Result = self._engine.results.value(self.task.spec, self._final)
        return value

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended, at most ``timeout`` seconds; whether it has."""
        if self._final is None:
            finals = self._engine.results.wait([self.invocation_id], timeout, inline=self.task.conf.inline)
            self._final = finals[0] if finals else None
        return self._final is not None

    async def async_result(self, timeout: float | None = None) -> Result:
        """The value without blocking the event loop; raises as :meth:`get_result` does."""
        if self._final is None:
            finals = await self._engine.results.wait_async([self.invocation_id], timeout)
            if not finals:
                raise timed_out([self.invocation_id], timeout)
            self._final = finals[0]
        value: Result = self._engine.results.value(self.task.spec, self._final)
        return value

    # -- what people do to it -----------------------------------------------------------------------------------------
    def cancel(self, reason: str = "on request") -> bool:
        """Ask it to stop; whether that was accepted. Not started: it never runs. Running: its body is told (see the guide). A workflow is stopped with
        all its members.
        """
        accepted = self._engine.cancel([self.invocation_id], reason)[0]
        running = context.current()
        if accepted and running is not None and running.id == self.invocation_id:
            running.cancel_requested = True  # its runner would tell it too, later
        return accepted

    def resume(self, value: Any = None) -> bool:
        """Let a paused workflow go on; ``wf.pause`` returns ``value``. Whether that was accepted: it was in a pause.
        Without a value it also lets a run try again whose code and record differed.
        """
        return self._engine.resume(self.invocation_id, value)

    def signal(self, name: str, value: Any = None) -> bool:
        """Send a signal to a workflow: ``wf.wait_signal(name)`` returns ``value``. Whether that was accepted: it had not ended."""
        return self._engine.signal(self.invocation_id, name, value)

    def retry(self) -> bool:
        """Run it again: a final invocation opens a new round, one that waits for its time goes now. Whether that was accepted."""
        self._final = None
        return self._engine.amend([self.invocation_id], ChangeKind.REQUEUE, "retry by hand")[0]

    # -- inside its own body ------------------------------------------------------------------------------------------
    def _own(self) -> context.Running:
        running = context.current()
        if running is None or running.id != self.invocation_id:
            raise InvocationError(f"only the body of invocation {self.invocation_id} can use this", self.invocation_id)
        return running

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody wants it to stop; long sync bodies look at it now and then."""
        running = context.current()
        if running is not None and running.id == self.invocation_id:
            return running.cancel_requested
        return self._row().cancel_requested

    @property
    def attempt(self) -> int:
        """Number of the attempt: grows at every claim."""
        running = context.current()
        return running.attempt if running is not None and running.id == self.invocation_id else self._row().attempt

    @property
    def fence(self) -> str:
        """A text unique to this attempt, to make side effects idempotent; inside its body only."""
        return self._own().fence

    def set_progress(self, done: float, total: float = 0.0, message: str = "") -> None:
        """Report progress from its body; written at most a few times a second.

        :param message: text; what is no Unicode, such as a file name that could not be decoded, is kept with escapes.
        :raises TypeError: it is no text.
        """
        if not isinstance(message, str):
            raise TypeError(f"message of set_progress is text, not {type(message).__name__}")
        running = self._own()
        kept = message.encode("utf-8", "backslashreplace").decode()
        progress = Progress(running.id, running.attempt, float(done), float(total), kept)
        if running.report:
            running.report(progress)
        running.progress = progress

    # -- identity ------------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseInvocation) and other.invocation_id == self.invocation_id

    def __hash__(self) -> int:
        return hash(self.invocation_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.invocation_id}, task={self.task.task_id.key})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.task, str(self.invocation_id))


def _rebuild(
    kind: type[BaseInvocation[Any, Any]], task: Task[Any, Any], invocation_id: str
) -> BaseInvocation[Any, Any]:
    return kind(task, invocation_id, task.app.engine)


class BaseInvocationGroup(Generic[Params, Result]):
    """Invocations that were made together, in the order in which they were submitted.

    :ivar task: their task. :ivar invocations: the invocations.
    """

    def __init__(self, task: Task[Params, Result], invocations: Sequence[BaseInvocation[Params, Result]]) -> None:
        self.task = task
        self.invocations = list(invocations)

    def __iter__(self) -> Iterator[BaseInvocation[Params, Result]]:
        return iter(self.invocations)

    def __len__(self) -> int:
        return len(self.invocations)

    def __getitem__(self, index: int) -> BaseInvocation[Params, Result]:
        return self.invocations[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.invocations)} of {self.task.task_id.key})"

    # -- waiting -------------------------------------------------------------------------------------------------------
    def _pending(self, start: int, count: int = CHUNK) -> list[str]:
        """Ids of the next invocations that are not known to be final, from ``start`` on."""
        found: list[str] = []
        for invocation in self.invocations[start:]:
            if invocation._final is None:
                found.append(invocation.invocation_id)
                if len(found) == count:
                    break
        return found

    def _ready(self, index: int, timeout: float | None, deadline: float | None) -> BaseInvocation[Params, Result]:
        """The invocation at ``index`` once it is final; what is final among the next ones is fetched along."""
        invocation = self.invocations[index]
        while invocation._final is None:
            ids = self._pending(index)
            left = None if deadline is None else deadline - monotonic()
            inline = self.task.conf.inline
            if left is not None and recording(self._engine):
                finals = self._engine.results.wait(ids[:1], max(0.0, left), inline=inline)  # one durable operation each
            else:
                finals = self._engine.store.finals(ids)
                if not any(final.id == invocation.invocation_id for final in finals):
                    along = ids if context.current() and not finals else ()
                    finals = [*finals, *self._engine.results.wait(ids[:1], left, inline=inline, along=along)]
            if not finals:
                raise timed_out([invocation.invocation_id], timeout)
            self._settle_from(index, finals)
        return invocation

    def _settle_from(self, start: int, finals: Sequence[Final]) -> None:
        by_id = {final.id: final for final in finals}
        for invocation in self.invocations[start : start + 4 * CHUNK]:
            if invocation._final is None and (final := by_id.get(invocation.invocation_id)):
                invocation._final = final

    @property
    def _engine(self) -> Engine:
        return self.invocations[0]._engine

    @property
    def results(self) -> Iterator[Result]:
        """The values in submission order; the first failure is raised when it is reached."""
        for index in range(len(self.invocations)):
            yield self._ready(index, None, None).get_result()

    def get_results(
        self, timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[Result | BaseException]:
        """All values in submission order.

        :param timeout: seconds for all of them together. :param return_exceptions: put failures into the list instead of raising the first.
        :raises ResultTimeoutError: not all are there in time.
        """
        deadline = None if timeout is None else monotonic() + timeout
        values: list[Result | BaseException] = []
        for index in range(len(self.invocations)):
            try:
                values.append(self._ready(index, timeout, deadline).get_result(0))
            except Exception as error:
                if not return_exceptions or self.invocations[index]._final is None:
                    raise
                values.append(error)
        return values

    async def async_results(self) -> AsyncIterator[Result]:
        """The values in submission order, without blocking the event loop."""
        for index, invocation in enumerate(self.invocations):
            if invocation._final is None:
                finals = self._engine.store.finals(self._pending(index))
                if flow := recording(self._engine):
                    flow.keep(finals)  # each of them is a wait of its own
                else:
                    self._settle_from(index, finals)
            yield await invocation.async_result()

    def as_completed(self, timeout: float | None = None) -> Iterator[BaseInvocation[Params, Result]]:
        """The invocations in the order in which they end.

        :raises ResultTimeoutError: not all have ended within ``timeout`` seconds.
        """
        deadline = None if timeout is None else monotonic() + timeout
        pending = {invocation.invocation_id: invocation for invocation in self.invocations}
        for invocation in list(pending.values()):
            if invocation._final is not None:
                yield pending.pop(invocation.invocation_id)
        while pending:
            left = None if deadline is None else deadline - monotonic()
            finals = self._engine.results.wait(list(pending), left, inline=self.task.conf.inline, is_race=True)
            if not finals:
                raise timed_out(list(pending), timeout)
            for final in finals:
                invocation = pending.pop(InvocationId(final.id))
                invocation._final = final
                yield invocation

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all have ended, at most ``timeout`` seconds; whether they have."""
        deadline = None if timeout is None else monotonic() + timeout
        for index in range(len(self.invocations)):
            try:
                self._ready(index, timeout, deadline)
            except TimeoutError:
                return False
        return True

    def cancel(self, reason: str = "on request") -> int:
        """Ask all to stop; how many accepted."""
        if not self.invocations:
            return 0
        return sum(self._engine.cancel([i.invocation_id for i in self.invocations], reason))
