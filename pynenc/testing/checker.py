"""The offline checker: what was promised, what ran and what is stored, compared after the fact.

Theory of operation
-------------------
Three witnesses that know nothing of one another are put side by side:

* clients, who wrote down what they meant to submit and what was acknowledged to them;
* bodies, who wrote down when each attempt began and ended, and with what result, not through the store;
* the store: its rows and its history.

A *tenure* is the time between the claim of an attempt and the entry of the history that ends it: nobody else may own the invocation
meanwhile, and the running key is held. Bodies may well run outside their tenure (a process that was stopped past its lease
wakes up and goes on), but then nothing of theirs may count.

The checker takes nothing from the code that it checks but the table of statuses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import msgspec

from pynenc.core.records import HistoryEntry, Invocation, Microseconds
from pynenc.core.status import FINAL, OWNED, RULES, InvocationStatus

S = InvocationStatus
FOREVER: Microseconds = 2**62
#: Claims that are younger may be undone by the death of a server; they are claimed again so soon after it.
UNDONE, AGAIN = 1_000_000, 15_000_000


class Kind(StrEnum):
    """What can be wrong, and which promises that breaks."""

    #: Accepted, and gone: P1, P2.
    LOST = "lost"
    #: Stored or executed, and never submitted or claimed: P6.
    PHANTOM = "phantom"
    #: More than one end in a round: P3.
    DOUBLE_FINAL = "double final"
    #: More claims of a running key than its limit: P5.
    OVER_LIMIT = "over limit"
    #: What counts is of an attempt that did not own the invocation: P3.
    ZOMBIE = "zombie accepted"
    #: Not ended although runners live: P2, P7.
    STUCK = "stuck"
    #: A workflow that did not end as one that nobody disturbs: another result, a step that is repeated, a child too many.
    WRONG_WORKFLOW = "wrong workflow"
    #: A cause of a trigger without its firing, or a firing without the call that it should make: P14.
    LOST_FIRING = "lost firing"
    #: A cause that was acted on more than once: P14.
    DOUBLE_FIRING = "double firing"
    #: A trigger that fired more often than its throttle or debounce lets it.
    OVER_RATE = "over rate"
    #: Anything else: a broken invariant of a store, a step that is no rule, a process that died by itself.
    UNSOUND = "unsound"


class Violation(NamedTuple):
    """One broken promise, in words."""

    kind: Kind
    text: str


class Body(NamedTuple):
    """One execution as its witness saw it; ``end`` 0: it never ended. ``result`` is what it meant to record, if it succeeded."""

    id: str
    attempt: int
    runner: str
    begin: Microseconds
    end: Microseconds = 0
    result: bytes = b""


class Tenure(NamedTuple):
    """One attempt as the history tells it; ``ended_by`` is the status that ended it (None: it goes on)."""

    id: str
    attempt: int
    runner: str
    begin: Microseconds
    end: Microseconds
    ended_by: InvocationStatus | None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker looks at.

    :param acknowledged: the ids that clients were told.
    :param is_intended: whether some client may have submitted an invocation.
    :param removed: ids that were purged on purpose.
    :param server_deaths: when a server was killed that forgets its last claims by that, as it may. What was claimed so is claimed again under the same number.
    :param is_witnessed: whether the bodies of an invocation write down what they do.
    :param in_time: whether all times come from one clock that never jumped; without it nothing is said about overlaps.
    """

    acknowledged: frozenset[str]
    is_intended: Callable[[Invocation], bool]
    bodies: Sequence[Body]
    rows: Sequence[Invocation]
    history: Sequence[HistoryEntry]
    removed: frozenset[str] = frozenset()
    server_deaths: Sequence[Microseconds] = ()
    is_witnessed: Callable[[Invocation], bool] = bool
    in_time: bool = True


def check(evidence: Evidence) -> list[Violation]:
    """Everything that is wrong; empty if all promises were kept."""
    entries = entries_by_id(evidence.history)
    tenures = [tenure for each in entries.values() for tenure in tenures_of(each)]
    if evidence.server_deaths:
        forgotten = set(undone(evidence, tenures))
        evidence = msgspec.structs.replace(evidence, bodies=[each for each in evidence.bodies if each not in forgotten])
    found = [*_presence(evidence), *_histories(entries), *_executions(evidence, tenures), *_results(evidence)]
    return [*found, *_limits(evidence, tenures)] if evidence.in_time else found


# -- the history -----------------------------------------------------------------------------------------------------------
def entries_by_id(history: Iterable[HistoryEntry]) -> dict[str, list[HistoryEntry]]:
    """The history of each invocation, in order."""
    entries: dict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history:
        entries[entry.id].append(entry)
    for each in entries.values():
        each.sort(key=lambda entry: entry.seq)
    return entries


def tenures_of(entries: Sequence[HistoryEntry]) -> Iterator[Tenure]:
    """The attempts in the history of one invocation."""
    claim: HistoryEntry | None = None
    for entry in entries:
        if entry.status is S.PENDING:
            claim = entry
        elif claim is not None and entry.status not in OWNED:
            yield Tenure(claim.id, claim.attempt, claim.runner or "", claim.at, entry.at, entry.status)
            claim = None
    if claim is not None:
        yield Tenure(claim.id, claim.attempt, claim.runner or "", claim.at, FOREVER, None)


def _histories(entries: Mapping[str, Sequence[HistoryEntry]]) -> Iterator[Violation]:
    """Each history follows the table, ends once a round, and hands out each attempt once."""
    for name, trail in entries.items():
        told = " → ".join(f"{entry.status}#{entry.attempt}" for entry in trail)
        for before, after in pairwise(trail):
            if before.status in FINAL and after.round == before.round:
                yield Violation(Kind.DOUBLE_FINAL, f"{name} went on after it had ended: {told}")
            elif after.status not in RULES[before.status]:
                yield Violation(Kind.UNSOUND, f"{name}: {before.status} → {after.status} is no rule: {told}")
        finals = [entry.round for entry in trail if entry.status in FINAL]
        if len(finals) > len(set(finals)):
            yield Violation(Kind.DOUBLE_FINAL, f"{name} ended twice in one round: {told}")
        attempts = [entry.attempt for entry in trail if entry.status is S.PENDING]
        if any(after <= before for before, after in pairwise(attempts)):
            yield Violation(Kind.ZOMBIE, f"{name}: attempts do not grow: {told}")


# -- what is there ---------------------------------------------------------------------------------------------------------
def _presence(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged is stored and has ended; what is stored was meant."""
    stored = {row.id for row in evidence.rows}
    for name in sorted(evidence.acknowledged - stored - evidence.removed):
        yield Violation(Kind.LOST, f"{name} was acknowledged and is gone")
    for row in evidence.rows:
        if row.status not in FINAL:
            yield Violation(
                Kind.STUCK, f"{row.id} ({row.task}) is {row.status}, {row.place.name}, attempt {row.attempt}"
            )
        if not evidence.is_intended(row):
            yield Violation(Kind.PHANTOM, f"{row.id} ({row.task}) was submitted by nobody")


def _executions(evidence: Evidence, tenures: Iterable[Tenure]) -> Iterator[Violation]:
    """Every body that ran had been claimed as that attempt by that runner; no attempt ran twice."""
    claimed = {(tenure.id, tenure.attempt): tenure.runner for tenure in tenures}
    seen: set[tuple[str, int]] = set()
    for body in evidence.bodies:
        if body.id in evidence.removed:
            continue
        owner = claimed.get((body.id, body.attempt))
        if owner is None:
            yield Violation(
                Kind.PHANTOM, f"{body.id} ran as attempt {body.attempt} on {body.runner}, which nobody claimed"
            )
        elif owner and owner != body.runner:
            yield Violation(Kind.ZOMBIE, f"attempt {body.attempt} of {body.id} is of {owner} and ran on {body.runner}")
        if (body.id, body.attempt) in seen:
            yield Violation(Kind.ZOMBIE, f"attempt {body.attempt} of {body.id} ran twice")
        seen.add((body.id, body.attempt))


def undone(evidence: Evidence, tenures: Iterable[Tenure]) -> list[Body]:
    """The executions of claims that a server has forgotten with its death: another claim has their number. Nothing of theirs may count."""
    claimed = {(tenure.id, tenure.attempt): tenure for tenure in tenures}
    found = []
    for body in evidence.bodies:
        tenure = claimed.get((body.id, body.attempt))
        if tenure and (body.runner != tenure.runner or body.begin < tenure.begin):
            near = [at for at in evidence.server_deaths if at <= tenure.begin <= at + AGAIN]
            if any(at - UNDONE <= body.begin <= at + AGAIN for at in near):
                found.append(body)
    return found


def _results(evidence: Evidence) -> Iterator[Violation]:
    """A recorded value is the one of the attempt that is recorded with it."""
    results = {(body.id, body.attempt): body.result for body in evidence.bodies if body.end}
    for row in evidence.rows:
        if row.status is not S.SUCCESS or not evidence.is_witnessed(row):
            continue
        result = results.get((row.id, row.attempt))
        if result is None:
            yield Violation(Kind.ZOMBIE, f"{row.id} succeeded as attempt {row.attempt}, of which no body ended")
        elif result not in row.payload:
            yield Violation(
                Kind.ZOMBIE, f"{row.id} has the result {row.payload[:80]!r}; attempt {row.attempt} made {result!r}"
            )


# -- limits ----------------------------------------------------------------------------------------------------------------
def _limits(evidence: Evidence, tenures: Sequence[Tenure]) -> Iterator[Violation]:
    """No running key was held by more than its limit: in the history, and by bodies within their tenures."""
    keys = {row.id: (row.running_key, row.running_limit) for row in evidence.rows if row.running_key}
    held: dict[tuple[str, int], list[tuple[Microseconds, Microseconds, str]]] = defaultdict(list)
    ran: dict[tuple[str, int], list[tuple[Microseconds, Microseconds, str]]] = defaultdict(list)
    ends: dict[tuple[str, int], Microseconds] = {}
    for tenure in tenures:
        ends[tenure.id, tenure.attempt] = tenure.end
        key, limit = keys.get(tenure.id, (None, 0))
        if key:
            held[key, limit].append((tenure.begin, tenure.end, tenure.id))
    for body in evidence.bodies:
        key, limit = keys.get(body.id, (None, 0))
        if key:
            end = min(body.end or FOREVER, ends.get((body.id, body.attempt), FOREVER))
            ran[key, limit].append((body.begin, end, body.id))
    for what, intervals in (("held", held), ("run", ran)):
        for (key, limit), spans in intervals.items():
            most, who = _most_at_once(spans)
            if most > limit:
                yield Violation(
                    Kind.OVER_LIMIT, f"{key} (limit {limit}) was {what} by {most} at once: {', '.join(who)}"
                )


def _most_at_once(spans: Iterable[tuple[Microseconds, Microseconds, str]]) -> tuple[int, list[str]]:
    """The highest number of spans that overlap, and which; what ends at an instant makes room for what begins at it."""
    points = [(begin, 1, name) for begin, end, name in spans if begin < end]
    points += [(end, -1, name) for begin, end, name in spans if begin < end]
    inside: list[str] = []
    most: list[str] = []
    for _, step, name in sorted(points):
        if step < 0:
            inside.remove(name)
        else:
            inside.append(name)
            if len(inside) > len(most):
                most = list(inside)
    return len(most), most


def repeated(evidence: Evidence) -> int:
    """How many executions were for nothing: their attempt was taken back, or given back, after the body had begun."""
    ended_by = {
        (tenure.id, tenure.attempt): tenure.ended_by
        for each in entries_by_id(evidence.history).values()
        for tenure in tenures_of(each)
    }
    return sum(
        ended_by.get((body.id, body.attempt)) in (S.REGISTERED, S.CONCURRENCY_CONTROLLED) for body in evidence.bodies
    )
