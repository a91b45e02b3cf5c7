"""Public path of :class:`TaskId`."""

from pynenc.core.ids import TaskId

__all__ = ["TaskId"]
