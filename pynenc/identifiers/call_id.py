"""Public path of :class:`CallId`."""

from pynenc.core.ids import CallId

__all__ = ["CallId"]
