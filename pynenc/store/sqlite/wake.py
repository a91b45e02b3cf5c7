"""Wake-ups: inside the process by a call, between processes by a datagram, and only to those who want one.

Theory of operation
-------------------
All store objects on one file map the same *board*, a small file with a slot for each of them: whether the slot is used, whether
somebody behind it is idle, whether somebody behind it waits for results. A commit that made work looks at the board, which costs no
system call, and sends a datagram to as many idle slots as there is work for; a commit that ended something sends one to each slot
that waits for one of these ids, as far as 64 bits of their hashes tell (Bloom, CACM 1970). Datagrams begin with a letter: ``w`` work,
``f`` finals, ``o`` orders, for those who listen. A full socket loses nothing: who finds several letters takes none at its word and looks
into the database. Who waits for nothing reads nothing, and keeps nobody from sending to others (:meth:`Board.send`).

A letter ``f`` about a single small final brings it along, with the time at which its transaction began. Whoever has begun to wait before that time has
it without a look: it was committed during the wait. Others might get what was final before a retry by hand, so they look.

No wake-up is lost: a waiter marks its slot, then looks into the database, then sleeps; a writer commits, then looks at the board.

A slot whose process died refuses the datagram and is freed by who notices. Where sockets do not work, polls remain.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

import msgspec

from pynenc.core.records import Claim, Final
from pynenc.store.sleeper import Sleeper
from pynenc.store.sqlite.board import FILTERS, IDLE, LISTENS, NO, NOBODY, PICKY, SLOTS, USED, WAITS, YES, Board, bits_of
from pynenc.store.sqlite.post import LETTER, Post

logger = logging.getLogger("pynenc.store")

#: Ids up to which a filter is made anew when one less is waited for.
_FEW = 64
#: A look for finals that took this many seconds is followed by a pause of a multiple of it.
_LONG_LOOK, _PAUSE, _MOST_PAUSE = 0.001, 4, 0.05
#: Seconds of pause for each look in a row that found nothing: others wait for what ends now.
_MISS_PAUSE, _MOST_MISS_PAUSE = 0.0005, 0.005

Wake = Callable[[], None]
#: A final, and a time before its commit, in seconds of the monotonic clock, which all processes of a machine share.
Known = tuple[float, Final]
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Known).decode
#: Told of the ids that are not known to be final when a watch ends.
CloseWatch = Callable[[Sequence[str]], None]


def _letter(known: Known | None) -> bytes:
    """What tells others of finals."""
    letter = b"f" + _encode(known) if known else b"f"
    return letter if len(letter) <= LETTER else b"f"


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
        self._post: Post | None = None
        self._is_closed = False
        self._misses = 0

    # -- who wants to be woken -------------------------------------------------------------------------------------------
    def listen(self, wake: Wake, *, is_picky: bool) -> Listener:
        """Someone new who takes work."""
        listener = Listener(self, wake, is_picky=is_picky)
        self._start()
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self._show_listeners()
        if self._post:
            self._post.serve(listener)
        return listener

    def drop(self, listener: Listener) -> None:
        """A listener goes."""
        listener.is_idle = False
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)
        self._show_listeners()
        self.publish()
        if self._post:
            self._post.leave(listener)

    def _show_listeners(self) -> None:
        """Write to the board whether orders are for anybody here."""
        with self._lock:
            if self._slot >= 0 and not self._is_closed:
                self._board.marks[USED + self._slot] = LISTENS if self._listeners else YES

    def publish(self) -> None:
        """Write to the board whether anybody here is idle."""
        with self._lock:
            if self._slot < 0 or self._is_closed:
                return
            idle = [listener.is_picky for listener in self._listeners if listener.is_idle]
            self._board.marks[IDLE + self._slot] = (PICKY if any(idle) else YES) if idle else NO

    def watch(self, ids: Sequence[str], wake: Wake, close: CloseWatch | None) -> Watch:
        """Someone new who waits for finals; the database must be looked at after this."""
        watch = Watch(self, ids, wake, close)
        bits = bits_of(ids)
        self._start()
        with self._lock:
            for name in ids:
                self._watches.setdefault(name, []).append(watch)
            self._show_watches(self._awaited | bits)
        watch.began = time.monotonic()
        if self._post:
            if isinstance(wake, Sleeper):
                wake.receive = self._post.receive
            else:
                self._post.serve(watch)
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
                self._show_watches(bits_of(self._watches))
        if self._post:
            self._post.leave(watch.wake if isinstance(watch.wake, Sleeper) else watch)

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
                self._wake_watches(*(({known[1].id: known[1]}, known[0]) if known else (dict.fromkeys(finals), 0.0)))
            if self._board.marks.find(b"\1", WAITS, FILTERS) >= 0:
                letter = _letter(known)
                for slot in self._board.waiting(finals):
                    if slot != self._slot:
                        self._board.send(slot, letter)
        if ready:
            left = ready - self._wake_idle(ready) if self._listeners else ready
            if self._board.marks[IDLE:WAITS] != NOBODY:
                self._send_all(IDLE, PICKY, b"w")
                if left > 0:
                    self._send_all(IDLE, YES, b"w", left)
        if orders:
            self._wake_everybody()
            self._send_all(USED, LISTENS, b"o")

    def _send_all(self, kind: int, value: int, letter: bytes, most: int = SLOTS) -> None:
        for slot in self._board.marked(kind, value):
            if most <= 0:
                return
            if slot != self._slot:
                if kind == IDLE:
                    self._board.marks[IDLE + slot] = NO
                most -= self._board.send(slot, letter)

    def _wake_watches(self, finals: Mapping[str, Final | None], since: float) -> None:
        """Wake who waits for these; with the final, if the wait had begun before a time at which it was looked for, or at which its transaction ran."""
        with self._lock:
            woken = {}
            for name, final in finals.items():
                for watch in self._watches.get(name, ()):
                    watch.left.discard(name)
                    if len(watch.ids) == 1:
                        watch.final = final if since > watch.began else None
                    woken[id(watch)] = watch
        for watch in woken.values():
            try:
                if self._post and isinstance(watch.wake, Sleeper):
                    self._post.wake(watch.wake)
                else:
                    watch.wake()
            except Exception:  # the others are woken all the same
                logger.exception("a wake-up failed")

    def _wake_idle(self, most: int) -> int:
        """Wake idle listeners here, one for each piece of work; how many it were."""
        count, woken = 0, []
        for listener in self._listeners:
            if count >= most:
                break
            if listener.is_idle:
                listener.is_idle = False
                woken.append(listener)
                count += not listener.is_picky
        if self._listeners:
            self.publish()
        for listener in woken:  # at the end: whom it wakes wants the interpreter
            listener.wake()
        return count

    def _wake_everybody(self) -> None:
        for listener in self._listeners:
            listener.wake()

    # -- receiving -----------------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Take a slot and receive, once somebody wants to be woken."""
        if self._post is not None or self._is_closed:
            return
        with self._lock:
            self._take_slot()

    def _take_slot(self) -> None:
        if self._post is None and (taken := self._board.take_slot()):
            self._slot, receiver = taken
            self._post = Post(receiver, lambda letter: self._board.send(self._slot, letter), self._read)

    def _read(self, letters: Sequence[bytes]) -> float:
        """Turn letters that came together into wake-ups; seconds for which no more should be read."""
        kinds = {letter[:1] for letter in letters}
        if b"w" in kinds:
            self._wake_idle(SLOTS)
        if b"o" in kinds:
            self._wake_everybody()
        if b"f" in kinds and not (len(letters) == 1 and self._is_told(letters[0])):
            return self._look_for_finals()
        return 0.0

    def _is_told(self, letter: bytes) -> bool:
        """Whether a letter brings all that those who wait here want to know of it; they have it then."""
        try:
            began, final = _decode(letter[1:])
        except msgspec.DecodeError:  # it brings nothing, or comes from another version
            return False
        with self._lock:
            watches = self._watches.get(final.id, ())
            if any(began <= watch.began or len(watch.ids) > 1 for watch in watches):
                return False
        self._wake_watches({final.id: final}, began)
        return True

    def _look_for_finals(self) -> float:
        """Something ended in another process: wake those here who wait for it. Seconds until the next look."""
        with self._lock:
            ids = list(self._watches)
        if not ids:
            return 0.0
        started = time.monotonic()
        try:
            found = self._finals_among(ids)
            self._wake_watches(found, started)
        except Exception:  # the store is closing, or does not answer now: whoever waits polls
            return 0.0
        taken = time.monotonic() - started
        self._misses = 0 if found else self._misses + 1
        if taken > _LONG_LOOK:
            return min(_PAUSE * taken, _MOST_PAUSE)
        return min(_MISS_PAUSE * self._misses, _MOST_MISS_PAUSE) if self._misses > 1 else 0.0

    def close(self) -> None:
        """Wake nobody any more, and let who receives end."""
        if self._is_closed:
            return
        with self._lock:
            self._is_closed = True
        if self._post is not None:
            self._post.close()
            self._board.free(self._slot)
        self._board.close()
