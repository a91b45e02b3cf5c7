"""asyncio, not imported before somebody uses it: for a program that only submits calls it would be a third of the time to start."""

from __future__ import annotations

import sys


def is_on_loop() -> bool:
    """Whether an event loop runs on this thread."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def is_cancelled(error: BaseException) -> bool:
    """Whether an exception is asyncio's word for a cancelled task."""
    kind = getattr(sys.modules.get("asyncio"), "CancelledError", None)
    return kind is not None and isinstance(error, kind)
