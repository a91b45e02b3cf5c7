"""Witnesses: what bodies and clients write down, one line at a time, not through the store.

A line is appended by a single ``write`` to a file opened with ``O_APPEND``: lines of many processes do not mix, and a line that was written survives the
death of its writer.

    bodies   ``B`` id attempt runner pid time label    a body begins
             ``E`` id attempt runner pid time label    it has ended by an exception
             ``R`` id attempt runner pid time label    it has ended with its result
    clients  ``I`` nonce count                         is about to submit so many under a nonce
             ``A`` nonce id...                         they were acknowledged
             ``V`` nonce                               is about to emit an event
             ``W`` nonce                               that was acknowledged
             ``D`` id                                  a signal to a workflow, or that it goes on, was acknowledged
             ``C`` id time                             that it is cancelled was acknowledged, with all that belongs to it
    passes   see :mod:`pynenc.testing.passes`:
             ``B`` id attempt                          a pass of a workflow begins
             ``T`` id attempt point token              carries out a step; who sends a signal writes ``0`` and its name
             ``K`` id attempt point token              got a token
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
from pynenc.testing.passes import Act, Line

#: The environment variable that names the folder of the witness files.
FOLDER = "PYNENC_CHAOS_FOLDER"
BODIES, CLIENTS, PASSES = "bodies.log", "clients.log", "passes.log"


@cache
def _descriptor(name: str, _pid: int) -> int:
    """The open file of this process."""
    return os.open(Path(os.environ[FOLDER], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(name: str, *words: object) -> None:
    """Append one line."""
    os.write(_descriptor(name, os.getpid()), (" ".join(map(str, words)) + "\n").encode())


def running() -> context.Running:
    """What runs here.

    :raises RuntimeError: nothing does.
    """
    if (found := context.current()) is None:
        raise RuntimeError("only tasks of a runner have witnesses")
    return found


@contextmanager
def witnessed(label: str) -> Iterator[str]:
    """Around a body: writes its begin and its end; gives the result that it should return, which no other attempt has.

    :param label: what the body is about, for people; without blanks.
    """
    own = running()
    result = f"{own.id}:{own.attempt}"
    who = (own.id, own.attempt, own.runner, os.getpid())
    write(BODIES, "B", *who, time.time_ns() // 1000, label)
    try:
        yield result
    except BaseException:
        write(BODIES, "E", *who, time.time_ns() // 1000, label)
        raise
    write(BODIES, "R", *who, time.time_ns() // 1000, label)


# -- passes of workflows -----------------------------------------------------------------------------------------------------
class Pass:
    """One pass through the body of a workflow. :ivar tokens: what it got so far, by point."""

    def __init__(self, result: str) -> None:
        self._result = result
        self._who = (running().id, running().attempt)
        self.tokens: dict[str, str] = {}
        write(PASSES, Act.BEGAN, *self._who)

    def got(self, point: str, token: str) -> str:
        """Note what a durable operation has brought."""
        write(PASSES, Act.GOT, *self._who, point, token)
        self.tokens[point] = token
        return token

    def told(self, value: object) -> dict[str, object]:
        """The result of the workflow."""
        return {"by": self._result, "tokens": self.tokens, "value": value}


@contextmanager
def passing(label: str) -> Iterator[Pass]:
    """Around the body of a workflow: :func:`witnessed`, and a pass."""
    with witnessed(label) as result:
        yield Pass(result)


def make(point: str) -> str:
    """A step: makes a token."""
    own, token = running(), os.urandom(8).hex()
    write(PASSES, Act.MADE, own.id, own.attempt, point, token)
    return token


def make_for(workflow: str, name: str) -> str:
    """A token that a signal brings to a workflow."""
    token = os.urandom(8).hex()
    write(PASSES, Act.MADE, workflow, 0, name, token)
    return token


# -- afterwards --------------------------------------------------------------------------------------------------------------
class Witnessed(NamedTuple):
    """All that was written down.

    ``pids`` tells which runners worked in which process; ``events`` by nonce whether the event was acknowledged;
    ``delivered`` which workflows were sent an acknowledged signal, ``cancelled`` which were cancelled, and when that was acknowledged first.
    """

    bodies: list[Body]
    pids: dict[int, set[str]]
    intended: dict[str, int]
    acknowledged: set[str]
    events: dict[str, bool]
    delivered: set[str]
    cancelled: dict[str, int]
    passes: list[Line]


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
    seen = Witnessed([*bodies, *begun.values()], pids, {}, set(), {}, set(), {}, list(_passes(folder)))
    for line in _lines(folder / CLIENTS):
        _note(seen, *line.split(" "))
    return seen


def _note(seen: Witnessed, mark: str, *words: str) -> None:
    """One line of a client."""
    if mark == "I":
        seen.intended[words[0]] = int(words[1])
    elif mark == "A":
        seen.acknowledged.update(words[1:])
    elif mark == "C":
        seen.cancelled.setdefault(words[0], int(words[1]))
    elif mark == "D":
        seen.delivered.update(words)
    else:
        seen.events[words[0]] = mark == "W"


def _passes(folder: Path) -> Iterator[Line]:
    for line in _lines(folder / PASSES):
        act, name, attempt, *rest = line.split(" ")
        yield Line(Act(act), name, int(attempt), *rest)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
