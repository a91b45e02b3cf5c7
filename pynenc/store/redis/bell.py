"""Wake-ups: one connection of a store object listens for letters to this process, and only who waits gets one.

Theory of operation
-------------------
Each store object in which somebody listens or watches has a name, the *client*, and subscribes to its own channel. In the server the hash ``idle``
says which clients have an idle runner, and ``ties`` which clients watch an invocation. A script that makes work claimable takes as many clients out of
``idle`` as there is work and sends each the letter ``w``; one that ends something sends ``f`` with the ids to who is tied to them. ``o`` goes to
everybody: an order waits; ``d`` as well, with what a script could not read and passed by.

No wake-up is lost: whoever waits is entered first, then looks, then sleeps; and the script that changes something is the one that reads who waits. A runner
that was woken says that it is idle again with its next claim, in the same step, instead of a round trip of its own (:meth:`Bell.mark`).

When the connection breaks, letters may be lost: everything is entered again, and everybody is woken once.
"""

from __future__ import annotations

import logging
import random
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from threading import RLock, Thread
from typing import Any

from pynenc.core.records import Claim, Final
from pynenc.exceptions import PynencError, StoreError
from pynenc.store.redis.codec import encode, final_of
from pynenc.store.redis.link import Link, RedisError

logger = logging.getLogger("pynenc")

Wake = Callable[[], None]
#: Told of the ids that are not known to be final when a watch ends.
CloseWatch = Callable[[Sequence[str]], None]

#: Seconds of silence after which the listening connection is asked whether it still works, and the longest pause before it is made again.
SILENCE, LONGEST_PAUSE = 15.0, 5.0
#: Ids that are entered again with one script call, and what is told of damage at most.
CHUNK, MOST_DAMAGE = 1000, 1000


class Listener:
    """Somebody who takes work; see :class:`pynenc.store.base.IdleListener`."""

    __slots__ = ("_bell", "is_idle", "queues", "wake")

    def __init__(self, bell: Bell, queues: Sequence[str], wake: Wake) -> None:
        self._bell = bell
        self.queues = tuple(queues)
        self.wake = wake
        self.is_idle = False

    def idle(self, is_idle: bool, /) -> None:  # noqa: FBT001 - the contract
        """Say whether a wake-up is wanted."""
        self.is_idle = is_idle
        if is_idle:
            self._bell.wish()

    def close(self) -> None:
        """Stop listening."""
        self._bell.drop(self)


class Watch:
    """Somebody who waits for finals; see :class:`pynenc.store.base.Watch`."""

    __slots__ = ("_bell", "_close", "_round", "claim", "final", "ids", "left", "waiter", "wake")

    def __init__(self, bell: Bell, ids: Sequence[str], wake: Wake, waiter: str, close: CloseWatch | None) -> None:
        self._bell = bell
        self._close = close
        self.claim = Claim()
        self.final: Final | None = None
        self.ids = tuple(dict.fromkeys(map(str, ids)))
        #: Those that are not known to be final.
        self.left = set(self.ids)
        self.wake = wake
        self.waiter = waiter
        self._round = 0

    def since(self, number: int) -> None:
        """The wait had begun in this round: a letter may have been on its way since before a retry by hand."""
        self._round = number
        self.tell(self.final)

    def tell(self, final: Final | None) -> None:
        """Its only invocation has ended so, unless that was before the wait."""
        self.final = final if final and final.round >= self._round else None

    def close(self) -> None:
        """Stop waiting."""
        close, self._close = self._close, None
        left = self._bell.unwatch(self)
        if close and left:
            close(left)


class Bell:
    """All who listen or watch through one store object."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.client = secrets.token_hex(8)
        self._lock = RLock()
        self._listeners: tuple[Listener, ...] = ()
        self._watches: dict[str, list[Watch]] = {}
        self._connection: Any = None
        self._is_started = self._is_closed = False
        #: Whether this client stands in ``idle``, whether it should with the next claim, and how often it was taken out.
        self._is_marked = False
        self._is_due = False
        self._damaged: set[str] = set()
        self._wakes = 0
        #: Whether the client was woken since the latest listener came: then it claims again in any case, and can say so there.
        self._was_woken = False

    # -- who wants to be woken -------------------------------------------------------------------------------------------
    def listen(self, queues: Sequence[str], wake: Wake) -> Listener:
        """Someone new who takes work."""
        self._start()
        listener = Listener(self, queues, wake)
        with self._lock:
            self._listeners = (*self._listeners, listener)
            self._is_marked = self._is_due = self._was_woken = False  # what is wanted may have changed
        return listener

    def drop(self, listener: Listener) -> None:
        """A listener goes."""
        listener.is_idle = False
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def watch(self, ids: Sequence[str], wake: Wake, waiter: str, close: CloseWatch | None) -> Watch:
        """Someone new who waits for finals; the server must be told after this."""
        self._start()
        watch = Watch(self, ids, wake, waiter, close)
        with self._lock:
            for name in watch.ids:
                self._watches.setdefault(name, []).append(watch)
        return watch

    def unwatch(self, watch: Watch) -> list[str]:
        """A watch goes; what its waiter does not wait for any more."""
        with self._lock:
            for name in watch.ids:
                left = [each for each in self._watches.get(name, ()) if each is not watch]
                if left:
                    self._watches[name] = left
                    if any(each.waiter == watch.waiter for each in left):
                        watch.left.discard(name)
                else:
                    self._watches.pop(name, None)
            return list(watch.left)

    # -- idle --------------------------------------------------------------------------------------------------------------
    def wish(self) -> None:
        """Somebody here is idle. Told at once for the first time; after a wake-up with the claim that follows."""
        with self._lock:
            if self._is_marked or self._is_due:
                return
            self._is_due = True
        if not self._was_woken:
            try:
                self.tell()
            except StoreError as error:
                if not error.retryable:
                    raise  # otherwise the claim that follows says it, or the connection that is made again wakes everybody

    def tell(self) -> None:
        """Enter this client as idle now, if that is due."""
        if not self._is_due:
            return
        before = self._wakes
        wanted = self._wanted()
        self._link.ask("HSET", self._link.prefix + b"idle", self.client, encode(wanted) if wanted else b"")
        self.marked(before)

    def mark(self) -> tuple[str, list[str], int]:
        """What a claim says about this client: its name if it is idle, what it wants, and what :meth:`marked` needs."""
        if not self._is_due:
            return "", [], 0
        return self.client, self._wanted(), self._wakes

    def marked(self, before: int) -> None:
        """The client was entered; unless it was taken out again already."""
        with self._lock:
            if before == self._wakes:
                self._is_marked, self._is_due = True, False

    def _wanted(self) -> list[str]:
        """The queues in which work is wanted; empty for all."""
        with self._lock:
            listeners = [listener for listener in self._listeners if listener.is_idle]
        if any(not listener.queues for listener in listeners):
            return []
        return [queue for listener in listeners for queue in listener.queues]

    # -- letters -----------------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Listen from now on; if the server is away, as soon as it is back."""
        with self._lock:
            if self._is_started or self._is_closed:
                return
            try:
                self._connection = self._subscribe()
            except StoreError as error:
                if not error.retryable:
                    raise
            self._is_started = True
            Thread(target=self._receive, name="pynenc-wake", daemon=True).start()

    def _subscribe(self) -> Any:
        connection = self._link.connect()
        prefix = self._link.prefix
        try:
            connection.send_command("SUBSCRIBE", prefix + b"c:" + self.client.encode(), prefix + b"all")
            connection.read_response()
            connection.read_response()
        except RedisError as error:
            connection.disconnect()
            raise self._link.explained(error) from error
        return connection

    def _receive(self) -> None:
        """Turn letters into wake-ups until the bell is closed; make a broken connection again."""
        while not self._is_closed:
            connection = self._connection or self._again()
            try:
                self._read(connection)
            except Exception:  # whatever broke it: a new one is made
                connection.disconnect()
                self._connection = None
        if self._connection is not None:
            self._connection.disconnect()

    def _read(self, connection: Any) -> None:
        """One letter; or the question whether the server still hears us."""
        if not connection.can_read(timeout=SILENCE):
            connection.send_command("PING", check_health=False)
            if not connection.can_read(timeout=SILENCE):
                raise ConnectionError("the server does not answer")
        kind, *rest = connection.read_response(disconnect_on_error=True)
        if kind == b"message" and not self._is_closed:
            self._deliver(rest[1])

    def _again(self) -> Any:
        """A new connection after the old one broke."""
        pause = 0.02
        while not self._is_closed:
            try:
                self._connection = self._subscribe()
                self._enter_again()
            except Exception:  # the server is away: try again until the store is closed
                time.sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                break
        return self._connection

    def _enter_again(self) -> None:
        """Say again who waits, and wake everybody: letters may have been lost."""
        with self._lock:
            ids = list(self._watches)
            woken = list({id(watch): watch for watches in self._watches.values() for watch in watches}.values())
            self._wakes += 1
            self._is_marked = self._is_due = False
        for at in range(0, len(ids), CHUNK):
            self._link.run("watch", self._link.time(), b"", self.client, "+", "", 0, *ids[at : at + CHUNK])
        for wake in [*(watch.wake for watch in woken), *(listener.wake for listener in self._listeners)]:
            wake()

    def _deliver(self, letter: bytes) -> None:
        if letter == b"w":
            self._wake_idle()
        elif letter == b"o":
            for listener in self._listeners:
                listener.wake()
        elif letter.startswith(b"d"):
            self._tell_damage(letter[1:].decode(errors="replace"))
        else:
            self._wake_watches(letter)

    def _tell_damage(self, what: str) -> None:
        """Say once what a script has passed by."""
        if what not in self._damaged and len(self._damaged) < MOST_DAMAGE:
            self._damaged.add(what)
            logger.error("%s cannot be read, and is passed by: %s", self._link.display_url, what)

    def _wake_idle(self) -> None:
        with self._lock:
            self._wakes += 1
            self._is_marked = self._is_due = False
            self._was_woken = True
            idle = [listener for listener in self._listeners if listener.is_idle]
            for listener in idle:
                listener.is_idle = False
        for listener in idle:
            listener.wake()
        if not idle:  # busy again: another one shall look
            try:
                self._link.run("pass_on", self._link.time())
            except PynencError:
                return

    def _wake_watches(self, letter: bytes) -> None:
        woken: dict[int, Watch] = {}
        with self._lock:
            for name, state in _finals(letter):
                for watch in self._watches.get(name, ()):
                    watch.left.discard(name)
                    if state and len(watch.ids) == 1:
                        watch.tell(final_of(name, state))
                    woken[id(watch)] = watch
        for watch in woken.values():
            watch.wake()

    def close(self) -> None:
        """Wake nobody any more, and let the thread end."""
        self._is_closed = True
        connection = self._connection
        if connection is not None:
            connection.disconnect()


def _finals(letter: bytes) -> Iterator[tuple[str, bytes]]:
    """The ids and states in a letter."""
    at = 1
    while at < len(letter):
        (size,) = struct.unpack_from(">H", letter, at)
        name = letter[at + 2 : at + 2 + size].decode()
        at += 2 + size
        (size,) = struct.unpack_from(">I", letter, at)
        yield name, letter[at + 4 : at + 4 + size]
        at += 4 + size
