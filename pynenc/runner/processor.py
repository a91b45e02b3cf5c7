"""The processor on which a sleeping thread wakes up: that of the thread which hands its work over to it.

A body that waits and the body that it waits for run on two threads, never at the same time. The kernel likes to wake a thread on a processor that is idle.
There nothing of what both work on is in the caches, which for small tasks costs as much as their work. So the thread that is about to sleep summons the other
one, and that may go anywhere again as soon as it is awake.

Threads stay where they are when somebody has said where they may run (``taskset``, a set of processors for a container), and on systems without such calls.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

ALL = frozenset(range(os.cpu_count() or 1))
#: The processor that runs the caller; calling it keeps the interpreter.
_here: Callable[[], int] | None = (
    getattr(ctypes.PyDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
)


def summon(thread_id: int) -> bool:
    """Let a thread that sleeps wake up here; whether it will, and has to :func:`disperse` then."""
    if _here is None:
        return False
    try:
        if os.sched_getaffinity(thread_id) != ALL:
            return False
        os.sched_setaffinity(thread_id, (_here(),))
    except OSError:  # it is forbidden, or the thread has ended
        return False
    return True


def disperse() -> None:
    """The calling thread was summoned: it may run anywhere again."""
    os.sched_setaffinity(0, ALL)
