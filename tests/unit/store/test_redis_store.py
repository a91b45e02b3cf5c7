"""What is the Redis store's own: what a step costs the server, what it refuses, outages, wake-ups between processes, and that its check finds what is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Beat,
    Blob,
    Change,
    ChangeKind,
    Claimed,
    ClaimRequest,
    Filter,
    New,
    Outcome,
    Page,
    Purge,
    QueueState,
    Rate,
    Ref,
)
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, SchemaError, StoreError
from pynenc.store import open_store
from pynenc.store.redis import RedisStore, safety
from pynenc.store.redis.bell import Bell
from pynenc.store.redis.options import display, parse
from pynenc.testing.clock import SECOND, VirtualClock
from pynenc.testing.servers.redis import RedisServer, free_port, program_of
from pynenc.testing.store_suite.base import Waker
from tests.servers import client_of, url_for

S = InvocationStatus
KINDS = [kind for kind in ("valkey", "redis") if program_of(kind)]
PREFIX = "pynenc:{unit}:"


def new(name: str, **fields: object) -> New:
    return New(**{"id": name, "task": "m.task", "args": b"{}"} | fields)


def beat(store: RedisStore, runner: str = "r", **fields: object) -> None:
    store.heartbeat([Beat(**{"id": runner, "group": runner, "lease": 3600 * SECOND} | fields)])


def take(store: RedisStore, limit: int = 1, **fields: object) -> tuple[Claimed, ...]:
    return store.claim(ClaimRequest("r", limit, **fields)).batch


def end(claimed: Claimed, status: InvocationStatus = S.SUCCESS, **fields: object) -> Outcome:
    return Outcome(id=claimed.id, attempt=claimed.attempt, status=status, **fields)


def opened(url: str, **fields: object) -> RedisStore:
    store = RedisStore(url, "unit", **fields)
    store.open()
    return store


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_for(tmp_path, request.param)


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    store = opened(url)
    beat(store)
    yield store
    if store._link.is_open:
        assert store.check() == []
        store.close()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of its own, that a test may kill; what it acknowledged is on the disk."""
    with RedisServer(aof="always") as server:
        yield server


# -- what a step costs ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=KINDS)
def own(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server for nobody else: it counts for all its databases together."""
    with RedisServer(request.param) as server:
        yield server.url


@pytest.fixture
def quiet(own: str) -> Iterator[RedisStore]:
    with client_of(own) as client:
        client.flushdb()
    store = opened(own)
    beat(store)
    yield store
    assert store.check() == []
    store.close()


def commands_of(url: str, action: Callable[[], object]) -> dict[str, int]:
    """The commands that an action makes the server carry out, those of scripts included."""
    with client_of(url) as client:
        client.config_resetstat()
        action()
        found = client.info("commandstats")
    ours = {"info", "config|resetstat", "config", "time", "client|setinfo", "select", "client"}
    counts = {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}
    return {name: calls for name, calls in counts.items() if name not in ours}


def test_each_operation_is_one_round_trip(quiet: RedisStore, own: str) -> None:
    quiet.submit([new("warm")])
    quiet.finish("r", [end(take(quiet)[0])], ClaimRequest("r", 1))
    batch: list[Claimed] = []
    steps = {
        "submit": lambda: quiet.submit([new(f"n{i}") for i in range(1000)]),
        "claim": lambda: batch.extend(take(quiet, 500)),
        "finish": lambda: quiet.finish("r", [end(claimed) for claimed in batch], ClaimRequest("r", 500)),
        "finals": lambda: quiet.finals([claimed.id for claimed in batch]),
    }
    for name, step in steps.items():
        assert commands_of(own, step)["evalsha"] == 1, name
    # Whoever listens looks once when the connection is there.
    watch = commands_of(own, lambda: quiet.watch(["n999"], lambda: None, waiter=Ref("n998", 1)))
    assert 1 <= watch["evalsha"] <= 2


def test_submission_costs_the_same_few_commands_for_any_number(quiet: RedisStore, own: str) -> None:
    quiet.submit([new("first")])
    one = commands_of(own, lambda: quiet.submit([new("second")]))
    many = commands_of(own, lambda: quiet.submit([new(f"n{i}") for i in range(400)]))
    assert sum(one.values()) <= 10
    assert sum(many.values()) <= sum(one.values()) + 5  # a block of the order may begin


def test_claim_costs_the_same_whatever_waits(quiet: RedisStore, own: str) -> None:
    quiet.submit([new("k0", running_key="k")])
    quiet.submit([new(f"a{i}") for i in range(1000)])
    assert len(take(quiet, 11)) == 11
    few = commands_of(own, lambda: take(quiet, 10))
    for at in range(0, 100_000, 2000):
        quiet.submit([new(f"b{at + i}") for i in range(2000)])
    for at in range(0, 3000, 500):
        quiet.submit([new(f"p{at + i}", running_key="k") for i in range(500)])
    assert commands_of(own, lambda: take(quiet, 10)) == few
    with client_of(own) as client:
        client.flushdb()


def test_claim_of_a_thousand_costs_the_commands_of_one(quiet: RedisStore, own: str) -> None:
    quiet.submit([new(f"n{i}") for i in range(2000)])
    take(quiet, 1)  # the first of a server loads the script
    one = commands_of(own, lambda: take(quiet, 1))
    many = commands_of(own, lambda: take(quiet, 1000))
    assert sum(many.values()) == sum(one.values())


def test_reactions_to_other_tasks_cost_a_finish_three_commands(quiet: RedisStore, own: str) -> None:
    quiet.submit([new(f"n{i}") for i in range(400)])
    first, second = take(quiet, 200), take(quiet, 200)
    before = commands_of(own, lambda: quiet.finish("r", [end(claimed) for claimed in first]))
    quiet.subscribe("o", [Reaction("elsewhere", S.SUCCESS, new("", task="pynenc.trigger.test"))])
    after = commands_of(own, lambda: quiet.finish("r", [end(claimed) for claimed in second]))
    assert sum(after.values()) <= sum(before.values()) + 3, (before, after)
    assert sum(before.values()) <= 10


def test_memory_of_a_waiting_invocation_is_bounded(quiet: RedisStore, own: str) -> None:
    count, args = 10_000, b"x" * 100
    names = [f"019ac0de-0000-7000-8000-{i:012}" for i in range(count)]
    with client_of(own) as client:
        before = client.info("memory")["used_memory"]
        quiet.submit([new(name, task="shop.tasks.send_mail", args=args) for name in names])
        each = (client.info("memory")["used_memory"] - before) / count - len(args)
        client.flushdb()
    assert each < 400


# -- what is refused -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused(policy: str) -> None:
    with RedisServer(more=("--maxmemory-policy", policy)) as server, pytest.raises(StoreError, match=policy) as raised:
        opened(server.url)
    assert not raised.value.retryable


def test_a_missing_append_only_file_is_said_once(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    safety._warned.clear()
    with RedisServer() as forgetful:
        for _ in range(2):
            store = opened(forgetful.url)
            assert [line for line in store.advice() if "appendonly" in line]
            store.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    store = opened(server.url)
    assert store.advice() == []
    store.close()


def test_keys_of_another_layout_are_refused(url: str) -> None:
    with client_of(url) as client:
        client.set(f"{PREFIX}version", safety.VERSION + 1)
    with pytest.raises(SchemaError, match=f"layout {safety.VERSION + 1}"):
        opened(url)


@pytest.mark.parametrize("kind", KINDS)
def test_full_memory_refuses_submissions_before_anything_is_written(kind: str) -> None:
    with RedisServer(kind) as server, redis.Redis.from_url(server.url) as client:
        store = opened(server.url)
        beat(store)
        store.submit([new("a"), new("b", running_key="k"), new("c", running_key="k")])
        batch = take(store, 9)
        before = client.dbsize(), client.get(f"{PREFIX}seq")
        client.config_set("maxmemory", 1)
        for call in (new("x"), new("y", running_key="k")):
            with pytest.raises(StoreError, match="maxmemory") as raised:
                store.submit([call])
            assert raised.value.retryable
        assert (client.dbsize(), client.get(f"{PREFIX}seq")) == before
        if kind == "valkey":  # newer servers let a script say that it may go on
            assert store.finish("r", [end(claimed) for claimed in batch]).lost == ()
            assert store.purge(Purge(ended_before=store.clock.now() + SECOND)).invocations == 2
        client.config_set("maxmemory", 0)
        store.submit([new("x")])
        assert store.check() == []
        store.close()


def test_passwords_are_shown_nowhere() -> None:
    with RedisServer(more=("--requirepass", "s3cret")) as server:
        right = server.url.replace("//", "//:s3cret@")
        wrong = server.url.replace("//", "//someone:wr0ng@")
        store = opened(right)
        assert "s3cret" not in store.display_url
        store.close()
        with pytest.raises(StoreError) as raised:
            opened(wrong)
        assert "wr0ng" not in str(raised.value)
        assert not raised.value.retryable
    assert (
        display("rediss://u:p@h:1/2?ssl_keyfile_password=x&timeout=3")
        == "rediss://u@h:1/2?ssl_keyfile_password=***&timeout=3"
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("http://host", "no URL of Redis"),
        ("redis://host?timeout=soon", "timeout must be a number"),
        ("redis://host?timeout=nan", "timeout must be a number"),
        ("redis://host?wait_aof=-1", "wait_aof must be a whole number"),
        ("redis://host?wait_aof=1.5", "wait_aof must be a whole number"),
        ("redis://host:port", "cannot be read"),
        ("redis://host/jobs", "a database of Redis is a number"),
        ("redis://host?timeuot=3", "no option 'timeuot'"),
        ("redis://host?decode_responses=true", "values are bytes"),
    ],
)
def test_urls_that_say_nothing_are_refused(wrong: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        RedisStore(wrong, "unit")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_schemes_of_both_servers_are_known(scheme: str) -> None:
    store = open_store(f"{scheme}://host:7000/3", "unit")
    assert isinstance(store, RedisStore)
    options = parse(f"{scheme}://host:7000/3")
    assert (options.connection["host"], options.connection["port"], options.connection["db"]) == ("host", 7000, 3)
    assert ("SSL" in options.connection_class.__name__) == (scheme in ("rediss", "valkeys"))


def test_a_missing_driver_says_what_to_install() -> None:
    code = "import sys; sys.modules['redis'] = None\nfrom pynenc.store import open_store\nopen_store('redis://host', 'unit')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'ConfigError: the driver of Redis is not installed: pip install "pynenc[redis]"' in done.stderr


def test_no_connection_names_the_server() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", "unit")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1") as raised:
        store.open()
    assert raised.value.retryable


def test_a_user_needs_no_more_than_the_documentation_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guides" / "redis.md").read_text()
    rules = "~pynenc:* &pynenc:* +@all -@admin -@dangerous +info"
    assert rules.partition("+@")[2] in page
    with RedisServer(aof="always") as server, redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "jobs", "on", ">secret", *rules.split())
        store = opened(server.url.replace("//", "//jobs:secret@") + "?wait_aof=1")
        beat(store)
        waker = Waker()
        store.listen((), waker).idle(True)
        store.submit([new("a")])
        assert waker.came()
        store.watch(["a"], waker)
        store.finish("r", [end(take(store)[0])])
        assert waker.came()
        assert store.purge(Purge(everything=True)).invocations == 1
        assert (store.check(), store.advice()) == ([], [])
        store.close()


def test_a_cluster_is_followed_to_the_server_of_the_slot() -> None:
    ports = [free_port(), free_port()]
    servers = [
        RedisServer(aof="always", more=("--cluster-enabled", "yes", "--cluster-port", str(port))) for port in ports
    ]
    with servers[0] as one, servers[1] as two:
        clients = [redis.Redis.from_url(server.url, decode_responses=True) for server in (one, two)]
        for client, slots in zip(clients, ((0, 8191), (8192, 16383)), strict=True):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, ports[1])
        deadline = time.monotonic() + 30
        while not all("cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")) for client in clients):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for server in (one, two):
            store = opened(server.url)
            waker = Waker()
            store.listen((), waker).idle(True)
            beat(store)
            store.submit([new(f"of {server.port}")])
            assert waker.came()
            assert take(store)[0].id == f"of {server.port}"
            assert store.check() == []
            store.close()
        for client in clients:
            client.close()


# -- durability on request -----------------------------------------------------------------------------------------------
def test_a_write_waits_for_the_append_only_file(server: RedisServer) -> None:
    store = opened(f"{server.url}?wait_aof=1")
    beat(store)
    store.submit([new("a")])
    assert store.finish("r", [end(take(store)[0])]).lost == ()
    store.close()


def test_too_few_replicas_are_told_and_nothing_is_written_twice(url: str) -> None:
    joint = "&" if "?" in url else "?"
    store = opened(f"{url}{joint}wait_replicas=1&wait_timeout=0.01")
    for _ in range(2):
        with pytest.raises(StoreError, match="WAIT") as raised:
            store.submit([new("a")])
        assert raised.value.retryable
    assert store.count(Filter()) == {"registered": 1}
    store.close()


def test_without_an_append_only_file_waiting_for_it_is_refused() -> None:
    with RedisServer() as server, pytest.raises(StoreError, match=r"wait_aof.*appendonly") as raised:
        opened(f"{server.url}?wait_aof=1")
    assert not raised.value.retryable


def test_a_server_that_cannot_wait_for_its_file_is_refused_before_anything_is_written(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safety, "WAITAOF_SINCE", (999,))
    with pytest.raises(StoreError, match=r"wait_aof needs Redis 7\.2") as raised:
        opened(f"{server.url}?wait_aof=1")
    assert not raised.value.retryable


# -- outages -------------------------------------------------------------------------------------------------------------
def test_scripts_that_the_server_forgot_are_sent_again(store: RedisStore, url: str) -> None:
    store.submit([new("a")])
    with client_of(url) as client:
        client.script_flush()
    store.submit([new("b")])
    assert [claimed.id for claimed in take(store, 2)] == ["a", "b"]


def test_what_was_accepted_survives_the_death_of_the_server(server: RedisServer) -> None:
    store = opened(server.url)
    beat(store)
    accepted: list[str] = []
    for i in range(50):
        store.submit([new(f"n{i:02}", running_key=f"k{i % 3}")])
        accepted.append(f"n{i:02}")
    first = take(store, 2)
    store.finish("r", [end(first[0], payload=b"1")])
    server.kill()
    with pytest.raises(StoreError) as raised:
        store.submit([new("lost")])
    assert raised.value.retryable
    server.start()
    assert [row.id for row in store.find(Filter(), Page(100, "", oldest_first=True)).invocations] == accepted
    assert [final.payload for final in store.finals([first[0].id])] == [b"1"]
    assert store.finish("r", [end(first[1])]).lost == ()
    assert store.check() == []
    store.close()


def test_whoever_waits_is_woken_when_the_server_comes_back(server: RedisServer) -> None:
    store, other = opened(server.url), opened(server.url)
    beat(store)
    store.submit([new("a")])
    (claimed,) = take(store)
    result, work = Waker(), Waker()
    watch = other.watch(["a"], result)
    listener = other.listen((), work)
    listener.idle(True)
    server.kill()
    server.start()
    assert result.came()
    assert work.came()
    listener.idle(True)
    store.submit([new("b")])
    assert work.came()
    result.forget()
    store.finish("r", [end(claimed, payload=b"1")])
    assert result.came()
    assert watch.final is not None
    assert watch.final.payload == b"1"
    other.close()
    store.close()


def test_a_broken_listening_connection_is_made_again(store: RedisStore, url: str) -> None:
    other = opened(url)
    waker = Waker()
    other.listen((), waker).idle(True)
    with client_of(url) as client:
        client.client_kill_filter(_type="pubsub")
    assert waker.came()
    other.close()


def test_a_connection_that_the_server_closed_is_not_used(store: RedisStore, url: str) -> None:
    store.submit([new("a")])
    with client_of(url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    store.submit([new("b")])
    assert len(store.get(["a", "b"])) == 2


def test_a_silent_server_is_told_after_the_timeout(server: RedisServer) -> None:
    store = opened(f"{server.url}?timeout=0.2")
    server.pause()
    try:
        with pytest.raises(StoreError) as raised:
            store.submit([new("a")])
        assert raised.value.retryable
    finally:
        server.go_on()
    assert store.submit([new("a")])[0].id == "a"
    assert store.count(Filter()) == {"registered": 1}
    store.close()


def test_a_forked_child_has_connections_of_its_own(store: RedisStore) -> None:
    import os

    store.submit([new("a")])
    store.watch(["a"], lambda: None)
    pid = os.fork()
    if pid == 0:
        try:
            store.submit([new("b")])
            os._exit(0 if len(store.get(["a", "b"])) == 2 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(store.get(["a", "b"])) == 2


# -- wake-ups ------------------------------------------------------------------------------------------------------------
def test_one_call_wakes_one_of_many_idle_processes(store: RedisStore, url: str) -> None:
    others = [opened(url) for _ in range(5)]
    wakers = [Waker() for _ in others]
    for other, waker in zip(others, wakers, strict=True):
        other.listen((), waker).idle(True)
    with client_of(url) as client:
        store.submit([new("a")])
        assert client.hlen(f"{PREFIX}idle") == 4
        store.submit([new("b"), new("c")])
        assert client.hlen(f"{PREFIX}idle") == 2
    deadline = time.monotonic() + 10
    while sum(waker.came_already() for waker in wakers) < 3:
        assert time.monotonic() < deadline
    assert sum(waker.came_already() for waker in wakers) == 3
    for other in others:
        other.close()


def test_who_is_busy_again_passes_a_wake_up_on(store: RedisStore, url: str) -> None:
    busy, idle = opened(url), opened(url)
    ignored, waker = Waker(), Waker()
    listener = busy.listen((), ignored)
    listener.idle(True)
    listener.idle(False)
    idle.listen((), waker)
    with client_of(url) as client:
        client.hset(f"{PREFIX}idle", busy._ringer.client, "")
        store.submit([new("warm")])
        idle._ringer._listeners[0].idle(True)
        client.hset(f"{PREFIX}idle", busy._ringer.client, "")
    for i in range(2):
        store.submit([new(f"n{i}")])
    assert waker.came()
    assert not ignored.came_already()
    busy.close()
    idle.close()


def test_a_process_that_died_idle_takes_no_wake_up(store: RedisStore, url: str) -> None:
    other = opened(url)
    waker = Waker()
    other.listen((), waker).idle(True)
    with client_of(url) as client:
        for i in range(3):
            client.hset(f"{PREFIX}idle", f"{i}dead", "")
    store.submit([new("a")])
    assert waker.came()
    other.close()


def test_idle_for_one_queue_is_not_woken_by_another(store: RedisStore, url: str) -> None:
    other = opened(url)
    other.listen(("x",), lambda: None).idle(True)
    with client_of(url) as client:
        store.submit([new("a", queue="y")])
        assert client.hlen(f"{PREFIX}idle") == 1
        store.submit([new("b", queue="x")])
        assert client.hlen(f"{PREFIX}idle") == 0
    other.close()


def test_nobody_is_idle_between_a_wake_up_and_the_claim_that_finds_nothing(store: RedisStore, url: str) -> None:
    waker = Waker()
    listener = store.listen((), waker)
    listener.idle(True)
    other = opened(url)
    for i in range(20):
        other.submit([new(f"n{i}")])
        assert waker.came()
        listener.idle(True)
        while take(store, 5):
            pass
    other.close()


def test_a_lone_result_comes_with_the_letter(store: RedisStore, url: str) -> None:
    other = opened(url)
    store.submit([new("a"), new("b")])
    waker = Waker()
    lone, both = other.watch(["a"], waker), other.watch(["a", "b"], waker)
    store.finish("r", [end(claimed, payload=b"42") for claimed in take(store, 2)])
    assert waker.came()
    deadline = time.monotonic() + 10
    while lone.final is None:
        assert time.monotonic() < deadline
    assert lone.final.payload == b"42"
    assert both.final is None
    late = other.watch(["a"], waker)
    assert late.final == lone.final
    other.close()


def test_a_letter_of_before_a_retry_by_hand_is_not_believed(store: RedisStore, url: str) -> None:
    other = opened(url)
    letters: list[bytes] = []
    bell = other._ringer
    bell._deliver = letters.append  # type: ignore[method-assign]
    store.submit([new("a")])
    early = other.watch(["a"], Waker())
    store.finish("r", [end(claimed) for claimed in take(store, 1)])
    deadline = time.monotonic() + 10
    while not letters:
        assert time.monotonic() < deadline
    store.amend(["a"], Change(ChangeKind.REQUEUE))
    late = other.watch(["a"], Waker())
    Bell._deliver(bell, letters[0])
    assert (early.final is not None, late.final) == (True, None)
    other.close()


# -- time ----------------------------------------------------------------------------------------------------------------
def test_time_is_that_of_the_server(store: RedisStore, url: str) -> None:
    with client_of(url) as client:
        seconds, rest = client.time()
    before = seconds * SECOND + rest
    store.submit([new("a")])
    assert before <= store.get(["a"])[0].created <= store.clock.now()


def test_leases_end_by_the_time_of_the_server(store: RedisStore) -> None:
    store.heartbeat([Beat(id="short", group="short", lease=1)])
    assert {info.beat.id: info.alive for info in store.runners()} == {"r": True, "short": False}


# -- large things --------------------------------------------------------------------------------------------------------
def test_a_batch_beyond_the_stack_of_lua_is_one_unit(store: RedisStore) -> None:
    names = [f"n{i}" for i in range(12_000)]
    store.submit([new(name, priority=float(i % 2)) for i, name in enumerate(names)])
    batch = take(store, 12_000)
    assert len(batch) == 12_000
    assert store.finish("r", [end(claimed, S.RETRY, retries=1) for claimed in batch]).lost == ()
    assert len(take(store, 12_000)) == 12_000


def test_expired_ones_do_not_stop_the_server(store: RedisStore) -> None:
    past = store.clock.now() - 1
    store.submit([new(f"n{i}", expires=past) for i in range(5100)])
    store.submit([new("good")])
    answer = store.claim(ClaimRequest("r", 1))
    assert (answer.batch, answer.next_due > 0) == ((), True)
    while not answer.batch:
        answer = store.claim(ClaimRequest("r", 1))
    assert answer.batch[0].id == "good"


def test_pages_go_through_purged_blocks(store: RedisStore) -> None:
    names = [f"n{i:04}" for i in range(2000)]
    store.submit([new(name) for name in names])
    kept = set(names[100:110]) | set(names[1990:])
    for claimed in take(store, 2000):
        if claimed.id not in kept:
            store.finish("r", [end(claimed)])
    while store.purge(Purge(ended_before=store.clock.now() + SECOND, limit=300)).more:
        pass
    seen: list[str] = []
    page = Page(7)
    while True:
        found = store.find(Filter(), page)
        seen += [row.id for row in found.invocations]
        if not found.cursor:
            break
        page = Page(7, found.cursor)
    assert seen == sorted(kept, reverse=True)
    assert store.count(Filter(text="n199")) == {"pending": 10}
    with client_of(store.display_url) as client:
        assert client.zcard(f"{PREFIX}blocks") == 2


def test_purge_of_everything_leaves_no_key_behind(store: RedisStore, url: str) -> None:
    store.submit([new("a", running_key="k", rate=Rate("r", 1, SECOND), blobs=("b",))], [Blob("b", b"x", 1)])
    store.submit([new("c", running_key="k", cache_key="c", registration_key="g")])
    store.remember("scope", {"x": b"1"})
    (claimed,) = take(store)
    store.finish("r", [end(claimed, S.RETRY, retries=1)])
    store.retire(["r"])
    while store.purge(Purge(everything=True)).more:
        pass
    with client_of(url) as client:
        left = {key.decode().removeprefix(PREFIX) for key in client.scan_iter()}
    assert left <= {"version", "queues", "gone_runners", "parked"}


# -- the check finds what is wrong -----------------------------------------------------------------------------------------
HARMS: dict[str, Callable[[redis.Redis], object]] = {
    "missing in q:default:p": lambda c: c.zrem(f"{PREFIX}q:default:p", "ready"),
    "stands in q:default:p without reason": lambda c: c.zadd(f"{PREFIX}q:default:p", {"parked": 5}),
    "missing in own:r": lambda c: c.srem(f"{PREFIX}own:r", "claimed"),
    "stands in own:r without reason": lambda c: c.sadd(f"{PREFIX}own:r", "ready"),
    "is owned by a runner that is gone": lambda c: c.hdel(f"{PREFIX}runners", "r"),
    "missing in park:k": lambda c: c.delete(f"{PREFIX}park:k"),
    "missing in hold:k": lambda c: c.delete(f"{PREFIX}hold:k"),
    "is held by more than its limit": lambda c: c.sadd(f"{PREFIX}hold:k", "stranger"),
    "missing in later:default": lambda c: c.delete(f"{PREFIX}later:default"),
    "counts other rows": lambda c: c.hincrby(f"{PREFIX}removed", "0", 1),
    "tally: counts": lambda c: c.hset(f"{PREFIX}tally", next(iter(c.hgetall(f"{PREFIX}tally"))), 77),
    "parked: counts": lambda c: c.hincrby(f"{PREFIX}parked", "default", 1),
    "refs: counts": lambda c: c.hincrby(f"{PREFIX}refs", "b", 1),
    "refers to blob b, which is not there": lambda c: c.hdel(f"{PREFIX}blob", "b"),
    "has gaps": lambda c: c.rpop(f"{PREFIX}hist:again"),
    "knows that it waits for": lambda c: c.delete(f"{PREFIX}waiters:ready"),
    "has no head": lambda c: c.delete(f"{PREFIX}heads"),
    "does not hold its registration key": lambda c: c.delete(f"{PREFIX}reg"),
    "missing in cache:c": lambda c: c.delete(f"{PREFIX}cache:c"),
    "missing in gone": lambda c: c.delete(f"{PREFIX}gone"),
}


@pytest.mark.parametrize("problem", HARMS)
def test_the_check_finds(tmp_path: Path, problem: str) -> None:
    url = url_for(tmp_path)
    store = opened(url, clock=VirtualClock())
    beat(store)
    store.submit([new("claimed"), new("done", cache_key="c", result_ttl=SECOND), new("again")])
    claimed, done, again = take(store, 3)
    store.finish("r", [end(done), end(again, S.RETRY, retries=1)])
    store.submit([new("holder", running_key="k"), new("parked", running_key="k")])
    store.submit([new("ready", registration_key="g", blobs=("b",))], [Blob("b", b"x", 1)])
    store.submit([new("later", due=store.clock.now() + SECOND)])
    store.submit([new("head", rate=Rate("r", 1, SECOND)), new("behind", rate=Rate("r", 1, SECOND))])
    store.watch(["ready"], lambda: None, waiter=Ref(claimed.id, claimed.attempt))
    store.amend(["ready"], Change(ChangeKind.REPRIORITISE, priority=0.0))
    assert store.check() == []
    with client_of(url) as client:
        if "q:default:p" in problem:
            store.submit([new("ready2")])
        HARMS[problem](client) if problem != "missing in q:default:p" else client.zrem(f"{PREFIX}q:default:p", "ready2")
    assert any(problem in line for line in store.check()), store.check()
    store.close()


def test_the_check_of_a_store_that_is_not_open_asks_no_server() -> None:
    with pytest.raises(StoreError, match="call open") as raised:
        RedisStore("redis://127.0.0.1:1/0", "unit").check()
    assert not raised.value.retryable


def test_the_check_compares_no_counts_that_went_and_came_back(url: str) -> None:
    """A retry leaves them as they were before the claim."""
    with closing(opened(url)) as store, closing(opened(url)) as other:
        beat(store)
        store.submit([new("a")])
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                store.finish("r", [end(claimed, S.RETRY, retries=1) for claimed in take(store)])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert [problem for _ in range(60) for problem in other.check()] == []
        finally:
            over.set()
            thread.join()


def test_the_check_compares_no_counts_while_rows_change_places(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One goes where another comes from, in one step: no count changes, and the check may have seen either row alone."""
    clock = VirtualClock()
    with closing(opened(url, clock=clock)) as store, closing(opened(url, clock=clock)) as other:
        beat(store)
        store.submit([new(f"n{i:04}") for i in range(1000)])
        first, *rest, last = take(store, 1000)
        store.finish("r", [*map(end, rest), end(last, S.RETRY, retries=1, due=clock.now() + SECOND)])
        clock.advance(1)
        run, looks = other._link.run, []

        def look(name: str, *arguments: bytes | str | float, **fields: bool) -> object:
            if name == "check":
                looks.append(arguments)
                if len(looks) == 2:
                    later = end(first, S.RETRY, retries=1, due=clock.now() + SECOND)
                    assert [each.id for each in store.finish("r", [later], ClaimRequest("r", 1)).claim.batch] == [
                        last.id
                    ]
            return run(name, *arguments, **fields)

        monkeypatch.setattr(other._link, "run", look)
        assert other.check() == []
        assert len(looks) > 2


def test_rows_from_before_there_was_an_index_of_what_expires_are_sound(store: RedisStore) -> None:
    store.submit([new("a", expires=store.clock.now() + 60 * SECOND)])
    with client_of(store.display_url) as client:
        client.delete(f"{PREFIX}expiring")
        assert store.check() == []
        client.zadd(f"{PREFIX}expiring", {"a": 5})
        assert any("a is missing in expiring, or stands there with another score" in line for line in store.check())
        client.delete(f"{PREFIX}expiring")


def test_threads_share_a_store(store: RedisStore) -> None:
    def work(index: int) -> None:
        for i in range(50):
            store.submit([new(f"{index}-{i}")])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count(Filter()) == {"registered": 400}


def test_listening_begins_when_the_server_is_back(server: RedisServer) -> None:
    store, other = opened(server.url), opened(server.url)
    server.kill()
    waker = Waker()
    listener = other.listen((), waker)
    listener.idle(True)
    server.start()
    assert waker.came()
    listener.idle(True)
    store.submit([new("a")])
    assert waker.came()
    other.close()
    store.close()


# -- what somebody wrote by hand ---------------------------------------------------------------------------------------------
#: A reaction in its form, whose call cannot be read.
BAD_CALL = b"\x91\x95\xa1o\x01\xa7success\xa1x\xa1y"


def by_hand(store: RedisStore, *command: object) -> None:
    store._link.ask("HSET", PREFIX + str(command[0]), *command[1:])


@pytest.mark.parametrize("text", [b"{{{", b"\xc1", b"\x91\x01", BAD_CALL])
@pytest.mark.parametrize("task", ["m.task", ""])
def test_damaged_reactions_are_passed_by_and_told(
    url: str, text: bytes, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(url)
    beat(store)
    listener = store.listen((), lambda: None)
    store.subscribe("o", [Reaction("m.task" if not task else "", S.SUCCESS, new("", task="m.firing"), b"")])
    by_hand(store, "reactions", bytes([list(S).index(S.SUCCESS)]) + task.encode(), text)
    store.submit([new("a"), new("b")])
    a, b = take(store, 2)
    assert store.finish("r", [end(a)], ClaimRequest("r", 1)).claim.batch[0].id.startswith("o~a")
    assert store.finish("r", [end(b)]).lost == ()
    named = [problem for problem in store.check() if f"the reactions to {task or 'any task'} cannot be read" in problem]
    assert len(named) == (0 if text == BAD_CALL else 1)
    assert wait_until(lambda: f"reactions to {task or 'any task'}" in caplog.text)
    assert caplog.text.count("is passed by") == 1
    store.subscribe("mended", [Reaction(task, S.SUCCESS, new("", task="m.firing"), b"")])
    assert store.check() == []
    listener.close()
    store.close()


def wait_until(is_so: Callable[[], bool], patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    return is_so()


def test_a_damaged_state_of_a_queue_stops_no_claim(url: str) -> None:
    store = opened(url)
    beat(store)
    store.submit([new("a", queue="fast"), new("b")])
    by_hand(store, "queues", "fast", b"\xff?")
    by_hand(store, "idle", "nobody", b"\xc1")
    store.submit([new("c")])
    assert [queue.state.value for queue in store.queues()] == ["active", "active"]
    assert {claimed.id for claimed in take(store, 9)} == {"a", "b", "c"}
    assert [problem for problem in store.check() if "queue fast has a state" in problem]
    store.set_queue("fast", QueueState.ACTIVE)
    assert store.check() == []
    store.close()


@pytest.mark.parametrize("kind", ["row", "call"])
@pytest.mark.parametrize("text", [b"{{{", b"\xc1" * 200, b"cut"])
@pytest.mark.parametrize("wanted", [Purge(), Purge(everything=True), Purge(everything=True, limit=2)])
def test_a_damaged_final_keeps_no_purge_from_its_end(
    url: str, kind: str, text: bytes, wanted: Purge, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(url)
    beat(store)
    listener = store.listen((), lambda: None)
    store.submit([new(name, result_ttl=1) for name in "abcd"])
    store.finish("r", [end(each) for each in take(store, 4)])
    name = PREFIX + kind
    by_hand(store, kind, "b", store._link.ask("HGET", name, "b")[:60] if text == b"cut" else text)
    while store.purge(wanted).more:
        pass
    assert store.find(Filter()).invocations == ()
    assert (store._link.ask("HLEN", name), store._link.ask("ZCARD", PREFIX + "gone")) == (0, 0)
    assert wait_until(lambda: "the row of b, which is removed" in caplog.text)
    store.submit([new("b")])
    assert [claimed.id for claimed in take(store)] == ["b"]
    listener.close()
    store.close()
