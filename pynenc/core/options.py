"""The options of a task and of a call, as they are written. Defaults and validation live in :mod:`pynenc.conf.config_task`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias, TypedDict

Seconds: TypeAlias = float | int | str | timedelta
"""A number of seconds, a ``timedelta``, or text such as ``"30s"``, ``"1h30m"``, ``"7d"``."""


class ConcurrencyControlType(StrEnum):
    """Which calls of a task exclude one another."""

    #: None do.
    DISABLED = "disabled"
    #: All calls of the task.
    TASK = "task"
    #: Calls with the same arguments.
    ARGUMENTS = "arguments"
    #: Calls with the same values of ``key_arguments``.
    KEYS = "keys"


class TaskOptions(TypedDict, total=False):
    """Keyword options of ``@app.task``; each is a field of :class:`~pynenc.conf.config_task.ConfigTask`."""

    parallel_batch_size: int
    retry_for: Sequence[type[Exception] | str] | type[Exception] | str
    max_retries: int
    retry_delay: Seconds
    retry_backoff: float
    retry_max_delay: Seconds
    retry_jitter: Literal["full", "none"] | bool
    running_concurrency: ConcurrencyControlType | str
    registration_concurrency: ConcurrencyControlType | str
    key_arguments: Sequence[str]
    running_limit: int
    rate_limit: str | None
    on_diff_non_key_args_raise: bool
    reroute_on_concurrency_control: bool
    call_result_cache: bool
    result_ttl: Seconds
    disable_cache_args: Sequence[str]
    queue: str
    priority: float
    timeout: Seconds | None
    max_crashes: int
    on_crash: Literal["retry", "fail"]
    expires: Seconds | None
    inline: bool
    aliases: Sequence[str]
    force_new_workflow: bool
    triggers: Any
    name: str | None
    tags: Sequence[str]
    redact: Sequence[str]


class OptionsOfCall(TypedDict, total=False):
    """Keyword options of ``task.options(...)``; see :mod:`pynenc.engine.call_options`."""

    delay: Seconds | None
    run_at: datetime | None
    priority: float | None
    queue: str | None
    timeout: Seconds | None
    key: str | None
    tags: Iterable[str] | None
