"""The body of all calls, and who listens to it: one line through a named pipe at its begin and one at its end.

A line that was written is read, whatever happens to its writer.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import NamedTuple

#: What a worker is told: where to write, and its own name, another one at each start.
PATH, WORKER = "BENCH_WITNESS", "BENCH_WORKER"
BEGINS, ENDS = "B", "E"


def work(index: int) -> int:
    """Take 20 to 50 ms."""
    _say(BEGINS, index)
    time.sleep(0.02 + index % 31 / 1000)
    _say(ENDS, index)
    return index


def _say(mark: str, index: int) -> None:
    pipe = os.open(os.environ[PATH], os.O_WRONLY)
    os.write(pipe, f"{mark} {index} {os.environ[WORKER]} {time.monotonic()}\n".encode())
    os.close(pipe)


class Body(NamedTuple):
    """One execution: of which call, and in which worker."""

    index: int
    worker: str


class Witness:
    """What bodies said so far.

    :ivar begun: each execution with its time, in order. :ivar running: those that have not ended, the latest last. :ivar ended: calls of which one did.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.begun: list[tuple[Body, float]] = []
        self.running: dict[Body, float] = {}
        self.ended: set[int] = set()
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # a writer of its own: never at its end
        self._rest = b""

    def look(self, seconds: float) -> bool:
        """Wait so long for a line, and read all that there are; whether there was one."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return False
        *lines, self._rest = (self._rest + os.read(self._pipe, 1 << 20)).split(b"\n")
        for line in lines:
            self._note(*line.decode().split())
        return True

    def watch(self, seconds: float) -> None:
        """Read for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look(left)

    def _note(self, mark: str, index: str, worker: str, at: str) -> None:
        body = Body(int(index), worker)
        if mark == BEGINS:
            self.begun.append((body, float(at)))
            self.running[body] = float(at)
        else:
            self.running.pop(body, None)
            self.ended.add(body.index)

    def close(self) -> None:
        os.close(self._pipe)
