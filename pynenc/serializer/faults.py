"""Exceptions as data: their arguments and attributes, and the way back without running any ``__init__`` of users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: What decoding attaches to an exception; it is not part of the exception when that travels on.
REMOTE = "remote_traceback"
REMOTE_NOTE = "Remote traceback"


def _builtin(cls: type[BaseException]) -> Any:
    """The builtin class that an exception class is built on."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def take_apart(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """Arguments and attributes, as the builtin base class of the exception sees them."""
    reduced = _builtin(type(error)).__reduce__(error)
    args = (
        reduced[1] if isinstance(reduced, tuple) and len(reduced) > 1 and isinstance(reduced[1], tuple) else error.args
    )
    state = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 and isinstance(reduced[2], dict) else {}
    kept = {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and (name == "__notes__" or not name.startswith("__"))
    }
    for name in ("args", "obj") if isinstance(error, AttributeError) else ("args",):
        kept.pop(name, None)
    if REMOTE in kept:
        del kept[REMOTE]
        notes = [note for note in kept.pop("__notes__", ()) if not str(note).startswith(REMOTE_NOTE)]
        kept |= {"__notes__": notes} if notes else {}
    return list(args), kept


def put_together(cls: type[Exception], args: Iterable[Any], state: Mapping[str, Any]) -> Exception:
    """An exception of a class that a gate let in; only constructors of builtin classes run.

    :raises Exception: the arguments do not fit the builtin base class.
    """
    base = _builtin(cls)
    values = tuple(args)
    made: Exception = base.__new__(cls, *values)
    base.__init__(made, *values)
    for name, value in state.items():
        if name == "__notes__":
            made.__notes__ = [note for note in value if isinstance(note, str)]
        elif not name.startswith("__"):
            _set(base, made, name, value)
    return made


def _set(base: Any, made: Exception, name: str, value: Any) -> None:
    """Set an attribute as the builtin class keeps it: in a slot of its own, such as ``ImportError.name``, or in the dictionary."""
    slot = getattr(base, name, None)
    if slot is None:
        made.__dict__[name] = value
    elif hasattr(type(slot), "__set__"):
        slot.__set__(made, value)
