"""What the memory store keeps of an invocation, of a runner and of a blob; and how readers see them.

Nothing here refers back to what holds it, so rows form no reference cycles. That is why they may stay out of sight of the garbage
collector (``gc=False``), which would otherwise visit a million of them again and again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import msgspec
from msgspec.structs import astuple

from pynenc.core.records import (
    Beat,
    Claimed,
    Final,
    HistoryEntry,
    Invocation,
    Microseconds,
    New,
    Outcome,
    Progress,
    RunnerInfo,
    Submitted,
)
from pynenc.core.status import InvocationStatus, Place

S = InvocationStatus

#: The place of a row in an ordered line: two keys, its number of submission and its id. The row is in line with the entry that is its
#: ``turn``; every other entry that names it is left over from before.
Entry = tuple[float, float, int, str]


class Step(msgspec.Struct, gc=False, frozen=True):
    """One change of status: a history entry without what its row knows."""

    status: InvocationStatus
    at: Microseconds
    runner: str | None
    attempt: int
    round: int
    reason: str = ""
    payload: bytes = b""


class Behind(IntEnum):
    """What a parked row waits for."""

    NOTHING = 0
    KEY = 1
    RATE = 2
    TASK = 3


class Row(msgspec.Struct, gc=False, eq=False):
    """One invocation.

    ``is_plain``: it has no key, no rate and no time limit, so that only its own row changes when it is claimed and when it ends.
    ``back`` is the status that it has when it becomes claimable. ``cancel``: somebody wants it cancelled while it is claimed, for ``reason``.
    ``is_passed``: a runner that does not know its task has passed it over, so it waits apart whenever it is READY.
    ``signalled`` counts the signals that came, ``seen`` those that it knew of when it was suspended (-1: it does not wait for signals).
    ``trail`` holds its changes of status after the submission, up to its latest claim while that ``is_open``, and without its end.
    """

    id: str
    new: New
    seq: int
    created: Microseconds
    priority: float
    rank: float
    due: Microseconds
    is_plain: bool
    status: InvocationStatus = S.REGISTERED
    place: Place = Place.READY
    back: InvocationStatus = S.REGISTERED
    behind: Behind = Behind.NOTHING
    turn: Entry | None = None
    boost: Microseconds = 0
    trail: tuple[Step, ...] = ()
    is_open: bool = False
    attempt: int = 0
    retries: int = 0
    crashes: int = 0
    round: int = 0
    runner: str | None = None
    claimed: Microseconds = 0
    started: Microseconds = 0
    ended: Microseconds = 0
    alone: bool = False
    cancel: bool = False
    reason: str = ""
    payload: bytes = b""
    progress: Progress | None = None
    is_passed: bool = False
    signalled: int = 0
    seen: int = -1

    @property
    def needs_key(self) -> bool:
        """Whether it is set aside while its running key is full."""
        return self.new.running_key is not None and not self.new.drop_blocked

    @property
    def is_unstarted(self) -> bool:
        """Whether it was never claimed, and nobody put it back to work: only then does it expire."""
        return self.attempt == 0 and self.round == 0 and self.place is not Place.FINAL


@dataclass(slots=True)
class RunnerRow:
    """One runner. ``until`` and ``held_since`` are on the lease clock of the boot ``boot``."""

    beat: Beat
    started: Microseconds
    seen: Microseconds
    until: Microseconds
    held_since: Microseconds
    boot: str
    owned: dict[str, Claimed] = field(default_factory=dict)


@dataclass(slots=True)
class BlobRow:
    """One blob, the number of rows that refer to it, and when it was needed last."""

    data: bytes
    touched: Microseconds
    references: int = 0


def to_submitted(row: Row, *, existing: bool) -> Submitted:
    """The answer that names ``row``."""
    return Submitted(row.id, row.status, existing, row.new.args_digest)


def to_final(row: Row) -> Final:
    """A final row as its waiter gets it."""
    return Final(row.id, row.status, row.new.task, row.payload, row.round, row.reason)


def to_claimed(row: Row) -> Claimed:
    """A claimed row as its owner gets it; by position, because this is built for every claim."""
    new = row.new
    return Claimed(
        row.id,
        new.task,
        row.attempt,
        new.args,
        new.blobs,
        new.queue,
        row.priority,
        row.retries,
        row.crashes,
        new.max_crashes,
        row.round,
        new.timeout,
        row.created,
        row.claimed,
        new.parent,
        new.workflow,
        new.tags,
        row.alone,
    )


def to_invocation(row: Row, waiting_for: tuple[str, ...]) -> Invocation:
    """A row as readers see it."""
    new = row.new
    return Invocation(
        id=row.id,
        task=new.task,
        status=row.status,
        place=row.place,
        args=new.args,
        args_digest=new.args_digest,
        blobs=new.blobs,
        queue=new.queue,
        priority=row.priority,
        rank=row.rank,
        due=row.due,
        expires=new.expires,
        registration_key=new.registration_key,
        running_key=new.running_key,
        running_limit=new.running_limit,
        rate=new.rate,
        parent=new.parent,
        workflow=new.workflow,
        tags=new.tags,
        attempt=row.attempt,
        retries=row.retries,
        crashes=row.crashes,
        max_crashes=new.max_crashes,
        round=row.round,
        runner=row.runner,
        created=row.created,
        claimed=row.claimed,
        started=row.started,
        ended=row.ended,
        result_ttl=new.result_ttl,
        cancel_requested=row.cancel,
        alone=row.alone,
        reason=row.reason,
        payload=row.payload,
        progress=row.progress,
        waiting_for=waiting_for,
    )


def reason_of(row: Row, outcome: Outcome) -> str:
    """Why an attempt ends: what ends CANCELLED without a reason of its own has that of the request."""
    is_asked = row.cancel and outcome.status is S.CANCELLED
    return outcome.reason or (row.reason if is_asked else "")


def to_history(row: Row) -> list[HistoryEntry]:
    """All changes of status."""
    steps = (Step(S.REGISTERED, row.created, None, 0, 0), *row.trail, *latest_steps(row))
    return [HistoryEntry(row.id, seq, *astuple(step)) for seq, step in enumerate(steps)]


def latest_steps(row: Row) -> tuple[Step, ...]:
    """The changes of status that are not in the trail, because they follow from the row: its latest claim, and its end."""
    who = (row.runner, row.attempt, row.round)
    steps: list[Step] = []
    if row.is_open:
        steps.append(Step(S.PENDING, row.claimed, *who))
        if row.started:
            steps.append(Step(S.RUNNING, row.started, *who))
    if row.place is Place.FINAL:
        steps.append(Step(row.status, row.ended, *who, row.reason, row.payload))
    return tuple(steps)


def to_runner(runner: RunnerRow, *, alive: bool) -> RunnerInfo:
    """A runner as readers see it."""
    return RunnerInfo(beat=runner.beat, started=runner.started, seen=runner.seen, alive=alive)
