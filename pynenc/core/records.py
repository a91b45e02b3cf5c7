"""The records that cross the store boundary: frozen values, nothing that acts.

All times are integers: microseconds since the Unix epoch, on the store's clock; 0 stands for "not set".
All ids are text. Payloads (arguments, results, errors, values) are opaque bytes.
The records are frozen ``msgspec`` structs rather than dataclasses, because a frozen dataclass of twenty fields takes
longer to build than SQLite takes to insert it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any

import msgspec

from pynenc.core.status import InvocationStatus, Place
from pynenc.core.storable import check_texts

Microseconds = int

#: Reason of a release that no runner can cure before it learns the task.
UNKNOWN_TASK = "no runner knows this task: add its module to `imports`, or restart runners that are older than it"


class _Record(msgspec.Struct, frozen=True, gc=False):
    """Base of the records."""


class Rate(_Record, frozen=True):
    """At most ``n`` claims of ``key`` in any window of ``period``."""

    key: str
    n: int
    period: Microseconds


class WorkflowRef(_Record, frozen=True):
    """The workflow that an invocation belongs to."""

    id: str
    type: str
    parent: str | None = None


class Blob(_Record, frozen=True):
    """A content-addressed value: ``key`` is the digest of the content, ``data`` its compressed form, ``size`` its plain size."""

    key: str
    data: bytes
    size: int


class New(_Record, frozen=True, kw_only=True):
    """An invocation to submit.

    ``max_crashes`` 0 means that the first crash is final. ``result_ttl`` 0 keeps the final for ever.
    ``drop_blocked``: end CONCURRENCY_CONTROLLED_FINAL at the claim instead of being parked at submission.
    ``cache_key``: answer with the latest success that was submitted under the same cache key, if there is one.
    """

    id: str
    task: str
    args: bytes
    args_digest: str = ""
    blobs: tuple[str, ...] = ()
    queue: str = "default"
    priority: float = 0.0
    due: Microseconds = 0
    expires: Microseconds = 0
    registration_key: str | None = None
    running_key: str | None = None
    running_limit: int = 1
    drop_blocked: bool = False
    rate: Rate | None = None
    cache_key: str | None = None
    max_crashes: int = 3
    result_ttl: Microseconds = 0
    timeout: Microseconds = 0
    parent: str | None = None
    workflow: WorkflowRef | None = None
    tags: tuple[str, ...] = ()


_shape = attrgetter(*(name for name in New.__struct_fields__ if name not in ("id", "args")))


def are_alike(batch: Sequence[New]) -> bool:
    """Whether calls differ in id and arguments only; what is made of the rest need then be made once."""
    first = _shape(batch[0])
    return all(_shape(new) == first for new in batch)


class Submitted(_Record, frozen=True):
    """The answer to one :class:`New`: itself, or the invocation that stands in for it.

    ``id`` differs from the submitted id when a registration key or a cache key answered; it is the same and ``existing`` is
    true when the id was there already. ``args_digest`` is the one of the invocation that ``id`` names.
    """

    id: str
    status: InvocationStatus
    existing: bool = False
    args_digest: str = ""


class Alone(StrEnum):
    """Which part the invocations under suspicion of crashing their process play in a claim."""

    NEVER = "never"
    ONLY = "only"


class ClaimRequest(_Record, frozen=True):
    """What a runner wants to claim. ``shares`` lists queues in order with the most to take from each; empty: all together, by priority and age.
    ``ids`` restricts the claim to these invocations; ``without`` leaves out tasks that the runner has found it does not know.
    ``aged`` asks for the oldest instead of the highest priority.
    """

    runner: str
    limit: int
    shares: tuple[tuple[str, int], ...] = ()
    ids: tuple[str, ...] = ()
    alone: Alone = Alone.NEVER
    aged: bool = False
    without: tuple[str, ...] = ()


class Claimed(_Record, frozen=True):
    """An invocation as its new owner gets it: everything that is needed to run it."""

    id: str
    task: str
    attempt: int
    args: bytes
    blobs: tuple[str, ...] = ()
    queue: str = "default"
    priority: float = 0.0
    retries: int = 0
    crashes: int = 0
    max_crashes: int = 3
    round: int = 0
    timeout: Microseconds = 0
    created: Microseconds = 0
    claimed: Microseconds = 0
    parent: str | None = None
    workflow: WorkflowRef | None = None
    tags: tuple[str, ...] = ()
    alone: bool = False


class Claim(_Record, frozen=True):
    """The answer to a :class:`ClaimRequest`.

    ``next_due`` is the time at which a waiting invocation of the asked queues becomes claimable (0: none is known), ``suspects`` whether any
    invocation waits to be run alone.
    """

    batch: tuple[Claimed, ...] = ()
    next_due: Microseconds = 0
    suspects: bool = False


class Ref(_Record, frozen=True):
    """The fence of a claimed invocation, together with the runner that names it."""

    id: str
    attempt: int


class Owner(Ref, frozen=True):
    """The whole fence: who writes for a claimed invocation."""

    runner: str


class Outcome(_Record, frozen=True, kw_only=True):
    """How an attempt ended; ``status`` is one of :data:`pynenc.core.status.OUTCOMES`.

    SUCCESS and FAILED carry the result or error in ``payload``. RETRY becomes claimable at ``due``. REGISTERED gives the work back
    (``reason`` says why); if no body began (``started`` is 0 here and in the store) and it is no suspect, the claim does not count in its rate.
    CANCELLED confirms a request. PAUSED suspends: until ``due`` if that is set, until any of ``awaits`` is final, until more than ``signals``
    signals have come (-1: signals do not wake it), or until a person resumes it, whichever comes first.
    REGISTERED with ``args`` (and the ``blobs`` that these refer to) continues as new: a new round of the same id with other arguments; the first
    ``signals`` signals are forgotten.
    ``retries`` and ``crashes`` are the new values of the counters. ``alone`` marks a suspect. ``started`` is when the body began (0: never).
    ``unknown_task`` parks the invocation until a runner that knows its task registers, unless another one that lives knows it.
    """

    id: str
    attempt: int
    status: InvocationStatus
    payload: bytes = b""
    due: Microseconds = 0
    retries: int = 0
    crashes: int = 0
    started: Microseconds = 0
    ended: Microseconds = 0
    reason: str = ""
    alone: bool = False
    unknown_task: bool = False
    awaits: tuple[str, ...] = ()
    signals: int = -1
    args: bytes | None = None
    blobs: tuple[str, ...] = ()


class Finished(_Record, frozen=True):
    """The answer to ``finish``: the ids whose fence did not hold, and the claim that was asked for in the same step."""

    lost: tuple[str, ...] = ()
    claim: Claim = Claim()


class Final(_Record, frozen=True):
    """A finished invocation as its waiter gets it."""

    id: str
    status: InvocationStatus
    task: str
    payload: bytes = b""
    round: int = 0
    reason: str = ""


class Beat(_Record, frozen=True, kw_only=True):
    """A sign of life of a runner, and all that is known about it.

    ``group`` is the id of the process that would notice this runner's death (its supervisor, or itself). ``supervised`` says that such a
    process exists apart from the runner's own (whose ``finished`` is that of its workers that are gone). ``tasks``: what it can run; sent with the first beat.
    """

    id: str
    group: str
    lease: Microseconds
    name: str = ""
    kind: str = ""
    host: str = ""
    pid: int = 0
    supervised: bool = False
    queues: tuple[str, ...] = ()
    slots: int = 0
    running: int = 0
    finished: int = 0
    tasks: tuple[str, ...] = ()
    version: str = ""


class Orders(_Record, frozen=True):
    """The answer to a heartbeat. ``alive`` is false when the lease had been taken away: the runner must stop writing under this id.
    ``cancel`` lists invocations that it owns and that somebody wants cancelled.
    """

    alive: bool = True
    cancel: tuple[str, ...] = ()
    suspects: bool = False


class RunnerInfo(_Record, frozen=True, kw_only=True):
    """A runner as readers see it. ``alive``: its lease has not run out, and its process is not known to be dead."""

    beat: Beat
    started: Microseconds
    seen: Microseconds
    alive: bool


class Recovered(_Record, frozen=True):
    """An invocation taken back from a runner that is gone. ``status`` is where it went."""

    id: str
    runner: str
    status: InvocationStatus


class Progress(_Record, frozen=True):
    """Progress of a running invocation as its body reported it."""

    id: str
    attempt: int
    done: float
    total: float = 0.0
    message: str = ""


class ChangeKind(StrEnum):
    """What people do to invocations."""

    CANCEL = "cancel"
    REQUEUE = "requeue"
    REPRIORITISE = "reprioritise"
    RESUME = "resume"
    SIGNAL = "signal"


class Change(_Record, frozen=True):
    """What a person asks for: ``priority`` to REPRIORITISE, ``value`` to SIGNAL and RESUME (what ``attempt`` suspended; 0: any), ``reason`` for the history."""

    kind: ChangeKind
    reason: str = ""
    priority: float = 0.0
    value: bytes = b""
    attempt: int = 0


class Amended(_Record, frozen=True):
    """The answer to one amended id. ``accepted`` is false when the change makes no sense in ``status`` (None: no such invocation)."""

    id: str
    accepted: bool
    status: InvocationStatus | None


class QueueState(StrEnum):
    """ACTIVE; PAUSED: calls are accepted, nothing is claimed; DRAINING: work goes on, new calls are refused."""

    ACTIVE = "active"
    PAUSED = "paused"
    DRAINING = "draining"


class QueueInfo(_Record, frozen=True):
    """A queue as readers see it. ``oldest`` is the time since when its oldest claimable invocation waits (0: none)."""

    name: str
    state: QueueState
    ready: int = 0
    later: int = 0
    parked: int = 0
    claimed: int = 0
    oldest: Microseconds = 0


class Invocation(_Record, frozen=True, kw_only=True):
    """An invocation as readers see it. ``rank`` is the effective priority, inherited from what waits for it."""

    id: str
    task: str
    status: InvocationStatus
    place: Place
    args: bytes
    args_digest: str
    blobs: tuple[str, ...]
    queue: str
    priority: float
    rank: float
    due: Microseconds
    expires: Microseconds
    registration_key: str | None
    running_key: str | None
    running_limit: int
    rate: Rate | None
    parent: str | None
    workflow: WorkflowRef | None
    tags: tuple[str, ...]
    attempt: int
    retries: int
    crashes: int
    max_crashes: int
    round: int
    runner: str | None
    created: Microseconds
    claimed: Microseconds
    started: Microseconds
    ended: Microseconds
    result_ttl: Microseconds
    cancel_requested: bool
    alone: bool
    reason: str
    payload: bytes
    progress: Progress | None
    waiting_for: tuple[str, ...] = ()


class HistoryEntry(_Record, frozen=True):
    """One change of status. Entries of an invocation are ordered by ``seq``."""

    id: str
    seq: int
    status: InvocationStatus
    at: Microseconds
    runner: str | None = None
    attempt: int = 0
    round: int = 0
    reason: str = ""
    payload: bytes = b""


class Filter(_Record, frozen=True, kw_only=True):
    """Which invocations to read; empty fields do not restrict. ``tags`` must all be there, ``workflow`` is the id of a root and
    finds it with all members, ``text`` is found in the task name or starts the id.
    """

    ids: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    statuses: tuple[InvocationStatus, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None
    workflow: str | None = None
    runner: str | None = None
    running_key: str | None = None
    created_from: Microseconds = 0
    created_until: Microseconds = 0
    text: str = ""

    @classmethod
    def of(cls, where: Mapping[str, Any]) -> Filter:
        """As people write it: one text for a tuple of it, statuses by name. :raises ValueError: there is no such status, or no store has such a text."""
        several = {name: where.get(name) or () for name in ("ids", "tasks", "statuses", "queues", "tags")}
        tuples = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in several.items()}
        given: dict[str, Any] = check_texts({**where, **tuples})
        given["statuses"] = tuple(map(InvocationStatus, given["statuses"]))
        return cls(**given)


class Page(_Record, frozen=True):
    """A keyset page: at most ``limit`` rows after ``cursor``; the default order is newest first."""

    limit: int = 50
    cursor: str = ""
    oldest_first: bool = False


class Found(_Record, frozen=True):
    """One page of invocations; ``cursor`` continues it, empty at the end."""

    invocations: tuple[Invocation, ...]
    cursor: str = ""


class Purge(_Record, frozen=True, kw_only=True):
    """What to remove. ``everything`` empties the app, except for runners that live and queues with their states; otherwise finals
    whose ``result_ttl`` is over, finals that ended before ``ended_before``, runners that are long gone, and blobs that nothing refers to for ``blob_grace``.
    """

    everything: bool = False
    ended_before: Microseconds = 0
    blob_grace: Microseconds = 3_600_000_000
    limit: int = 500


class Purged(_Record, frozen=True):
    """What one bounded batch of a purge removed; ``more`` says that another batch is worth it."""

    invocations: int = 0
    blobs: int = 0
    runners: int = 0
    more: bool = False
