"""A thread that sleeps until a store wakes it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class Sleeper:
    """An event with one waiter, which forgets that it was set when that has noticed; made of one lock.

    Calling it wakes the waiter, now or when it sleeps. It may be given to a store as what to call; so the store knows that a thread sleeps here, and may
    let it do something useful meanwhile.

    :ivar receive: set by the store: receives on the sleeping thread until the sleeper is woken or so many seconds are over; false when it cannot.
    """

    __slots__ = ("_lock", "receive")

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()
        self.receive: Callable[[Sleeper, float], bool] | None = None

    def __call__(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it is set

    def is_woken(self, within: float = 0.0) -> bool:
        """Whether it would not sleep, now or within so many seconds."""
        if within and self._lock.acquire(timeout=within):
            self()
        return not self._lock.locked()

    def sleep(self, seconds: float) -> None:
        """Until it is woken, at most so many seconds."""
        if self.receive is not None and self.receive(self, seconds):
            self._lock.acquire(blocking=False)
        else:
            self._lock.acquire(timeout=seconds)
