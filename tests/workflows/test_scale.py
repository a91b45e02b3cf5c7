"""What many sleeping workflows cost: nothing that grows with their number. Operations are counted, not time."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynenc.core.records import Beat, Claim, ClaimRequest, Filter, New, Outcome, Page
from pynenc.core.status import InvocationStatus, Place
from pynenc.store import open_store
from pynenc.store.base import Store
from pynenc.store.sqlite.store import SqliteStore
from pynenc.testing import InlineRunner, VirtualClock
from tests.workflows.apps import shop

FEW, MANY, DUE = 100, 20_000, 1_000
RUNNER, SECOND, DAY = "r", 1_000_000, 24 * 3600
BATCH = 5_000
#: Rows that are admitted in one transaction on SQLite.
ADMITTED = 500

STORES = ["memory", "sqlite"]


# -- stores with sleepers ---------------------------------------------------------------------------------------------------
@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], tuple[Store, VirtualClock]]]:
    """Opens empty stores with one runner."""
    stores: list[Store] = []

    def open_one() -> tuple[Store, VirtualClock]:
        number, clock = len(stores), VirtualClock()
        url = f"memory://scale{number}" if request.param == "memory" else f"sqlite:///{tmp_path}/scale{number}.db"
        store = open_store(url, "scale", clock)
        store.open()
        store.heartbeat([Beat(id=RUNNER, group=RUNNER, lease=365 * DAY * SECOND)])
        stores.append(store)
        return store, clock

    yield open_one
    for store in stores:
        store.close()


def put_to_sleep(store: Store, dues: dict[str, int]) -> None:
    """Invocations that were suspended until a time, as the engine ends the attempt of a workflow that sleeps."""
    names = list(dues)
    for first in range(0, len(names), BATCH):
        store.submit([New(id=name, task="m.flow", args=b"") for name in names[first : first + BATCH]])
        batch = store.claim(ClaimRequest(RUNNER, BATCH)).batch
        outcomes = [
            Outcome(
                id=each.id, attempt=each.attempt, status=InvocationStatus.PAUSED, due=dues[each.id], reason="sleeps"
            )
            for each in batch
        ]
        assert store.finish(RUNNER, outcomes).lost == ()


def asleep(count: int, clock: VirtualClock) -> dict[str, int]:
    return {f"s{number:06}": clock.now() + (DAY + number) * SECOND for number in range(count)}


def operations(store: Store, act: Callable[[], Any]) -> int:
    """How much is done: instructions of SQLite's machine where there is one, which are as many as it visits rows; else calls of functions."""
    if isinstance(store, SqliteStore):
        return instructions(store, act)
    return calls(act)


def instructions(store: SqliteStore, act: Callable[[], Any]) -> int:
    count = 0

    def note() -> int:
        nonlocal count
        count += 1
        return 0

    writer: Any = store._database._writer
    writer.set_progress_handler(note, 1)
    try:
        act()
    finally:
        writer.set_progress_handler(None, 1)
    return count


def calls(act: Callable[[], Any]) -> int:
    """Functions of Python and of C that are called on this thread."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def test_a_claim_that_finds_nothing_costs_the_same_however_many_sleep(opened):
    costs = []
    for count in (FEW, MANY):
        store, clock = opened()
        put_to_sleep(store, asleep(count, clock))
        found: list[Claim] = []
        store.claim(ClaimRequest(RUNNER, 10))
        costs.append(operations(store, lambda: found.append(store.claim(ClaimRequest(RUNNER, 10)))))  # noqa: B023
        assert (found[0].batch, found[0].next_due) == ((), clock.now() + DAY * SECOND)
    assert costs[0] == costs[1] < 200


def test_those_that_are_due_cost_the_same_however_many_sleep_on(opened):
    costs = []
    for count in (FEW, MANY):
        store, clock = opened()
        put_to_sleep(store, asleep(count, clock))
        put_to_sleep(store, {f"due{number}": clock.now() + SECOND for number in range(10)})
        clock.advance(1)
        found: list[Claim] = []
        costs.append(operations(store, lambda: found.append(store.claim(ClaimRequest(RUNNER, 10)))))  # noqa: B023
        assert len(found[0].batch) == 10
    assert costs[1] <= 1.1 * costs[0]


def test_a_suspension_costs_the_same_however_many_sleep(opened):
    costs = []
    for count in (FEW, MANY):
        store, clock = opened()
        put_to_sleep(store, asleep(count, clock))
        more = {"more": clock.now() + 2 * DAY * SECOND}
        costs.append(operations(store, lambda: put_to_sleep(store, more)))  # noqa: B023
    assert costs[1] <= 1.1 * costs[0]


def test_when_many_are_overdue_those_that_were_due_first_are_admitted_first(tmp_path: Path):
    clock = VirtualClock()
    store = open_store(f"sqlite:///{tmp_path}/scale.db", "scale", clock)
    store.open()
    store.heartbeat([Beat(id=RUNNER, group=RUNNER, lease=365 * DAY * SECOND)])
    dues = [clock.now() + (1 + number) * SECOND for number in range(DUE)]
    names = {f"s{number:06}": due for number, due in enumerate(random.Random(7).sample(dues, DUE))}
    put_to_sleep(store, names)
    clock.advance(DUE + 1)
    first = {each.id for each in store.claim(ClaimRequest(RUNNER, ADMITTED)).batch}
    second = {each.id for each in store.claim(ClaimRequest(RUNNER, DUE)).batch}
    in_order = sorted(names, key=names.__getitem__)
    assert (first, second) == (set(in_order[:ADMITTED]), set(in_order[ADMITTED:]))
    store.close()


# -- the real engine --------------------------------------------------------------------------------------------------------
@pytest.fixture(params=STORES)
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InlineRunner]:
    shop.app.close()
    shop.app.conf.store = "memory://scale" if request.param == "memory" else f"sqlite:///{tmp_path / 'wf.db'}"
    with InlineRunner(shop.app) as runner:
        yield runner
    shop.app.conf.store = "memory://"


def test_a_thousand_go_on_in_the_order_of_their_times(runner):
    seconds = random.Random(7).sample(range(1, DUE + 1), DUE)
    group = shop.naps_for.parallelize([(each,) for each in seconds])
    runner.drain()
    assert {row.place for row in shop.app.store.find(Filter(), Page(DUE)).invocations} == {Place.WAITING}
    began = runner.clock.now()
    assert runner.advance(DUE) == DUE
    assert [invocation.get_result(0) for invocation in group] == [began + each * SECOND for each in seconds]


# -- replays ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flow", [shop.steps_then_sleep, shop.long_flow])
def test_a_replay_is_linear(runner, flow):
    costs = []
    for count in (10, 100, 200, 300):
        invocation = flow(count)
        runner.drain()
        assert invocation.status is InvocationStatus.PAUSED
        costs.append(calls(lambda: runner.advance(10)))
        assert invocation.status is InvocationStatus.SUCCESS
    first, second = costs[2] - costs[1], costs[3] - costs[2]
    assert second <= 1.05 * first


def test_each_of_many_signals_costs_the_same(runner):
    costs = []
    for count in (100, 200, 300):
        invocation = shop.hears(["a"] * count)
        for value in range(count):
            invocation.signal("a", value)
        costs.append(calls(runner.drain))
        assert invocation.get_result(0) == list(range(count))
    assert costs[2] - costs[1] <= 1.05 * (costs[1] - costs[0])
