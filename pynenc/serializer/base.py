"""What a serializer is: values to JSON fragments and back.

A *fragment* is one JSON value in UTF-8. Fragments compose by concatenation: the payload of a call is one JSON object with a
fragment for each argument, so a fragment that many calls share is made once, and one that is large can be replaced by a
reference to the client data store, ``{"~blob":"<key>"}``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, Self, runtime_checkable

import msgspec

from pynenc.exceptions import SerializationError
from pynenc.serializer.gate import TypeGate

#: What ``blobs`` is for a payload that refers to none.
NO_BLOBS: Mapping[str, bytes] = MappingProxyType({})

_REFERENCE = b'{"~blob":"'
_encode = msgspec.json.encode
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@runtime_checkable
class JsonSerializable(Protocol):
    """A class that says itself how it travels. Decoding is subject to the same gate as any other class."""

    def to_json(self) -> Any:
        """What stands for the object: any value that the serializer takes."""

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The object again."""


class BaseSerializer(ABC):
    """Encodes single values; the client data store, limits and signatures are not its business."""

    @abstractmethod
    def dumps(self, value: object, gate: TypeGate | None = None, *, where: str = "value") -> bytes:
        """The fragment of a value.

        :param gate: when given, a class that it would not let back in is refused now instead of at the other end.
        :param where: how messages name the value.
        :raises SerializationError: it cannot be encoded; the message says which part and what to do.
        """

    @abstractmethod
    def loads(self, fragment: bytes, gate: TypeGate, blobs: Mapping[str, bytes] = NO_BLOBS) -> Any:
        """The value of a fragment: equal to what was encoded, of the same type, and nobody else's.

        :param blobs: the fragments that references in this one may point to.
        :raises SerializationError: it is malformed, or needs a class that the gate does not let in.
        """

    def dumps_arguments(self, kwargs: Mapping[str, object], gate: TypeGate | None = None) -> bytes:
        """The payload of arguments by name."""
        return join_fragments({name: self.dumps(value, gate, where=name) for name, value in kwargs.items()})

    def loads_arguments(self, payload: bytes, gate: TypeGate, blobs: Mapping[str, bytes] = NO_BLOBS) -> dict[str, Any]:
        """The arguments of a payload, by name."""
        return {name: self.loads(fragment, gate, blobs) for name, fragment in split_fragments(payload).items()}


def join_fragments(fragments: Mapping[str, bytes]) -> bytes:
    """The payload of fragments by argument name."""
    return b"{" + b",".join([b'"' + name.encode() + b'":' + fragment for name, fragment in fragments.items()]) + b"}"


def join_prefix(fragments: Mapping[str, bytes]) -> bytes:
    """The start of a payload whose further fragments :func:`join_after` adds: made once for many calls with common arguments."""
    return join_fragments(fragments)[:-1]


def join_after(prefix: bytes, payload: bytes) -> bytes:
    """The payload of common arguments (a prefix) and own ones (a payload)."""
    if payload == b"{}":
        return prefix + b"}"
    return prefix + b"," + payload[1:] if len(prefix) > 1 else payload


def split_fragments(payload: bytes) -> dict[str, bytes]:
    """The fragments of a payload by argument name, not decoded.

    :raises SerializationError: it is no JSON object.
    """
    try:
        return {name: bytes(raw) for name, raw in _split(payload).items()}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SerializationError(f"the stored arguments are damaged: {error}") from error


def reference(key: str) -> bytes:
    """The fragment that stands for a blob."""
    return b'{"~blob":"' + key.encode() + b'"}'


def referred(fragment: bytes) -> str | None:
    """The key of the blob that a fragment stands for, if it is a reference."""
    return fragment[len(_REFERENCE) : -2].decode() if fragment.startswith(_REFERENCE) else None


def referred_keys(fragments: Iterable[bytes]) -> tuple[str, ...]:
    """The keys of all fragments that are references."""
    return tuple(key for fragment in fragments if (key := referred(fragment)) is not None)


def find_blob(blobs: Mapping[str, bytes], key: str) -> bytes:
    """The fragment behind a reference.

    :raises SerializationError: it was not loaded with the payload.
    """
    try:
        return blobs[key]
    except KeyError:
        raise SerializationError(
            f"the client data store does not hold {key!r}: it was purged, or the payload does not list it"
        ) from None
