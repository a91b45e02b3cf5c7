"""The cursor: what a workflow did so far, and where its body is now. Pure: no store, no clock, no random number.

Theory of operation
-------------------
The body of a workflow runs from the top whenever it goes on. Each durable operation has a *position*: the path of the branch in which it is made (an
asyncio task; the body itself has the empty path) and a counter within that branch. The first time its record is written under its position; from then on
the record answers, and the operation is not carried out again. Branches are numbered in the order in which they are created, each within its parent, so
``gather`` finds the same positions whatever order its parts run in.

Random numbers are computed from the path and a counter of their own; they leave no record. Waiting for the result of another invocation needs none either:
what is final stays so. Only how far the body got is noted where it was suspended (a *mark*), so that it does not tell twice what it told before.

A body that meets another kind or name than recorded at a position, or none while later ones of the branch are recorded, does not do what it did before:
:class:`~pynenc.exceptions.NonDeterminismError`.

An operation that takes time (a pause, a signal, a wait with a limit) is recorded twice: that it has begun, with what must not change any more, and how it
ended. The first record of a position counts, whoever writes it: two bodies of one run, of which one does not know yet that it was given up, go the same way.

Paths read ``2/1/``: the first branch of the second branch of the body. A position is a path and a number: ``2/1/00000003``; what has begun there has a
``b`` before the number, and a mark a ``w`` before that of the operation that it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from pynenc.core.ids import derived_id, digest
from pynenc.core.records import Final
from pynenc.exceptions import NonDeterminismError

#: Where compensations have their positions, where is noted at which attempts code and record differed, and where turns that no operation followed.
COMPENSATION, DIFFERENCE, TURNS = "c/", "d/", "t/"
ADVICE = (
    "its code has changed, or it depends on something that differs between runs (time, random numbers, the order of a set); "
    "guard changes with wf.patched(...), put what varies into wf.step(...)"
)
PATCH, MARK, BEGUN, CALL = "patch", "mark", "begun", "execute_task"
_DIGITS = 8


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One durable operation that was made: what it was, and its outcome (``failed``: an exception). ``turns`` were taken since the record before, the first
    of them with the number ``turn`` (:mod:`pynenc.workflow.turns`).
    """

    kind: str
    name: str = ""
    payload: bytes = b""
    failed: bool = False
    turn: int = 0
    turns: tuple[str, ...] = ()


encode_record = msgspec.msgpack.encode
decode_record = msgspec.msgpack.Decoder(Record).decode


class History(NamedTuple):
    """What a workflow did, to be checked: its records by position, and the finals of its children by id."""

    records: dict[str, Record]
    finals: dict[str, Final]


class Branch:
    """One line of execution within a body, and its counters. ``awaited``: how often it waited for each invocation."""

    __slots__ = ("awaited", "branches", "count", "draws", "path", "timers", "undos", "waits")

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.count = 0
        self.waits = 0
        self.draws = 0
        self.branches = 0
        self.timers = 0
        self.awaited: dict[str, int] = {}
        self.undos = 0

    def advance(self) -> None:
        """The next operation."""
        self.count += 1
        self.waits = 0

    def fork(self) -> Branch:
        """The next branch that this one creates."""
        self.branches += 1
        return Branch(f"{self.path}{self.branches}/")


class Cursor:
    """The records of one run, by position.

    :param source: what child ids and random numbers are derived from: app, invocation and round.
    """

    def __init__(self, source: tuple[str, ...], records: Mapping[str, Record]) -> None:
        self.source = source
        self.records = dict(records)
        #: The recorded positions that the body has come to.
        self.met: set[str] = set()
        #: The numbers of the turns that were taken, by label, and the next number.
        self.turns: dict[str, int] = {}
        self.next_turn = 0
        #: For each path the last recorded operation, and how far the body got: operations, and waits since the last of them.
        self._last: dict[str, int] = {}
        self._reached: dict[str, tuple[int, int]] = {}
        #: For each path the last branch below it of which something is recorded.
        self._forked: dict[str, int] = {}
        for position, record in records.items():
            self._note(position, record)

    def _note(self, position: str, record: Record) -> None:
        for turn, label in enumerate(record.turns, record.turn):
            self.turns[label] = min(turn, self.turns.get(label, turn))
            self.next_turn = max(self.next_turn, turn + 1)
        path, slash, number = position.rpartition("/")
        path += slash
        if record.kind == MARK:
            reached = int(number.removeprefix("w")), int(record.name)
        elif record.kind == BEGUN:
            reached = int(number.removeprefix("b")), 0
        else:
            reached = int(number), 0
            self._last[path] = max(reached[0], self._last.get(path, 0))
        if path and path not in self._reached and path[0].isdigit():
            self._note_fork(path)
        self._reached[path] = max(reached, self._reached.get(path, (0, 0)))

    def _note_fork(self, path: str) -> None:
        while path:
            above, _, number = path[:-1].rpartition("/")
            path = f"{above}/" if above else ""
            self._forked[path] = max(int(number), self._forked.get(path, 0))

    # -- where the body is -----------------------------------------------------------------------------------------------
    def meet(self, branch: Branch, kind: str, name: str, where: Callable[[], str]) -> tuple[str, Record | None]:
        """The next position of a branch, and what was recorded there; None when the operation is new.

        :param where: tells the line of code that asks, for the error.
        :raises NonDeterminismError: something else was recorded.
        """
        while True:
            branch.advance()
            position = position_of(branch.path, branch.count)
            record = self.records.get(position)
            if record is not None:
                self.met.add(position)
            if record is None or record.kind != PATCH:
                break
        if record is None:
            if branch.count < self._last.get(branch.path, 0):
                raise _differs(position, _told(kind, name), "nothing, although later operations are", where())
            begun = self._meet_begun(position)
            if begun is not None and begun.name != _told(kind, name):
                raise _differs(position, _told(kind, name), begun.name, where())
        elif (record.kind, record.name) != (kind, name):
            raise _differs(position, _told(kind, name), _told(record.kind, record.name), where())
        return position, record

    def left(self, path: str = "") -> str:
        """What is recorded of a branch and it did not come to: the first operation, with its position; empty if it came to all."""
        left = [position for position in self.not_met() if position.rpartition("/")[0] == path]
        kept = [position for position in left if self.records[position].kind != PATCH]
        return f"{self.told(kept[0])!r} at position {kept[0]}" if kept else ""

    def not_met(self) -> list[str]:
        """The recorded positions that the body did not come to: of operations that have ended, and of those that have begun only."""
        left = self.records.keys() - self.met
        kept = (position for position in left if self.records[position].kind != MARK)
        return sorted(each for each in kept if "b" not in each or each.replace("b", "") not in self.records)

    def told(self, position: str) -> str:
        """What is recorded at a position, in words."""
        record = self.records[position]
        return record.name if record.kind == BEGUN else _told(record.kind, record.name)

    def differed(self) -> set[int]:
        """The attempts at which code and record differed."""
        return {int(name.removeprefix(DIFFERENCE)) for name in self.records if name.startswith(DIFFERENCE)}

    def is_recorded(self, branch: Branch) -> bool:
        """Whether the next operation of a branch is."""
        return position_of(branch.path, self._next(branch)) in self.records

    def is_cut(self, branch: Branch) -> bool:
        """Whether the next operation of a branch was cancelled before it was recorded, and the branch went on."""
        return not self.is_recorded(branch) and self._next(branch) < self._last.get(branch.path, 0)

    def pass_by(self, branch: Branch) -> None:
        """The next operation is cancelled before the branch has come to it."""
        number = self._next(branch)
        while branch.count < number:
            branch.advance()
        self._meet_begun(position_of(branch.path, number))

    def _next(self, branch: Branch) -> int:
        number = branch.count + 1
        while (record := self.records.get(position_of(branch.path, number))) is not None and record.kind == PATCH:
            number += 1
        return number

    def _meet_begun(self, position: str) -> Record | None:
        """What began at a position that the body has come to."""
        begun = self.begun(position)
        if begun is not None:
            self.met.add(begun_at(position))
        return begun

    def begun(self, position: str) -> Record | None:
        """What was recorded when the operation of a position began, if it is one that takes time."""
        return self.records.get(begun_at(position))

    def mark(self, branch: Branch) -> tuple[str, Record] | None:
        """What notes how far a branch got; None if that is known."""
        if (branch.count, branch.waits) <= self._reached.get(branch.path, (0, 0)):
            return None
        return position_of(branch.path, branch.count, "w"), Record(MARK, str(branch.waits))

    def is_patched(self, branch: Branch, name: str) -> tuple[str, bool]:
        """Whether the body takes the path that a change brought: it did before, or it gets there for the first time. With the position to record that at,
        which is empty if there is nothing to record.
        """
        position = position_of(branch.path, branch.count + 1)
        record = self.records.get(position)
        if record is not None and (record.kind, record.name) == (PATCH, name):
            branch.advance()
            self.met.add(position)
            return "", True
        if self.is_replaying(branch):
            return "", False
        branch.advance()
        return position, True

    def add(self, position: str, record: Record) -> None:
        """An operation was recorded."""
        self.records[position] = record
        self.met.add(position)
        self._note(position, record)

    def is_replaying(self, branch: Branch) -> bool:
        """Whether a branch has been here before: something that it will do is recorded, or that a branch has done which it will create."""
        reached, forked = self._reached.get(branch.path, (0, 0)), self._forked.get(branch.path, 0)
        return (branch.count, branch.waits) < reached or branch.branches < forked

    # -- what is derived -------------------------------------------------------------------------------------------------
    def child_ids(self, position: str, count: int) -> list[str]:
        """The ids of the invocations of one call, or of a batch."""
        if count == 1:
            return [derived_id(*self.source, position)]
        return [derived_id(*self.source, position, str(index)) for index in range(count)]

    def random(self, branch: Branch) -> float:
        """The next random number of a branch: uniform in [0, 1), 53 bits."""
        return (int(self._draw(branch)[:16], 16) >> 11) * 2.0**-53

    def uuid(self, branch: Branch) -> str:
        """The next random UUID of a branch (version 8)."""
        return derived_id("uuid", self._draw(branch))

    def _draw(self, branch: Branch) -> str:
        branch.draws += 1
        return digest("random", *self.source, branch.path, str(branch.draws))


def position_of(path: str, number: int, mark: str = "") -> str:
    """A position; positions of one branch sort as they are counted."""
    return f"{path}{mark}{number:0{_DIGITS}d}"


def begun_at(position: str) -> str:
    """Where is recorded that the operation of a position has begun."""
    path, slash, number = position.rpartition("/")
    return f"{path}{slash}b{number}"


def _told(kind: str, name: str) -> str:
    return f"{kind} {name}".rstrip()


def _differs(position: str, asked: str, recorded: str, where: str) -> NonDeterminismError:
    difference = f"at position {position} the workflow asks for {asked!r} ({where}), but recorded is {recorded!r}"
    return NonDeterminismError(f"{difference}: {ADVICE}", position, asked, recorded, where)
