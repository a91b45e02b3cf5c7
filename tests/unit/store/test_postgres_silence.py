"""A PostgreSQL server that takes connections and says nothing: whoever asks gives up after a while, and no other thread is held up."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, Event, Thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from pynenc import Pynenc
from pynenc.core.records import Beat, Change, ChangeKind, New
from pynenc.exceptions import StoreError
from pynenc.store import open_store
from pynenc.store.postgres import PostgresStore, direct
from pynenc.store.postgres.connection import Connection, SilentError
from pynenc.store.postgres.url import parse
from pynenc.testing.chaos.proxy import Proxy
from pynenc.testing.servers.postgres import empty_url, shared_url, with_options

#: Seconds of silence until whoever waits gives up here.
PATIENCE = 0.3
FOR_EVER = 3600.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    parts = urlsplit(shared_url())
    proxy = Proxy(parts.hostname or "", parts.port or 0)
    yield proxy
    proxy.close()


@pytest.fixture
def url(proxy: Proxy) -> str:
    parts = urlsplit(with_options(empty_url(), timeout=str(PATIENCE), connect_timeout="2"))
    return parts._replace(netloc=parts.netloc.replace(str(parts.port), str(proxy.port))).geturl()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    store = open_store(url, "unit")
    assert isinstance(store, PostgresStore)
    store.open()
    yield store
    store.close()


OPERATIONS: dict[str, Callable[[PostgresStore], object]] = {
    "submit": lambda store: store.submit([New(id="a", task="t", args=b"x")]),
    "read": lambda store: store.finals(["a"]),
    "pipeline": lambda store: store.heartbeat([Beat(id="r", group="r", lease=1, tasks=("t",))]),
    "amend": lambda store: store.amend(["a"], Change(ChangeKind.CANCEL)),
    "transaction": lambda store: store._database.transaction(lambda ask: ask("SELECT 1")),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_silent_server_is_an_outage(operation: str, store: PostgresStore, proxy: Proxy) -> None:
    store.submit([New(id="a", task="t", args=b"x")])
    proxy.freeze(FOR_EVER)
    started = monotonic()
    with pytest.raises(StoreError, match="does not answer: no answer within") as raised:
        OPERATIONS[operation](store)
    assert raised.value.retryable
    assert monotonic() - started < 10 * PATIENCE


#: What may take the server long itself, and what comes of it.
SLOW: dict[str, tuple[Callable[[PostgresStore], object], str]] = {
    "migrate": (PostgresStore.migrate, "inv_expiring"),
    "check": (PostgresStore.check, "[]"),
}


@pytest.mark.parametrize("operation", SLOW)
def test_what_takes_the_server_long_is_waited_for(operation: str, store: PostgresStore) -> None:
    schema = store._database.quoted_schema
    act, told = SLOW[operation]
    with psycopg.connect(shared_url(), autocommit=True) as owner, ThreadPoolExecutor(1) as pool:
        owner.execute(f"DROP INDEX {schema}.inv_expiring; UPDATE {schema}.version SET minor = 0".encode())
        with owner.transaction():
            owner.execute(f"LOCK TABLE {schema}.inv".encode())
            answer = pool.submit(act, store)
            waiting = f"SELECT 1 FROM pg_locks WHERE relation = '{schema}.inv'::regclass AND NOT granted"
            while not owner.execute(waiting.encode()).fetchone():
                assert not answer.done(), answer.result()
            assert not wait([answer], 3 * PATIENCE).done
        assert told in str(answer.result(30))


def test_a_server_that_lets_nobody_in_is_an_outage(store: PostgresStore, proxy: Proxy) -> None:
    store._database._drop_idle()
    while store._database._idle:
        store._database._idle.pop().close()
    proxy.freeze(FOR_EVER)
    with pytest.raises(StoreError, match="does not answer") as raised:
        store.finals(["a"])
    assert raised.value.retryable


def test_callers_that_meet_a_silent_server_do_not_wait_one_after_the_other(store: PostgresStore, proxy: Proxy) -> None:
    store.submit([New(id="first", task="t", args=b"x")])
    proxy.freeze(FOR_EVER)
    together, errors = Barrier(20), list[StoreError]()

    def submit(name: str) -> None:
        together.wait(10)
        try:
            store.submit([New(id=name, task="t", args=b"x")])
        except StoreError as error:
            errors.append(error)

    threads = [Thread(target=submit, args=(f"n{number}",)) for number in range(20)]
    started = monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error.retryable for error in errors] == [True] * 20
    assert monotonic() - started < 10


def test_a_call_and_its_result_give_up(url: str, proxy: Proxy) -> None:
    app = Pynenc(app_id="silent", store=url)
    invocation = app.task(late)()
    proxy.freeze(FOR_EVER)
    for ask in (app.tasks[next(iter(app.tasks))], lambda: invocation.result, lambda: invocation.status):
        with pytest.raises(StoreError, match="does not answer") as raised:
            ask()
        assert raised.value.retryable
    app.close()


def late() -> int:
    """Nobody runs it."""
    return 1


def test_who_listens_is_not_given_up(store: PostgresStore) -> None:
    """Nothing comes for longer than anybody waits for an answer; what comes then is heard."""
    woken = Event()
    listener = store.listen((), woken.set)
    ear = store._ringer._ear
    assert ear is not None
    before = _listening(store)
    for _ in range(3):
        assert not Event().wait(PATIENCE)
    assert _listening(store) == before != []
    listener.idle(True)
    store.submit([New(id="a", task="t", args=b"x")])
    assert woken.wait(10)


def _listening(store: PostgresStore) -> list[Any]:
    text = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' ORDER BY pid"
    return store._database.call(text)


# -- the global lock ---------------------------------------------------------------------------------------------------------
def _pipelined(connection: Connection, divisor: int) -> None:
    with connection.pipeline(), connection.transaction():
        connection.execute("SELECT 1 / $1::int", (divisor,))
        connection.execute("SELECT $1::text", ("b",))


def _in_transaction(connection: Connection, divisor: int) -> None:
    with connection.transaction():
        direct.execute(connection, b"SELECT 1 / $1", (divisor,), is_prepared=True)


WAYS: dict[str, Callable[[Connection, int], object]] = {
    "by the driver": lambda connection, divisor: connection.execute("SELECT 1 / $1::int", (divisor,)),
    "direct": lambda connection, divisor: direct.execute(connection, b"SELECT 1 / $1", (divisor,), is_prepared=True),
    "in a pipeline": _pipelined,
    "in a transaction": _in_transaction,
}


@pytest.mark.parametrize("divisor", [1, 0], ids=["rows", "an error"])
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_stops_anywhere_holds_up_no_thread(way: str, divisor: int, url: str, proxy: Proxy) -> None:
    """libpq would wait for the rest, and Python's global lock is not free meanwhile: then the proxy, a thread, could not go on either."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    count, is_complete = 0, False
    while not is_complete:
        proxy.hold_after(None)
        with Connection.connect(parse(url).conninfo, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
            connection.patience = 0.03
            proxy.hold_after(count)
            try:
                WAYS[way](connection, divisor)
                is_complete = True
            except psycopg.errors.DivisionByZero:
                is_complete = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            except SilentError:
                assert connection.closed
            count += 5
    faulthandler.cancel_dump_traceback_later()
    assert count > 30
