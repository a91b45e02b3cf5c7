"""The life of an invocation: one table of rules, and nothing else decides.

Theory of operation
-------------------
An invocation is one row. Its public *status* says what happened to it; its *place* says where a store keeps it and so
which operation can touch it next:

======== ====================================================== ===========================================
place    meaning                                                statuses
======== ====================================================== ===========================================
READY    claimable now                                          REGISTERED, RETRY
LATER    waits for a time (``due``)                             REGISTERED, RETRY
PARKED   waits behind a concurrency key or a rate               CONCURRENCY_CONTROLLED
CLAIMED  a runner owns it                                       PENDING, RUNNING
WAITING  suspended: no owner, no thread                         PAUSED
FINAL    ended; never changes again within its round            SUCCESS, FAILED, CANCELLED,
                                                                CONCURRENCY_CONTROLLED_FINAL
======== ====================================================== ===========================================

Two things are needed to make a change: the rule must allow the pair of statuses, and for a claimed invocation the
writer must still own it: same id, same attempt, same runner (the *fence*). ``attempt`` grows at every claim, so a runner
that was paused past its lease can never write over its successor.

Stores do not know these rules by heart: in-process stores call :func:`can_transition`, SQL and Lua predicates are
rendered from :data:`RULES`, and so are the diagrams of the documentation.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class InvocationStatus(StrEnum):
    """Public status of an invocation; a member equals its lower-case name."""

    REGISTERED = "registered"
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    RETRY = "retry"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    CONCURRENCY_CONTROLLED = "concurrency_controlled"
    CONCURRENCY_CONTROLLED_FINAL = "concurrency_controlled_final"

    def is_final(self) -> bool:
        """Whether the invocation has ended."""
        return self in FINAL

    def is_available_for_run(self) -> bool:
        """Whether a runner may claim it, once it is due."""
        return self in AVAILABLE

    def can_transition_to(self, other: InvocationStatus) -> bool:
        """Whether the rules allow a change from this status to ``other``."""
        return other in RULES[self]


class Place(IntEnum):
    """Where a store keeps an invocation (see the table above)."""

    READY = 0
    LATER = 1
    PARKED = 2
    CLAIMED = 3
    WAITING = 4
    FINAL = 5


_S = InvocationStatus

FINAL = frozenset({_S.SUCCESS, _S.FAILED, _S.CANCELLED, _S.CONCURRENCY_CONTROLLED_FINAL})
AVAILABLE = frozenset({_S.REGISTERED, _S.RETRY})
OWNED = frozenset({_S.PENDING, _S.RUNNING})

#: From each status, the statuses that may follow. A final status goes back to REGISTERED only by a person's
#: ``retry()``, which opens a new round of the same id.
RULES: dict[InvocationStatus, frozenset[InvocationStatus]] = {
    _S.REGISTERED: frozenset({_S.PENDING, _S.CONCURRENCY_CONTROLLED, _S.CONCURRENCY_CONTROLLED_FINAL, _S.CANCELLED}),
    _S.CONCURRENCY_CONTROLLED: frozenset({_S.REGISTERED, _S.RETRY, _S.CONCURRENCY_CONTROLLED_FINAL, _S.CANCELLED}),
    _S.PENDING: frozenset(
        {_S.RUNNING, _S.SUCCESS, _S.FAILED, _S.RETRY, _S.PAUSED, _S.REGISTERED, _S.CONCURRENCY_CONTROLLED, _S.CANCELLED}
    ),
    _S.RUNNING: frozenset(
        {_S.SUCCESS, _S.FAILED, _S.RETRY, _S.PAUSED, _S.REGISTERED, _S.CONCURRENCY_CONTROLLED, _S.CANCELLED}
    ),
    _S.RETRY: frozenset({_S.PENDING, _S.CONCURRENCY_CONTROLLED, _S.CONCURRENCY_CONTROLLED_FINAL, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.REGISTERED, _S.CONCURRENCY_CONTROLLED, _S.CANCELLED}),
    _S.SUCCESS: frozenset({_S.REGISTERED}),
    _S.FAILED: frozenset({_S.REGISTERED}),
    _S.CANCELLED: frozenset({_S.REGISTERED}),
    _S.CONCURRENCY_CONTROLLED_FINAL: frozenset({_S.REGISTERED}),
}

#: The statuses that each place may hold.
STATUSES_OF_PLACE: dict[Place, frozenset[InvocationStatus]] = {
    Place.READY: AVAILABLE,
    Place.LATER: AVAILABLE,
    Place.PARKED: frozenset({_S.CONCURRENCY_CONTROLLED}),
    Place.CLAIMED: OWNED,
    Place.WAITING: frozenset({_S.PAUSED}),
    Place.FINAL: FINAL,
}

#: Statuses that end a claim, i.e. that an :class:`~pynenc.core.records.Outcome` may carry.
OUTCOMES = frozenset({_S.SUCCESS, _S.FAILED, _S.RETRY, _S.PAUSED, _S.REGISTERED, _S.CANCELLED})


#: Statuses that can be reacted to: those that an invocation gets by the end of an attempt or of itself, one transaction for each.
REACTED = FINAL | {_S.RETRY, _S.PAUSED}


def can_transition(source: InvocationStatus, target: InvocationStatus) -> bool:
    """Whether the rules allow a change from ``source`` to ``target``."""
    return target in RULES[source]


def _check_complete() -> None:
    """Refuse to start with a table that forgets a status or keeps one in two kinds of place."""
    if set(RULES) != set(InvocationStatus) or set(STATUSES_OF_PLACE) != set(Place):
        raise AssertionError("the status table is incomplete")
    placed = frozenset().union(*STATUSES_OF_PLACE.values())
    if placed != frozenset(InvocationStatus):
        raise AssertionError(f"statuses without a place: {sorted(frozenset(InvocationStatus) - placed)}")
    for target in OUTCOMES:
        if not all(can_transition(source, target) for source in OWNED):
            raise AssertionError(f"an outcome that the table refuses: {target}")


_check_complete()
