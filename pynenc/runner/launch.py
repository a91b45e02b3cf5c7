"""How a child process starts and gets to know what to run: one message over the socket that it inherits."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from pynenc.core.records import Beat, Claimed, Outcome, Progress
from pynenc.engine import Engine
from pynenc.exceptions import StoreError
from pynenc.runner.settings import WorkerSettings

T = TypeVar("T")
logger = logging.getLogger("pynenc.runner")

_LENGTH = struct.Struct("<Q")
_M_ARENA_MAX = -8
_PR_SET_PDEATHSIG = 1
#: Signals that only the runner itself interprets: a terminal sends Ctrl-C to its children too.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


#: Seconds between two tries to reach the store at the start; each is twice as long as the one before.
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
#: Seconds that forks of a zygote get to export spans when the runner stops.
LINGER = 2.0


class HasEngine(Protocol):
    """An app, as far as this module knows."""

    @property
    def engine(self) -> Engine: ...


def engine_of(app: HasEngine, is_over: Callable[[], bool] = bool) -> Engine | None:
    """The engine of an app, as soon as its store answers; None if it is over before.

    :raises StoreError: it will not answer by itself.
    """
    return when_there(lambda: app.engine, is_over)


def when_there(call: Callable[[], T], is_over: Callable[[], bool] = bool) -> T | None:
    """What a call says as soon as the store answers; None if it is over before.

    :raises StoreError: it will not answer by itself.
    """
    pause = FIRST_PAUSE
    while not is_over():
        try:
            return call()
        except StoreError as error:
            if not error.retryable:
                raise
            logger.warning("the store does not answer (%s); next try in %.1f s", error, pause)
            time.sleep(pause * (0.5 + random.random() / 2))
            pause = min(2 * pause, LAST_PAUSE)
    return None


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor tells its child; ``app`` is the pickled app, which only a parent ever hands to its child."""

    app: bytes
    settings: WorkerSettings
    beat: Beat
    supervisor: int
    paths: tuple[str, ...]


class Up(msgspec.Struct, frozen=True):
    """A frame from a forked process to its runner."""

    kind: str
    pid: int = 0
    progress: Progress | None = None
    outcome: Outcome | None = None


class Job(msgspec.Struct, frozen=True):
    """What a zygote is asked to fork for."""

    claimed: Claimed
    runner: str


def start_process(module: str, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a module of ours in a new interpreter that inherits ``descriptors``; signals wait until it is ready for
    them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, descriptors)], pass_fds=descriptors, stdin=subprocess.DEVNULL
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def send_launch(connection: socket.socket, launch: Launch) -> None:
    """Send the message."""
    send_frame(connection, msgspec.msgpack.encode(launch))


def receive_launch(connection: socket.socket) -> Launch:
    """Read it, and make the same modules importable as in the parent.

    :raises SystemExit: there is no parent any more.
    """
    frame = receive_frame(connection)
    if frame is None:
        raise SystemExit("the supervisor went away before it said what to run")
    share_one_arena()
    launch = msgspec.msgpack.decode(frame, type=Launch)
    sys.path[:] = list(launch.paths)
    return launch


def send_frame(connection: socket.socket, data: bytes) -> None:
    """Send one length-prefixed message."""
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive_frame(connection: socket.socket) -> bytes | None:
    """Read one message; None when the other end is gone."""
    head = _receive(connection, _LENGTH.size)
    return _receive(connection, _LENGTH.unpack(head)[0]) if head else None


def _receive(connection: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = connection.recv(min(1 << 20, size - len(parts)))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)


def share_one_arena() -> None:
    """Let all threads allocate from one arena (glibc), unless ``MALLOC_ARENA_MAX`` says otherwise.

    By default each thread fragments one of its own, and a runner with ten threads grows by megabytes for every 100,000 tasks.
    Threads that hold the interpreter's lock hardly ever meet in the allocator.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(_M_ARENA_MAX, 1)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (Linux), and leave signals from a terminal to the
    parent.

    The handlers do nothing rather than ignore: processes that tasks start inherit what is ignored, and could not be
    terminated.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
