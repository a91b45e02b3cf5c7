"""The pooler of the tests keeps nothing of a session, and the store relies on nothing of one."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier, Event
from urllib.parse import urlsplit

import psycopg
import pytest

from pynenc.core.records import New
from pynenc.store import open_store
from pynenc.store.postgres import PostgresStore, direct, wake
from pynenc.store.postgres.connection import Connection
from pynenc.testing.servers.pgbouncer import SIZE, pooled
from pynenc.testing.servers.pooler import Pooler
from pynenc.testing.servers.postgres import empty_url, shared_url

#: More transactions than there are connections to the server.
MANY = 4 * SIZE


@pytest.fixture(scope="module")
def own() -> Iterator[str]:
    """The database by way of our own pooler."""
    pooler = Pooler(urlsplit(shared_url()).port or 0, SIZE)
    yield f"postgresql://postgres@127.0.0.1:{pooler.port}/postgres"
    pooler.close()


def connect(url: str) -> Connection:
    return Connection.connect(url, autocommit=True, prepare_threshold=None)


@pytest.fixture
def client(own: str) -> Iterator[Connection]:
    with connect(own) as connection:
        yield connection


def ask(client: Connection, text: str) -> object:
    row = client.execute(text.encode()).fetchone()
    assert row is not None
    return row[0]


#: What a session remembers, and how to see whether it does.
SESSION = {
    "a setting": ("SET pynenc.probe = 'x'", "SELECT current_setting('pynenc.probe', true) = 'x'"),
    "a prepared statement": (
        "PREPARE probe AS SELECT 1",
        "SELECT true FROM pg_prepared_statements UNION ALL SELECT false",
    ),
    "a channel": ("LISTEN probe", "SELECT count(*) > 0 FROM pg_listening_channels()"),
    "a lock": (
        "SELECT pg_advisory_lock(7)",
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a temporary table": ("CREATE TEMPORARY TABLE probe ()", "SELECT to_regclass('pg_temp.probe') IS NOT NULL"),
}


@pytest.mark.parametrize("what", SESSION)
def test_what_a_session_remembers_stays_behind(what: str, client: Connection) -> None:
    do, look = SESSION[what]
    with connect(shared_url()) as straight:
        straight.execute(do.encode())
        assert ask(straight, look) is True
    client.execute(do.encode())
    assert not ask(client, look)


def test_a_transaction_has_one_server_process_and_the_next_has_another(client: Connection) -> None:
    seen = []
    for _ in range(MANY):
        with client.transaction():
            first, second = (ask(client, "SELECT pg_backend_pid()") for _ in range(2))
        assert first == second
        seen.append(first)
    assert all(before != after for before, after in pairwise(seen))
    assert len(set(seen)) <= SIZE


def test_more_clients_than_connections_wait_for_their_turn(own: str) -> None:
    together = Barrier(MANY)

    def work(_: int) -> object:
        with connect(own) as client:
            together.wait(30)
            return sum(int(str(ask(client, "SELECT 1"))) for _ in range(20))

    with ThreadPoolExecutor(MANY) as pool:
        assert list(pool.map(work, range(MANY))) == [20] * MANY


def test_a_transaction_ends_with_its_client(own: str, client: Connection) -> None:
    client.execute("CREATE TABLE IF NOT EXISTS pooled_probe (n integer)")
    gone = connect(own)
    gone.execute("BEGIN")
    gone.execute("INSERT INTO pooled_probe VALUES (1)")
    gone.close()
    assert ask(client, "SELECT count(*) FROM pooled_probe") == 0
    client.execute("DROP TABLE pooled_probe")


def test_a_pipeline_is_not_torn(client: Connection) -> None:
    with client.pipeline() as pipeline:
        cursors = [client.execute("SELECT pg_backend_pid()") for _ in range(3)]
        pipeline.sync()
        cursors += [client.execute("SELECT pg_backend_pid()") for _ in range(3)]
    assert [len({cursor.fetchone() for cursor in some}) for some in (cursors[:3], cursors[3:])] == [1, 1]


def test_who_is_refused_is_told(own: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="nowhere"):
        connect(own.replace("/postgres", "/nowhere"))


# -- the store -------------------------------------------------------------------------------------------------------------
def test_an_error_whose_answer_is_not_complete_holds_up_no_thread(client: Connection) -> None:
    """libpq waits for the rest when it is asked for too early, and Python's global lock is not free meanwhile."""
    faulthandler.dump_traceback_later(30, exit=True, file=sys.__stderr__)
    for _ in range(MANY):
        with pytest.raises(psycopg.errors.DivisionByZero):
            direct.execute(client, b"SELECT 1/0", (), is_prepared=False)
    faulthandler.cancel_dump_traceback_later()


def test_whoever_is_behind_a_pooler_knows() -> None:
    with connect(pooled(shared_url())) as client:
        assert wake.is_pooled(client)
    with connect(shared_url()) as straight:
        assert not wake.is_pooled(straight)


def opened(url: str) -> PostgresStore:
    store = open_store(url, "unit")
    assert isinstance(store, PostgresStore)
    store.open()
    return store


def test_nobody_listens_through_a_pooler_and_all_are_woken() -> None:
    url = empty_url()
    behind, straight = opened(pooled(url)), opened(url)
    woken = Event()
    for store, name in ((straight, "a"), (behind, "b")):
        woken.clear()
        behind.listen((), woken.set).idle(True)
        store.submit([New(id=name, task="t", args=b"x")])
        assert woken.wait(10)
    ear = behind._ringer._ear
    assert ear is not None
    assert not ear._can_hear
    behind.close()
    straight.close()


def test_what_others_listen_to_does_not_pile_up(client: Connection) -> None:
    for _ in range(MANY):
        client.execute("LISTEN probe")
    with connect(shared_url()) as straight:
        straight.execute("NOTIFY probe")
    direct.execute(client, b"SELECT pg_notify('probe', '')", (), is_prepared=False)
    assert client.pgconn.notifies() is None
