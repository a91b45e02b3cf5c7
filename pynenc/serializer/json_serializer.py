"""The default serializer: JSON that describes its own types. How it works is told in :mod:`pynenc.serializer.walk`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import msgspec

from pynenc.exceptions import SerializationError
from pynenc.serializer import classes, standard, tables
from pynenc.serializer.base import NO_BLOBS, BaseSerializer
from pynenc.serializer.gate import TypeGate
from pynenc.serializer.walk import MARK, MAX_DEPTH, PLAIN, PLAIN_OR_FLOAT, Build, Handler, Trouble, Walk

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_CONTAINERS = frozenset({dict, list})
_DECODERS = {**standard.DECODERS, **classes.DECODERS, **tables.DECODERS}


class JsonSerializer(BaseSerializer):
    """Plain JSON where JSON has the type, and tagged JSON for everything else, so that what goes in comes out, of the same type.

    Object identity is not kept: a list that a value holds twice comes back as two lists.

    :param max_depth: levels of nesting that a value may have.
    """

    def __init__(self, max_depth: int = MAX_DEPTH) -> None:
        self._max_depth = max_depth
        self._handlers: dict[type, Handler] = dict(standard.HANDLERS)
        self._decoders: dict[str, Handler] = dict(_DECODERS)
        self._registered: list[tuple[type, Handler]] = []

    def register(self, tag: str, cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        """Teach this serializer a class and its subclasses; for parts of the library, such as invocations.

        :param encode: what stands for an object: any value that the serializer takes.
        :param decode: the object of such a value.
        :raises ValueError: the tag is taken.
        """
        name = f"~{tag}"
        if name in self._decoders:
            raise ValueError(f"the tag {tag!r} is taken")

        def encode_it(value: Any, walk: Walk, depth: int) -> Any:
            return walk.value(encode(value), depth)

        def decode_it(data: Any, build: Build, depth: int) -> Any:
            return decode(build.value(data, depth))

        handler = Handler(name, encode_it, decode_it)
        self._decoders[name] = handler
        self._registered.append((cls, handler))
        self._handlers = dict(standard.HANDLERS)  # what was found before may be different now

    def _find(self, kind: type) -> Handler | None:
        """The handler of a type; remembered."""
        handler = self._handlers.get(kind)
        if handler is None:
            handler = next((handler for cls, handler in self._registered if issubclass(kind, cls)), None)
            handler = handler or standard.late(kind) or tables.classify(kind) or classes.classify(kind)
            if handler is not None and "<locals>" not in kind.__qualname__:
                self._handlers[kind] = handler
        return handler

    # -- single values -------------------------------------------------------------------------------------------------
    def dumps(self, value: object, gate: TypeGate | None = None, *, where: str = "value") -> bytes:
        try:
            try:
                return _encode(
                    value if type(value) in PLAIN else Walk(self._find, gate, max_depth=self._max_depth).value(value, 0)
                )
            except (ValueError, OverflowError):
                return _encode(Walk(self._find, gate, careful=True, max_depth=self._max_depth).value(value, 0))
        except Trouble as trouble:
            raise trouble.error(where) from trouble.__cause__
        except (TypeError, ValueError, RecursionError, RuntimeError) as error:
            raise SerializationError(f"{where} cannot be encoded: {error}") from error

    def loads(self, fragment: bytes, gate: TypeGate, blobs: Mapping[str, bytes] = NO_BLOBS) -> Any:
        try:
            data = _decode(fragment)
            return Build(self._decoders.get, gate, blobs, self._max_depth).value(data, 0) if MARK in fragment else data
        except SerializationError as error:
            raise SerializationError(f"the stored value cannot be decoded: {error}") from error
        except Exception as error:
            raise SerializationError(f"the stored value is damaged: {error!r}") from error

    # -- all arguments at once -----------------------------------------------------------------------------------------
    def dumps_arguments(self, kwargs: Mapping[str, Any], gate: TypeGate | None = None) -> bytes:
        name = ""
        try:
            kinds = set(map(type, kwargs.values()))
            if kinds <= PLAIN or (kinds <= PLAIN_OR_FLOAT and _is_finite(kwargs)):
                return _encode(kwargs)
            walk = Walk(self._find, gate, max_depth=self._max_depth)
            tree = {}
            for name, value in kwargs.items():
                kind = type(value)
                tree[name] = value if kind in PLAIN or (kind is float and isfinite(value)) else walk.value(value, 0)
            return _encode(tree)
        except Trouble as trouble:
            raise trouble.error(name) from trouble.__cause__
        except (TypeError, ValueError, OverflowError, RecursionError, RuntimeError):
            return super().dumps_arguments(kwargs, gate)  # one by one: more carefully, and naming the culprit

    def loads_arguments(self, payload: bytes, gate: TypeGate, blobs: Mapping[str, bytes] = NO_BLOBS) -> dict[str, Any]:
        try:
            data = _decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise SerializationError(f"the stored arguments are damaged: {error}") from error
        if type(data) is not dict:
            raise SerializationError("the stored arguments are damaged: they are no JSON object")
        if MARK in payload:
            self._build_arguments(data, Build(self._decoders.get, gate, blobs, self._max_depth))
        return data

    @staticmethod
    def _build_arguments(data: dict[str, Any], build: Build) -> None:
        """The second walk, in place."""
        name = ""
        try:
            for name, item in data.items():
                if type(item) in _CONTAINERS:
                    data[name] = build.value(item, 0)
        except SerializationError as error:
            raise SerializationError(f"argument {name!r} cannot be decoded: {error}") from error
        except Exception as error:
            raise SerializationError(f"argument {name!r} is damaged: {error!r}") from error


def _is_finite(kwargs: Mapping[str, Any]) -> bool:
    """Whether the floats among scalars are numbers that JSON has."""
    for value in kwargs.values():  # noqa: SIM110  # faster than a generator
        if type(value) is float and not isfinite(value):
            return False
    return True
