"""Slots: how many bodies run at once, which threads sleep, and how a waiting body lends its slot.

A thread runs bodies while it holds one of ``n`` tokens. A body that waits for other invocations gives its token back
(``park``); when what it waited for is there it asks for a token again (``unpark``) and is served before any new work,
first come first served.

Threads without a token sleep in ``acquire``. A *call* says that there may be work; it meets a free token and a sleeping
thread at once, or stays until all three are there. So a call that comes while the last thread looks in vain for work,
and has not given its token back yet, is not lost. A claim answers all calls that came before it (it sets ``calls`` to 0), since it
sees all that was there before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock, get_native_id

from pynenc.runner import processor

#: Sleeping threads that are kept beyond one for each token, for the next bodies that wait.
SPARE_THREADS = 16


class _Sleeper:
    """A thread in its bed: released with a token, or without one when the slots close."""

    __slots__ = ("_is_summoned", "_thread_id", "has_token", "lock")

    def __init__(self) -> None:
        self.has_token = False
        self.lock = Lock()
        self.lock.acquire()
        self._thread_id = get_native_id()
        self._is_summoned = False

    def summon(self) -> None:
        """Who calls this is about to sleep, and has left a token."""
        self._is_summoned = self._is_summoned or processor.summon(self._thread_id)

    def sleep(self) -> None:
        """Until it is released."""
        self.lock.acquire()
        if self._is_summoned:
            self._is_summoned = False
            processor.disperse()


class Turn(_Sleeper):
    """A waiting body on its way back to a token."""

    __slots__ = ("is_over", "is_queued", "wake")

    def __init__(self) -> None:
        super().__init__()
        self.is_queued = False
        self.is_over = False
        self.wake: Callable[[], None] | None = None


class Slots:
    """``n`` tokens; returning parents come first.

    ``wanted`` is true while a parent waits for a token: threads look at it between two bodies, without a lock.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self.parked = 0
        self.wanted = False
        self.calls = 0
        self._returning: deque[Turn] = deque()
        self._sleepers: list[_Sleeper] = []
        self._is_closed = False
        self._lock = Lock()

    @property
    def busy(self) -> int:
        """Tokens in use."""
        return self.count - self.free

    # -- threads that look for work --------------------------------------------------------------------------------------
    def acquire(self) -> bool:
        """Sleep until there is a call and a token for it; false when this thread is not needed any more."""
        with self._lock:
            if self._is_closed:
                return False
            if self.calls and self.free:
                self.calls -= 1
                self.free -= 1
                return True
            if len(self._sleepers) >= self.count + SPARE_THREADS:
                return False
            me = _Sleeper()
            self._sleepers.append(me)
        me.sleep()
        return me.has_token

    def give(self) -> None:
        """Give a token back, to the first returning parent if there is one."""
        with self._lock:
            if self._returning or self.calls:
                self._give()
            else:
                self.free += 1

    def call(self, count: int = 1) -> None:
        """Say that there may be work for ``count`` threads."""
        with self._lock:
            self.calls = min(self.calls + count, self.count)
            if self.free and self._sleepers:
                self._match()

    def close(self) -> None:
        """Send the sleeping threads home; tokens still go to returning parents."""
        with self._lock:
            self._is_closed = True
            while self._sleepers:
                self._sleepers.pop().lock.release()

    def _give(self) -> None:
        if self._returning:
            self._returning[0].summon()
            self._grant(self._returning.popleft())
            self.wanted = bool(self._returning)
        else:
            self.free += 1
            if self.calls and self._sleepers:
                self._sleepers[-1].summon()
                self._match()

    def _grant(self, turn: Turn) -> None:
        turn.has_token = True
        turn.lock.release()
        if turn.wake:
            turn.wake()

    def _match(self) -> None:
        """Wake threads as long as there are calls and tokens; the one that slept last first."""
        while self.calls and self.free and self._sleepers:
            self.calls -= 1
            self.free -= 1
            sleeper = self._sleepers.pop()
            sleeper.has_token = True
            sleeper.lock.release()

    # -- bodies that wait --------------------------------------------------------------------------------------------------
    def park(self) -> bool:
        """A body begins to wait: its token is free for others, as after a call. Whether a thread is missing that could use it."""
        with self._lock:
            self.parked += 1
            self.calls = min(self.calls + 1, self.count)
            self._give()
            return len(self._sleepers) < self.free and not self._is_closed

    def recall(self, turn: Turn, wake: Callable[[], None]) -> None:
        """A body may go on: it is woken when it has a token. So it does not wake up only to wait for that."""
        with self._lock:
            if not (turn.is_over or turn.is_queued):
                turn.wake = wake
                self._queue(turn)

    def rest(self, turn: Turn) -> None:
        """A body that was recalled waits on: its token is free for others."""
        with self._lock:
            if turn.is_over:
                return
            if turn.has_token:
                turn.has_token = turn.is_queued = False
                turn.lock.acquire()
                self._give()
            elif turn.is_queued:
                turn.is_queued = False
                self._returning.remove(turn)
                self.wanted = bool(self._returning)

    def unpark(self, turn: Turn) -> None:
        """A body goes on: blocks until it has a token again."""
        with self._lock:
            self.parked -= 1
            turn.is_over = True
            if not turn.is_queued:
                self._queue(turn)
        turn.sleep()

    def _queue(self, turn: Turn) -> None:
        turn.is_queued = True
        if self.free:
            self.free -= 1
            self._grant(turn)
        else:
            self._returning.append(turn)
            self.wanted = True
