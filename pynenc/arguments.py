"""The arguments of a call, bound by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from pynenc.core.binding import Binder
from pynenc.core.printing import render_arguments

_binders: WeakKeyDictionary[Callable[..., Any], Binder] = WeakKeyDictionary()


class Arguments:
    """Arguments by the names of their parameters.

    Equal when the arguments are. Not hashable, as they may be mutable: the identity of a call is its ``call_id``. Printed
    shortened and with secrets left out.

    :param kwargs: the values by name, defaults applied; the dict is copied, its values are not.
    :param redact: further names whose values are not printed.
    """

    __slots__ = ("__weakref__", "_redact", "kwargs")

    kwargs: dict[str, Any]
    __hash__ = None  # type: ignore[assignment]  # this is how Python spells it

    def __init__(self, kwargs: dict[str, Any] | None = None, redact: Iterable[str] = ()) -> None:
        self.kwargs = dict(kwargs or {})
        self._redact = tuple(redact)

    @classmethod
    def from_call(cls, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Arguments:
        """What ``func(*args, **kwargs)`` would give to each parameter.

        :raises TypeError: the call does not fit the function. :raises ValueError: the parameters of ``func`` cannot be read.
        """
        return cls(_binder(func).bind(args, kwargs))

    def __eq__(self, other: object) -> bool:
        return self.kwargs == other.kwargs if isinstance(other, Arguments) else NotImplemented

    def __reduce__(self) -> tuple[type[Arguments], tuple[dict[str, Any], tuple[str, ...]]]:
        return type(self), (self.kwargs, self._redact)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({render_arguments(self.kwargs, redact=self._redact)})"


def _binder(func: Callable[..., Any]) -> Binder:
    """The binder of a function, made once where the function can be remembered without keeping it."""
    try:
        known = _binders.get(func)
    except TypeError:  # not hashable, or no weak references to it
        return Binder(func)
    if known is None:
        known = _binders[func] = Binder(func)
    return known
