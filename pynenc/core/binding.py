"""Binding of calls to parameters, by code that is compiled once per function.

A call travels as one mapping from parameter names to values: defaults applied, ``*args`` a tuple and ``**kwargs`` a dict, both under
their own names. Into that form calls are brought by a *stub*, a function with exactly the parameters of the original whose body
returns them as a dict: so the interpreter itself checks the call, at its own speed and with its own words. Out of it they
come by a function whose text spells out the call. No name of a parameter can clash with a name that these texts need: the
stub needs none, and in the texts of calls parameters occur only as strings and before the ``=`` of keyword arguments.

The mapping may be older than the function: written by a release that had fewer or more parameters. What is missing then takes its
default, and what is unknown is refused as Python would refuse it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from types import FunctionType
from typing import Any

Bound = dict[str, Any]
Split = tuple[tuple[Any, ...], dict[str, Any]]

_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Binder:
    """Binds calls of one function, and calls it (or its replacement with the same parameters) with what was bound.

    It keeps the defaults of the function but not the function.

    :raises ValueError: the parameters of ``func`` cannot be read.
    """

    __slots__ = ("_defaults", "_keywords", "_var_keyword", "bind", "call", "name", "names", "split")

    #: ``bind(args, kwargs)``: every parameter by name, defaults applied, in a new dict.
    #: Raises ``TypeError`` as the call itself would. Defaults are the function's own objects.
    bind: Callable[[tuple[Any, ...], Mapping[str, Any]], Bound]
    #: ``call(func, bound)``: what ``func`` returns. Raises ``TypeError`` when ``bound`` does not fit the parameters.
    call: Callable[[Callable[..., Any], Mapping[str, Any]], Any]
    #: ``split(bound)``: the positional and the keyword arguments of that call.
    split: Callable[[Mapping[str, Any]], Split]
    #: The name of the function.
    name: str
    #: All parameters in their order.
    names: tuple[str, ...]

    def __init__(self, func: Callable[..., Any]) -> None:
        parameters = _parameters(func)
        self.name = _name(func)
        self.names = tuple(each.name for each in parameters)
        self._keywords = frozenset(each.name for each in parameters if each.kind in _BY_KEYWORD)
        self._var_keyword = next((each.name for each in parameters if each.kind is Parameter.VAR_KEYWORD), None)
        self._defaults = {each.name: each.default for each in parameters if each.default is not Parameter.empty}
        self._defaults |= {each.name: () for each in parameters if each.kind is Parameter.VAR_POSITIONAL}
        self.bind = _compiled_bind(self.name, parameters)
        self.call, self.split = _compiled_calls(self.name, parameters, self.complete)

    def bind_partial_names(self, common: Mapping[str, Any]) -> tuple[str, ...]:
        """The names in ``common`` that are parameters, and can so be bound ahead of the rest of a call.

        Further names are accepted when the function takes ``**kwargs``, and left out: they become a part of that dict.

        :raises TypeError: a name that the function cannot be given by keyword.
        """
        unknown = [name for name in common if name not in self._keywords]
        if unknown and self._var_keyword is None:
            raise TypeError(
                f"{self.name}() has no parameter {unknown[0]!r} that can be a common argument; it takes {self._taken()}"
            )
        return tuple(name for name in common if name in self._keywords)

    def flat(self, bound: Mapping[str, Any]) -> Bound:
        """What was bound, with what ``**kwargs`` took beside the other arguments instead of under a name of its own."""
        if self._var_keyword is None:
            return dict(bound)
        own = {name: value for name, value in bound.items() if name != self._var_keyword}
        return own | {name: value for name, value in bound.get(self._var_keyword, {}).items() if name not in own}

    def _taken(self) -> str:
        return ", ".join(name for name in self.names if name in self._keywords) or "none by keyword"

    def complete(self, bound: Mapping[str, Any]) -> Bound:
        """``bound`` with the defaults of what it lacks; ``TypeError`` where that does not make it fit."""
        for name in bound:
            if name not in self.names:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
        complete = {**self._defaults, **({self._var_keyword: {}} if self._var_keyword else {}), **bound}
        missing = [repr(name) for name in self.names if name not in complete]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            raise TypeError(f"{self.name}() missing {len(missing)} required argument{plural}: {', '.join(missing)}")
        return complete


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__qualname__", None)
    return name if isinstance(name, str) else type(func).__qualname__


def _parameters(func: Callable[..., Any]) -> list[Parameter]:
    try:
        return list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the parameters of {func!r} cannot be read ({error}): wrap it in a Python function that names them"
        ) from None


# -- what is compiled ----------------------------------------------------------------------------------------------------
def _compiled_bind(name: str, parameters: list[Parameter]) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Bound]:
    items = ", ".join(f"{each.name!r}: {each.name}" for each in parameters)
    stub = _compile(name, f"def stub({_declared(parameters)}): return {{{items}}}", "stub", {})
    has_default = [each for each in parameters if each.default is not Parameter.empty]
    stub.__defaults__ = tuple(each.default for each in has_default if each.kind is not Parameter.KEYWORD_ONLY)
    stub.__kwdefaults__ = {each.name: each.default for each in has_default if each.kind is Parameter.KEYWORD_ONLY}
    stub.__name__ = stub.__qualname__ = name  # the errors of the interpreter speak of this name
    return _compile(name, "def bind(args, kwargs): return stub(*args, **kwargs)", "bind", {"stub": stub})


def _compiled_calls(
    name: str, parameters: list[Parameter], complete: Callable[[Mapping[str, Any]], Bound]
) -> tuple[Callable[[Callable[..., Any], Mapping[str, Any]], Any], Callable[[Mapping[str, Any]], Split]]:
    """``call`` and ``split``.

    A mapping that does not fit is completed first. Values are looked up before the call, so that a ``KeyError`` of the function
    is never taken for a missing name.
    """
    reads = "; ".join(f"v{place} = bound[{each.name!r}]" for place, each in enumerate(parameters)) or "pass"
    positional = ", ".join(_passed(place, each) for place, each in enumerate(parameters) if not _is_keyword(each))
    keywords = ", ".join(_passed(place, each) for place, each in enumerate(parameters) if _is_keyword(each))
    as_dict = ", ".join(_as_item(place, each) for place, each in enumerate(parameters) if _is_keyword(each))
    as_tuple = f"({positional},)" if positional else "()"
    head = "\n".join(
        (
            f"    if len(bound) != {len(parameters)}: bound = complete(bound)",
            f"    try: {reads}",
            f"    except KeyError: bound = complete(bound); {reads}",
        )
    )
    arguments = ", ".join(filter(None, (positional, keywords)))
    names = {"complete": complete}
    call = _compile(name, f"def call(func, bound):\n{head}\n    return func({arguments})", "call", names)
    split = _compile(name, f"def split(bound):\n{head}\n    return {as_tuple}, {{{as_dict}}}", "split", names)
    return call, split


def _compile(name: str, source: str, function: str, names: dict[str, Any]) -> FunctionType:
    """The function that ``source`` defines; ``names`` are its globals."""
    namespace = {**names, "__builtins__": {"KeyError": KeyError, "len": len}}
    exec(compile(source, f"<call of {name}>", "exec"), namespace)  # noqa: S102  # the text is ours: names of parameters are identifiers
    compiled = namespace[function]
    assert isinstance(compiled, FunctionType)
    return compiled


def _declared(parameters: list[Parameter]) -> str:
    """The parameters as a ``def`` lists them, without defaults, which are set on the function instead."""
    parts: list[str] = []
    last: Any = None
    for each in parameters:
        if last is Parameter.POSITIONAL_ONLY and each.kind is not last:
            parts.append("/")
        if each.kind is Parameter.KEYWORD_ONLY and last not in (Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY):
            parts.append("*")
        parts.append(_STARS.get(each.kind, "") + each.name)
        last = each.kind
    return ", ".join([*parts, "/"] if last is Parameter.POSITIONAL_ONLY else parts)


_STARS: dict[object, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _is_keyword(parameter: Parameter) -> bool:
    return parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD)


def _passed(place: int, parameter: Parameter) -> str:
    if parameter.kind is Parameter.KEYWORD_ONLY:
        return f"{parameter.name}=v{place}"
    return f"{_STARS.get(parameter.kind, '')}v{place}"


def _as_item(place: int, parameter: Parameter) -> str:
    return f"**v{place}" if parameter.kind is Parameter.VAR_KEYWORD else f"{parameter.name!r}: v{place}"
