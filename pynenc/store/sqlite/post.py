"""Letters for one store object: received by the thread that waits for one, or by a thread for all.

Leader/Followers (Schmidt and others, PLoP 2000): a thread that sleeps until something ends receives by itself, so that nobody else has to wake up before
it does. While it does so it wakes the others as well. A thread of the post receives as long as somebody depends on it: a runner, an event loop, or a
second sleeping thread.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable, Sequence
from threading import Lock, Thread, get_ident

from pynenc.store.sleeper import Sleeper

logger = logging.getLogger("pynenc.store")

#: Bytes of a letter: a stopped receiver with a few unread ones must not use up what a sender may send.
LETTER = 1024
_END, _NUDGE = b"q", b"n"
_LONG = 3600.0


class Post:
    """Receives on one socket.

    :param send: sends a letter to this socket.
    :param read: does what letters that came together say; seconds for which no more should be received.
    """

    def __init__(
        self, receiver: socket.socket, send: Callable[[bytes], object], read: Callable[[Sequence[bytes]], float]
    ) -> None:
        self._receiver = receiver
        self._send = send
        self._read = read
        self._poll = select.poll()
        self._poll.register(receiver, select.POLLIN)
        #: Held by who receives.
        self._turn = Lock()
        #: Wakes the thread.
        self._call = Sleeper()
        self._serving = Lock()
        self._thread: Thread | None = None
        self._dependents: set[object] = set()
        self._leader: Sleeper | None = None
        self._leading = 0
        self._is_closed = False

    # -- by a thread for all -----------------------------------------------------------------------------------------------
    def serve(self, dependent: object) -> None:
        """Let a thread receive until this one and all others have left."""
        with self._serving:
            self._dependents.add(dependent)
            is_called = self._thread is not None and len(self._dependents) > 1
            if self._thread is None and not self._is_closed:
                thread = Thread(target=self._run, name="pynenc-wake", daemon=True)
                thread.start()
                self._thread = thread
        if not is_called:
            self._call()

    def leave(self, dependent: object) -> None:
        """It does not depend on the thread, if it did."""
        self._dependents.discard(dependent)

    def _run(self) -> None:
        while not self._is_closed:
            self._call.sleep(_LONG)
            with self._turn:
                while self._dependents and not self._is_closed:
                    if rest := self._receive():
                        time.sleep(rest)

    def _receive(self) -> float:
        """Receive all that has come, and read it; seconds of rest after that."""
        letters = []
        try:
            letters.append(self._receiver.recv(LETTER))
            while letters[-1] != _END:
                letters.append(self._receiver.recv(LETTER, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except OSError:
            self._is_closed = True
        if self._is_closed:
            return 0.0
        try:
            return self._read(letters)
        except Exception:
            logger.exception("a wake-up failed")
            return 0.0
        except BaseException:  # this thread was interrupted: others receive them once more
            for letter in letters:
                self._send(letter)
            raise

    # -- by who waits ------------------------------------------------------------------------------------------------------
    def receive(self, sleeper: Sleeper, seconds: float) -> bool:
        """Receive on the calling thread until its sleeper is woken; false when another thread receives, and will wake it."""
        if not self._turn.acquire(blocking=False):
            self.serve(sleeper)
            return False
        try:
            self._leader, self._leading = sleeper, get_ident()
            until = time.monotonic() + seconds
            while not (sleeper.is_woken() or self._is_closed) and (left := until - time.monotonic()) > 0:
                if self._poll.poll(left * 1000):
                    sleeper.is_woken(within=self._receive())
        finally:
            self._leader = None
            self._turn.release()
        return not self._is_closed

    def wake(self, sleeper: Sleeper) -> None:
        """Wake one who sleeps, wherever it does."""
        self._dependents.discard(sleeper)
        sleeper()
        if sleeper is self._leader and self._leading != get_ident():
            self._send(_NUDGE)

    def close(self) -> None:
        """Receive nothing any more."""
        self._is_closed = True
        self._send(_END)
        self._call()
        self._receiver.close()
