"""Witnesses: what bodies and clients write down, one line at a time, not through the store.

A line is appended by a single ``write`` to a file opened with ``O_APPEND``: lines of many processes do not mix, and a line that was written survives the
death of its writer.

    bodies   ``B`` id attempt runner pid time label    a body begins
             ``E`` id attempt runner pid time label    it has ended by an exception
             ``R`` id attempt runner pid time label    it has ended with its result
    clients  ``I`` nonce count                         is about to submit so many under a nonce
             ``A`` nonce id...                         they were acknowledged
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pynenc import context
from pynenc.testing.checker import Body

#: The environment variable that names the folder of the witness files.
FOLDER = "PYNENC_CHAOS_FOLDER"
BODIES, CLIENTS = "bodies.log", "clients.log"


@cache
def _descriptor(name: str, _pid: int) -> int:
    """The open file of this process."""
    return os.open(Path(os.environ[FOLDER], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(name: str, *words: object) -> None:
    """Append one line."""
    os.write(_descriptor(name, os.getpid()), (" ".join(map(str, words)) + "\n").encode())


@contextmanager
def witnessed(label: str) -> Iterator[str]:
    """Around a body: writes its begin and its end; gives the result that it should return, which no other attempt has.

    :param label: what the body is about, for people; without blanks.
    """
    running = context.current()
    if running is None:
        raise RuntimeError("only tasks of a runner have witnesses")
    result = f"{running.id}:{running.attempt}"
    who = (running.id, running.attempt, running.runner, os.getpid())
    write(BODIES, "B", *who, time.time_ns() // 1000, label)
    try:
        yield result
    except BaseException:
        write(BODIES, "E", *who, time.time_ns() // 1000, label)
        raise
    write(BODIES, "R", *who, time.time_ns() // 1000, label)


class Witnessed(NamedTuple):
    """All that was written down. ``pids`` tells which runners worked in which process."""

    bodies: list[Body]
    pids: dict[int, set[str]]
    intended: dict[str, int]
    acknowledged: set[str]


def read(folder: Path) -> Witnessed:
    """Read the files of a run that is over."""
    begun: dict[tuple[str, int, str, int], Body] = {}
    bodies: list[Body] = []
    pids: dict[int, set[str]] = {}
    for line in _lines(folder / BODIES):
        mark, name, attempt, runner, pid, at, _ = line.split(" ")
        key = (name, int(attempt), runner, int(pid))
        if mark == "B":
            begun[key] = Body(name, int(attempt), runner, int(at))
            pids.setdefault(int(pid), set()).add(runner)
        else:
            result = f"{name}:{attempt}".encode() if mark == "R" else b""
            bodies.append(begun.pop(key)._replace(end=int(at), result=result))
    intended, acknowledged = {}, set()
    for line in _lines(folder / CLIENTS):
        mark, nonce, *rest = line.split(" ")
        if mark == "I":
            intended[nonce] = int(rest[0])
        else:
            acknowledged.update(rest)
    return Witnessed([*bodies, *begun.values()], pids, intended, acknowledged)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
