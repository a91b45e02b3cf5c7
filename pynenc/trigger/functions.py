"""Functions that users give to triggers: which ones are accepted, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from pynenc.core.naming import check_importable
from pynenc.exceptions import TriggerError


def checked(function: Callable[..., Any], role: str) -> Callable[..., Any]:
    """``function``, if it is a plain function at the top level of a module: it must be the same in every process that runs the app.

    :raises TriggerError: it is not.
    """
    name = getattr(function, "__qualname__", None)
    if name is None or isinstance(function, type) or not hasattr(function, "__module__"):
        raise TriggerError(f"a {role} is a function at the top level of a module, not {function!r:.80}")
    if iscoroutinefunction(function):
        raise TriggerError(f"{name} cannot be used as {role}: it is async; make it a plain function")
    _check_importable(function, name, role, "functions", "give the function itself")
    return function


def check_class(cls: type, role: str) -> None:
    """The same for a class of the user's.

    :raises TriggerError: it is not at the top level of a module.
    """
    _check_importable(cls, cls.__qualname__, role, "classes", "give an instance")


def _check_importable(what: Callable[..., Any], name: str, role: str, kind: str, then: str) -> None:
    try:
        check_importable(what)
    except (RuntimeError, ValueError) as error:
        raise TriggerError(
            f"{name} cannot be used as {role}: only {kind} at the top level of a module other than __main__ are the same in every process; "
            f"move it there and {then}"
        ) from error


def shown(function: Callable[..., Any]) -> str:
    """Its full name."""
    return f"{function.__module__}.{function.__qualname__}"
