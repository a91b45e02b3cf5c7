"""How values travel: every parameter has one type, so each statement is prepared once; arrays are packed here, because the driver's way is slow."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any

from psycopg.adapt import AdaptersMap, Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types.bool import BoolBinaryLoader
from psycopg.types.numeric import Int2BinaryLoader, Int4BinaryLoader, Int8BinaryDumper, Int8BinaryLoader
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper, TextBinaryLoader
from psycopg.types.uuid import UUIDBinaryLoader

_TEXT, _BYTEA, _INT8, _BOOL = 25, 17, 20, 16
_TEXT_ARRAY, _BYTEA_ARRAY, _INT8_ARRAY, _BOOL_ARRAY = 1009, 1001, 1016, 1000


class Texts(list[str]):
    """A ``text[]``."""


class Payloads(list[bytes]):
    """A ``bytea[]``."""


class Numbers(list[int]):
    """A ``bigint[]``."""


class Flags(list[bool]):
    """A ``boolean[]``."""


def _head(count: int, kind: int) -> bytes:
    """The beginning of an array in the binary format: dimensions, has NULLs, type; size and lower bound."""
    return pack(">iiIii", 1, 0, kind, count, 1) if count else pack(">iiI", 0, 0, kind)


def _join(kind: int, values: Sequence[bytes]) -> bytes:
    parts = [_head(len(values), kind)]
    for value in values:
        parts += (len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def pack_texts(values: Sequence[str]) -> bytes:
    """A ``text[]`` in the binary format."""
    return _join(_TEXT, [value.encode() for value in values])


def pack_payloads(values: Sequence[bytes]) -> bytes:
    """A ``bytea[]`` in the binary format."""
    return _join(_BYTEA, values)


def pack_numbers(values: Sequence[int]) -> bytes:
    """A ``bigint[]`` in the binary format."""
    flat = [8] * (2 * len(values))
    flat[1::2] = values
    return _head(len(values), _INT8) + pack(">" + "iq" * len(values), *flat)


def pack_flags(values: Sequence[bool]) -> bytes:
    """A ``boolean[]`` in the binary format."""
    return _join(_BOOL, [b"\1" if value else b"\0" for value in values])


class TextsDumper(Dumper):
    """Packs :class:`Texts`."""

    format = Format.BINARY
    oid = _TEXT_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return pack_texts(obj)


class PayloadsDumper(Dumper):
    """Packs :class:`Payloads`."""

    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return pack_payloads(obj)


class NumbersDumper(Dumper):
    """Packs :class:`Numbers`."""

    format = Format.BINARY
    oid = _INT8_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return pack_numbers(obj)


class FlagsDumper(Dumper):
    """Packs :class:`Flags`."""

    format = Format.BINARY
    oid = _BOOL_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return pack_flags(obj)


#: How answers are read, whatever else somebody has taught their connection.
_LOADERS: dict[str, type[Loader]] = {
    "bool": BoolBinaryLoader,
    "int2": Int2BinaryLoader,
    "int4": Int4BinaryLoader,
    "int8": Int8BinaryLoader,
    "text": TextBinaryLoader,
    "uuid": UUIDBinaryLoader,
}


def register(adapters: AdaptersMap) -> None:
    """Give a connection one way for each kind of value."""
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, StrBinaryDumper)
    adapters.register_dumper(bytes, BytesBinaryDumper)
    adapters.register_dumper(Texts, TextsDumper)
    adapters.register_dumper(Payloads, PayloadsDumper)
    adapters.register_dumper(Numbers, NumbersDumper)
    adapters.register_dumper(Flags, FlagsDumper)
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)
