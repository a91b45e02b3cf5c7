"""Public path of the invocation status."""

from pynenc.core.status import InvocationStatus

__all__ = ["InvocationStatus"]
