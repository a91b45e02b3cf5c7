"""A worker process as its supervisor sees it."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time

from pynenc.core.records import Alone, Beat
from pynenc.runner.board import Entry, MmapBoard
from pynenc.runner.launch import Launch, send_launch, start_process
from pynenc.runner.settings import WorkerSettings

logger = logging.getLogger("pynenc.runner")


class WorkerProcess:
    """A child and what connects the supervisor to it: a socket for words, a board for what it runs, a descriptor for
    its death.

    Its death is not read off the socket alone, which a process that a task forked may hold open.

    :ivar kills: cancelled invocations, each with the time after which it is ended by force. :ivar killed: the
    invocation for which it was killed, and why.
    """

    def __init__(self, beat: Beat, settings: WorkerSettings, payload: bytes) -> None:
        self.beat = beat
        self.settings = settings
        self.started = time.monotonic()
        self.kills: dict[str, float] = {}
        self.killed: tuple[str, str] | None = None
        self.is_recycling = False
        self.is_done = False
        self.is_drained = False
        self.board, board_fd = MmapBoard.create()
        self.socket, theirs = socket.socketpair()
        try:
            self.process = start_process("pynenc.runner.child", (theirs.fileno(), board_fd))
        finally:
            os.close(board_fd)
            theirs.close()
        self.pid_fd = os.pidfd_open(self.process.pid) if sys.platform == "linux" else -1
        try:
            send_launch(
                self.socket,
                Launch(app=payload, settings=settings, beat=beat, supervisor=os.getpid(), paths=tuple(sys.path)),
            )
        except OSError as error:
            logger.warning("worker %s died before it was told what to run: %s", beat.id, error)

    @property
    def is_isolation(self) -> bool:
        """Whether it only runs suspects."""
        return self.settings.alone is Alone.ONLY

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Let a selector report its words and its death."""
        selector.register(self.socket, selectors.EVENT_READ, self)
        if self.pid_fd >= 0:
            selector.register(self.pid_fd, selectors.EVENT_READ, self)

    def listen(self) -> bool:
        """Read what it said; false when it has nothing to say any more."""
        try:
            words = self.socket.recv(256)
        except OSError:
            return False
        self.is_recycling = self.is_recycling or b"recycling" in words
        self.is_drained = self.is_drained or b"drained" in words
        self.is_done = self.is_done or self.is_drained or b"done" in words
        return bool(words)

    def hear_out(self) -> None:
        """Read its last words."""
        self.socket.setblocking(False)
        while self.listen():
            pass

    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def tell(self, line: str) -> None:
        """Send an order; a dead child is noticed elsewhere."""
        try:
            self.socket.sendall(line.encode() + b"\n")
        except OSError:
            pass

    def overdue(self, now: float) -> tuple[Entry, str] | None:
        """The body for which the process has to be killed: it ignores its timeout or, when it has the process for
        itself, a cancellation.
        """
        entries = self.board.entries()
        present = {entry.invocation_id for entry in entries}
        self.kills = {key: value for key, value in self.kills.items() if key in present}
        for entry in entries:
            if entry.deadline and now * 1_000_000 > entry.deadline:
                return entry, "timeout"
            if self.settings.slots == 1 and now > self.kills.get(entry.invocation_id, now):
                return entry, "cancel"
        return None

    def kill(self, entry: Entry, why: str) -> None:
        """Kill it because of one body."""
        logger.warning("worker %s is killed: %s of %s", self.beat.id, why, entry.invocation_id)
        self.killed = (entry.invocation_id, why)
        self.process.kill()

    def close(self, selector: selectors.BaseSelector) -> None:
        """Release what belongs to a child that is gone."""
        for item in (self.socket, self.pid_fd):
            if item in selector.get_map():
                selector.unregister(item)
        self.socket.close()
        if self.pid_fd >= 0:
            os.close(self.pid_fd)
        self.board.close()


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
