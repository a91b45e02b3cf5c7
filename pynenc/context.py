"""What runs here: context variables that follow threads, coroutines and ``asyncio.to_thread``.

A thread started by hand does not inherit them: start it with :func:`wrap` around its function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, Protocol, TypeVar

from pynenc.core.records import Claimed, ClaimRequest

P = ParamSpec("P")
R = TypeVar("R")


#: Seconds that the body of a workflow waits for another invocation before it is suspended.
PATIENCE = 1.0


class Slot(Protocol):
    """The place in a runner that a running body occupies.

    :ivar patience: seconds that the body of a workflow waits in it before it is suspended.
    """

    patience: float = PATIENCE

    @property
    def is_supervised(self) -> bool:
        """Whether another process notices the death of this one and says what becomes of the body."""
        return True

    def turn(self) -> Any:
        """What stands for one wait of the body, if the slot wants to tell them apart."""
        return None

    def watch(self, _ids: Sequence[str], begin: Callable[[ClaimRequest | None], Any], /) -> Any:
        """Begin a wait with ``begin``, which is told what to claim in the same step, for this slot to run meanwhile."""
        return begin(None)

    def park(self, ids: Sequence[str] = (), turn: Any = None, /) -> None:
        """Give the slot back while the body waits for one of ``ids``, or for something else."""

    def recall(self, _turn: Any, wake: Callable[[], None], /) -> None:
        """What a wait was for is there: ``wake`` the body once its slot is free, or now. From any thread; does not block."""
        wake()

    def rest(self, _turn: Any, /) -> None:
        """It is not there after all: the body goes on waiting."""
        return

    def unpark(self, turn: Any = None, /) -> None:
        """Take a free slot again, before all new work; blocks until there is one."""

    async def unpark_async(self) -> None:
        """The same without blocking the event loop."""


class Running:
    """The invocation that runs in this context, with what its runner knows about it.

    ``handle`` builds the object that users see, once it is asked for; ``engine`` is what submits and waits on its behalf.

    :ivar progress: what its body has reported. :ivar told: what of that was written.
    :ivar cancel_requested: somebody wants it cancelled. :ivar interrupt: what its runner wants a waiting body to raise.
    :ivar span: its OpenTelemetry span, if there is one.
    :ivar departure: how the body is left without an end. :ivar flow: its durable operations, once there were some; from the start in a workflow.
    :ivar main: the asyncio task of an async body.
    :ivar is_interrupted: that was raised. :ivar wakes: wake the body where it waits, in each of its branches, so that it notices either.
    """

    __slots__ = (
        "_handle",
        "attempt",
        "cancel_requested",
        "claimed",
        "departure",
        "engine",
        "flow",
        "id",
        "interrupt",
        "invocation_cache",
        "is_interrupted",
        "main",
        "parent",
        "progress",
        "report",
        "runner",
        "slot",
        "span",
        "task",
        "told",
        "wakes",
        "workflow",
    )

    def __init__(
        self, claimed: Claimed, runner: str, slot: Slot | None, engine: Any, handle: Callable[[Claimed], Any]
    ) -> None:
        self.id = claimed.id
        self.task = claimed.task
        self.attempt = claimed.attempt
        self.parent = claimed.parent
        self.workflow = claimed.workflow
        self.claimed = claimed
        self.runner = runner
        self.engine = engine
        self.slot = slot
        self.flow: Any = None
        self.departure: BaseException | None = None
        self.main: Any = None
        self.cancel_requested = False
        self.interrupt: type[BaseException] | None = None
        self.is_interrupted = False
        self.wakes: list[Callable[[], None]] = []
        self.progress: Any = None
        self.told: Any = None
        self.span: Any = None
        self.report: Callable[[Any], None] | None = None
        self._handle = handle
        self.invocation_cache: Any = None

    @property
    def invocation(self) -> Any:
        """The handle of the invocation."""
        if self.invocation_cache is None:
            self.invocation_cache = self._handle(self.claimed)
        return self.invocation_cache

    @property
    def fence(self) -> str:
        """A text that is unique to this attempt, for idempotent side effects."""
        return f"{self.id}:{self.attempt}"

    def wake_up(self) -> None:
        """Wake the body if it waits; from any thread."""
        for wake in self.wakes[:]:
            wake()


_running: ContextVar[Running | None] = ContextVar("pynenc_running", default=None)

#: The running invocation of this context, or None.
current = _running.get
set_running = _running.set


class Joined:
    """The store whose submissions are a part of the caller's own transaction, and the connection of that. None once the block is over: whoever began in it
    (a task of asyncio, a thread) inherited it, and may live longer.
    """

    __slots__ = ("connection", "store")

    def __init__(self, store: object, connection: object) -> None:
        self.store: object = store
        self.connection: object = connection


_transaction: ContextVar[Joined | None] = ContextVar("pynenc_transaction", default=None)

#: The caller's own transaction that this context began in, or None.
transaction = _transaction.get


@contextmanager
def within(store: object, connection: object) -> Iterator[None]:
    """Make the submissions to ``store`` a part of the transaction of ``connection``."""
    joined = Joined(store, connection)
    token = _transaction.set(joined)
    try:
        yield
    finally:
        _transaction.reset(token)
        joined.store = joined.connection = None


def wrap(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` bound to the context of now, for threads started by hand inside a task.

    ::

        threading.Thread(target=pynenc.context.wrap(work)).start()
    """
    context = copy_context()

    def in_context(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return in_context


def log_fields() -> Mapping[str, object] | None:
    """The fields that log records of a running invocation carry."""
    running = _running.get()
    if running is None:
        return None
    workflow = running.workflow.id if running.workflow else running.id
    fields: dict[str, object] = {
        "invocation_id": running.id,
        "task": running.task,
        "attempt": running.attempt,
        "workflow_id": workflow,
        "runner": running.runner,
    }
    return fields if running.span is None else fields | running.span.ids()


def secret_names(outside: Sequence[str] = ()) -> Sequence[str]:
    """The names of what must not be shown, by the settings of the running task and its app; ``outside`` where nothing runs."""
    running = _running.get()
    names: Sequence[str] = outside if running is None else running.engine.codec.hidden_names(running.task)
    return names
