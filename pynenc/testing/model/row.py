"""What the plain model keeps of an invocation and of a runner."""

from __future__ import annotations

from dataclasses import dataclass, field

from pynenc.core.records import New, Outcome
from pynenc.core.status import InvocationStatus, Place, can_transition

S = InvocationStatus


@dataclass
class Row:
    """One invocation as the model knows it."""

    new: New
    seq: int
    created: int
    priority: float
    due: int
    status: InvocationStatus = S.REGISTERED
    place: Place = Place.READY
    trail: list[InvocationStatus] = field(default_factory=lambda: [S.REGISTERED])
    #: The trail as the store told it last.
    told: list[InvocationStatus] = field(default_factory=list)
    #: The status that a parked row goes back to, and whether it is parked for an unknown task.
    back: InvocationStatus = S.REGISTERED
    is_unknown: bool = False
    holds_registration: bool = True
    attempt: int = 0
    retries: int = 0
    crashes: int = 0
    round: int = 0
    runner: str | None = None
    started: int = 0
    ended: int = 0
    #: Somebody wanted it cancelled while it was claimed, and why.
    is_cancelled: bool = False
    why: str = ""
    alone: bool = False
    payload: bytes = b""
    waits: set[str] = field(default_factory=set)
    rank: float = 0.0
    boost: int = 0
    #: Once an edge to it has ended early, its boost and rank are not known for sure.
    is_fuzzy: bool = False
    #: What was sent to it, and of how many of these it knew when it was suspended (-1: it does not wait for more).
    signals: list[bytes] = field(default_factory=list)
    seen: int = -1
    #: What is remembered in its round.
    memory: dict[str, bytes] = field(default_factory=dict)
    #: When retention looks at it again, once it has kept it.
    kept_until: int = 0
    #: The outcome that ended this round, as it may be sent again.
    last: tuple[str, Outcome] | None = None

    @property
    def key(self) -> str | None:
        """The running key for which it would be parked."""
        return None if self.new.drop_blocked else self.new.running_key

    def change(self, status: InvocationStatus, place: Place) -> None:
        """Move; a status that differs is an entry of the history."""
        if status is not self.status:
            assert can_transition(self.status, status), (self.status, status)
            self.trail.append(status)
        self.status, self.place = status, place


@dataclass
class RunnerRow:
    """One runner as the model knows it."""

    group: str
    lease: int
    until: int
    held_since: int
    is_supervised: bool
    is_dead: bool = False
