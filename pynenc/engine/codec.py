"""Between values and payloads: arguments, results and errors, with limits, sealing and the client data store.

An arguments payload is one JSON object, a fragment for each argument. A fragment that is large is kept once in the client data store and replaced by a reference to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pynenc.engine.blobs import ClientDataStore
from pynenc.serializer.base import BaseSerializer
from pynenc.serializer.payload import Sealer

_NO_FRAGMENTS: Mapping[str, bytes] = {}


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """Encoded arguments of one call.

    ``payload`` is sealed, ``plain`` is what was sealed; ``blobs`` are the keys that it refers to.
    """

    payload: bytes
    plain: bytes
    blobs: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes."""

    inline_argument: int
    arguments: int
    result: int
    traceback: int


class Codec:
    """Encodes and decodes for one app.

    :param app: what decoded invocations belong to.
    """

    def __init__(
        self,
        serializer: BaseSerializer,
        sealer: Sealer,
        blobs: ClientDataStore,
        limits: Limits,
        print_mode: str,
        print_length: int,
        redact: tuple[str, ...],
        app: Any,
    ) -> None:
        self.serializer = serializer
        self.blobs = blobs
        self._sealer = sealer
        self._limits = limits
        self._print_mode = print_mode
        self._print_length = print_length
        self._redact = redact
        self._app = app
