"""The two walks of the JSON serializer. Theory of operation.

JSON has six types; Python's data has many more. A value whose *exact* type JSON has (``str int float bool None``, a list, a dict
with string keys) stands for itself. Every other value is an object with a single key that begins with ``~``::

    (1, 2)            {"~tuple": [1, 2]}
    Point(1, 2)       {"~dataclass": ["shop.models:Point", {"x": 1, "y": 2}]}
    {1: "one"}        {"~dict": [[1, "one"]]}

So no such key may appear in a plain dict: one that has it (or keys that are not strings) is written as ``~dict``, a list of
pairs. That is the whole escaping rule, and it makes ``b'"~'`` the marker of anything that needs the second walk: a payload
without these two bytes is what the JSON decoder says it is.

:class:`Walk` goes down a value and returns a tree that the JSON encoder takes; parts that are plain already are handed over as
they are, not copied. It trusts the encoder with whole numbers and text; where the encoder refuses (lone surrogates, numbers of
thousands of digits) the walk is repeated carefully. The encoder would write NaN and infinities as ``null``, so floats are always
looked at. :class:`Build` goes down decoded JSON, top first, so that each tag decides what its data mean.

A handler is a function for one tag: ``encode(value, walk, depth) -> data`` and ``decode(data, build, depth) -> value``. Handlers
of types known in advance are found by exact type; those of classes (:mod:`pynenc.serializer.classes`) by what kind of class it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from pynenc.exceptions import SerializationError
from pynenc.serializer.base import NO_BLOBS, find_blob
from pynenc.serializer.gate import TypeGate

#: Levels of nesting that a value may have, unless told otherwise.
MAX_DEPTH = 64

MARK = b'"~'
PLAIN = frozenset({str, int, bool, type(None)})
_SURE = frozenset({bool, type(None)})
_TEXT = frozenset({str})
_FLOAT = frozenset({float})
PLAIN_OR_FLOAT = PLAIN | _FLOAT
_CONTAINERS = frozenset({dict, list})

_decode = msgspec.json.decode

Encode = Callable[[Any, "Walk", int], Any]
Decode = Callable[[Any, "Build", int], Any]


class Handler(NamedTuple):
    """What is done for one tag."""

    tag: str
    encode: Encode
    decode: Decode


class Trouble(Exception):  # noqa: N818  # never seen by users
    """Something cannot be encoded; the path to it is collected on the way out, innermost part first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path: list[str] = []
        self.owners: list[int] = []

    def at(self, part: str, owner: object) -> None:
        """Add the part of the path that ``owner`` contributes."""
        self.path.append(part)
        self.owners.append(id(owner))

    def error(self, where: str) -> SerializationError:
        """What users see."""
        path = self.path[::-1]
        if len(path) > 8:
            path = [*path[:4], " ... ", *path[-2:]]
        return SerializationError(f"{where}{''.join(path)} {self.text}")


class TooDeep(Trouble):
    """The value has too many levels, or contains itself."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"is nested deeper than {limit} levels: flatten it, or pass an id to look it up by")

    def error(self, where: str) -> SerializationError:
        if len(set(self.owners)) < len(self.owners):
            self.text = "contains itself: pass the parts, or an id to look the structure up by"
        return super().error(where)


class Walk:
    """One encoding: from a value to a tree of JSON.

    :param find: the handler of a type, or None.
    :param careful: look at whole numbers and text too.
    :param max_depth: levels of nesting that the value may have.
    """

    __slots__ = ("_find", "_max_depth", "careful", "gate", "plain")

    def __init__(
        self,
        find: Callable[[type], Handler | None],
        gate: TypeGate | None,
        *,
        careful: bool = False,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._find = find
        self._max_depth = max_depth
        self.gate = gate
        self.careful = careful
        self.plain = _SURE if careful else PLAIN

    def value(self, value: Any, depth: int) -> Any:
        """The tree of any value."""
        kind = type(value)
        if kind in self.plain:
            return value
        if kind is dict:
            return self._dict(value, depth + 1)
        if kind is list:
            return self._list(value, depth + 1)
        if kind is float and isfinite(value):
            return value
        return self._tagged(value, kind, depth + 1)

    def _tagged(self, value: Any, kind: type, depth: int) -> Any:
        if depth > self._max_depth:
            raise TooDeep(self._max_depth)
        handler = self._find(kind)
        if handler is None:
            raise Trouble(advice(kind))
        try:
            data = handler.encode(value, self, depth)
        except Trouble:
            raise
        except SerializationError as error:
            raise Trouble(f"cannot be sent: {error}") from error
        except Exception as error:
            if not self.careful and isinstance(error, (ValueError, OverflowError)):
                raise  # perhaps one that a careful walk avoids
            raise Trouble(f"of type {kind.__qualname__} cannot be encoded: {error!r}") from error
        return data if handler.tag == "" else {handler.tag: data}

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if depth > self._max_depth:
            raise TooDeep(self._max_depth)
        if self.careful or not has_plain_keys(value):
            return {"~dict": self.pairs(value, depth)} if value else value
        if self.plain.issuperset(map(type, value.values())):
            return value
        return self.fields(value, depth, "[{!r}]")

    def _list(self, value: list[Any], depth: int) -> Any:
        if depth > self._max_depth:
            raise TooDeep(self._max_depth)
        if self.plain.issuperset(map(type, value)) or (_FLOAT.issuperset(map(type, value)) and isfinite(sum(value))):
            return value
        return self.items(value, depth)

    def items(self, values: Iterable[Any], depth: int) -> list[Any]:
        """The trees of the items of a sequence."""
        out: list[Any] = []
        try:
            for item in values:
                out.append(self.value(item, depth))  # noqa: PERF401  # the length says where it failed
        except Trouble as trouble:
            trouble.at(f"[{len(out)}]", values)
            raise
        return out

    def pairs(self, values: Mapping[Any, Any], depth: int) -> list[list[Any]]:
        """The trees of the items of a mapping, whatever its keys are."""
        out: list[list[Any]] = []
        key: Any = None
        try:
            for key, item in values.items():
                out.append([self.value(key, depth), self.value(item, depth)])
        except Trouble as trouble:
            trouble.at(f"[{_short(key)}]", values)
            raise
        return out

    def fields(self, values: Mapping[str, Any], depth: int, label: str = ".{}", owner: object = None) -> dict[str, Any]:
        """The trees of named parts."""
        out: dict[str, Any] = {}
        name = ""
        try:
            for name, item in values.items():
                out[name] = self.value(item, depth)
        except Trouble as trouble:
            trouble.at(label.format(name), values if owner is None else owner)
            raise
        return out

    def name_of(self, cls: type) -> str:
        """The name of a class, if it can be found again by it."""
        module, qualname = cls.__module__, cls.__qualname__
        if self.gate is not None:
            self.gate.check(cls)
        elif "<locals>" in qualname:
            raise Trouble(
                f"is a {qualname}, a class that is defined inside a function: move the class to the top of a module"
            )
        return f"{module}:{qualname}"


class Build:
    """One decoding: from decoded JSON to the value.

    :param find: the handler of a tag, or None.
    :param max_depth: levels of nesting that the value may have.
    """

    __slots__ = ("_find", "_max_json_depth", "blobs", "gate")

    def __init__(
        self,
        find: Callable[[str], Handler | None],
        gate: TypeGate,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._find = find
        self._max_json_depth = 4 * max_depth + 8  # a level of the value is at most four levels of JSON
        self.gate = gate
        self.blobs = blobs

    def value(self, data: Any, depth: int) -> Any:
        """The value of decoded JSON, which is changed in place."""
        kind = type(data)
        if kind is dict:
            return self._object(data, depth + 1)
        if kind is list:
            return self.items(data, depth)
        return data

    def items(self, data: list[Any], depth: int) -> list[Any]:
        """The values of a list."""
        if depth >= self._max_json_depth:
            raise SerializationError("it is nested too deeply")
        if not PLAIN_OR_FLOAT.issuperset(map(type, data)):
            for index, item in enumerate(data):
                if type(item) in _CONTAINERS:
                    data[index] = self.value(item, depth + 1)
        return data

    def fields(self, data: dict[str, Any], depth: int) -> dict[str, Any]:
        """The values of named parts."""
        for name, item in data.items():
            if type(item) in _CONTAINERS:
                data[name] = self.value(item, depth)
        return data

    def _object(self, data: dict[str, Any], depth: int) -> Any:
        if depth > self._max_json_depth:
            raise SerializationError("it is nested too deeply")
        if len(data) == 1:
            ((tag, inside),) = data.items()
            if tag.startswith("~"):
                handler = self._find(tag)
                if handler is None:
                    raise SerializationError(
                        f"it holds the unknown kind {tag[:40]!r}: a newer version, or another app, has written it"
                    )
                return handler.decode(inside, self, depth)
        elif any(name.startswith("~") for name in data):
            raise SerializationError("it holds an object that is neither plain nor of a known kind")
        return self.fields(data, depth)

    def blob(self, key: str, depth: int) -> Any:
        """The value behind a reference; text and bytes are kept decoded where the caller has a place for it."""
        kept = getattr(self.blobs, "decoded", None)
        if kept is not None and (found := kept.get(key)) is not None:
            return found
        fragment = find_blob(self.blobs, key)
        value = _decode(fragment)
        if MARK in fragment:
            inner = Build(self._find, self.gate)  # without blobs: a reference never leads to another
            inner._max_json_depth = self._max_json_depth
            value = inner.value(value, depth)
        if kept is not None and type(value) in (str, bytes):
            kept[key] = value
        return value


def has_plain_keys(value: dict[Any, Any]) -> bool:
    """Whether a dict can stand for itself: all keys are exactly strings, none looks like a tag."""
    if not _TEXT.issuperset(map(type, value)):
        return False
    return "~" not in "".join(value) or not any(key.startswith("~") for key in value)


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:
        text = f"<{type(key).__qualname__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


_ADVICE: dict[str, str] = {
    "function": "pass data, and choose the function inside the task",
    "builtin_function_or_method": "pass data, and choose the function inside the task",
    "method": "pass data, and choose the function inside the task",
    "type": "pass its name, and look it up inside the task",
    "module": "pass its name, and import it inside the task",
    "generator": "pass list(...) of it",
    "coroutine": "await it first and pass the value",
    "async_generator": "collect it first and pass the list",
    "memoryview": "pass bytes(...) of it",
    "dict_keys": "pass list(...) of it",
    "dict_values": "pass list(...) of it",
    "dict_items": "pass list(...) of it",
    "TextIOWrapper": "pass its path, and open it inside the task",
    "BufferedReader": "pass its path, and open it inside the task",
    "BufferedWriter": "pass its path, and open it inside the task",
    "lock": "locks work within one process only; see running concurrency of tasks",
    "socket": "pass the address, and connect inside the task",
    "Connection": "pass the address, and connect inside the task",
}


def advice(kind: type) -> str:
    """Why a type does not travel, and what to do."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    todo = _ADVICE.get(kind.__name__) or (
        "make it a dataclass, NamedTuple, attrs or pydantic class, or give it the methods to_json() and from_json(); or pass an id to look it up by"
    )
    return f"is of type {name}, which cannot be sent: {todo}"
