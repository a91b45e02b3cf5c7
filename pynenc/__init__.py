"""pynenc: distributed tasks and durable workflows for Python, starting from one SQLite file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pynenc.app import Pynenc
from pynenc.builder import PynencBuilder
from pynenc.conf.config_task import ConcurrencyControlType
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import RetryError
from pynenc.secret import Secret
from pynenc.task import Task
from pynenc.version import __version__

if TYPE_CHECKING:
    from pynenc.trigger import TriggerBuilder, on_cron, on_event, on_status

__all__ = [
    "ConcurrencyControlType",
    "InvocationStatus",
    "Pynenc",
    "PynencBuilder",
    "RetryError",
    "Secret",
    "Task",
    "TriggerBuilder",
    "__version__",
    "on_cron",
    "on_event",
    "on_status",
]
#: What is imported when it is first asked for.
_LATE = frozenset({"TriggerBuilder", "on_cron", "on_event", "on_status"})


def __getattr__(name: str) -> Any:
    """What a program without triggers need not import."""
    if name not in _LATE:
        raise AttributeError(f"module 'pynenc' has no attribute {name!r}")
    return getattr(import_module("pynenc.trigger"), name)
