"""The client data store: large values once, by content. Theory of operation.

A large fragment becomes a *blob* under the digest of its content, and the payload holds a reference instead. What this module
keeps in memory, all of it bounded:

unsent    compressed blobs that the store is not known to hold. They must not get lost before their call is submitted, so when
          they outgrow the budget the oldest are uploaded ahead of the call instead of dropped; in a transaction of the user,
          which may hold a lock, they are kept until the call is submitted.
stored    keys that the store is known to hold; only a belief: the store says so when it is wrong, and ``forget`` + ``pending``
          send the blobs again.
cache     fragments by key, made here or fetched, least recently used out first, and text or bytes decoded from them. The newest
          entry stays even when it alone exceeds the budget: one 100 MB argument is loaded once, not once per task.
seen      large ``str`` and ``bytes`` objects by identity, with a strong reference so that the identity stays theirs: the same
          object passed to a thousand calls is encoded and hashed once. Other types may have been changed in between.
loading   keys that a thread is fetching right now; others wait for it instead of fetching again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

from pynenc.core.records import Blob
from pynenc.engine.transaction import connection_for
from pynenc.exceptions import SerializationError
from pynenc.serializer.base import BaseSerializer, join_fragments, reference, split_fragments
from pynenc.serializer.gate import TypeGate
from pynenc.serializer.payload import MAX_DECOMPRESSED, compress, decompress

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Bytes from which a fragment becomes a blob.
MIN_SIZE = 256 * 1024
#: Bytes of fragments that a process remembers, and of blobs that wait to be sent.
CACHE_BYTES = 256 * 2**20
#: Fragments that a process remembers.
CACHE_ENTRIES = 1024
_STORED_KEYS = 16_384
_SEEN = 64
_IMMUTABLE = (str, bytes)


class BlobStore(Protocol):
    """What is needed of a store."""

    def put_blobs(self, blobs: Sequence[Blob]) -> None: ...
    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]: ...


class Seen(NamedTuple):
    """A large object that was encoded, and how to do it again."""

    value: str | bytes
    key: str
    encode: Callable[[], bytes]


class Fragments(dict[str, bytes]):
    """Fetched fragments by key; ``decoded`` is where a serializer keeps immutable values that it made of them."""

    __slots__ = ("decoded",)

    def __init__(self, decoded: Cache) -> None:
        super().__init__()
        self.decoded = decoded


class Cache:
    """Values by key within a budget, least recently used out first. Safe to use from several threads."""

    def __init__(self, entries: int, budget: int) -> None:
        self._entries = entries
        self._budget = budget
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        with self._lock:
            self._drop(key)
            self._values[key] = value
            self._bytes += len(value)
            while self._values and (
                len(self._values) > self._entries or (self._bytes > self._budget and len(self._values) > 1)
            ):
                self._drop(next(iter(self._values)))

    def _drop(self, key: str) -> None:
        value = self._values.pop(key, None)
        self._bytes -= 0 if value is None else len(value)


class ClientDataStore:
    """Large fragments of one app, shared by content. Safe to use from several threads, and after ``fork``.

    :param store: where blobs are kept. :param enabled: whether fragments become blobs at all; those that are there are read anyway.
    :param min_size: bytes from which a fragment becomes a blob. :param max_size: bytes above which it does not; 0 for no limit.
    :param cache_bytes: the budget of each of the things that are kept in memory. :param cache_entries: likewise; 0 for no cache.
    :param max_blob: bytes that a decompressed blob may have.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        enabled: bool = True,
        min_size: int = MIN_SIZE,
        max_size: int = 0,
        cache_bytes: int = CACHE_BYTES,
        cache_entries: int = CACHE_ENTRIES,
        max_blob: int = 4 * MAX_DECOMPRESSED,
    ) -> None:
        self._store = store
        self.enabled = enabled
        self.min_size = min_size
        self.max_size = max_size
        self._cache_bytes = cache_bytes
        self._max_blob = max_blob
        self._seen_entries = min(_SEEN, cache_entries)
        self._cache = Cache(cache_entries, cache_bytes)
        self._decoded = Cache(cache_entries, cache_bytes)
        self._unsent: OrderedDict[str, Blob] = OrderedDict()
        self._unsent_bytes = 0
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._seen: OrderedDict[int, Seen] = OrderedDict()
        self._loading: dict[str, Future[bytes]] = {}
        self._lock = Lock()
        _all.add(self)

    # -- encoding ------------------------------------------------------------------------------------------------------
    def encode_arguments(
        self,
        serializer: BaseSerializer,
        kwargs: Mapping[str, object],
        gate: TypeGate | None = None,
        *,
        inline: frozenset[str] = frozenset(),
    ) -> tuple[bytes, tuple[str, ...]]:
        """The payload of arguments with references for the large ones, and the keys it refers to.

        :param inline: arguments that stay in the payload whatever their size.
        """
        if not self.enabled or not self._has_large(kwargs):
            payload = serializer.dumps_arguments(kwargs, gate)
            return self.offload_in(payload, inline) if len(payload) >= self.min_size else (payload, ())
        fragments: dict[str, bytes] = {}
        keys: list[str] = []
        for name, value in kwargs.items():
            if name in inline:
                fragments[name] = serializer.dumps(value, gate, where=name)
            else:
                fragments[name], key = self.offload_value(value, serializer, gate, where=name)
                keys += [key] if key else []
        return join_fragments(fragments), tuple(keys)

    def _has_large(self, kwargs: Mapping[str, object]) -> bool:
        for value in kwargs.values():  # noqa: SIM110  # faster than a generator
            if isinstance(value, _IMMUTABLE) and len(value) >= self.min_size:
                return True
        return False

    def offload_in(self, payload: bytes, inline: frozenset[str]) -> tuple[bytes, tuple[str, ...]]:
        """A payload with references for its large fragments, and the keys it refers to."""
        if not self.enabled:
            return payload, ()
        fragments = split_fragments(payload)
        keys: list[str] = []
        for name, fragment in fragments.items():
            if name not in inline and self.is_large(fragment):
                fragments[name], key = self.offload(fragment)
                keys.append(key)
        return (join_fragments(fragments) if keys else payload), tuple(keys)

    def is_large(self, fragment: bytes) -> bool:
        """Whether a fragment becomes a blob."""
        size = len(fragment)
        return self.enabled and self.min_size <= size <= self._max_blob and not (self.max_size and size > self.max_size)

    def offload(self, fragment: bytes) -> tuple[bytes, str]:
        """Keep a fragment for sending; the reference that stands for it, and its key."""
        key = blob_key(fragment)
        with self._lock:
            is_known = key in self._stored or key in self._unsent
        if not is_known:
            self._keep(Blob(key, compress(fragment), len(fragment)))
        self._cache[key] = fragment
        return reference(key), key

    def offload_value(
        self, value: object, serializer: BaseSerializer, gate: TypeGate | None = None, *, where: str = "value"
    ) -> tuple[bytes, str | None]:
        """The fragment of a value and None, or its reference and key if it is large. The same text or bytes object is encoded once."""
        is_lasting = type(value) in (str, bytes) and isinstance(value, _IMMUTABLE) and len(value) >= self.min_size
        if is_lasting and (key := self._recall(value)) is not None:
            return reference(key), key
        fragment = serializer.dumps(value, gate, where=where)
        if not self.is_large(fragment):
            return fragment, None
        made, key = self.offload(fragment)
        if is_lasting and isinstance(value, _IMMUTABLE):
            self._remember(Seen(value, key, lambda: serializer.dumps(value)))
        return made, key

    def _recall(self, value: object) -> str | None:
        with self._lock:
            seen = self._seen.get(id(value))
            if seen is None or seen.value is not value:
                return None
            self._seen.move_to_end(id(value))
            return seen.key if seen.key in self._stored or seen.key in self._unsent else None

    def _remember(self, seen: Seen) -> None:
        with self._lock:
            self._seen[id(seen.value)] = seen
            while len(self._seen) > self._seen_entries or (
                len(self._seen) > 1 and self._seen_bytes() > self._cache_bytes
            ):
                self._seen.popitem(last=False)

    def _seen_bytes(self) -> int:
        return sum(len(seen.value) for seen in self._seen.values())

    # -- sending -------------------------------------------------------------------------------------------------------
    def pending(self, keys: Iterable[str]) -> list[Blob]:
        """The blobs that the store is not known to hold, to be sent with what refers to them."""
        found: list[Blob] = []
        for key in dict.fromkeys(keys):
            with self._lock:
                blob, is_stored = self._unsent.get(key), key in self._stored
            if blob is None and not is_stored:
                blob = self._again(key)
            if blob is not None:
                found.append(blob)
        return found

    def mark_stored(self, keys: Iterable[str]) -> None:
        """The store holds these blobs now."""
        with self._lock:
            for key in keys:
                self._drop_unsent(key)
                self._stored[key] = None
                self._stored.move_to_end(key)
            while len(self._stored) > _STORED_KEYS:
                self._stored.popitem(last=False)

    def forget(self, keys: Iterable[str]) -> None:
        """The store does not hold these blobs, against what was believed."""
        with self._lock:
            for key in keys:
                self._stored.pop(key, None)

    def _keep(self, blob: Blob) -> None:
        """Add an unsent blob; upload the oldest ones when there are too many."""
        early: list[Blob] = []
        with self._lock:
            self._drop_unsent(blob.key)
            self._unsent[blob.key] = blob
            self._unsent_bytes += len(blob.data)
            for old in self._unsent.values():
                if self._unsent_bytes - sum(len(sent.data) for sent in early) <= self._cache_bytes or old is blob:
                    break
                early.append(old)
        if early and connection_for(self._store) is None:
            self._store.put_blobs(early)
            self.mark_stored([old.key for old in early])

    def _drop_unsent(self, key: str) -> None:
        blob = self._unsent.pop(key, None)
        self._unsent_bytes -= len(blob.data) if blob else 0

    def _again(self, key: str) -> Blob | None:
        """The blob of a key that has been sent before, from what is still in memory."""
        fragment: bytes | None = self._cache.get(key)
        if fragment is None:
            with self._lock:
                seen = next((seen for seen in self._seen.values() if seen.key == key), None)
            if seen is None:
                return None
            fragment = seen.encode()
        blob = Blob(key, compress(fragment), len(fragment))
        self._keep(blob)
        return blob

    # -- reading -------------------------------------------------------------------------------------------------------
    def fetch(self, keys: Sequence[str]) -> Fragments:
        """The fragments of keys, from the cache or the store; each is loaded once however many threads ask.

        :raises SerializationError: one is not there, is damaged or too large.
        """
        found = Fragments(self._decoded)
        wanted = []
        for key in keys:
            cached = self._cache.get(key)
            if cached is None:
                wanted.append(key)
            else:
                found[key] = cached
        if wanted:
            self._fetch_new(wanted, found)
        return found

    def _fetch_new(self, keys: Sequence[str], found: Fragments) -> None:
        """Load what no other thread is loading, then wait for the others: in this order nobody waits in a circle."""
        from concurrent.futures import Future

        mine: dict[str, Future[bytes]] = {}
        failure: BaseException = SerializationError("loading a blob was interrupted")
        try:
            with self._lock:
                others = {key: self._loading[key] for key in keys if key in self._loading}
                mine.update((key, Future()) for key in keys if key not in others)
                self._loading.update(mine)
            data = self._store.get_blobs(list(mine)) if mine else {}
            for key, future in mine.items():
                found[key] = self._cache[key] = self._open(key, data.get(key))
                future.set_result(found[key])
        except BaseException as error:
            failure = error
            raise
        finally:
            with self._lock:
                for key in mine:
                    self._loading.pop(key, None)
            for future in mine.values():
                if not future.done():
                    future.set_exception(failure)
        found.update((key, future.result()) for key, future in others.items())

    def _open(self, key: str, data: bytes | None) -> bytes:
        if data is None:
            raise SerializationError(
                f"the store does not hold blob {key}: it was purged while something still refers to it"
            )
        fragment = decompress(data, self._max_blob)
        if blob_key(fragment) != key:
            raise SerializationError(f"blob {key} is damaged: its content has another digest")
        return fragment

    # -- after fork ----------------------------------------------------------------------------------------------------
    def _after_fork(self) -> None:
        """Threads that held a lock or were loading do not exist in this process."""
        self._lock = Lock()
        self._cache._lock = Lock()
        self._decoded._lock = Lock()
        self._loading = {}


def blob_key(fragment: bytes) -> str:
    """40 hexadecimal digits of BLAKE2b over the plain content."""
    from hashlib import blake2b  # takes long to import

    return blake2b(fragment, digest_size=20).hexdigest()


_all: WeakSet[ClientDataStore] = WeakSet()


def _reset_all() -> None:
    for blobs in list(_all):
        blobs._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
