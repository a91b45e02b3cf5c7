"""The store contract: a few coarse operations, each one atomic.

Theory of operation
-------------------
A store keeps the invocations of one app (``app_id``), decides no policy and never sees a task, a function or an exception. Every
operation below is one atomic unit that takes a batch. The clauses that all stores honour, and that the conformance suite
(:mod:`pynenc.testing.store_suite`) checks by these names:

atomic      an operation happens entirely or not at all, even under ``kill -9``
fenced      ``start``, ``finish`` and ``report`` apply only where id, attempt and runner still match; the rest is returned as lost
final       a final invocation never changes within its round
idempotent  the same id, blob or first-writer value again changes nothing and gets the same answer
complete    ``claim`` and ``finals`` return all that is needed; no follow-up read
parked      of the invocations with one running key at most ``running_limit`` are READY, CLAIMED or waiting for their rate; the others are set
            aside *when they would become claimable*. Every operation that frees a key (finish, release, recover, expire, cancel, suspend, purge, retire) makes
            the next one (highest rank, then oldest) READY in the same unit. A million parked calls cost nothing.
woken       who listens or watches is woken by the event, not by polling; spurious wake-ups are allowed, lost ones are not
one clock   the store's; the ``clock`` given to the constructor replaces it in tests
isolated    by ``app_id``
opaque      payloads come back byte for byte
bounded     housekeeping works in batches of ``limit``
ordered     by rank, then boost, then submission; readings are stable under insertion

How an invocation becomes claimable (``admit``; at submit, when due, after a retry, release, recovery, resume or requeue): not due
yet → LATER. Otherwise, with a running key and not ``drop_blocked``: if ``running_limit`` others hold the key → PARKED. Otherwise,
with a rate: an invocation is the *head* of its rate key or is PARKED behind the head; the head is READY if a claim now would keep
at most ``n`` claims in every window of ``period``, else LATER until then. A claim records itself in the rate's log and admits the
next head; what a ``finish`` gives back unused (REGISTERED, never started, no suspect) is taken out of the log again and goes before
the head. Otherwise → READY. A parked invocation has the status CONCURRENCY_CONTROLLED, and gets back the status it would have
had (REGISTERED, or RETRY after a retry) when it is made READY. A blocked ``drop_blocked`` invocation is READY and ends
CONCURRENCY_CONTROLLED_FINAL at the claim when ``running_limit`` others are CLAIMED.

The registration key is held from submission until the first claim or the final status, whichever comes first, and never taken
again.

Rank is the own priority, raised to the rank of whatever waits for the invocation (directly or through others). Boost is the time
of the last wait that reached it: among equal ranks the children of the parent that began to wait last come first, so recursion
goes depth first.

What is remembered under the scope ``<id>``, or one that begins with ``<id>/``, belongs to the invocation of that id and goes with it. What belongs to one
round of it lies under ``<id>/<round>`` and goes when the next round begins. A member of a workflow whose root is not final stays (see ``purge``).

A suspended invocation (PAUSED) that awaits others keeps its wait edges, with rank and boost as ``watch`` gives them, until it is admitted or ends.
Whatever makes one of the awaited final admits it in the same unit.

Reactions (``subscribe``): in the unit in which an invocation becomes final, RETRY or PAUSED (by finish, cancel, recover, expiry or drop; a requeue is
no such change), each reaction to that status of its task submits one invocation: :meth:`~pynenc.core.reaction.Reaction.answer`, with the id of the owner,
and ``cause_of(id, status, round, attempt)`` as it is after the change. It is submitted as by ``submit`` (idempotent by its id, admitted, its registration
key answered, runners woken), but also to a queue that drains or is full. The order is that of the changes, then of the owners by name, then of their
reactions. A ``finish`` submits before it claims, every other operation at its end.

History: each change of status is one entry, written in the same unit as the change. A store may derive the entries of the current
attempt from the row itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Amended,
    Beat,
    Blob,
    Change,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Final,
    Finished,
    Found,
    HistoryEntry,
    Invocation,
    Microseconds,
    New,
    Orders,
    Outcome,
    Owner,
    Page,
    Progress,
    Purge,
    Purged,
    QueueInfo,
    QueueState,
    Recovered,
    Ref,
    RunnerInfo,
    Submitted,
)

Wake = Callable[[], None]
FIRST_PAGE = Page()


@runtime_checkable
class Clock(Protocol):
    """Time for a store: both in microseconds."""

    def now(self) -> Microseconds:
        """Wall-clock time since the Unix epoch: for due times, history and display."""

    def lease(self) -> Microseconds:
        """Time that never jumps and counts suspension: for leases only."""

    def boot_id(self) -> str:
        """Changes whenever :meth:`lease` restarts; leases of another boot are over."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> Microseconds:
        return time.time_ns() // 1000

    def lease(self) -> Microseconds:
        return time.clock_gettime_ns(_BOOT_CLOCK) // 1000

    def boot_id(self) -> str:
        return _boot_id()


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 1))


@cache
def _boot_id() -> str:
    """The kernel's boot id on Linux; elsewhere the start of the monotonic clock, rounded, does the same duty."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text().strip()
    return f"{os.uname().nodename}-{round(time.time() - time.monotonic(), -1):.0f}"


class Subscription(Protocol):
    """A registered interest that wakes its owner until it is closed."""

    def close(self) -> None:
        """Stop the wake-ups and forget the interest; may be called twice."""


class Watch(Subscription, Protocol):
    """The interest in finals.

    :ivar claim: what was claimed in the same step, if that was asked for.
    :ivar final: the only one that is watched, where the wake-up brought it along; None says nothing.
    """

    claim: Claim
    final: Final | None


class IdleListener(Subscription, Protocol):
    """The interest of a runner in new work. It is woken only while it says that it is idle."""

    def idle(self, is_idle: bool, /) -> None:  # noqa: FBT001  # one word, and it says what it is
        """Say whether a wake-up is wanted. After ``idle(True)`` the runner must claim once more before it sleeps (no lost wake-up)."""


class Store(Protocol):
    """What every backend implements. Constructed by :func:`pynenc.store.open_store`; safe to use from several threads."""

    #: Whether several processes can meet in it.
    shared: bool
    #: The URL without credentials, for people.
    display_url: str
    clock: Clock

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Create or verify the schema and get ready. Idempotent. Raises :class:`SchemaError` for a schema it does not know."""

    def close(self) -> None:
        """Release everything. Idempotent; later operations raise :class:`StoreError`."""

    # -- the life of an invocation -----------------------------------------------------------------------------------
    def submit(
        self,
        new: Sequence[New],
        blobs: Sequence[Blob] = (),
        *,
        max_queue_length: int = 0,
        connection: object | None = None,
    ) -> list[Submitted]:
        """Accept invocations, all or none; the answers are in the order of ``new``. Durable when it returns.

        For each, in order: an id that exists answers with itself (``existing``); else a held ``registration_key`` (also one taken earlier in the same
        batch) or a
        ``cache_key`` with a success answers with its holder; else the row is inserted, REGISTERED in the history, and admitted.

        With a ``connection`` (of the driver, to the database of this store) the rows are a part of the caller's own transaction: they are accepted when
        it commits. What is refused leaves the rest of that transaction as it was.

        :raises MissingBlobsError: a referenced blob is neither stored nor in ``blobs``.
        :raises QueueFullError: an inserted row would make more than ``max_queue_length`` unclaimed in its queue (0: no limit).
        :raises TaskRoutingError: its queue is DRAINING and the submission is no child of a claimed invocation.
        :raises StoreError: this store takes no part in transactions of others, or the connection leads elsewhere.
        """

    def claim(self, request: ClaimRequest) -> Claim:
        """Make at most ``limit`` READY invocations PENDING with a new attempt, owned by ``request.runner``.

        Order: rank (highest first), boost (latest first), submission; with ``aged`` submission only. Due LATER invocations are admitted first. PAUSED
        queues give nothing.
        Expired ones end CANCELLED (reason "expired") and are passed over. Suspects (``alone``) are given only to ``Alone.ONLY``, one at a time.
        Tasks in ``without`` are passed over and stay where they are.
        The rows of a claim are durable enough to survive the death of processes; a power cut may undo it (the work is then READY again).

        :raises RunnerLostError: the runner never beat, or its lease was taken away.
        """

    def start(self, runner: str, refs: Sequence[Ref], at: Microseconds) -> list[str]:
        """PENDING → RUNNING; returns the lost ids. RUNNING already is no loss."""

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        """End attempts and, in the same unit, claim again.

        For each whose fence holds: status, payload, counters and history; wait edges from it and to it are dropped, its key is freed and the next one
        is made READY, watchers are woken. RETRY and REGISTERED are
        admitted again; a requested cancellation turns RETRY, REGISTERED and PAUSED into CANCELLED, and gives its reason to an outcome CANCELLED that has
        none. An outcome equal to the final that this same attempt has already is no loss (a lost reply may be sent again).

        PAUSED is admitted again in the same unit when one of ``awaits`` is final already or unknown, when more than ``signals`` signals have come, or
        when awaiting them would never end (then whoever runs it is told so by ``watch``).
        REGISTERED with ``args``: arguments and blobs are replaced, the round grows, retries and crashes are 0; of the scope ``<id>`` the values under
        ``resume:…`` and the first ``signals`` signals go.
        """

    def report(self, runner: str, progress: Sequence[Progress]) -> list[str]:
        """Record progress of running invocations; returns the lost ids."""

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        """Carry out what a person asks, for each id on its own terms.

        CANCEL: unclaimed → CANCELLED at once; claimed → ``cancel_requested`` (accepted), its runner is woken and told by ``heartbeat``; final → refused.
        Of several requests of a claimed one the reason of the first counts: the row shows it, and ends with it when it ends because of that.
        REQUEUE: final → a new round: retries and crashes 0, the old outcome kept in the history, due now. Otherwise: LATER → due now; else refused.
        REPRIORITISE: any that is not final. RESUME: PAUSED → admitted again, its value remembered under key ``resume:<attempt>`` of the scope ``<id>``;
        refused when another ``attempt`` than the given one suspended it, since the answer is not for that.
        SIGNAL: not final → its value is remembered under key ``signal:<number>`` of the scope ``<id>``, where the number (nine digits) counts the signals
        before it; what is PAUSED and waits for signals is admitted. Final → refused.
        """

    # -- runners -------------------------------------------------------------------------------------------------------
    def heartbeat(self, beats: Sequence[Beat]) -> list[Orders]:
        """Renew the leases (first beat: register), and tell each runner its orders. A beat with ``tasks`` admits what was parked for an unknown task
        and is known now.
        """

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        """Take back, at most ``limit``, what runners that are gone still own; their own rows leave when nothing is left.

        A runner is gone when its death is certain (SQLite: the kernel released the lock file of its ``group``; memory: ``declare_dead``) or its lease
        is over. Leases are only judged once the sweeper ``by`` has held its own
        lease for one full term. Everything goes back to REGISTERED, uncounted. Except, when the death is certain and the runner was not
        ``supervised``: what it owned and did not wait for others is marked ``alone``, and what was
        alone already counts a crash and, at ``max_crashes``, ends FAILED with ``error``.
        """

    def expire(self, limit: int) -> int:
        """End CANCELLED (reason "expired"), at most ``limit`` and the longest overdue first, what has not been claimed by the time that ``expires`` says.

        It ends wherever it waits: READY in whatever queue, LATER, or PARKED. What was claimed once, or is in a later round, does not expire.
        Returns how many ended. When nothing is over it costs one look, however many wait.
        """

    def retire(self, runners: Sequence[str]) -> int:
        """Deregister runners that stop; what they still own goes back (reason "runner stopped"). Returns how many went back."""

    def owned(self, runner: str) -> list[Claimed]:
        """Everything the runner owns now, as it was claimed."""

    # -- waiting --------------------------------------------------------------------------------------------------------
    def finals(self, ids: Sequence[str]) -> list[Final]:
        """Those of ``ids`` that are final, with payloads, in the order of ``ids``.

        :raises InvocationNotFoundError: an id is unknown.
        """

    def watch(
        self, ids: Sequence[str], wake: Wake, *, waiter: Ref | None = None, request: ClaimRequest | None = None
    ) -> Watch:
        """Call ``wake`` (from any thread; must not block) whenever one of ``ids`` has become final; at once if one is final already.
        A ``wake`` that is a :class:`~pynenc.store.sleeper.Sleeper` is a thread that will sleep until then, and may receive for the store meanwhile.

        With a waiter (a running invocation): record the wait edges, raise rank and boost of ``ids`` and of all they wait for. Edges last until the
        awaited is final, the waiter's attempt ends, or ``close``. With a ``request`` then claim, in the same step, unless one of ``ids`` is final
        already: the slot of the waiter is free for what it waits for.

        :raises CycleDetectedError: the wait would never end; nothing is recorded. :attr:`~CycleDetectedError.cycle` lists the ids.
        :raises RunnerLostError: as ``claim`` does; nothing is recorded.
        """

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:
        """Call ``wake`` when work may have become claimable in ``queues`` (empty: any) or an order waits for a runner of this process."""

    # -- values ----------------------------------------------------------------------------------------------------------
    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Owner | None = None
    ) -> dict[str, bytes]:
        """Store values under a scope and return what is stored now; with ``once`` the first writer wins and everyone gets the winner.

        With ``by``, the attempt that got on by this: its ``crashes`` are 0 and it is no suspect (``alone``) any more. If it does not own its invocation any
        more, nothing is stored, and the answer is empty.
        """

    def recall(self, scope: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        """The stored values of a scope (all, or those of ``keys`` that exist)."""

    def put_blobs(self, blobs: Sequence[Blob]) -> None:
        """Store blobs; those that are there already only have their age renewed."""

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The compressed data of the blobs that exist."""

    def lease(self, name: str, owner: str, ttl: Microseconds) -> bool:
        """Take, renew or (``ttl`` 0) give back the leadership of a bounded chore; whether ``owner`` has it now."""

    def purge(self, purge: Purge) -> Purged:
        """Remove one bounded batch of what the purge describes.

        Short of ``everything``, a final stays while the root of its workflow (for a root: of the workflow that started it) is not final. If its time
        of life is over it gets another one of the same length, so that the next batch does not meet it again.
        """

    # -- reactions -------------------------------------------------------------------------------------------------------
    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        """Replace the reactions of an owner; none ends its interest. They outlive a purge of everything, as the states of queues do."""

    # -- queues -----------------------------------------------------------------------------------------------------------
    def queues(self) -> list[QueueInfo]:
        """All queues that are known, by name."""

    def set_queue(self, name: str, state: QueueState) -> None:
        """Pause, drain or resume a queue; resuming wakes the runners."""

    # -- reading -----------------------------------------------------------------------------------------------------------
    def get(self, ids: Sequence[str]) -> list[Invocation]:
        """The invocations that exist, in the order of ``ids``."""

    def find(self, where: Filter, page: Page = FIRST_PAGE) -> Found:
        """One page, by submission; stable while rows are added."""

    def count(self, where: Filter, by: str = "status") -> dict[str, int]:
        """Counts by ``status``, ``task`` or ``queue``."""

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        """All changes of status, in the order of ``ids`` and then of ``seq``."""

    def runners(self) -> list[RunnerInfo]:
        """All runners that are known."""

    def check(self) -> list[str]:
        """Inspect the invariants (table integrity, held keys, places against statuses); one line a problem, empty if sound."""
