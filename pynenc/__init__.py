"""pynenc: distributed tasks and durable workflows for Python, starting from one SQLite file."""

from pynenc.app import Pynenc
from pynenc.builder import PynencBuilder
from pynenc.conf.config_task import ConcurrencyControlType
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import RetryError
from pynenc.secret import Secret
from pynenc.task import Task
from pynenc.version import __version__

__all__ = [
    "ConcurrencyControlType",
    "InvocationStatus",
    "Pynenc",
    "PynencBuilder",
    "RetryError",
    "Secret",
    "Task",
    "__version__",
]
