"""Wake-ups: inside the process by a call, between processes by NOTIFY, and only to those who want one.

Theory of operation
-------------------
A commit that notifies takes a lock of the whole database, so a NOTIFY is never part of the transaction of an operation (except inside a caller's own). Instead
everyone who sleeps shows it on the *board*, a table; an operation that made work or ended something looks at it in its own transaction, for next to nothing,
and only when somebody sleeps in another process a NOTIFY follows, in a transaction of its own, at most one in :data:`GAP` seconds.

No wake-up is lost: an operation holds a shared lock from its look at the board to its commit, and whoever writes a new mark holds the same lock
exclusively. So a mark either is seen by the operation, or is written after its commit; and the claim (or the look for finals) that follows
the mark finds what the operation did.

A letter about a single small success brings it along, with a time of the server before its commit. Whoever had begun to wait before that time has it without
a look; to others it might be what was final before a retry by hand, so they look.

Marks stay for some seconds after they are needed: a runner that is busy and idle in turns, or a client that waits for one result after the other,
writes nothing. Where LISTEN is not possible, as behind a pooler, where it would stay with a server process that somebody else has next, or while its
connection is gone, a poll takes its place; and a slow one always runs beside it, because a process may be killed between its commit and its NOTIFY.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from select import POLLIN
from threading import Event, Lock, RLock, Thread, current_thread
from uuid import uuid4

import msgspec
import psycopg

from pynenc.core.records import Claim, Final, Microseconds
from pynenc.exceptions import PynencError, StoreError
from pynenc.store.postgres import schema
from pynenc.store.postgres.connection import Connection, poll
from pynenc.store.postgres.database import Database

logger = logging.getLogger(__name__)

#: Bits of what an operation saw on the board.
IDLE, WAITS, PICKY = 1, 2, 4
#: Seconds between two notifications of one process.
GAP = 0.005
#: Seconds for which a mark stays after it was needed, and after which it is renewed.
LINGER, RENEWAL = 3.0, 10.0
#: Seconds in which whoever listens must have heard itself; else a poll takes over.
TRIAL = 2.0
#: Seconds between two polls: while there is no LISTEN, and beside it.
FIRST_POLL, LAST_POLL, SLOW_POLL = 0.05, 1.0, 2.0
#: Seconds to wait for the first LISTEN before going on without.
PATIENCE = 3.0
#: Bytes that a notification may have.
MOST_BYTES = 7900

MARK = "SELECT @mark($1, $2, $3, $4, $5)"
NOTIFY = "SELECT pg_notify($1, $2)"
CHANNEL = "SELECT 'pynenc_' || md5($1 || '/' || $2)"
HAS_WORK = "SELECT @has_work($1), @has_orders($1)"

Wake = Callable[[], None]
#: A final, and a time of the server before its commit.
Known = tuple[Microseconds, Final]
#: Told of the ids that are not known to be final when a watch ends.
CloseWatch = Callable[[Sequence[str]], None]


class Letter(msgspec.Struct, omit_defaults=True):
    """What a notification says: how much work there is, which ids have ended (None: look yourself) and how some of them did, whether there are orders;
    or who tries whether it hears itself.
    """

    w: int = 0
    f: list[str] | None = []
    k: list[Known] = []
    o: bool = False
    me: str = ""

    def add(self, other: Letter) -> None:
        """Say both in one."""
        self.w += other.w
        self.f = None if self.f is None or other.f is None else self.f + other.f
        self.k = self.k + other.k
        self.o = self.o or other.o

    def __bool__(self) -> bool:
        return bool(self.w or self.f is None or self.f or self.o)

    def encode(self) -> str:
        """As the text of a notification."""
        for letter in (self, Letter(self.w, self.f, o=self.o), Letter(self.w, None, o=self.o)):
            data = msgspec.json.encode(letter)
            if len(data) <= MOST_BYTES:
                break
        return data.decode()


_decode = msgspec.json.Decoder(Letter).decode


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
            self._bell.show()

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
        #: A time of the server after which it had begun.
        self.began: Microseconds = sys.maxsize

    def close(self) -> None:
        """Stop waiting."""
        self._bell.unwatch(self)
        close, self._close = self._close, None
        if close and self.left:
            close(list(self.left))


class Notifier:
    """Sends letters to the other processes, not too many: the first one at once, those that follow it soon together."""

    def __init__(self, database: Database, channel: Callable[[], str]) -> None:
        self._database = database
        self._channel = channel
        self._lock = Lock()
        self._letter = Letter()
        self._sent = 0.0
        self._is_late = False

    def send(self, letter: Letter) -> None:
        """Send a letter, now or within :data:`GAP`."""
        with self._lock:
            self._letter.add(letter)
            if self._is_late:
                return
            wait = self._sent + GAP - time.monotonic()
            self._is_late = wait > 0
        if wait > 0:
            Thread(target=self._send_later, args=(wait,), name="pynenc-notify", daemon=True).start()
        else:
            self._send_now()

    def _send_later(self, wait: float) -> None:
        time.sleep(wait)
        self._send_now()

    def _send_now(self) -> None:
        with self._lock:
            letter, self._letter = self._letter, Letter()
            self._sent = time.monotonic()
            self._is_late = False
        # What cannot be sent now is found by a poll.
        with suppress(PynencError):
            self._database.call(NOTIFY, self._channel(), letter.encode())


class Bell:
    """All who listen or watch through one store object.

    :param finals_among: those of some ids that are final, from the database.
    """

    def __init__(self, database: Database, app_id: str, finals_among: Callable[[Sequence[str]], Sequence[str]]) -> None:
        self.id = uuid4().hex
        self._database = database
        self._app_id = app_id
        self._finals_among = finals_among
        self._lock = RLock()  # the garbage collector may close a watch in the middle of anything
        self._listeners: tuple[Listener, ...] = ()
        self._watches: dict[str, list[Watch]] = {}
        self._board = Board(database, self.id)
        self._notifier = Notifier(database, self.channel)
        self._name = ""
        self._ear: Ear | None = None
        self._is_closed = False

    def channel(self) -> str:
        """The channel of the app in its schema."""
        if not self._name:
            self._name = str(self._database.call(CHANNEL, self._database.settings.schema, self._app_id)[0][0])
        return self._name

    # -- who wants to be woken -------------------------------------------------------------------------------------------
    def listen(self, wake: Wake, *, is_picky: bool) -> Listener:
        """Someone new who takes work."""
        listener = Listener(self, wake, is_picky=is_picky)
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self._start()
        return listener

    def drop(self, listener: Listener) -> None:
        """A listener goes."""
        listener.is_idle = False
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def watch(self, ids: Sequence[str], wake: Wake, close: CloseWatch | None) -> Watch:
        """Someone new who waits for finals; the database must be looked at after this."""
        watch = Watch(self, ids, wake, close)
        with self._lock:
            for name in ids:
                self._watches.setdefault(name, []).append(watch)
        self._start()
        self.show()
        return watch

    def unwatch(self, watch: Watch) -> None:
        """A watch goes."""
        with self._lock:
            for name in watch.ids:
                left = [each for each in self._watches.get(name, ()) if each is not watch]
                if left:
                    self._watches[name] = left
                else:
                    self._watches.pop(name, None)

    def show(self) -> None:
        """Have on the board what is wanted now."""
        self._board.show(*self._wanted())
        if self._ear is not None:
            self._ear.hurry()

    def _wanted(self) -> tuple[int, bool]:
        idle = [listener.is_picky for listener in self._listeners if listener.is_idle]
        return (2 if any(idle) else 1 if idle else 0), bool(self._watches)

    # -- ringing -----------------------------------------------------------------------------------------------------------
    def ring(
        self, ready: int, finals: Sequence[str], sleepers: int, known: Known | None = None, *, orders: bool = False
    ) -> None:
        """Tell what a commit has changed. ``sleepers``: who sleeps in other processes. ``known``: one of ``finals``."""
        if self._is_closed:
            return
        told = [known] if known else []
        if finals and self._watches:
            self._wake_watches(finals, told)
        left = ready - self._wake_idle(ready) if ready and self._listeners else ready
        if orders:
            self._wake_everybody()
        letter = Letter(o=orders)
        if (left > 0 and sleepers & IDLE) or (ready and sleepers & PICKY):
            letter.w = max(left, 1)
        if finals and sleepers & WAITS:
            letter.f, letter.k = list(finals), told
        if letter:
            self._notifier.send(letter)

    def _wake_watches(self, finals: Collection[str], known: Sequence[Known] = ()) -> None:
        """Wake who waits for these; with what is known, if the wait had begun before that."""
        with self._lock:
            woken = {}
            for name in finals:
                for watch in self._watches.get(name, ()):
                    watch.left.discard(name)
                    woken[id(watch)] = watch
            for time_, final in known:
                for watch in self._watches.get(final.id, ()):
                    if len(watch.ids) == 1 and watch.began < time_:
                        watch.final = final
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
        return count

    def _wake_everybody(self) -> None:
        for listener in self._listeners:
            listener.wake()

    # -- receiving -----------------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Receive, once somebody wants to be woken."""
        if self._ear is not None or self._is_closed:
            return
        with self._lock:
            if self._ear is None:
                self._ear = Ear(self, self._database)
        self._ear.is_ready.wait(PATIENCE)

    def receive(self, text: str) -> bool:
        """Turn a letter into wake-ups; whether it was our own trial."""
        letter = _decode(text)
        if letter.w:
            self._wake_idle(letter.w)
        if letter.o:
            self._wake_everybody()
        if letter.f is None:
            self.look_for_finals()
        elif letter.f:
            self._wake_watches(letter.f, letter.k)
        return letter.me == self.id

    def call_oneself(self) -> None:
        """Send a letter that only says who sends it."""
        self._database.call(NOTIFY, self.channel(), Letter(me=self.id).encode())

    def look_for_finals(self) -> bool:
        """Wake those who wait for something that is final; whether there were any."""
        with self._lock:
            ids = list(self._watches)
        found = self._finals_among(ids) if ids else {}
        self._wake_watches(found)
        return bool(found)

    def tend(self) -> None:
        """Renew the mark on the board, or take it off."""
        self._board.tend(*self._wanted())

    def poll(self) -> bool:
        """Look whether somebody has missed something; whether that was so."""
        found = self.look_for_finals()
        if not self._listeners:
            return found
        has_work, has_orders = self._database.call(HAS_WORK, self._database.app)[0]
        if has_orders:
            self._wake_everybody()
        elif has_work:
            self._wake_idle(len(self._listeners))
        return found or has_work

    def wake_all(self) -> None:
        """Wake everyone once: something may have been missed."""
        self._wake_everybody()
        with self._lock:
            watches = {id(each): each for several in self._watches.values() for each in several}
        for watch in watches.values():
            watch.wake()

    @property
    def is_wanted(self) -> bool:
        """Whether anybody sleeps here."""
        return bool(self._watches) or any(listener.is_idle for listener in self._listeners)

    def close(self) -> None:
        """Wake nobody any more, and let the thread end."""
        with self._lock:
            self._is_closed = True
            ear = self._ear
        if ear is not None:
            ear.close()
        with suppress(PynencError):
            self._board.clear()


class Board:
    """The mark of one store object on the board."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._lock = Lock()
        self._shown = (0, False)
        self._renewed = 0.0
        self._needed = 0.0

    def show(self, idle: int, waits: bool) -> None:  # noqa: FBT001
        """Have a mark that says at least this, before anybody sleeps."""
        if not (idle or waits):
            return
        with self._lock:
            self._needed = now = time.monotonic()
            if not self._says(idle, waits) or now - self._renewed > 2 * RENEWAL:
                self._write(max(idle, self._shown[0]), waits or self._shown[1], is_new=True)

    def _says(self, idle: int, waits: bool) -> bool:  # noqa: FBT001
        return idle <= self._shown[0] and waits <= self._shown[1]

    def tend(self, idle: int, waits: bool) -> None:  # noqa: FBT001
        """Renew the mark in time, write one that could not be written; take off what has not been needed for a while."""
        self.show(idle, waits)
        with self._lock:
            now = time.monotonic()
            if self._shown != (0, False) and now - self._needed > LINGER:
                self._write(0, False, is_new=False)
            elif self._shown != (0, False) and now - self._renewed > RENEWAL:
                self._write(*self._shown, is_new=False)

    def _write(self, idle: int, waits: bool, *, is_new: bool) -> None:  # noqa: FBT001
        """Write the mark. A server that does not answer is polled until it does."""
        try:
            self._database.call(MARK, self._database.app, self._name, idle, waits, is_new)
        except StoreError:
            self._shown = (0, False)
            return
        self._shown, self._renewed = (idle, waits), time.monotonic()

    def clear(self) -> None:
        """Take the mark off."""
        with self._lock:
            if self._shown != (0, False) and self._database.is_open:
                self._write(0, False, is_new=False)


class Ear:
    """The thread that receives notifications, and polls."""

    def __init__(self, bell: Bell, database: Database) -> None:
        self._bell = bell
        self._database = database
        self._is_closed = False
        #: Set once it listens, or cannot.
        self.is_ready = Event()
        self._reader, self._writer = os.pipe()
        self._can_hear = database.settings.listen is not False
        self._pause = FIRST_POLL
        self._polled = time.monotonic()
        self._thread = Thread(target=self._run, name="pynenc-wake", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        failures = 0
        while not self._is_closed:
            try:
                if self._can_hear:
                    self._hear(is_again=failures > 0)
                else:
                    self.is_ready.set()
                    self._wait(None, self._pause)
                    self._tend(is_listening=False)
                failures = 0
            except (PynencError, psycopg.Error, OSError):
                failures += 1
                self.is_ready.set()
                self._wait(None, min(10.0, 0.05 * 2 ** min(failures, 8)) * (0.5 + random.random() / 2))

    def _hear(self, *, is_again: bool) -> None:
        """Listen until the connection breaks."""
        connection = self._database.connect()
        try:
            if self._database.settings.listen is None and is_pooled(connection):
                self._can_hear = False
                return
            connection.execute(f"LISTEN {schema.quoted(self._bell.channel())}".encode())
            self.is_ready.set()
            if is_again:
                self._bell.wake_all()
            self._bell.call_oneself()
            until, hears_itself = time.monotonic() + TRIAL, False
            while not self._is_closed:
                self._wait(connection, SLOW_POLL / 2)
                hears_itself = self._receive(connection) or hears_itself
                if not hears_itself and time.monotonic() > until:
                    # A pooler between that cannot be told: notifications go to whoever has the server process now.
                    connection.execute("UNLISTEN *")
                    self._can_hear = False
                    return
                self._tend(is_listening=hears_itself)
        finally:
            connection.close()

    def _receive(self, connection: Connection) -> bool:
        """Read what has come; whether our own trial was among it."""
        connection.pgconn.consume_input()
        hears_itself = False
        while (notify := connection.pgconn.notifies()) is not None:
            hears_itself = self._bell.receive(notify.extra.decode()) or hears_itself
        return hears_itself

    def _wait(self, connection: Connection | None, seconds: float) -> None:
        """Until something comes, the store is closed, or the time is over."""
        files = [self._reader] if connection is None else [self._reader, connection.fileno()]
        readable = poll(dict.fromkeys(files, POLLIN), seconds)
        if self._reader in readable:
            os.read(self._reader, 64)

    def _tend(self, *, is_listening: bool) -> None:
        if self._is_closed:
            return
        self._bell.tend()
        now = time.monotonic()
        if not self._bell.is_wanted:
            self._pause = LAST_POLL
        elif now - self._polled >= (SLOW_POLL if is_listening else self._pause):
            found = self._bell.poll()
            self._polled = time.monotonic()
            self._pause = FIRST_POLL if found else min(2 * self._pause, LAST_POLL)

    def hurry(self) -> None:
        """Somebody begins to wait: where nothing is heard, look soon."""
        if not (self._can_hear or self._is_closed):
            self._pause = FIRST_POLL
            with suppress(OSError):
                os.write(self._writer, b"h")

    def close(self) -> None:
        """Let the thread end. It is waited for, unless it is the one that closes."""
        if self._is_closed:
            return
        self._is_closed = True
        os.write(self._writer, b"q")
        if current_thread() is not self._thread:
            self._thread.join(PATIENCE)
            if not self._thread.is_alive():
                os.close(self._reader)
                os.close(self._writer)


def is_pooled(connection: Connection) -> bool:
    """Whether another server process answers than the one that the connection was told of: poolers make keys of their own."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row != (connection.info.backend_pid,)
