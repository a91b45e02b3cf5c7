"""What a worker is told when it starts; travels to child processes."""

from __future__ import annotations

import msgspec

from pynenc.core.queueing import QueuePolicy
from pynenc.core.records import Alone


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works: counts, and times in seconds.

    ``flush`` is how long an outcome may wait for company, ``stale`` how long claimed work may wait for a slot before
    others get it. ``is_measured``: count for metrics.
    """

    slots: int = 1
    coroutines: int = 0
    queues: tuple[str, ...] = ()
    policy: QueuePolicy = QueuePolicy()
    max_ahead: int = 256
    flush: float = 0.005
    stale: float = 0.2
    poll: float = 1.0
    burst: bool = False
    max_tasks: int = 0
    max_memory: int = 0
    shutdown_timeout: float = 30.0
    cancel_grace: float = 5.0
    alone: Alone = Alone.NEVER
    is_measured: bool = False


def at_once(settings: WorkerSettings) -> WorkerSettings:
    """The same settings without patience for running tasks."""
    return msgspec.structs.replace(settings, shutdown_timeout=0.0)
