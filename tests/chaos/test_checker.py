"""The offline checker names each broken promise, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from pynenc.core.outcome import succeeded
from pynenc.core.records import Beat, ClaimRequest, HistoryEntry, Invocation, New
from pynenc.core.status import InvocationStatus
from pynenc.store.memory import MemoryStore
from pynenc.testing import checker
from pynenc.testing.checker import Body, Evidence, Kind, Violation
from pynenc.testing.clock import SECOND, VirtualClock

S = InvocationStatus
replace = msgspec.structs.replace


def ran() -> Evidence:
    """Three invocations, two of one key, run one after the other; the first only at its second attempt."""
    clock = VirtualClock(SECOND)
    store = MemoryStore("memory://", "test", clock)
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=1000 * SECOND, tasks=("t",))])
    store.submit(
        [New(id=name, task="t", args=b"", running_key=key) for name, key in (("a", "k"), ("b", "k"), ("c", None))]
    )
    bodies = []
    store.claim(ClaimRequest("r", 1))
    bodies.append(Body("a", 1, "r", clock.now()))
    clock.advance(1)
    store.retire(["r"])
    store.heartbeat([Beat(id="s", group="s", lease=1000 * SECOND, tasks=("t",))])
    while batch := store.claim(ClaimRequest("s", 1)).batch:
        (claimed,) = batch
        began = clock.now()
        clock.advance(1)
        result = f"{claimed.id}:{claimed.attempt}".encode()
        store.finish("s", [succeeded(claimed, result, began, clock.now())])
        bodies.append(Body(claimed.id, claimed.attempt, "s", began, clock.now(), result))
        clock.advance(1)
    rows = store.get(["a", "b", "c"])
    return Evidence(
        acknowledged=frozenset("abc"),
        is_intended=lambda row: row.id in "abc",
        bodies=bodies,
        rows=rows,
        history=store.history(["a", "b", "c"]),
    )


def kinds(violations: Sequence[Violation]) -> set[Kind]:
    return {violation.kind for violation in violations}


def row(evidence: Evidence, name: str, **fields: object) -> list[Invocation]:
    return [replace(each, **fields) if each.id == name else each for each in evidence.rows]


def without(evidence: Evidence, name: str, status: InvocationStatus) -> list[HistoryEntry]:
    return [entry for entry in evidence.history if (entry.id, entry.status) != (name, status)]


def test_a_good_run_is_good() -> None:
    evidence = ran()
    assert checker.check(evidence) == []
    assert checker.repeated(evidence) == 1


CASES = {
    "an acknowledged row is gone": (
        Kind.LOST,
        lambda e: replace(e, rows=[r for r in e.rows if r.id != "c"], bodies=e.bodies[:3], history=e.history[:8]),
    ),
    "nobody submitted a row": (Kind.PHANTOM, lambda e: replace(e, is_intended=lambda row: row.id != "b")),
    "nobody claimed what ran": (
        Kind.PHANTOM,
        lambda e: replace(e, bodies=[*e.bodies, Body("c", 2, "s", 1, 2, b"c:2")]),
    ),
    "somebody else ran it": (Kind.ZOMBIE, lambda e: replace(e, bodies=[replace_body(e, 0, runner="x"), *e.bodies[1:]])),
    "one attempt ran twice": (Kind.ZOMBIE, lambda e: replace(e, bodies=[*e.bodies, e.bodies[-1]])),
    "the result is of another attempt": (Kind.ZOMBIE, lambda e: replace(e, rows=row(e, "a", payload=b"a:1"))),
    "no body ended with the result": (Kind.ZOMBIE, lambda e: replace(e, bodies=e.bodies[:-1])),
    "a row has not ended": (Kind.STUCK, lambda e: replace(e, rows=row(e, "a", status=S.RUNNING))),
    "it ended twice": (Kind.DOUBLE_FINAL, lambda e: replace(e, history=[*e.history, replace(e.history[-1], seq=99)])),
    "a step is no rule": (Kind.UNSOUND, lambda e: replace(e, history=without(e, "b", S.PENDING))),
    "a key was held twice": (
        Kind.OVER_LIMIT,
        lambda e: replace(e, history=[replace(h, at=4 * SECOND + 1) if ended(h) else h for h in e.history]),
    ),
    "two bodies of a key ran at once": (
        Kind.OVER_LIMIT,
        lambda e: replace(e, bodies=[replace_body(e, 2, begin=e.bodies[1].begin), *e.bodies[:2], *e.bodies[3:]]),
    ),
}


def replace_body(evidence: Evidence, index: int, **fields: object) -> Body:
    return evidence.bodies[index]._replace(**fields)


def ended(entry: HistoryEntry) -> bool:
    return (entry.id, entry.status) == ("b", S.SUCCESS)


@pytest.mark.parametrize("case", CASES)
def test_a_broken_promise_is_named(case: str) -> None:
    kind, spoil = CASES[case]
    assert kind in kinds(checker.check(spoil(ran())))


def test_without_a_steady_clock_overlaps_are_not_judged() -> None:
    _, spoil = CASES["a key was held twice"]
    assert checker.check(replace(spoil(ran()), in_time=False)) == []


def test_what_was_purged_is_not_missed() -> None:
    evidence = ran()
    rest = [each for each in evidence.rows if each.id != "c"]
    assert checker.check(replace(evidence, rows=rest, removed=frozenset("c"))) == []


def test_a_claim_that_a_server_forgot_with_its_death_may_have_run() -> None:
    evidence = ran()
    claim = next(entry for entry in evidence.history if (entry.id, entry.status, entry.attempt) == ("c", S.PENDING, 1))
    stray = Body("c", 1, "r", claim.at - 3, claim.at + 1, b"stray")
    seen = replace(evidence, bodies=[*evidence.bodies, stray])
    assert kinds(checker.check(seen)) == {Kind.ZOMBIE}
    assert checker.check(replace(seen, server_deaths=[claim.at - 2])) == []
    assert kinds(checker.check(replace(seen, server_deaths=[claim.at - 20 * SECOND]))) == {Kind.ZOMBIE}
    counted = replace(seen, server_deaths=[claim.at - 2], rows=row(evidence, "c", payload=b"stray"))
    assert kinds(checker.check(counted)) == {Kind.ZOMBIE}, "but nothing of it may count"
