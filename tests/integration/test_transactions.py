"""Calls as a part of the caller's own database transaction, on real connections of those who hand them out."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from pynenc import Pynenc
from pynenc.core.records import Change, ChangeKind, Filter, Purge, QueueState
from pynenc.exceptions import InvocationCancelledError, QueueFullError, StoreError
from pynenc.invocation import BaseInvocation
from pynenc.testing.inline import InlineRunner
from pynenc.testing.servers import postgres
from pynenc.trigger import on_event
from pynenc.workflow import WorkflowContext
from tests.api import functions


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Pynenc]:
    app = Pynenc(app_id="joined", store=f"sqlite:///{tmp_path / 'shop.db'}")
    yield app
    app.close()


@pytest.fixture
def connection(app: Pynenc, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the user to the file of the store, with a table of their own."""
    assert app.store.shared
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE bill (id INTEGER PRIMARY KEY, total INTEGER)")
    connection.commit()
    yield connection
    connection.close()


def count(app: Pynenc) -> int:
    return sum(app.store.count(Filter()).values())


def run_all(app: Pynenc, *calls: Any) -> list[Any]:
    """Run what is there; the results of these calls."""
    with InlineRunner(app) as runner:
        runner.drain()
        return [app.get_invocation(call.invocation_id).result for call in calls]


def test_a_call_and_a_row_are_committed_together(app: Pynenc, connection: sqlite3.Connection) -> None:
    plus = app.task(functions.plus)
    with app.transaction(connection):
        connection.execute("INSERT INTO bill (total) VALUES (3)")
        call = plus(1, 2)
    assert count(app) == 0
    connection.commit()
    assert run_all(app, call) == [3]


def test_rolled_back_it_never_ran(app: Pynenc, connection: sqlite3.Connection) -> None:
    plus = app.task(functions.plus)
    with app.transaction(connection):
        plus(1, 2)
        plus.parallelize([(1, 2), (3, 4)])
    connection.rollback()
    assert run_all(app) == []
    assert count(app) == 0


def test_large_arguments_are_part_of_it(app: Pynenc, connection: sqlite3.Connection) -> None:
    plus = app.task(functions.plus)
    text = "long " * 100_000
    with app.transaction(connection):
        plus(text, "!")
    connection.rollback()
    with app.transaction(connection):
        call = plus(text, "!")
    connection.commit()
    assert run_all(app, call) == [text + "!"]


def test_large_arguments_are_not_sent_ahead_of_it(
    app: Pynenc, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent on a connection of the store's own would wait for a lock of this transaction."""
    monkeypatch.setattr(app.engine.codec.blobs, "_cache_bytes", 1000)  # more than that is too much to keep
    plus = app.task(functions.plus)
    texts = [random.randbytes(200_000).hex() for _ in range(4)]
    with app.transaction(connection):
        connection.execute("INSERT INTO bill (total) VALUES (3)")
        calls = plus.parallelize([(text, "!") for text in texts]).invocations
    connection.commit()
    assert run_all(app, *calls) == [text + "!" for text in texts]


def test_rows_of_the_user_may_look_as_they_like(app: Pynenc, connection: sqlite3.Connection) -> None:
    connection.row_factory = lambda cursor, row: {"row": row}
    connection.text_factory = bytes
    with app.transaction(connection):
        app.task(functions.plus).options(key="once")(1, 2)
        app.task(functions.plus).options(key="once")(1, 2)
    connection.commit()
    assert connection.text_factory is bytes
    assert count(app) == 1


def test_without_a_transaction_one_is_begun(app: Pynenc, connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    with app.transaction(connection):
        app.task(functions.plus)(1, 2)
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert count(app) == 0


def test_results_are_refused_inside(app: Pynenc, connection: sqlite3.Connection) -> None:
    plus = app.task(functions.plus)
    before = plus(1, 2)
    with app.transaction(connection), pytest.raises(StoreError, match="reading a result is no part of the transaction"):
        _ = before.result
    assert run_all(app, before) == [3]


def test_results_are_refused_inside_of_event_loops_too(app: Pynenc, connection: sqlite3.Connection) -> None:
    call = app.task(functions.plus)(1, 2)
    with app.transaction(connection), pytest.raises(StoreError, match="reading a result is no part of the transaction"):
        asyncio.run(call.async_result())  # type: ignore[arg-type]


def test_what_outlives_the_block_is_outside_of_it(app: Pynenc, connection: sqlite3.Connection) -> None:
    plus = app.task(functions.plus)
    before = plus(1, 2)

    async def main() -> None:
        is_over = asyncio.Event()

        async def later() -> None:
            await is_over.wait()
            plus(3, 4)
            assert before.cancel()
            with pytest.raises(InvocationCancelledError):
                await before.async_result()

        with app.transaction(connection):
            task = asyncio.create_task(later())
        is_over.set()
        await task

    asyncio.run(main())
    assert not connection.in_transaction
    assert count(app) == 2


#: What takes no part in a transaction of others.
APART: dict[str, Callable[[Pynenc, BaseInvocation[Any, Any]], object]] = {
    "purge": lambda app, _: app.purge(),
    "cancel": lambda _, call: call.cancel(),
    "requeue": lambda _, call: call.retry(),
    "resume": lambda app, call: app.engine.resume(call.invocation_id),
    "signal": lambda app, call: app.engine.signal(call.invocation_id, "name"),
    "declaring": lambda app, _: app.trigger.declare(),
    "store.amend": lambda app, call: app.store.amend([call.invocation_id], Change(ChangeKind.CANCEL)),
    "store.remember": lambda app, _: app.store.remember("scope", {"key": b"value"}),
    "store.purge": lambda app, _: app.store.purge(Purge(everything=True)),
    "store.set_queue": lambda app, _: app.store.set_queue("default", QueueState.PAUSED),
    "store.submit": lambda app, _: app.store.submit([]),
}


@pytest.mark.parametrize("what", APART)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_takes_no_part_is_refused_inside(what: str, kind: str, tmp_path: Path) -> None:
    """On its own connection it could wait for the locks of the transaction, which waits for it."""
    url = f"sqlite:///{tmp_path / 'shop.db'}" if kind == "sqlite" else postgres.empty_url()
    app = Pynenc(app_id="apart", store=url)
    plus = app.task(functions.plus)
    app.task(triggers=on_event("paid"))(functions.anything)
    before = plus(1, 2)
    own = sqlite3.connect(tmp_path / "shop.db") if kind == "sqlite" else psycopg.connect(postgres.shared_url())
    with app.transaction(own):
        during = plus(3, 4)
        assert before.status.name == "REGISTERED"
        assert before.invocation_id in {row.id for row in app.store.find(Filter()).invocations}
        with pytest.raises(StoreError, match=rf"{what}.* no part of the transaction") as raised:
            APART[what](app, before)
        assert not raised.value.retryable
    own.commit()
    own.close()
    assert {before.status.name, during.status.name} == {"REGISTERED"}
    app.close()


#: What the body of a workflow records whatever becomes of a transaction of its user.
RECORDED: dict[str, Callable[[WorkflowContext, Callable[[int, int], object]], object]] = {
    "step": lambda wf, _: wf.step(int),
    "set_data": lambda wf, _: wf.set_data("key", 1),
    "save_state": lambda wf, _: wf.save_state(1),
    "utc_now": lambda wf, _: wf.utc_now(),
    "sleep": lambda wf, _: wf.sleep(1),
    "execute_task": lambda _, call: call(1, 2),
}


class Case(NamedTuple):
    """What the bodies of workflows here work on."""

    app: Pynenc
    connect: Callable[[], Any]
    what: str


_case: list[Case] = []


def call_in_transaction() -> None:
    """A step."""
    own = _case[-1].connect()
    with _case[-1].app.transaction(own):
        _case[-1].app.task(functions.plus)(3, 4)
    own.commit()
    own.close()


def order() -> str:
    """A workflow; returns why it was refused what it tried in a transaction of its own."""
    case = _case[-1]
    task = case.app.workflow(order)
    own = case.connect()
    own.execute("CREATE TEMPORARY TABLE bill (total integer)")
    with case.app.transaction(own), pytest.raises(StoreError) as raised:
        RECORDED[case.what](task.wf, case.app.task(functions.plus))
    own.rollback()
    own.close()
    task.wf.step(call_in_transaction)
    return str(raised.value)


def store_in_transaction() -> None:
    """A task that stores for its workflow."""
    own = _case[-1].connect()
    try:
        with _case[-1].app.transaction(own):
            _case[-1].app.task(store_in_transaction).wf.set_data("key", 1)
    finally:
        own.close()


def parent() -> None:
    """A workflow with a member."""
    _ = _case[-1].app.task(store_in_transaction)().result


@pytest.fixture(params=["sqlite", "postgresql"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    is_file = request.param == "sqlite"
    path = tmp_path / "shop.db"
    app = Pynenc(app_id="recorded", store=f"sqlite:///{path}" if is_file else postgres.empty_url())
    _case.append(Case(app, lambda: sqlite3.connect(path) if is_file else psycopg.connect(postgres.shared_url()), ""))
    yield _case[-1]
    _case.clear()
    app.close()


@pytest.mark.parametrize("what", RECORDED)
def test_what_a_workflow_records_is_refused_inside(what: str, case: Case) -> None:
    """Rolled back, it would still be recorded."""
    _case.append(case._replace(what=what))
    (told,) = run_all(case.app, case.app.workflow(order)())
    assert re.match(rf"{what} .*no part of the transaction.* into a step", told)
    assert count(case.app) == 2


def test_what_a_member_of_a_workflow_stores_is_refused_inside(case: Case) -> None:
    case.app.task(store_in_transaction)
    call = case.app.workflow(parent)()
    with pytest.raises(StoreError, match="remembering a value is no part of the transaction"):
        run_all(case.app, call)


def test_a_full_queue_does_not_block_it(app: Pynenc, connection: sqlite3.Connection) -> None:
    app.conf.max_queue_length = 1
    app.conf.queue_full = "block"
    plus = app.task(functions.plus)
    plus(1, 2)
    with app.transaction(connection), pytest.raises(QueueFullError):
        plus(3, 4)


def test_calls_of_another_app_are_their_own(app: Pynenc, connection: sqlite3.Connection, tmp_path: Path) -> None:
    other = Pynenc(app_id="other", store=f"sqlite:///{tmp_path / 'other.db'}")
    with app.transaction(connection):
        other.task(functions.plus)(1, 2)
    assert count(other) == 1
    other.close()


def test_another_file_is_refused(app: Pynenc, tmp_path: Path) -> None:
    elsewhere = sqlite3.connect(tmp_path / "elsewhere.db")
    with app.transaction(elsewhere), pytest.raises(StoreError, match="another database"):
        app.task(functions.plus)(1, 2)
    elsewhere.close()


def test_no_connection_is_refused(app: Pynenc) -> None:
    """Its calls would run whatever became of the transaction that was meant."""
    with pytest.raises(StoreError, match="None"), app.transaction(None):
        app.task(functions.plus)(1, 2)
    assert count(app) == 0


def test_memory_refuses() -> None:
    app = Pynenc(app_id="joined-memory", store="memory://")
    with app.transaction(object()), pytest.raises(StoreError, match="SQLite or the PostgreSQL store"):
        app.task(functions.plus)(1, 2)
    app.close()


def test_development_mode_runs_at_once() -> None:
    app = Pynenc(app_id="joined-dev", dev_mode_force_sync_tasks=True)
    with app.transaction(object()):
        assert app.task(functions.plus)(1, 2).result == 3
    app.close()


def test_a_session_of_sqlalchemy(app: Pynenc, connection: sqlite3.Connection, tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    plus = app.task(functions.plus)
    with Session(engine) as session:
        session.execute(text("INSERT INTO bill (total) VALUES (1)"))
        with app.transaction(session):
            plus(1, 2)
        session.rollback()
    assert count(app) == 0
    with engine.begin() as begun, app.transaction(begun):
        plus(1, 2)
    assert count(app) == 1
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_connection_of_sqlalchemy_whose_first_statement_is_a_call(kind: str, tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    url = f"sqlite:///{tmp_path / 'shop.db'}" if kind == "sqlite" else postgres.new_url()
    app = Pynenc(app_id="alchemy", store=url)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:").partition("?")[0])
    plus = app.task(functions.plus)
    assert count(app) == 0
    with engine.connect() as connection:
        with app.transaction(connection):
            plus(1, 2)
        connection.commit()
        assert count(app) == 1
        with app.transaction(connection):
            plus(1, 2)
        connection.rollback()
        assert count(app) == 1
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(StoreError, match="AUTOCOMMIT"),
        app.transaction(connection),
    ):
        plus(1, 2)
    assert count(app) == 1
    engine.dispose()
    app.close()


def test_atomic_of_django(app: Pynenc, connection: sqlite3.Connection, tmp_path: Path) -> None:
    import django
    from django.conf import settings
    from django.db import connections, transaction

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "shop.db")}
    if not settings.configured:
        settings.configure(DATABASES={"default": database}, USE_TZ=True)
        django.setup()
    connections.settings["shop"] = connections.settings["default"] | database
    plus = app.task(functions.plus)
    with transaction.atomic("shop"), app.transaction(connections["shop"]):
        plus(1, 2)
        transaction.set_rollback(True, "shop")
    assert count(app) == 0
    with transaction.atomic("shop"), app.transaction(connections["shop"]):
        plus(1, 2)
    assert count(app) == 1
    with pytest.raises(StoreError, match="atomic"), app.transaction(connections["shop"]):
        plus(1, 2)
    assert count(app) == 1
    connections["shop"].close()


# -- events --------------------------------------------------------------------------------------------------------------
def test_an_event_in_a_transaction_needs_no_earlier_declaration(app: Pynenc, connection: sqlite3.Connection) -> None:
    shipped = app.task(triggers=on_event("paid").with_args_static({"x": 1, "y": 2}))(functions.plus)
    with app.transaction(connection):
        app.trigger.emit_event("paid")
    assert count(app) == 0
    connection.commit()
    with InlineRunner(app) as runner:
        runner.drain()
        assert [call.result for call in app.find_invocations(tasks=shipped.task_id.key)] == [3]


# -- PostgreSQL ------------------------------------------------------------------------------------------------------------
def test_a_connection_of_psycopg_is_taken_as_it_is() -> None:
    url = postgres.new_url()
    app = Pynenc(app_id="joined", store=url)
    plus = app.task(functions.plus)
    assert app.store.shared
    with psycopg.connect(url.partition("?")[0]) as connection:
        with app.transaction(connection):
            plus(1, 2)
        connection.rollback()
        with app.transaction(connection):
            call = plus(3, 4)
        assert count(app) == 0
        connection.commit()
    assert run_all(app, call) == [7]
    app.close()


def test_a_connection_of_psycopg_may_read_values_in_its_own_way() -> None:
    class Raw(Loader):
        format = Format.BINARY

        def load(self, data: Buffer) -> bytes:
            return bytes(data)

    app = Pynenc(app_id="joined", store=postgres.empty_url())
    plus = app.task(functions.plus)
    with psycopg.connect(postgres.shared_url()) as connection:
        for name in ("bool", "int2", "int4", "text", "uuid"):
            connection.adapters.register_loader(name, Raw)
        with app.transaction(connection):
            once = plus.options(key="once")
            assert once(1, 2) == once(1, 2) != plus(3, 4)
        assert connection.execute("SELECT true", binary=True).fetchone() == (b"\1",)
    assert count(app) == 2
    app.close()
