"""What is the memory store's own: its lines, that nothing costs more because many wait, and that its check finds what is wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest

from pynenc.core.records import Beat, Blob, Change, ChangeKind, ClaimRequest, New, Outcome, Rate, Ref
from pynenc.core.status import InvocationStatus, Place
from pynenc.store._memory_lines import SLACK, Line, Ready
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import Row
from pynenc.store.memory import MemoryStore
from pynenc.testing.clock import SECOND, VirtualClock

S = InvocationStatus


def new(name: str, **fields: object) -> New:
    return New(**{"id": name, "task": "m.task", "args": b""} | fields)


def make_store() -> MemoryStore:
    """A store with one runner, ``r``."""
    store = MemoryStore("memory://", "unit", VirtualClock())
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=3600 * SECOND)])
    return store


def take(store: MemoryStore, limit: int = 1, **fields: object) -> list[Ref]:
    return [Ref(claimed.id, claimed.attempt) for claimed in store.claim(ClaimRequest("r", limit, **fields)).batch]


def end(ref: Ref, status: InvocationStatus = S.SUCCESS, **fields: object) -> Outcome:
    return Outcome(id=ref.id, attempt=ref.attempt, status=status, **fields)


# -- lines ---------------------------------------------------------------------------------------------------------------
def make_row(rows: dict[str, Row], seq: int) -> Row:
    call = new(f"n{seq}")
    rows[call.id] = Row(call.id, call, seq, 0, 0.0, 0.0, 0, True)
    return rows[call.id]


def by_rank(row: Row) -> tuple[float, int, int]:
    return (-row.rank, -row.boost, row.seq)


@pytest.mark.parametrize("seed", range(40))
def test_ready_rows_come_in_both_orders(seed: int) -> None:
    dice = random.Random(seed)
    rows: dict[str, Row] = {}
    ready = Ready(rows)
    idle = [make_row(rows, seq) for seq in range(60)]
    waiting: list[Row] = []
    for _ in range(600):
        action = dice.choice(["join", "join", "remove", "pop", "pop oldest"])
        if action == "join" and idle:
            row = idle.pop(dice.randrange(len(idle)) if dice.random() < 0.3 else 0)
            row.rank, row.boost = dice.choice([0.0, 0.0, 1.0, -2.0]), dice.choice([0, 0, 0, 5, 7])
            ready.join(row)
            waiting.append(row)
        elif waiting and action != "join":
            if action == "remove":
                row = dice.choice(waiting)
                ready.remove(row)
            else:
                row = min(waiting, key=by_rank if action == "pop" else lambda row: row.seq)
                front = ready.first() if action == "pop" else ready.oldest()
                assert front is row.turn
                assert (ready.pop() if action == "pop" else ready.pop_oldest()) is row
            assert row.turn is None
            waiting.remove(row)
            idle.append(row)
        assert ready.live == len(waiting)
        assert sorted(entry[3] for entry in ready.entries()) == sorted(row.id for row in waiting)


def test_lines_do_not_grow_with_what_left_them() -> None:
    rows: dict[str, Row] = {}
    line, ready = Line(rows), Ready(rows)
    stays, other = make_row(rows, 1), make_row(rows, 2)
    line.push(stays, 0)
    ready.join(make_row(rows, 0))
    for turn in range(10_000):
        line.push(other, turn % 7)
        line.remove(other)
        other.rank, other.boost = float(turn % 3), turn
        ready.join(other)
        ready.remove(other)
    assert len(line._run) + len(line._heap) <= SLACK + 3
    assert len(ready._keys) + len(ready._ages) + len(ready._lines) <= 2 * SLACK + 9


# -- costs ---------------------------------------------------------------------------------------------------------------
def calls_of(action: Callable[[], object]) -> int:
    """How many functions of Python and of C are called."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def cost_of_a_turn(store: MemoryStore, *, aged: bool) -> int:
    """What the end of one invocation and the claim of the next cost, when the store has warmed up."""
    (ref,) = take(store)
    for _ in range(2):
        outcome, claims = [end(ref)], []
        cost = calls_of(lambda: claims.append(store.finish("r", outcome, ClaimRequest("r", 1, aged=aged)).claim))  # noqa: B023
        (claimed,) = claims[0].batch
        ref = Ref(claimed.id, claimed.attempt)
    return cost


@pytest.mark.parametrize("aged", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"running_key": "k"},
        {"running_key": "k", "running_limit": 3},
        {"rate": Rate("rate", 10_000, SECOND)},
        {"result_ttl": SECOND},
    ],
)
def test_a_turn_costs_the_same_however_many_wait(fields: dict[str, object], aged: bool) -> None:
    costs = []
    for waiting in (50, 5_000):
        store = make_store()
        store.submit([new(f"n{index}", **fields) for index in range(waiting)])
        store.submit([new(f"later{index}", due=store.clock.now() + SECOND) for index in range(waiting)])
        costs.append(cost_of_a_turn(store, aged=aged))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("aged", [False, True])
def test_what_a_runner_does_not_know_is_passed_over_once(aged: bool) -> None:
    request = ClaimRequest("r", 2, aged=aged, without=("m.strange", "m.other"))
    costs = []
    for waiting in (50, 5_000):
        store = make_store()
        store.submit([new(f"strange{index}", task=("m.strange", "m.other")[index % 2]) for index in range(waiting)])
        store.submit([new(f"n{index}") for index in range(10)])
        for _ in range(2):
            assert len(store.claim(request).batch) == 2
            claims = []
            cost = calls_of(lambda: claims.append(store.claim(request)))  # noqa: B023
        assert [claimed.id for claimed in claims[0].batch] == ["n6", "n7"]
        costs.append(cost)
        assert store.queues()[0].ready == waiting + 2
        assert store.check() == []
    assert costs[0] == costs[1]


def test_what_was_passed_over_comes_in_its_turn() -> None:
    store = make_store()
    store.submit([new("first", task="m.strange"), new("n1"), new("second", task="m.strange"), new("n2"), new("n3")])
    assert take(store, without=("m.strange",)) == [Ref("n1", 1)]
    assert take(store, without=("m.strange",)) == [Ref("n2", 1)]
    store.submit([new("urgent", task="m.strange", priority=1), new("gone", task="m.strange")])
    assert take(store, without=("m.strange",), limit=9) == [Ref("n3", 1)]
    store.amend(["gone"], Change(ChangeKind.CANCEL))
    store.amend(["second"], Change(ChangeKind.REPRIORITISE, priority=2))
    assert store.check() == []
    assert take(store, 2) == [Ref("second", 1), Ref("urgent", 1)]
    store.submit([new("n4")])
    assert take(store, 1, aged=True) == [Ref("first", 1)]
    store.finish("r", [end(Ref("first", 1), S.REGISTERED)])
    assert store.check() == []
    assert take(store, 9, without=("m.strange",)) == [Ref("n4", 1)]
    assert take(store, 9) == [Ref("first", 2)]
    assert store.queues()[0].ready == 0
    assert store.check() == []


def test_waits_for_many_children_cost_the_same_each() -> None:
    store = make_store()
    store.submit([new("parent")])
    (parent,) = take(store)
    store.submit([new(f"n{index}") for index in range(2_000)])
    costs = [calls_of(lambda i=i: store.watch([f"n{i}"], print, waiter=parent)) for i in range(2_000)]
    assert sum(costs) <= 2 * min(costs) * len(costs)
    assert store.check() == []


# -- wake-ups ------------------------------------------------------------------------------------------------------------
def test_an_order_wakes_a_busy_runner() -> None:
    store, woken = make_store(), []
    store.submit([new("a")])
    take(store)
    listener = store.listen((), lambda: woken.append(1))
    listener.idle(False)
    store.submit([new("b")])
    assert not woken
    store.amend(["a"], Change(ChangeKind.CANCEL))
    assert woken == [1]


def test_an_interest_can_be_closed_in_the_middle_of_an_operation() -> None:
    store, woken = make_store(), []
    store.submit([new("a"), new("b")])
    (waiter,) = take(store)
    watch = store.watch(["b"], lambda: woken.append(1), waiter=waiter)
    listener = store.listen((), lambda: woken.append(2))
    listener.idle(True)
    with store._unit:  # where the garbage collector may be at work
        watch.close()
        listener.close()
    assert store.get(["a"])[0].waiting_for == ()
    store.submit([new("c")])
    store.finish("r", [end(ref) for ref in take(store, 2)])
    assert not woken


def test_two_waits_for_the_same_end_one_by_one() -> None:
    store = make_store()
    store.submit([new("a"), new("b")])
    (waiter,) = take(store)
    first, second = (store.watch(["b"], print, waiter=waiter) for _ in range(2))
    first.close()
    assert store.get(["a"])[0].waiting_for == ("b",)
    second.close()
    assert store.get(["a"])[0].waiting_for == ()


# -- history -------------------------------------------------------------------------------------------------------------
def test_the_error_of_each_attempt_is_in_the_history() -> None:
    store = make_store()
    store.submit([new("a")])
    store.finish("r", [end(take(store)[0], S.RETRY, payload=b"first", reason="retry")])
    store.finish("r", [end(take(store)[0], S.FAILED, payload=b"second")])
    assert [(e.status, e.payload) for e in store.history(["a"]) if e.payload] == [
        (S.RETRY, b"first"),
        (S.FAILED, b"second"),
    ]


# -- the check -----------------------------------------------------------------------------------------------------------
def busy_store() -> MemoryStore:
    """A store with something of everything."""
    store = make_store()
    now = store.clock.now()
    store.submit([new("claimed", blobs=("b",)), new("final", result_ttl=SECOND, cache_key="c")], [Blob("b", b"", 1)])
    claimed, final = take(store, 2)
    store.finish("r", [end(final)])
    store.submit([new("strange", task="m.strange")])
    store.finish("r", [end(take(store)[0], S.REGISTERED, unknown_task=True)])
    store.submit([new("holder", running_key="k"), new("parked", running_key="k"), new("later", due=now + SECOND)])
    store.submit([new("head", rate=Rate("rate", 1, SECOND)), new("behind", rate=Rate("rate", 1, SECOND))])
    store.submit([new("registered", registration_key="reg"), new("awaited")])
    store.watch(["awaited"], print, waiter=claimed)
    assert store.check() == []
    return store


def move(places: Places, name: str, place: Place) -> None:
    places.rows[name].place = place


DAMAGES: dict[str, Callable[[Places], object]] = {
    "a row out of line": lambda places: setattr(places.rows["awaited"], "turn", None),
    "a wrong count": lambda places: setattr(places.queues["default"].ready, "live", 77),
    "a place that its status forbids": lambda places: move(places, "later", Place.CLAIMED),
    "an owner that does not own": lambda places: places.owned["r"].clear(),
    "a lost history": lambda places: setattr(places.rows["strange"], "trail", ()),
    "a key that nobody holds": lambda places: places.keys["k"].holders.clear(),
    "a key that is held twice": lambda places: places.keys["k"].holders.update(parked=None),
    "a key that counts wrongly": lambda places: setattr(places.keys["k"], "claimed", 1),
    "a forgotten key": lambda places: places.keys.clear(),
    "a rate without a head": lambda places: setattr(places.rates["rate"], "head", None),
    "a wrong head": lambda places: setattr(places.rates["rate"], "head", "claimed"),
    "a forgotten task": lambda places: places.unknown.clear(),
    "a parked row behind nothing": lambda places: setattr(places.rows["strange"], "behind", 0),
    "a wrong count of parked rows": lambda places: setattr(places.queues["default"], "parked", 0),
    "a row that waits apart from its like": lambda places: setattr(places.rows["awaited"], "is_passed", True),
    "a wrong count of suspended rows": lambda places: setattr(places.queues["default"], "suspended", 1),
    "a later row out of line": lambda places: places.queues["default"].later.remove(places.rows["later"]),
    "a final that never goes": lambda places: places.mortal.remove(places.rows["final"]),
    "a registration by what is claimed": lambda places: places.registered.update(reg="claimed"),
    "a success that is not there": lambda places: places.successes.update(d=[(1, "final")]),
    "an edge in one direction": lambda places: places.waits.nodes["awaited"].waiters.clear(),
    "a rank below its waiter": lambda places: setattr(places.rows["claimed"], "rank", 9.0),
    "a rank below the priority": lambda places: setattr(places.rows["claimed"], "priority", 9.0),
    "a line that does not know the rank": lambda places: setattr(places.rows["awaited"], "rank", 3.0),
    "a blob that counts wrongly": lambda places: setattr(places.blobs["b"], "references", 0),
    "a blob that is gone": lambda places: places.blobs.clear(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_check_finds(damage: str) -> None:
    store = busy_store()
    DAMAGES[damage](store._places)
    assert store.check() != []
