r"""What lies between a payload and the store: compression and signatures.

The first byte tells the form. JSON begins with a printable character, so a payload that is neither large nor signed is its own
sealed form::

    \x01 zstd frame                          compressed
    \x02 key id (4) mac (32) inner           signed; inner is plain or compressed
    \x03 size (2) headers inner              with headers in JSON for whoever runs it; inner is any of the others

The message authentication code is HMAC-SHA256 over the context (such as the task and the invocation id), its length, and the
inner bytes: a payload cannot be moved to where another belongs. The first key signs, all keys verify. Headers are outside of what is
signed: they name a trace, and nothing else is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import zstandard

from pynenc.exceptions import SerializationError

#: Bytes from which a payload is compressed.
COMPRESS_FROM = 16 * 1024
#: Bytes that a decompressed payload may have, unless told otherwise.
MAX_DECOMPRESSED = 256 * 2**20

#: Most bytes of headers.
MOST_HEADERS = 4096

_COMPRESSED, _SIGNED, _HEADED = 1, 2, 3
_KEY_ID, _MAC = 4, 32
_HEADER = 1 + _KEY_ID + _MAC


def compress(data: bytes) -> bytes:
    """A zstd frame of level 1 that states the size of its content."""
    return zstandard.ZstdCompressor(level=1, write_content_size=True).compress(data)


def decompress(frame: bytes, limit: int) -> bytes:
    """The content of a frame.

    :param limit: bytes that the content may have.
    :raises SerializationError: it is damaged, does not state its size, or has more than ``limit`` bytes.
    """
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > limit:
            told = "an unknown number of" if size == zstandard.CONTENTSIZE_UNKNOWN else f"{size}"
            raise SerializationError(f"compressed data of {told} bytes is refused: the limit is {limit}")
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=limit)
    except (zstandard.ZstdError, MemoryError) as error:
        raise SerializationError(f"compressed data is damaged: {error}") from error
    if len(content) != size:
        raise SerializationError(f"compressed data is damaged: {len(content)} bytes instead of {size}")
    return content


def with_headers(headers: Mapping[str, str], sealed: bytes) -> bytes:
    """A sealed payload with headers in front; itself if there are none, or they are too long."""
    encoded = msgspec.json.encode(headers)
    if not headers or len(encoded) > MOST_HEADERS:
        return sealed
    return bytes((_HEADED,)) + len(encoded).to_bytes(2, "big") + encoded + sealed


def without_headers(data: bytes) -> bytes:
    """The sealed payload behind the headers, if there are any."""
    return data[3 + int.from_bytes(data[1:3], "big") :] if data[:1] == b"\x03" else data


def headers_of(data: bytes) -> dict[str, str]:
    """The headers; none for damaged ones."""
    if data[:1] != b"\x03":
        return {}
    try:
        return _read_headers(data[3 : 3 + int.from_bytes(data[1:3], "big")])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


_read_headers = msgspec.json.Decoder(dict[str, str]).decode


class Signer:
    """Signs with the first of its keys, verifies with all of them.

    :raises ValueError: a key is empty.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not all(keys):
            raise ValueError("a signing key is empty")
        self._keys = {_key_id(key): key for key in reversed(keys)}
        self._first = _key_id(keys[0]) if keys else b""

    def sign(self, data: bytes, context: bytes) -> bytes:
        """The header that belongs before ``data``: the id of the key and the code."""
        return self._first + _mac(self._keys[self._first], data, context)

    def verify(self, header: bytes, data: bytes, context: bytes) -> None:
        """Check a header.

        :raises SerializationError: it does not fit.
        """
        key = self._keys.get(header[:_KEY_ID])
        if key is None:
            raise SerializationError(
                "a stored value is signed with a key that is not in signing_keys: add the key while values signed with it exist"
            )
        import hmac  # takes long to import

        if not hmac.compare_digest(header[_KEY_ID:], _mac(key, data, context)):
            raise SerializationError(
                "the signature of a stored value is wrong: it was changed, or belongs to another invocation"
            )


def _key_id(key: bytes) -> bytes:
    from hashlib import blake2b  # takes long to import

    return blake2b(key, digest_size=_KEY_ID, person=b"pynenc key id").digest()


def _mac(key: bytes, data: bytes, context: bytes) -> bytes:
    import hmac  # takes long to import

    mac = hmac.new(key, len(context).to_bytes(8, "big") + context, "sha256")
    mac.update(data)
    return mac.digest()


class Sealer:
    """Compresses large payloads, and signs all when there are keys.

    :param keys: signing keys, the first one signs; none for no signatures.
    :param max_decompressed: bytes that a payload may have when it is decompressed.
    """

    def __init__(self, keys: Sequence[bytes] = (), max_decompressed: int = MAX_DECOMPRESSED) -> None:
        self._signer = Signer(keys) if keys else None
        self._limit = max_decompressed

    def seal(self, payload: bytes, context: bytes = b"") -> bytes:
        """The stored form; a small one without signature is the payload itself.

        :param context: what the signature binds the payload to; :meth:`unseal` needs the same.
        """
        if len(payload) >= COMPRESS_FROM:
            payload = _smaller(payload)
        if self._signer is None:
            return payload
        return bytes((_SIGNED,)) + self._signer.sign(payload, context) + payload

    def unseal(self, data: bytes, context: bytes = b"") -> bytes:
        """The payload of a stored form.

        :raises SerializationError: it is damaged or too large, its signature is wrong, or it has none although there are keys.
        """
        if self._signer is not None:
            data = self._verified(data, context)
        if data[:1] == b"\x02":
            raise SerializationError(
                "a stored value is signed, but this app has no signing_keys: set the same keys everywhere"
            )
        return decompress(data[1:], self._limit) if data[:1] == b"\x01" else data

    def _verified(self, data: bytes, context: bytes) -> bytes:
        assert self._signer is not None
        if data[:1] != b"\x02" or len(data) < _HEADER:
            raise SerializationError(
                "a stored value is not signed, but this app has signing_keys: let what was submitted before end without them first"
            )
        inner = data[_HEADER:]
        self._signer.verify(data[1:_HEADER], inner, context)
        return inner


def _smaller(payload: bytes) -> bytes:
    """The compressed form, if it is worth it."""
    frame = compress(payload)
    return bytes((_COMPRESSED,)) + frame if len(frame) < 0.9 * len(payload) else payload
