"""Pickle, for those who ask for it: every fragment is signed, and nothing is unpickled before its signature is checked."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pynenc.exceptions import ConfigError, SerializationError
from pynenc.serializer.base import NO_BLOBS, BaseSerializer, find_blob, referred
from pynenc.serializer.gate import TypeGate
from pynenc.serializer.payload import Signer

_CONTEXT = b"pynenc pickle"
_HEADER = 36
_decode = msgspec.json.Decoder(dict[str, str]).decode


class PickleSerializer(BaseSerializer):
    """Any picklable value, as ``{"~pickle": "<base64>"}`` signed with HMAC-SHA256.

    Who has a key can run code in every process that decodes: this is for apps of which all parts trust each other.

    :param keys: the first one signs, all verify.
    :raises ConfigError: there is no key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or not all(keys):
            raise ConfigError(
                "the pickle serializer needs 'signing_keys', a list of secret keys: set them, or use the json serializer"
            )
        self._signer = Signer(keys)

    def dumps(self, value: object, gate: TypeGate | None = None, *, where: str = "value") -> bytes:  # noqa: ARG002  # pickle has no gate
        try:
            import pickle  # takes long to import

            data = pickle.dumps(value, protocol=5)
        except Exception as error:
            raise SerializationError(
                f"{where} of type {type(value).__qualname__} cannot be pickled: {error}"
            ) from error
        return b'{"~pickle":"' + b2a_base64(self._signer.sign(data, _CONTEXT) + data, newline=False) + b'"}'

    def loads(self, fragment: bytes, gate: TypeGate, blobs: Mapping[str, bytes] = NO_BLOBS) -> Any:  # noqa: ARG002
        key = referred(fragment)
        data = self._verified(fragment if key is None else find_blob(blobs, key))
        try:
            import pickle  # takes long to import

            return pickle.loads(data)
        except Exception as error:
            raise SerializationError(f"the stored value cannot be unpickled here: {error!r}") from error

    def _verified(self, fragment: bytes) -> bytes:
        try:
            raw = a2b_base64(_decode(fragment)["~pickle"], strict_mode=True)
        except (msgspec.DecodeError, ValueError, KeyError, RecursionError) as error:
            raise SerializationError(
                "the stored value is no signed pickle: it is damaged, or was written by another serializer"
            ) from error
        self._signer.verify(raw[:_HEADER], raw[_HEADER:], _CONTEXT)
        return raw[_HEADER:]
