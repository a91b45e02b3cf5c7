"""What one thread runs now, and how another thread may end it.

A body is ended in two ways, whichever comes first. Waiting for a result it notices the request by itself
(``Running.interrupt``). Computing, an exception is raised in its thread, but only while the innermost code is the
user's: inside the library it could tear an operation in the middle. The exceptions are no ``Exception``, so ``except
Exception`` in a body does not swallow them. Code that blocks in C is not reached before it returns.

Body and pump may end an attempt at the same moment. Whoever takes ``claimed`` away under the lock owns the outcome.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from pynenc import context
from pynenc.core.records import Claimed, ClaimRequest
from pynenc.engine.execute import USER_CODE, Interruption
from pynenc.runner.slots import Turn

if TYPE_CHECKING:
    from pynenc.runner.worker import Worker
    from pynenc.store.base import Watch

#: Packages whose operations must not be torn.
_OURS = ("pynenc.engine", "pynenc.invocation", "pynenc.runner", "pynenc.serializer", "pynenc.store", "pynenc.workflow")


class BodySlot:
    """The place of the bodies of one thread; the thread writes it, the pump reads it."""

    __slots__ = (
        "_awaits",
        "_lock",
        "_sole",
        "_waits",
        "claimed",
        "deadline",
        "index",
        "marked",
        "running",
        "since",
        "taker",
        "thread_id",
        "worker",
    )

    #: Seconds that the body of a workflow waits here before it is suspended.
    patience = context.PATIENCE

    @property
    def is_supervised(self) -> bool:
        """Whether another process notices the death of this one."""
        return self.worker.beat.supervised

    def __init__(self, worker: Worker, index: int) -> None:
        self.worker = worker
        self.index = index
        self.thread_id = get_ident()
        self.claimed: Claimed | None = None
        self.running: context.Running | None = None
        self.since = 0.0
        self.deadline = 0.0
        self.marked = False
        self.taker = 0
        self._waits = 0
        #: The only wait of the body, which can be recalled.
        self._sole: Turn | None = None
        self._awaits = ""
        self._lock = Lock()

    # -- waiting; also called by threads that the body started -----------------------------------------------------------
    @property
    def is_parked(self) -> bool:
        """Whether the body waits for others."""
        return self._waits > 0

    def turn(self) -> Turn:
        return Turn()

    def watch(self, ids: Sequence[str], begin: Callable[[ClaimRequest | None], Watch], /) -> Watch:
        return self.worker.turns.watch(ids, begin)

    def park(self, ids: Sequence[str] = (), turn: Turn | None = None, /) -> None:
        with self._lock:
            self._waits += 1
            is_first = self._waits == 1
            if is_first and turn:
                self._sole = turn
                self._awaits = ids[0] if len(ids) == 1 else ""
                self.worker.turns.awaited.add(self._awaits)
            elif self._sole:  # no branch alone decides any more when the body goes on
                self.worker.slots.rest(self._sole)
                self._forget_sole()
        if is_first:
            if not turn:
                self.worker.turns.make_way(ids)
            self.worker.park(self)

    def _forget_sole(self) -> None:
        self._sole = None
        self.worker.turns.awaited.discard(self._awaits)

    def recall(self, turn: Turn, wake: Callable[[], None], /) -> None:
        with self._lock:
            if self._sole is turn:
                self.worker.slots.recall(turn, wake)
                return
        wake()

    def rest(self, turn: Turn, /) -> None:
        with self._lock:
            if self._sole is turn:
                self.worker.slots.rest(turn)

    def unpark(self, turn: Turn | None = None, /) -> None:
        with self._lock:
            self._waits -= 1
            is_last = self._waits == 0
            if is_last:
                self._forget_sole()
        if is_last:
            self.worker.unpark(self, turn or Turn())

    async def unpark_async(self) -> None:
        self.unpark()

    # -- ending ----------------------------------------------------------------------------------------------------------
    def take(self, claimed: Claimed) -> bool:
        """End the attempt; whether nobody else has."""
        with self._lock:
            is_mine = self.claimed is claimed
            if is_mine:
                self.taker = get_ident()
                self.claimed = None
            return is_mine

    def ends(self, claimed: Claimed) -> bool:
        """Whether the thread of this place ends the attempt, now or a moment ago."""
        return self.take(claimed) or self.taker == self.thread_id

    def interrupt(self, claimed: Claimed, error: type[Interruption]) -> None:
        """Ask the body to end, with ``error``; to be repeated until it has ended, since it may be out of reach now."""
        with self._lock:
            if self.claimed is claimed and self.running is not None:
                interrupt(self.running, self.thread_id, error)


def interrupt(running: context.Running, thread_id: int, error: type[Interruption]) -> None:
    """The first time wake the body if it waits; later raise ``error`` in its thread, once, as soon as it executes the
    user's code.
    """
    if running.interrupt is None:
        running.interrupt = error
        running.wake_up()
    elif not running.is_interrupted and _is_in_body(thread_id):
        running.is_interrupted = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))


class _Arrived(BaseException):
    """Takes the place of an exception that was raised in a thread and did not arrive yet."""


def forget_raised() -> None:
    """Forget an exception that was raised in this thread and did not arrive yet.

    Withdrawing it is not enough: before Python 3.13 the interpreter keeps looking for it, in all threads, until one
    arrives. So another one does.
    """
    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), ctypes.py_object(_Arrived))
        while True:
            pass
    except _Arrived:
        pass


def _is_in_body(thread_id: int) -> bool:
    """Whether the code that a thread executes is the user's: the innermost of our frames is the one that calls the
    body.
    """
    frame = sys._current_frames().get(thread_id)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS):
            return frame.f_code in USER_CODE
        frame = frame.f_back
    return False
