"""Slots: how many bodies run at once, and how a waiting body lends its slot.

A thread runs bodies while it holds one of ``n`` tokens. A body that waits for other invocations gives its token back (``park``); when what
it waited for is there it asks for a token again (``unpark``) and is served before any new work, first come first served.
"""

from __future__ import annotations

from collections import deque
from threading import Lock


class Slots:
    """``n`` tokens; returning parents come first.

    ``wanted`` is true while a parent waits for a token: threads look at it between two bodies, without a lock.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self.parked = 0
        self.wanted = False
        self._returning: deque[Lock] = deque()
        self._lock = Lock()

    @property
    def busy(self) -> int:
        """Tokens in use."""
        return self.count - self.free

    def take(self) -> bool:
        """Take a free token for new work, unless there is none or a parent wants it."""
        with self._lock:
            if self.free <= 0 or self._returning:
                return False
            self.free -= 1
            return True

    def give(self) -> None:
        """Give a token back, to the first returning parent if there is one."""
        with self._lock:
            if self._returning:
                self._returning.popleft().release()
                self.wanted = bool(self._returning)
            else:
                self.free += 1

    def park(self) -> None:
        """A body begins to wait: its token is free for others."""
        with self._lock:
            self.parked += 1
        self.give()

    def unpark(self) -> None:
        """A body goes on: blocks until it has a token again."""
        turn = Lock()
        turn.acquire()
        with self._lock:
            self.parked -= 1
            if self.free > 0 and not self._returning:
                self.free -= 1
                return
            self._returning.append(turn)
            self.wanted = True
        turn.acquire()
