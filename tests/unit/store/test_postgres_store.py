"""What is special about the PostgreSQL store: servers that go away, schemas, poolers, and what an operation costs."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from pynenc.core.records import Beat, Blob, ClaimRequest, Filter, New, Outcome, Purge, Rate
from pynenc.core.status import InvocationStatus as S
from pynenc.exceptions import ConfigError, PynencError, SchemaError, StoreError
from pynenc.store import open_store
from pynenc.store.postgres import PostgresStore, direct, record, schema
from pynenc.store.postgres.database import Database
from pynenc.store.postgres.store import CYCLE, ServerClock, local_time
from pynenc.store.postgres.url import parse
from pynenc.testing.clock import SECOND, VirtualClock
from pynenc.testing.servers.postgres import PostgresServer, empty_url, new_url, shared_url, with_options

DAY = 86_400_000_000


def new(name: str, **fields: Any) -> New:
    return New(**{"id": name, "task": "t", "args": b"x"} | fields)


def opened(url: str, app_id: str = "unit") -> PostgresStore:
    store = open_store(url, app_id)
    assert isinstance(store, PostgresStore)
    store.open()
    return store


@pytest.fixture
def store() -> Iterator[PostgresStore]:
    store = opened(empty_url())
    store.heartbeat([Beat(id="r", group="r", lease=DAY, tasks=("t",))])
    yield store
    store.close()


def run_all(store: PostgresStore, limit: int = 100) -> int:
    """Claim and finish until nothing is left; how many it were."""
    count = 0
    batch = store.claim(ClaimRequest("r", limit)).batch
    while batch:
        outcomes = [Outcome(id=each.id, attempt=each.attempt, status=S.SUCCESS, payload=b"1") for each in batch]
        count += len(batch)
        batch = store.finish("r", outcomes, ClaimRequest("r", limit)).claim.batch
    return count


# -- servers that go away ------------------------------------------------------------------------------------------------
def eventually(action: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The result of an action that a server which is gone refuses."""
    until = monotonic() + seconds
    while True:
        try:
            return action()
        except StoreError as error:
            if not error.retryable or monotonic() > until:
                raise


def test_a_server_that_is_killed_and_restarted_loses_nothing() -> None:
    with PostgresServer(()) as server:
        store = opened(server.url)
        other = opened(server.url)
        woken = Event()
        listener = other.listen((), woken.set)
        store.heartbeat([Beat(id="r", group="r", lease=DAY, tasks=("t",))])
        store.submit([new("a"), new("b")])
        (claimed,) = store.claim(ClaimRequest("r", 1)).batch
        store.submit(
            [new("c")]
        )  # a claim alone may be undone by the death of the server; what is accepted after it makes it last
        server.kill()
        with pytest.raises(StoreError) as raised:
            store.finish("r", [Outcome(id="a", attempt=1, status=S.SUCCESS)])
        assert raised.value.retryable
        woken.clear()
        server.start()
        assert eventually(lambda: store.finish("r", [Outcome(id="a", attempt=1, status=S.SUCCESS)])).lost == ()
        assert claimed.id == "a"
        assert [each.status for each in store.get(["a", "b"])] == [S.SUCCESS, S.REGISTERED]
        # Whoever listens is woken once when the connection is there again, and hears of what comes then.
        assert woken.wait(30)
        woken.clear()
        listener.idle(True)
        store.submit([new("d")])
        assert woken.wait(10)
        assert store.check() == []
        store.close()
        other.close()


def test_a_restart_between_two_calls_is_not_noticed() -> None:
    with PostgresServer() as server:
        store = opened(server.url)
        store.submit([new("a")])
        server.restart()
        assert [each.id for each in store.submit([new("b")])] == ["b"]
        assert len(store.get(["a", "b"])) == 2
        store.close()


def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynenc.store.postgres.database.OPEN_SECONDS", 0.3)
    store = open_store("postgresql://me:hunter2@127.0.0.1:1/db?password=hunter3&connect_timeout=2", "unit")
    with pytest.raises(StoreError) as raised:
        store.open()
    assert raised.value.retryable
    for text in (str(raised.value), store.display_url):
        assert "127.0.0.1" in text
        assert "hunter" not in text


def test_opening_waits_for_a_server_that_starts() -> None:
    with PostgresServer() as server:
        server.stop()
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(opened, server.url)
            server.start()
            store = opening.result()
        store.submit([new("a")])
        store.close()


def test_a_refused_connection_is_final() -> None:
    store = open_store(urlsplit(shared_url())._replace(path="/nowhere").geturl(), "unit")
    started = monotonic()
    with pytest.raises(StoreError, match=r'refuses the connection.*"nowhere" does not exist') as raised:
        store.open()
    assert not raised.value.retryable
    assert monotonic() - started < 5


def test_another_isolation_of_transactions_is_refused(store: PostgresStore) -> None:
    """Whoever has waited for the turn of an app must see what was done before it."""
    strict = open_store(with_options(shared_url(), options="-c default_transaction_isolation=serializable"), "unit")
    with pytest.raises(StoreError, match="transactions are serializable by default, and must be read committed"):
        strict.open()


def test_a_store_that_cannot_be_opened_keeps_no_connection() -> None:
    url = new_url()
    opened(url).close()
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        connection.execute(f'ALTER FUNCTION "{parse(url).schema}".time RENAME TO late')
    store = open_store(url, "unit")
    assert isinstance(store, PostgresStore)
    with pytest.raises(PynencError, match="time"):
        store.open()
    assert store._database._idle == []


def test_a_wrong_option_of_the_connection_is_refused() -> None:
    started = monotonic()
    with pytest.raises(StoreError, match=r"refuses the connection.*unheard_of") as raised:
        open_store(with_options(shared_url(), options="-c unheard_of=1"), "unit").open()
    assert not raised.value.retryable
    assert monotonic() - started < 5


# -- schemas ---------------------------------------------------------------------------------------------------------------
def test_several_open_a_new_schema_at_once() -> None:
    url = new_url()
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda number: opened(url, f"app {number % 2}"), range(6)))
    assert [each.id for each in stores[0].submit([new("a")])] == ["a"]
    assert [len(each.get(["a"])) for each in stores] == [1, 0] * 3
    for each in stores:
        each.close()


def change_version(url: str, major: int, minor: int) -> None:
    settings = parse(url)
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        connection.execute(f'UPDATE "{settings.schema}".version SET major = {major}, minor = {minor}'.encode())


def test_a_schema_of_another_version_is_refused(store: PostgresStore) -> None:
    url = new_url()
    opened(url).close()
    change_version(url, 2, 0)
    with pytest.raises(SchemaError, match=r"has version 2\.0, and this version of pynenc knows 1\.\d+: upgrade"):
        opened(url)
    with pytest.raises(SchemaError, match=r"2\.0"):
        open_store(url, "unit").migrate()  # type: ignore[attr-defined]


def test_an_older_schema_says_how_to_migrate_it() -> None:
    url = new_url()
    opened(url).close()
    change_version(url, 0, 9)
    with pytest.raises(SchemaError, match="pynenc store migrate"):
        opened(url)


def back_to_the_first_version(url: str) -> None:
    settings = parse(url)
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        for statement in ("DROP INDEX @.inv_expiring", "DROP FUNCTION @.is_overdue", "DROP FUNCTION @.expire"):
            connection.execute(statement.replace("@", f'"{settings.schema}"').encode())
    change_version(url, 1, 0)


def test_a_schema_of_the_first_version_is_brought_to_this_one() -> None:
    """Version 1.0 has no index of what expires."""
    url = new_url()
    old = opened(url)
    past = old.clock.now() - 1_000_000
    old.submit([new("a", expires=past), new("b")])
    old.close()
    back_to_the_first_version(url)
    with pytest.raises(SchemaError, match="pynenc store migrate"):
        opened(url)
    open_store(url, "unit").migrate()  # type: ignore[attr-defined]
    store = opened(url)
    assert (store.expire(10), [row.status.value for row in store.get(["a", "b"])]) == (1, ["cancelled", "registered"])
    store.close()


def test_a_later_minor_version_is_understood() -> None:
    url = new_url()
    opened(url).close()
    change_version(url, 1, 7)
    later = opened(url)
    assert later.submit([new("a")])[0].id == "a"
    later.close()


def test_migrations_at_once_beside_a_worker() -> None:
    url = new_url()
    store = opened(url)
    store.heartbeat([Beat(id="r", group="r", lease=DAY, tasks=("t",))])
    stop = Event()
    failures: list[BaseException] = []

    def work() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                store.submit([new(f"n{number}")])
                run_all(store)
        except BaseException as error:
            failures.append(error)

    worker = Thread(target=work)
    worker.start()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            back_to_the_first_version(url)
            done = list(pool.map(lambda _: open_store(url, "unit").migrate(), range(4)))  # type: ignore[attr-defined]
            assert sorted(map(bool, done)) == [False, False, False, True]
    stop.set()
    worker.join()
    assert failures == []
    assert set(store.count(Filter())) == {"success"}
    store.close()


def test_the_sql_of_a_migration_can_be_run_by_hand() -> None:
    url = new_url()
    settings = parse(url)
    text = open_store(url, "unit").migration()  # type: ignore[attr-defined]
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        connection.execute(text.encode())
    hand = opened(url)
    assert hand.submit([new("a")])[0].id == "a"
    assert hand.migration() == ""
    hand.close()


def test_claims_of_rates_are_forgotten_with_their_rows_or_a_month_later() -> None:
    clock = VirtualClock()
    store = open_store(empty_url(), "unit", clock)
    assert isinstance(store, PostgresStore)
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=100 * DAY)])
    store.submit(
        [
            new("a", rate=Rate("short", 1, SECOND)),
            new("b", rate=Rate("long", 1, DAY)),
            new("c", rate=Rate("long", 2, SECOND)),
        ]
    )
    run_all(store)

    def purged(seconds: int) -> list[str]:
        clock.advance(seconds)
        store.purge(Purge(ended_before=clock.now()))
        return [key for (key,) in store._database.call("SELECT key FROM @rate")]

    assert purged(10) == ["long", "long"]
    assert purged(DAY // SECOND) == ["long", "long"], "their rows are gone already"
    assert purged(30 * DAY // SECOND) == []
    store.close()


# -- poolers ---------------------------------------------------------------------------------------------------------------
def test_without_listen_and_prepared_statements() -> None:
    """As behind a pooler that gives each transaction to another server process."""
    url = empty_url() + "&listen=off&prepare=off"
    store, other = opened(url), opened(url)
    store.heartbeat([Beat(id="r", group="r", lease=DAY, tasks=("t",))])
    idle, final, order = Event(), Event(), Event()
    listener = store.listen((), idle.set)
    listener.idle(True)
    other.submit([new("a"), new("b", running_key="k")])
    assert idle.wait(10)
    watch = other.watch(["a"], final.set)
    assert run_all(store) == 2
    assert final.wait(10)
    watch.close()
    names = store._database.call("SELECT name FROM pg_prepared_statements")
    assert names == []
    assert not order.is_set()
    store.close()
    other.close()


def test_prepared_statements_that_get_lost_are_given_up(store: PostgresStore) -> None:
    store.submit([new("a")])
    connection = store._database._take()
    connection.execute("DEALLOCATE ALL")
    store._database._give_back(connection)
    assert [each.id for each in store.submit([new("b")])] == ["b"]
    assert store._database._prepares is False
    assert run_all(store) == 2


def test_options_of_a_url() -> None:
    settings = parse("postgres://me:pw@host:5/db?schema=Tasks&prepare=off&sslmode=require")
    assert (settings.schema, settings.prepare, settings.listen) == ("Tasks", False, None)
    assert [parse(f"postgres://host/db?listen={each}").listen for each in ("on", "off")] == [True, False]
    assert "sslmode=require" in settings.conninfo
    assert "schema" not in settings.conninfo
    with pytest.raises(ConfigError, match="prepare=on or off"):
        parse("postgresql://host/db?prepare=maybe")
    for name in ("it's", 'a"b', "1x", "x" * 64):
        with pytest.raises(ConfigError, match="letters, digits and underscores"):
            parse(f"postgresql://host/db?schema={name}")


@pytest.mark.parametrize("place", ["", "/db", "/db?host=%2Ftmp&port=5", "/?service=x"])
def test_a_url_without_a_host_is_left_to_the_driver(place: str) -> None:
    settings = parse(f"postgresql://{place}")
    told = psycopg.conninfo.conninfo_to_dict(settings.conninfo)
    assert settings.display == f"postgresql://{place}"
    assert {told.get(name) for name in ("dbname", "host", "service")} - {None} <= {"db", "/tmp", "x"}
    assert ("db" in place) == ("dbname" in told)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pynenc.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r'pip install "pynenc\[postgres\]"'):
        open_store("postgresql://host/db", "unit")


# -- time ------------------------------------------------------------------------------------------------------------------
def test_the_clock_follows_the_server_within_what_its_answers_say() -> None:
    clock = ServerClock()
    here = local_time()
    clock.learn(here + 500, here - 4_000, here + 4_000)  # it can be the same time
    assert abs(clock.now() - local_time()) < 2_000
    clock.learn(here + 60_000_000, here - 1_000, here + 3_000)  # a minute ahead
    assert 59_995_000 < clock.now() - local_time() < 60_001_000
    clock.learn(here + 60_000_500, here - 1_000, here + 1_000)
    assert 59_998_000 < clock.now() - local_time() < 60_002_000
    clock.learn(here - 1_000_000, here, here + 100)  # it was set back
    assert -1_002_000 < clock.now() - local_time() < -997_000


def test_what_waits_for_its_turn_happens_then(store: PostgresStore) -> None:
    """So that two holders of a key follow one another in the history as well."""
    store.submit([new("a", running_key="k"), new("b", running_key="k")])
    (first,) = store.claim(ClaimRequest("r", 2)).batch
    ended = Outcome(id=first.id, attempt=first.attempt, status=S.SUCCESS)
    lock, waits = schema.LOCKS["LOCK_TURN"], "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(parse(shared_url()).conninfo) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s::integer)", (lock, store._database.app))
        finishing = pool.submit(store.finish, "r", [ended], ClaimRequest("r", 1))
        while other.execute(waits).fetchone() == (0,):
            pass
        (turn,) = other.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone() or (0,)
        other.commit()
        (then,) = finishing.result(30).claim.batch
    assert [entry.at >= turn for entry in store.history(["a"])][-1]
    assert then.id == "b"
    assert then.claimed >= turn


# -- values ----------------------------------------------------------------------------------------------------------------
def test_what_postgresql_cannot_store_is_refused_or_replaced(store: PostgresStore) -> None:
    for text in ("a\0b", "\ud800"):
        with pytest.raises(PynencError) as raised:
            store.submit([new(text)])
        assert not getattr(raised.value, "retryable", False)
    store.submit([new("a")])
    (claimed,) = store.claim(ClaimRequest("r", 1)).batch
    assert store.finish("r", [Outcome(id="a", attempt=claimed.attempt, status=S.FAILED, reason="a\0b")]).lost == ()
    assert store.get(["a"])[0].reason == "a\N{REPLACEMENT CHARACTER}b"


def test_callers_that_meet_are_served_together(store: PostgresStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: store.submit([new(f"n{number}")])[0].id, range(300)))
    assert answers == [f"n{number}" for number in range(300)]
    assert run_all(store) == 300


def test_an_error_of_one_caller_does_not_touch_the_others(store: PostgresStore) -> None:
    def submit(number: int) -> str:
        try:
            return store.submit([new(f"n{number}" if number % 5 else f"n\0{number}")])[0].id
        except StoreError:
            return "refused"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submit, range(100)))
    assert answers == [f"n{number}" if number % 5 else "refused" for number in range(100)]


# -- costs -----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the server: a line for each round trip."""
    made: list[str] = []
    execute, pipeline = direct.execute, Database._pipeline

    def traced(connection: Any, text: bytes, values: Any, **options: Any) -> Any:
        made.append(text.decode().partition("(")[0].split(".")[-1])
        return execute(connection, text, values, **options)

    def traced_pipeline(self: Database, connection: Any, calls: Any) -> Any:
        made.append("pipeline")
        return pipeline(self, connection, calls)

    monkeypatch.setattr(direct, "execute", traced)
    monkeypatch.setattr(Database, "_pipeline", traced_pipeline)
    return made


def test_each_operation_is_one_round_trip_and_one_transaction(store: PostgresStore, trips: list[str]) -> None:
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: store.submit([new("a")]), "submit_alike"),
        (lambda: store.submit([new(f"b{n}") for n in range(500)]), "submit_alike"),
        (lambda: store.submit([new("c", running_key="k", blobs=("k1",))], [Blob("k1", b"", 0)]), "pipeline"),
        (lambda: store.claim(ClaimRequest("r", 1)), "cycle"),
        (lambda: store.finish("r", [Outcome(id="a", attempt=1, status=S.SUCCESS)], ClaimRequest("r", 100)), "cycle"),
        (lambda: store.finish("r", [Outcome(id="b1", attempt=1, status=S.RETRY)]), "cycle"),
        (lambda: store.finals(["a"]), "inv WHERE app = $1 AND id = ANY "),
        (lambda: store.heartbeat([Beat(id="r", group="r", lease=DAY)]), "pipeline"),
    ]
    for step, expected in steps:
        trips.clear()
        step()
        assert trips == [expected]


#: What is left of what was undone is in the way as long as any transaction is open that might see it, also one of another test.
MUCH = 1.5


def blocks(store: PostgresStore, limit: int = 100, *ended: Outcome) -> int:
    """Blocks that it touches to finish, and to claim ``limit``; it is undone.

    The least of several times: the first one reads the catalogue, and so does any other one when tests beside this one have changed that meanwhile.
    """
    request = ClaimRequest("r", limit)
    _, hint = store._hint(request)
    values = (store._database.app, 0, "r", *record.outcome_values(ended), *record.claim_values(request), hint, "me")
    text = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + store._database.text(CYCLE)
    connection = store._database._take()
    touched = []
    try:
        for _ in range(10):
            connection.execute("BEGIN")
            (plan,) = direct.execute(connection, text, values, is_prepared=False)
            connection.execute("ROLLBACK")
            found = plan[0][0]["Plan"]
            assert found["Actual Rows"] == limit + 1
            touched.append(int(found["Shared Hit Blocks"]) + int(found["Shared Read Blocks"]))
    finally:
        store._database._give_back(connection)
    return min(touched)


def least(store: PostgresStore, most: float, *of: Any) -> int:
    """As :func:`blocks`, looked at again for a while if it is more than ``most``: what other tests do on the server can only add to it."""
    until = time.monotonic() + 30
    while (found := blocks(store, *of)) > most and time.monotonic() < until:
        time.sleep(0.5)
    return found


def fill(store: PostgresStore, count: int, **columns: str) -> None:
    """Many rows, made on the server."""
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    schema = store._database.quoted_schema
    store._database.transaction(
        lambda ask: ask(
            f"INSERT INTO {schema}.inv (app, id, task, queue, created, args{names}) "
            f"SELECT {store._database.app}, gen_random_uuid()::text, 't', 'default', 1, 'x'{values} FROM generate_series(1, {count})"
        )
    )


def test_a_claim_costs_the_same_whatever_waits(store: PostgresStore) -> None:
    store.submit([new(f"n{number}") for number in range(1000)])
    few = blocks(store)
    fill(store, 100_000)
    assert least(store, MUCH * few) <= MUCH * few
    fill(
        store, 10_000, place="2", status="8", why="1", behind="'k'", running_key="'k'"
    )  # parked on one key, as submission does
    assert least(store, MUCH * few) <= MUCH * few


def test_freeing_a_key_costs_the_same_however_many_wait_for_it(store: PostgresStore) -> None:
    store.submit([new(f"n{number}", running_key="k") for number in range(20)])
    (claimed,) = store.claim(ClaimRequest("r", 1)).batch
    ended = Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS)
    few = blocks(store, 1, ended)
    fill(store, 20_000, place="2", status="8", why="1", behind="'k'", running_key="'k'")
    assert least(store, 1.25 * few + 10, 1, ended) <= 1.25 * few + 10


def test_no_statement_lets_the_planner_choose_the_index_of_all_ids() -> None:
    """It might where a table was analyzed when it was nearly empty, and read what is left of all rows: a number is enough, and an order names its index."""
    text = "\n".join(schema.statements("s", None))
    by_number = r"\binv(?: i)? WHERE (?:i\.)?app = [a-z_.]+ AND (?:i\.)?seq (?:=|IN)|WHERE app = r\.app AND seq"
    assert not re.findall(by_number, text)
    hot = [line for line in text.splitlines() if "enable_material = off" in line]
    assert len(hot) == 4
    assert all("enable_sort = off" in line for line in hot)
    assert not re.findall(r"EXISTS \(SELECT 1 FROM \S+inv WHERE[^()]*timer <= now\)", text)


def test_what_was_analyzed_when_it_was_empty_is_read_by_the_right_index(store: PostgresStore) -> None:
    """The planner takes all indices for alike then; that of all ids has what is left of many rows, which nobody has vacuumed."""
    schema = store._database.quoted_schema
    with psycopg.connect(parse(shared_url()).conninfo, autocommit=True) as client:
        client.execute(f"VACUUM ANALYZE {schema}.inv".encode())
        fill(store, 20_000, place="2", status="8", why="1", behind="'of others'", running_key="'of others'")
        client.execute(f"DELETE FROM {schema}.inv".encode())
        client.execute(f"ANALYZE {schema}.inv".encode())
        store.submit([new(f"n{number}", running_key="k") for number in range(20)])
        (claimed,) = store.claim(ClaimRequest("r", 1)).batch
        ended = Outcome(id=claimed.id, attempt=claimed.attempt, status=S.SUCCESS)
        found = blocks(store, 1, ended)
        client.execute(f"VACUUM ANALYZE {schema}.inv".encode())
        assert found <= 1.25 * blocks(store, 1, ended) + 10


def test_a_claim_costs_the_same_under_a_pinned_snapshot(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynenc.store.postgres.store.HINT_SECONDS", 1000.0)
    store.submit([new(f"n{number}") for number in range(12_000)])
    few = blocks(store)
    with psycopg.connect(parse(shared_url()).conninfo) as pin:
        pin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pin.execute("SELECT 1 FROM pg_class LIMIT 1")
        batch = store.claim(ClaimRequest("r", 500)).batch
        for _ in range(15):
            outcomes = [Outcome(id=each.id, attempt=each.attempt, status=S.SUCCESS) for each in batch]
            batch = store.finish("r", outcomes, ClaimRequest("r", 500)).claim.batch
        assert store._hints
        assert least(store, MUCH * few) <= MUCH * few
        pin.rollback()


def test_what_is_larger_than_the_buffers_of_the_network_arrives(store: PostgresStore) -> None:
    data = bytes(range(256)) * (32 * 4096)
    store.put_blobs([Blob("large", data, len(data))])
    assert store.get_blobs(["large"]) == {"large": data}
