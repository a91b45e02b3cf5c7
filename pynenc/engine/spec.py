"""What the engine knows of a task: compiled once, read at every call.

The engine never sees a :class:`~pynenc.task.Task`; it gets a :class:`TaskSpec` for a task key from whoever composes it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from pynenc.conf.config_task import ConfigTask
from pynenc.core.binding import Binder
from pynenc.core.duration import microseconds
from pynenc.core.options import ConcurrencyControlType
from pynenc.core.outcome import RetryPolicy
from pynenc.core.reaction import FIRING
from pynenc.serializer.gate import TypeGate


class TaskSpec:
    """A task, ready for the hot path. Built again when an option is assigned."""

    __slots__ = (
        "binder",
        "conf",
        "controlled",
        "expires",
        "func",
        "gate",
        "is_async",
        "is_firing",
        "is_plain",
        "is_workflow",
        "key",
        "max_crashes",
        "needs_digest",
        "no_cache",
        "rate",
        "result_ttl",
        "retriable",
        "retry",
        "timeout",
    )

    def __init__(
        self,
        key: str,
        func: Callable[..., Any],
        conf: ConfigTask,
        gate: TypeGate,
        retriable: tuple[type[BaseException], ...],
    ) -> None:
        off = ConcurrencyControlType.DISABLED
        self.key = key
        self.func = func
        self.conf = conf
        self.gate = gate
        self.binder = Binder(func)
        self.is_async = iscoroutinefunction(func)
        #: Whether its calls are workflows: its body suspends where it waits, and its calls are durable operations.
        self.is_workflow = conf.force_new_workflow
        #: Whether a store may put its arguments together.
        self.is_firing = key.startswith(FIRING)
        self.retriable = retriable
        self.retry = RetryPolicy(
            max_retries=conf.max_retries,
            delay=conf.retry_delay,
            backoff=conf.retry_backoff,
            max_delay=conf.retry_max_delay,
            jitter=conf.has_jitter,
        )
        self.max_crashes = 0 if conf.on_crash == "fail" else conf.max_crashes
        self.result_ttl = microseconds(conf.result_ttl)
        self.timeout = microseconds(conf.timeout)
        self.expires = microseconds(conf.expires)
        self.controlled = conf.registration_concurrency is not off or conf.running_concurrency is not off
        self.needs_digest = self.controlled or conf.call_result_cache
        self.rate = conf.rate
        #: Whether its calls need neither keys nor dates.
        self.is_plain = not (self.needs_digest or self.rate or self.expires)
        self.no_cache = frozenset(self.binder.names if "*" in conf.disable_cache_args else conf.disable_cache_args)
