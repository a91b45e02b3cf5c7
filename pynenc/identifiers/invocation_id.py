"""Public path of :class:`InvocationId`."""

from pynenc.core.ids import InvocationId

__all__ = ["InvocationId"]
