"""The offline checker of workflows: what the passes of their bodies saw, compared with one another.

Theory of operation
-------------------
The body of a workflow runs from the top whenever it goes on, so one run has several *passes*: one for each attempt. What a durable operation brings is
the same in all of them, however many processes died meanwhile. To tell that, everything that an operation can bring is unique: a step makes a new *token*
each time that it is carried out, a signal has one of its own. Each pass writes down, not through the store and in one file,

* that it begins,
* which token a step makes at which *point*, when it is carried out,
* which token it got at a point, when the operation had returned.

A step may be carried out twice: its process may have died before the token was recorded. But once a pass got a token at a point, every pass gets that one, and
no pass that begins later carries the step out again. Except for a *zombie*: a pass of an attempt that was lost before its body began, while its process stood
still. It does not know what others did since; nothing that it does is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from pynenc.testing.checker import Kind, Violation

#: A point of a workflow: the id of the invocation, and a name.
Point = tuple[str, str]


class Act(StrEnum):
    """What a line tells of."""

    BEGAN = "B"
    #: A step was carried out, or a signal sent (then nothing is said of an attempt or a point).
    MADE = "T"
    GOT = "K"


class Line(NamedTuple):
    """One line, in the order in which they were written."""

    act: Act
    id: str
    attempt: int = 0
    point: str = ""
    token: str = ""


class Passes:
    """What all passes of all workflows wrote down.

    :ivar tokens: what was got at each point, by the first who got there. :ivar count: how many passes began.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self.tokens: dict[Point, str] = {}
        self.count = 0
        self._made: set[tuple[str, str]] = set()
        self._latest: dict[str, int] = {}
        #: Where passes began that were no zombies.
        self._begun: dict[tuple[str, int], int] = {}
        self._known_at: dict[Point, int] = {}
        self.violations = list(dict.fromkeys(self._read(lines)))

    def of(self, invocation_id: str) -> dict[str, str]:
        """The tokens of one workflow, by point."""
        return {point: token for (name, point), token in self.tokens.items() if name == invocation_id}

    def _read(self, lines: Iterable[Line]) -> Iterator[Violation]:
        for at, line in enumerate(lines):
            if line.act is Act.BEGAN:
                self.count += 1
                self._latest[line.id] = max(line.attempt, self._latest.get(line.id, 0))
                if line.attempt == self._latest[line.id]:
                    self._begun[line.id, line.attempt] = at
            elif line.act is Act.MADE:
                self._made.add((line.id, line.token))
                yield from self._repeated(line)
            else:
                yield from self._differs(line)
                if (line.id, line.point) not in self.tokens:
                    self.tokens[line.id, line.point] = line.token
                    self._known_at[line.id, line.point] = at

    def _repeated(self, line: Line) -> Iterator[Violation]:
        """A step is not carried out by a pass that began when its token was known."""
        known_at = self._known_at.get((line.id, line.point))
        if known_at is not None and self._begun.get((line.id, line.attempt), -1) > known_at:
            text = f"attempt {line.attempt} of {line.id} carried out {line.point} again, which was remembered"
            yield Violation(Kind.WRONG_WORKFLOW, text)

    def _differs(self, line: Line) -> Iterator[Violation]:
        """All passes get the same at a point, which somebody made for this workflow."""
        first = self.tokens.get((line.id, line.point), line.token)
        if first != line.token:
            text = f"attempt {line.attempt} of {line.id} got {line.token} at {line.point}, another one {first}"
            yield Violation(Kind.WRONG_WORKFLOW, text)
        if (line.id, line.token) not in self._made:
            text = f"attempt {line.attempt} of {line.id} got {line.token} at {line.point}, which nobody made"
            yield Violation(Kind.WRONG_WORKFLOW, text)
