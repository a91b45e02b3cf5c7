"""Wake-ups: inside the process by a call, between processes by a datagram, and only to those who want one.

Theory of operation
-------------------
All store objects on one file map the same *board*, a small file with a slot for each of them: whether the slot is used, whether
somebody behind it is idle, whether somebody behind it waits for results. A commit that made work looks at the board, which costs no
system call, and sends a datagram to as many idle slots as there is work for; a commit that ended something sends one to each slot
that waits for one of these ids, as far as 64 bits of their hashes tell (Bloom, CACM 1970). Datagrams begin with a letter: ``w`` work,
``f`` finals, ``o`` orders. A full socket loses nothing: who finds several letters takes none at its word and looks into the database.

A letter ``f`` about a single small final brings it along, with the time at which its transaction began. Whoever has begun to wait before that time has
it without a look: it was committed during the wait. Others might get what was final before a retry by hand, so they look.

No wake-up is lost: a waiter marks its slot, then looks into the database, then sleeps; a writer commits, then looks at the board.

A slot whose process died refuses the datagram and is freed by who notices. Where sockets do not work, polls remain.
"""

from __future__ import annotations

import errno
import fcntl
import math
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock, Thread
from zlib import crc32

import msgspec

from pynenc.core.records import Claim, Final

SLOTS = 512
_USED, _IDLE, _WAITS, _FILTERS = 0, SLOTS, 2 * SLOTS, 3 * SLOTS
#: Bytes of the filter that tells which ids a slot waits for; one of zeros passes all.
_FILTER = 8
#: Ids up to which a filter is made anew when one less is waited for.
_FEW = 64
_SIZE = _FILTERS + SLOTS * _FILTER
_NO, _YES, _PICKY = 0, 1, 2
_NOBODY = bytes(SLOTS)
#: A look for finals that took this many seconds is followed by a pause of a multiple of it.
_LONG_LOOK, _PAUSE, _MOST_PAUSE = 0.001, 4, 0.05
#: Seconds of pause for each look in a row that found nothing: others wait for what ends now.
_MISS_PAUSE, _MOST_MISS_PAUSE = 0.0005, 0.005
#: Bytes of a letter, which may bring a final along: a stopped receiver with a few unread ones must not use up what a sender may send.
_LETTER = 1024
#: Bytes that the folder of the sockets may have on every system.
_PATH_LIMIT = 90

Wake = Callable[[], None]
#: A final, and a time before its commit, in seconds of the monotonic clock, which all processes of a machine share.
Known = tuple[float, Final]
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Known).decode
#: Told of the ids that are not known to be final when a watch ends.
CloseWatch = Callable[[Sequence[str]], None]


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
                if not self.marks[_USED + slot] or not self.send(slot, b"?"):
                    return slot, self._bind(slot)
        except OSError:
            return None
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        return None

    def _bind(self, slot: int) -> socket.socket:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            (self._folder / f"wake-{slot}").unlink(missing_ok=True)
            receiver.bind(self._path(slot))
        except OSError:
            receiver.close()
            raise
        self.wait(slot, 0)
        self.marks[_IDLE + slot] = _NO
        self.marks[_USED + slot] = _YES
        return receiver

    def free(self, slot: int) -> None:
        """Give a slot back."""
        (self._folder / f"wake-{slot}").unlink(missing_ok=True)
        self.wait(slot, 0)
        self.marks[_USED + slot] = self.marks[_IDLE + slot] = _NO

    def marked(self, kind: int, value: int) -> Iterable[int]:
        """The slots that carry a mark."""
        mark, end = bytes((value,)), kind + SLOTS
        at = self.marks.find(mark, kind, end)
        while at >= 0:
            yield at - kind
            at = self.marks.find(mark, at + 1, end)

    def wait(self, slot: int, bits: int) -> None:
        """Show for which ids a slot waits; none ends it."""
        at = _FILTERS + slot * _FILTER
        self.marks[at : at + _FILTER] = bits.to_bytes(_FILTER, "little")
        self.marks[_WAITS + slot] = _YES if bits else _NO

    def waiting(self, ids: Sequence[str]) -> list[int]:
        """The slots that wait for one of these ids; perhaps some more."""
        slots = list(self.marked(_WAITS, _YES))
        bits = _bits(ids) if slots and len(ids) < 8 * _FILTER else -1
        return [slot for slot in slots if (wanted := self._filter(slot)) == 0 or wanted & bits]

    def _filter(self, slot: int) -> int:
        at = _FILTERS + slot * _FILTER
        return int.from_bytes(self.marks[at : at + _FILTER], "little")

    def send(self, slot: int, letter: bytes) -> bool:
        """Send a letter to a slot; false when nobody is there any more, and the slot is free."""
        try:
            self._sender.sendto(letter, self._path(slot))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
                return True
            self.free(slot)
            return False
        return True

    def close(self) -> None:
        """Release the map and the sockets."""
        self._sender.close()
        self.marks.close()
        os.close(self._handle)
        os.close(self._folder_handle)


def _letter(known: Known | None) -> bytes:
    """What tells others of finals."""
    letter = b"f" + _encode(known) if known else b"f"
    return letter if len(letter) <= _LETTER else b"f"


def _bits(ids: Iterable[str]) -> int:
    """One bit for each id, of as many as a filter has."""
    bits = 0
    for name in ids:
        bits |= 1 << (crc32(name.encode()) % (8 * _FILTER))
    return bits


class Listener:
    """Somebody who takes work; see :class:`pynenc.store.base.IdleListener`."""

    __slots__ = ("_bell", "is_idle", "is_picky", "wake")

    def __init__(self, bell: Bell, wake: Wake, *, is_picky: bool) -> None:
        self._bell = bell
        self.wake = wake
        self.is_picky = is_picky
        self.is_idle = False

    def idle(self, is_idle: bool, /) -> None:  # noqa: FBT001  # as the contract has it
        """Say whether a wake-up is wanted."""
        if self.is_idle is not is_idle:
            self.is_idle = is_idle
            self._bell.publish()

    def close(self) -> None:
        """Stop listening."""
        self._bell.drop(self)


class Watch:
    """Somebody who waits for finals."""

    __slots__ = ("_bell", "_close", "began", "claim", "final", "ids", "left", "wake")

    def __init__(self, bell: Bell, ids: Sequence[str], wake: Wake, close: CloseWatch | None) -> None:
        self._bell = bell
        self._close = close
        self.claim = Claim()
        self.final: Final | None = None
        self.ids = ids
        #: Those that are not known to be final.
        self.left = set(ids)
        self.wake = wake
        self.began = math.inf

    def close(self) -> None:
        """Stop waiting."""
        self._bell.unwatch(self)
        close, self._close = self._close, None
        if close and self.left:
            close(list(self.left))


class Bell:
    """All who listen or watch through one store object.

    :param finals_among: those of some ids that are final, from the database; with the final itself when only one is asked for.
    """

    def __init__(self, folder: Path, finals_among: Callable[[Sequence[str]], Mapping[str, Final | None]]) -> None:
        self._finals_among = finals_among
        self._board = Board(folder)
        self._lock = Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._watches: dict[str, list[Watch]] = {}
        self._awaited = 0
        self._slot = -1
        self._receiver: socket.socket | None = None
        self._is_closed = False
        self._misses = 0

    # -- who wants to be woken -------------------------------------------------------------------------------------------
    def listen(self, wake: Wake, *, is_picky: bool) -> Listener:
        """Someone new who takes work."""
        listener = Listener(self, wake, is_picky=is_picky)
        self._start()
        with self._lock:
            self._listeners = (*self._listeners, listener)
        return listener

    def drop(self, listener: Listener) -> None:
        """A listener goes."""
        listener.is_idle = False
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)
        self.publish()

    def publish(self) -> None:
        """Write to the board whether anybody here is idle."""
        with self._lock:
            if self._slot < 0 or self._is_closed:
                return
            idle = [listener.is_picky for listener in self._listeners if listener.is_idle]
            self._board.marks[_IDLE + self._slot] = (_PICKY if any(idle) else _YES) if idle else _NO

    def watch(self, ids: Sequence[str], wake: Wake, close: CloseWatch | None) -> Watch:
        """Someone new who waits for finals; the database must be looked at after this."""
        watch = Watch(self, ids, wake, close)
        bits = _bits(ids)
        self._start()
        with self._lock:
            for name in ids:
                self._watches.setdefault(name, []).append(watch)
            self._show_watches(self._awaited | bits)
        watch.began = time.monotonic()
        return watch

    def _show_watches(self, bits: int) -> None:
        """Write to the board what is waited for here."""
        self._awaited = bits
        if self._slot >= 0 and not self._is_closed:
            self._board.wait(self._slot, bits)

    def unwatch(self, watch: Watch) -> None:
        """A watch goes."""
        with self._lock:
            for name in watch.ids:
                left = [each for each in self._watches.get(name, ()) if each is not watch]
                if left:
                    self._watches[name] = left
                else:
                    self._watches.pop(name, None)
            if len(self._watches) < _FEW:  # of many each bit is needed, or almost
                self._show_watches(_bits(self._watches))

    # -- ringing -----------------------------------------------------------------------------------------------------------
    def ring(self, ready: int, finals: Sequence[str], known: Known | None = None, *, orders: bool) -> None:
        """Tell what a commit has changed.

        :param known: one of ``finals``; of use when it is the only one.
        """
        if self._is_closed:
            return
        if finals:
            known = known if len(finals) == 1 else None
            if self._watches:
                self._wake_watches(dict.fromkeys(finals), known)
            if self._board.marks.find(b"\1", _WAITS, _FILTERS) >= 0:
                letter = _letter(known)
                for slot in self._board.waiting(finals):
                    if slot != self._slot:
                        self._board.send(slot, letter)
        if ready:
            left = ready - self._wake_idle(ready) if self._listeners else ready
            if self._board.marks[_IDLE:_WAITS] != _NOBODY:
                self._send_all(_IDLE, _PICKY, b"w")
                if left > 0:
                    self._send_all(_IDLE, _YES, b"w", left)
        if orders:
            self._wake_everybody()
            self._send_all(_USED, _YES, b"o")

    def _send_all(self, kind: int, value: int, letter: bytes, most: int = SLOTS) -> None:
        for slot in self._board.marked(kind, value):
            if most <= 0:
                return
            if slot != self._slot:
                if kind == _IDLE:
                    self._board.marks[_IDLE + slot] = _NO
                most -= self._board.send(slot, letter)

    def _wake_watches(self, finals: Mapping[str, Final | None], known: Known | None = None) -> None:
        with self._lock:
            woken = {}
            for name, final in finals.items():
                for watch in self._watches.get(name, ()):
                    watch.left.discard(name)
                    if len(watch.ids) == 1:
                        watch.final = known[1] if known and known[0] > watch.began else final
                    woken[id(watch)] = watch
        for watch in woken.values():
            watch.wake()

    def _wake_idle(self, most: int) -> int:
        """Wake idle listeners here, one for each piece of work; how many it were."""
        count = 0
        for listener in self._listeners:
            if count >= most:
                break
            if listener.is_idle:
                listener.is_idle = False
                listener.wake()
                count += not listener.is_picky
        if count or self._listeners:
            self.publish()
        return count

    def _wake_everybody(self) -> None:
        for listener in self._listeners:
            listener.wake()

    # -- receiving -----------------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Take a slot and receive, once somebody wants to be woken."""
        if self._receiver is not None or self._is_closed:
            return
        with self._lock:
            self._take_slot()

    def _take_slot(self) -> None:
        if self._receiver is None and (taken := self._board.take_slot()):
            self._slot, self._receiver = taken
            Thread(target=self._receive, args=(self._receiver,), name="pynenc-wake", daemon=True).start()

    def _receive(self, receiver: socket.socket) -> None:
        """Turn letters into wake-ups, all that have come in the meantime at once."""
        while True:
            letters = []
            try:
                letters.append(receiver.recv(_LETTER))
                while letters[-1] != b"q":
                    letters.append(receiver.recv(_LETTER, socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
            except OSError:
                return
            if self._is_closed:
                return
            kinds = {letter[:1] for letter in letters}
            if b"w" in kinds:
                self._wake_idle(SLOTS)
            if b"o" in kinds:
                self._wake_everybody()
            if b"f" in kinds and not (len(letters) == 1 and self._is_told(letters[0])):
                self._look_for_finals()

    def _is_told(self, letter: bytes) -> bool:
        """Whether a letter brings all that those who wait here want to know of it; they have it then."""
        if len(letter) == 1:
            return False
        known = began, final = _decode(letter[1:])
        with self._lock:
            watches = self._watches.get(final.id, ())
            if any(began <= watch.began or len(watch.ids) > 1 for watch in watches):
                return False
        self._wake_watches({final.id: None}, known)
        return True

    def _look_for_finals(self) -> None:
        """Something ended in another process: wake those here who wait for it."""
        with self._lock:
            ids = list(self._watches)
        if not ids:
            return
        started = time.monotonic()
        try:
            found = self._finals_among(ids)
            self._wake_watches(found)
        except Exception:  # the store is closing, or does not answer now: whoever waits polls
            return
        taken = time.monotonic() - started
        self._misses = 0 if found else self._misses + 1
        if taken > _LONG_LOOK:
            time.sleep(min(_PAUSE * taken, _MOST_PAUSE))
        elif self._misses > 1:
            time.sleep(min(_MISS_PAUSE * self._misses, _MOST_MISS_PAUSE))

    def close(self) -> None:
        """Wake nobody any more, and let the thread end."""
        if self._is_closed:
            return
        with self._lock:
            self._is_closed = True
        if self._receiver is not None:
            self._board.send(self._slot, b"q")
            self._board.free(self._slot)
            self._receiver.close()
        self._board.close()
