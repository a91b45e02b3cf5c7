"""The board: a small shared memory in which a supervisor sees what its child runs, also after the child's death.

What a worker counts for metrics is published behind the entries, as a whole and in two halves by turns, so that there is always a
complete one. One entry of 64 bytes per body: state, attempt, deadline (monotonic microseconds, 0 none) and invocation id. The child
writes with single stores into its own entries; the supervisor reads them while the child lives only for deadlines,
where a torn read does no harm, and after its death as they are.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from pynenc.core.records import Claimed

_ENTRY = struct.Struct("<BxxxIQ36s")
_HEADER = struct.Struct("<QQQQ")
_SIZE = 64
ENTRIES = 2048
#: Where the header says which half holds what was published last; 0 for none.
_HALF_AT = _HEADER.size
#: Size and checksum before what is published, and the room for each half.
_FRAME = struct.Struct("<II")
_HALF = 256 * 1024
_TOTAL = _SIZE * ENTRIES + 2 * _HALF
_EMPTY, _RUNNING, _PARKED = 0, 1, 2


class Entry(NamedTuple):
    """One running body."""

    invocation_id: str
    attempt: int
    deadline: int
    is_parked: bool


class MmapBoard:
    """A board over an inherited file descriptor. Entry 0 is the header: how many entries were ever used, running and
    finished counts, when the fetch loop last moved, and which half was published last.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _TOTAL)
        self._used = 0
        self._lock = Lock()

    @classmethod
    def create(cls) -> tuple[MmapBoard, int]:
        """A new board and its file descriptor, which has no name on disk."""
        handle, path = tempfile.mkstemp(prefix="pynenc-board-")
        Path(path).unlink()
        os.ftruncate(handle, _TOTAL)  # a sparse file: what is never touched costs nothing
        return cls(handle), handle

    def enter(self, index: int, claimed: Claimed, deadline: int) -> None:
        """A body begins."""
        if index + 1 < ENTRIES:
            at = (index + 1) * _SIZE
            if index >= self._used:
                self._grow(index + 1)
            _ENTRY.pack_into(self._map, at, _EMPTY, claimed.attempt, deadline, claimed.id.encode())
            self._map[at] = _RUNNING

    def _grow(self, used: int) -> None:
        with self._lock:
            self._used = max(self._used, used)
            struct.pack_into("<Q", self._map, 0, self._used)

    def leave(self, index: int) -> None:
        """The body has ended."""
        if index + 1 < ENTRIES:
            self._map[(index + 1) * _SIZE] = _EMPTY

    def lend(self, index: int, *, is_parked: bool) -> None:
        """The body waits for others, or goes on."""
        if index + 1 < ENTRIES:
            self._map[(index + 1) * _SIZE] = _PARKED if is_parked else _RUNNING

    def count(self, running: int, finished: int, moved: float = 0.0) -> None:
        """Publish the counts that the heartbeat carries, and when the fetch loop last moved (monotonic seconds).

        ``finished`` is below zero for a moment when a worker gives work back before it has finished any.
        """
        struct.pack_into("<QQQ", self._map, 8, running, max(0, finished), int(moved * 1_000_000))

    def counts(self) -> tuple[int, int]:
        """Running and finished."""
        _, running, finished, _ = _HEADER.unpack_from(self._map, 0)
        return running, finished

    def moved(self) -> float:
        """When the fetch loop last moved, in monotonic seconds; 0 for not yet."""
        return float(_HEADER.unpack_from(self._map, 0)[3] / 1_000_000)

    def publish(self, data: bytes) -> None:
        """Show ``data`` instead of what was published before; what is too large is not shown."""
        if len(data) + _FRAME.size > _HALF:
            return
        half = 2 if self._map[_HALF_AT] == 1 else 1
        at = _SIZE * ENTRIES + (half - 1) * _HALF
        _FRAME.pack_into(self._map, at, len(data), crc32(data))
        self._map[at + _FRAME.size : at + _FRAME.size + len(data)] = data
        self._map[_HALF_AT] = half

    def published(self) -> bytes | None:
        """What was published last; empty for nothing yet, None if it changes just now."""
        half = self._map[_HALF_AT]
        if not half:
            return b""
        at = _SIZE * ENTRIES + (half - 1) * _HALF
        size, checksum = _FRAME.unpack_from(self._map, at)
        data = self._map[at + _FRAME.size : at + _FRAME.size + size]
        return data if crc32(data) == checksum else None

    def entries(self) -> list[Entry]:
        """What runs or waits."""
        used = min(_HEADER.unpack_from(self._map, 0)[0], ENTRIES - 1)
        found = []
        for at in range(_SIZE, _SIZE * (used + 1), _SIZE):
            if self._map[at] != _EMPTY:
                state, attempt, deadline, raw = _ENTRY.unpack_from(self._map, at)
                found.append(Entry(raw.rstrip(b"\0").decode("ascii", "replace"), attempt, deadline, state == _PARKED))
        return found

    def close(self) -> None:
        """Release the memory."""
        self._map.close()
