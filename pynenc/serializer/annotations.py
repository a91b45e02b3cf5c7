"""The classes that annotations name, through generics, unions, aliases and the fields of data classes."""

from __future__ import annotations

import builtins
import enum
import sys
import typing
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

_LIMIT = 2000


def classes_in(func: Callable[..., Any]) -> set[type]:
    """Every class that the parameters and the result of ``func`` may hold, as far as its annotations tell."""
    found: set[type] = set()
    waiting = list(_hints(func))
    while waiting and len(found) < _LIMIT:
        hint = waiting.pop()
        if isinstance(hint, type) and not typing.get_origin(hint):
            if hint not in found:
                found.add(hint)
                waiting.extend(_hints(hint) if hint.__module__ != "builtins" else ())
        else:
            waiting.extend(_parts(hint))
    return found


def _parts(hint: Any) -> Iterator[Any]:
    """What an annotation that is no class is made of."""
    if isinstance(hint, (list, tuple)):
        yield from hint
    elif isinstance(hint, enum.Enum):
        yield type(hint)
    elif isinstance(hint, typing.TypeVar):
        yield from (hint.__bound__, *hint.__constraints__)
    else:
        yield from typing.get_args(hint)
        for inside in (typing.get_origin(hint), getattr(hint, "__supertype__", None), getattr(hint, "__value__", None)):
            if inside is not None:
                yield inside


def _hints(owner: Any) -> list[Any]:
    """The evaluated annotations of a function or class; those that cannot be evaluated here are left out."""
    try:
        return list(typing.get_type_hints(owner, include_extras=True).values())
    except Exception:
        return list(_one_by_one(owner))


def _one_by_one(owner: Any) -> Iterator[Any]:
    """The same, for owners of which some annotation names what is imported for type checkers only."""
    holders = (
        [owner] if isinstance(owner, FunctionType) else [c for c in getattr(owner, "__mro__", ()) if c is not object]
    )
    for holder in holders:
        names = _Names(getattr(holder, "__globals__", None) or vars(sys.modules.get(holder.__module__, typing)))
        for hint in _own(holder).values():
            try:
                yield eval(hint, {}, names) if isinstance(hint, str) else hint  # noqa: S307  # source text of the program itself
            except Exception:  # noqa: S112
                continue


class _Names(dict[str, Any]):
    """The names of a module; one that is not there stands for anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _own(holder: Any) -> dict[str, Any]:
    try:
        return dict(vars(holder).get("__annotations__", None) or getattr(holder, "__annotations__", {}))
    except Exception:
        return {}
