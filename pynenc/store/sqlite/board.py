"""The board: which store objects on one file want to be woken, and where; a small file that all of them map."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

SLOTS = 512
#: Where the marks of the slots begin: used, idle, waits, and the filters.
USED, IDLE, WAITS, FILTERS = 0, SLOTS, 2 * SLOTS, 3 * SLOTS
#: Bytes of the filter that tells which ids a slot waits for; one of zeros passes all.
_FILTER = 8
_SIZE = FILTERS + SLOTS * _FILTER
#: Marks: no, yes, and idle for some queues only, or used by somebody who listens.
NO, YES, PICKY = 0, 1, 2
LISTENS = 2
NOBODY = bytes(SLOTS)
#: Bytes that the folder of the sockets may have on every system.
_PATH_LIMIT = 90


class Board:
    """The slots of all store objects on one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder_handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        handle = os.open(folder / "board", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(handle).st_size < _SIZE:
            os.ftruncate(handle, _SIZE)
        self._handle = handle
        # Short enough for every system.
        is_long = len(str(folder).encode()) > _PATH_LIMIT and sys.platform.startswith("linux")
        self._sockets = f"/proc/self/fd/{self._folder_handle}" if is_long else str(folder)
        self.marks = mmap.mmap(handle, _SIZE)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def _path(self, slot: int) -> str:
        """The path of the socket of a slot."""
        return f"{self._sockets}/wake-{slot}"

    def take_slot(self) -> tuple[int, socket.socket] | None:
        """A free slot and the socket that receives for it; None where that is not possible."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            for slot in range(SLOTS):
                if not self.marks[USED + slot] or not self._is_alive(slot):
                    return slot, self._bind(slot)
        except OSError:
            return None
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        return None

    def _is_alive(self, slot: int) -> bool:
        """Whether somebody receives for a slot, which leaves no letter there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._path(slot))
            except OSError:
                return False
        return True

    def _bind(self, slot: int) -> socket.socket:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            (self._folder / f"wake-{slot}").unlink(missing_ok=True)
            receiver.bind(self._path(slot))
        except OSError:
            receiver.close()
            raise
        self.wait(slot, 0)
        self.marks[IDLE + slot] = NO
        self.marks[USED + slot] = YES
        return receiver

    def free(self, slot: int) -> None:
        """Give a slot back."""
        (self._folder / f"wake-{slot}").unlink(missing_ok=True)
        self.wait(slot, 0)
        self.marks[USED + slot] = self.marks[IDLE + slot] = NO

    def marked(self, kind: int, value: int) -> Iterable[int]:
        """The slots that carry a mark."""
        mark, end = bytes((value,)), kind + SLOTS
        at = self.marks.find(mark, kind, end)
        while at >= 0:
            yield at - kind
            at = self.marks.find(mark, at + 1, end)

    def wait(self, slot: int, bits: int) -> None:
        """Show for which ids a slot waits; none ends it."""
        at = FILTERS + slot * _FILTER
        self.marks[at : at + _FILTER] = bits.to_bytes(_FILTER, "little")
        self.marks[WAITS + slot] = YES if bits else NO

    def waiting(self, ids: Sequence[str]) -> list[int]:
        """The slots that wait for one of these ids; perhaps some more."""
        slots = list(self.marked(WAITS, YES))
        bits = bits_of(ids) if slots and len(ids) < 8 * _FILTER else -1
        return [slot for slot in slots if (wanted := self._filter(slot)) == 0 or wanted & bits]

    def _filter(self, slot: int) -> int:
        at = FILTERS + slot * _FILTER
        return int.from_bytes(self.marks[at : at + _FILTER], "little")

    def send(self, slot: int, letter: bytes) -> bool:
        """Send a letter to a slot; false when nobody is there any more, and the slot is free."""
        path = self._path(slot)
        try:
            self._sender.sendto(letter, path)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                self.free(slot)
                return False
            _send_apart(letter, path)
        return True

    def close(self) -> None:
        """Release the map and the sockets."""
        self._sender.close()
        self.marks.close()
        os.close(self._handle)
        os.close(self._folder_handle)


def _send_apart(letter: bytes, path: str) -> None:
    """Send once more, as all that this process may send may lie unread elsewhere. If the receiver itself is full, it knows enough."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        sender.setblocking(False)
        sender.sendto(letter, path)


def bits_of(ids: Iterable[str]) -> int:
    """One bit for each id, of as many as a filter has."""
    bits = 0
    for name in ids:
        bits |= 1 << (crc32(name.encode()) % (8 * _FILTER))
    return bits
