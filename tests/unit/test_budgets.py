"""What a step may cost: calls of our own functions, and transactions. Deterministic; times are measured elsewhere.

The calls of the engine and the runner, and those inside a store, have budgets of their own: what a store does in Python is a matter of its kind.
Comprehensions are no functions (and no frames from Python 3.12 on).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pynenc
from pynenc import Pynenc
from pynenc.core.records import Beat
from pynenc.runner.body import BodySlot
from pynenc.runner.numbers import Measures, decode
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.worker import Worker
from tests.servers import url_for

PACKAGE = str(Path(pynenc.__file__).parent)
STORES = str(Path(PACKAGE) / "store")
#: For each step the most calls of the engine and the runner, and of each store on top.
SUBMIT, SUBMIT_STORE = 12, {"memory": 18, "sqlite": 8, "valkey": 12}
RUN, RUN_STORE = 28, {"memory": 41, "sqlite": 17, "valkey": 36}
MANY, MANY_STORE = 20, {"memory": 12, "sqlite": 7, "valkey": 5}
RESULT, RESULT_STORE = 8, {"memory": 6, "sqlite": 4, "valkey": 13}
BULK, BULK_STORE = 6, {"memory": 8, "sqlite": 3, "valkey": 3}
app = Pynenc(app_id="budgets", store="memory://")


@app.task
def add(x: int, y: int) -> int:
    return x + y


class Store:
    """Passes all operations on, and counts them."""

    def __init__(self, store: Any, counts: Counter[str]) -> None:
        self._store = store
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "clock":
            return found

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._counts[name] += 1
            return found(*args, **kwargs)

        return counted


class Calls:
    """Calls of our own Python functions by name: those of the engine and the runner, and those of the store."""

    def __init__(self) -> None:
        self.ours: Counter[str] = Counter()
        self.store: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and not COMPREHENSION.search(code.co_qualname):
            counter = self.store if code.co_filename.startswith(STORES) else self.ours
            counter[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += 1

    def check(self, ours: int, store: int, times: int = 1) -> None:
        """Compare with the budgets, each ``times`` over."""
        for name, counter, budget in (("engine and runner", self.ours, ours), ("store", self.store, store)):
            listed = "\n".join(f"{count:4} {call}" for call, count in counter.most_common())
            assert counter.total() <= budget * times, f"{name}: {counter.total()} calls\n{listed}"


COMPREHENSION = re.compile(r"<(list|dict|set)comp>$|<genexpr>$")


def calls_of(action: Callable[[], object]) -> Calls:
    """The calls that an action makes."""
    calls = Calls()
    sys.setprofile(calls.note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The app on each store."""
    app.close()
    urls = {"memory": lambda: "memory://", "sqlite": lambda: f"sqlite:///{tmp_path / 'test.db'}"}
    app.conf.store = urls.get(request.param, lambda: url_for(tmp_path))()
    yield request.param
    app.close()


@pytest.fixture
def transactions(store: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Counts the transactions of an action: those of SQLite that write, the round trips to a server, the operations that write of the memory store."""
    begun: list[str] = []
    if store == "sqlite":
        import sqlite3

        connect = sqlite3.connect

        def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection = connect(*args, **kwargs)
            connection.set_trace_callback(lambda text: note(text, inside=connection.in_transaction))
            return connection

        def note(text: str, *, inside: bool) -> None:
            if text.startswith("COMMIT") or (text.startswith(("INSERT", "UPDATE", "DELETE")) and not inside):
                begun.append(text)

        monkeypatch.setattr(sqlite3, "connect", traced)
        _ = app.store
    elif store == "valkey":
        link = app.store._link  # type: ignore[attr-defined]
        exchange = link._exchange

        def counted_exchange(command: Any, *args: Any, **kwargs: Any) -> Any:
            begun.append(str(command[0]))
            return exchange(command, *args, **kwargs)

        monkeypatch.setattr(link, "_exchange", counted_exchange)
    else:
        for name in ("submit", "claim", "finish", "start", "watch"):
            operation = getattr(app.store, name)

            def counted(*args: Any, _name: str = name, _operation: Any = operation, **kwargs: Any) -> Any:
                begun.append(_name)
                return _operation(*args, **kwargs)

            monkeypatch.setattr(app.store, name, counted)

    def count(action: Callable[[], object]) -> int:
        del begun[:]
        action()
        return len(begun)

    return count


def make_worker() -> Worker:
    """A worker that is driven by hand, on the calling thread."""
    app.store.heartbeat([Beat(id="w", group="w", lease=10**12, slots=1, tasks=("x",))])
    worker = Worker(app.engine, WorkerSettings(slots=1), Beat(id="w", group="w", lease=10**12), keep_up=lambda _: 1.0)
    worker.turns.listener = app.store.listen((), lambda: None)
    worker._bodies[0] = BodySlot(worker, 0)
    return worker


def turn(worker: Worker) -> None:
    """What a thread does when it is called: claim, run and finish until there is nothing."""
    worker.slots.call()
    assert worker.slots.acquire()
    assert worker._work(worker._bodies[0])


def test_a_submission(store: str) -> None:
    add(1, 2)
    calls_of(lambda: add(3, 4)).check(SUBMIT, SUBMIT_STORE[store])


def test_a_submission_is_one_transaction(transactions: Callable[[Callable[[], object]], int]) -> None:
    add(1, 2)
    assert transactions(lambda: add(3, 4)) == 1


def test_claim_run_and_finish(store: str) -> None:
    worker = make_worker()
    add.parallelize([(i, 0) for i in range(10)])
    turn(worker)
    add(1, 1)
    turn(worker)
    call = add(1, 2)
    seen = calls_of(lambda: turn(worker))
    assert call.result == 3
    seen.check(RUN, RUN_STORE[store])
    worker.turns.listener.close()


def test_each_of_many_costs_less(store: str) -> None:
    worker = make_worker()
    add.parallelize([(i, 0) for i in range(300)])
    turn(worker)
    group = add.parallelize([(i, 0) for i in range(200)])
    seen = calls_of(lambda: turn(worker))
    assert group.get_results(0) == list(range(200))
    seen.check(MANY, MANY_STORE[store], 200)
    worker.turns.listener.close()


def test_metrics_are_counted_by_the_batch(store: str) -> None:
    worker = make_worker()
    add.parallelize([(i, 0) for i in range(300)])
    turn(worker)
    worker.turns.measures = Measures()
    add.parallelize([(i, 0) for i in range(200)])
    calls_of(lambda: turn(worker)).check(MANY, MANY_STORE[store], 200)
    assert decode(worker.turns.measures.encode()).finished == {add.task_id.key: {"success": 200}}
    worker.turns.listener.close()


def test_a_lone_task_is_claimed_in_one_transaction_and_finished_in_one(
    transactions: Callable[[Callable[[], object]], int],
) -> None:
    worker = make_worker()
    add.parallelize([(i, 0) for i in range(10)])
    turn(worker)
    add(1, 2)
    assert transactions(lambda: turn(worker)) <= 2
    worker.turns.listener.close()


def test_under_load_a_batch_costs_one_transaction(transactions: Callable[[Callable[[], object]], int]) -> None:
    worker = make_worker()
    worker.settings = worker.turns.settings = WorkerSettings(slots=1, max_ahead=99, flush=10.0)
    worker.turns.mean = 1e-6
    add.parallelize([(i, 0) for i in range(1000)])
    assert transactions(lambda: turn(worker)) <= 12, "ten batches of a hundred, and the end"
    worker.turns.listener.close()


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was called a moment ago counts as older: it may be final."""
    monkeypatch.setattr("pynenc.engine.results.FRESH", -1)


@pytest.mark.usefixtures("older")
def test_the_result_of_a_final(store: str) -> None:
    worker = make_worker()
    first, second = add(1, 2), add(3, 4)
    turn(worker)
    assert first.result == 3
    seen = calls_of(lambda: second.result)
    seen.check(RESULT, RESULT_STORE[store])
    worker.turns.listener.close()


@pytest.mark.usefixtures("older")
def test_the_result_of_a_final_is_one_read(store: str) -> None:
    worker = make_worker()
    call = add(1, 2)
    turn(worker)
    counts: Counter[str] = Counter()
    app.engine.results._store = Store(app.store, counts)
    assert call.result == 3
    assert counts == {"finals": 1}
    worker.turns.listener.close()


def test_parallelize_is_one_transaction_a_batch(transactions: Callable[[Callable[[], object]], int]) -> None:
    add(1, 2)
    assert transactions(lambda: add.parallelize([(i, 0) for i in range(500)])) == 1
    assert transactions(lambda: add.parallelize([(i, 0) for i in range(2500)])) == 3


def test_each_call_of_parallelize(store: str) -> None:
    params = [(i, 0) for i in range(500)]
    add.parallelize(params)
    calls_of(lambda: add.parallelize(params)).check(BULK, BULK_STORE[store], 500)
