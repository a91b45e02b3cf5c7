"""Which functions can be tasks, and what tasks are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pynenc.core.ids import TaskId


def check_function(func: object) -> None:
    """Make sure that a task can be made of this.

    :raises TypeError: it is a class, a task, or nothing that can be called.
    """
    if hasattr(func, "task_id") or hasattr(func, "__pynenc_task__"):
        raise TypeError(f"{func!r} is a task already: give its function one decorator of an app")
    if isinstance(func, type) or not callable(func):
        raise TypeError(f"a task is made of a function, not of {func!r}; options are given by name")


def check_importable(func: Callable[..., Any]) -> None:
    """Make sure that another process can find a function by module and name.

    :raises RuntimeError: it is defined in ``__main__``. :raises ValueError: it is a lambda, or defined inside a function or class.
    """
    if func.__module__ == "__main__":
        raise RuntimeError(
            f"{func.__name__} is defined in __main__, which is another module in every process, so no runner could find it: "
            "move it (a notebook's or a script's function) to a module and import it from there"
        )
    name = getattr(func, "__qualname__", "")
    if name != getattr(func, "__name__", None) or name == "<lambda>":
        raise ValueError(
            f"{name or func!r} cannot be a task: only functions at the top level of a module can be imported by a runner"
        )


def task_id_of(func: Callable[..., Any], name: str | None) -> TaskId:
    """Identity of a task: the given stable name, with or without a module, else where the function is defined.

    :raises ValueError: the name is none.
    """
    if not name:
        return TaskId(func.__module__, func.__name__)
    return TaskId.from_key(name) if "." in name else TaskId(func.__module__, name)
