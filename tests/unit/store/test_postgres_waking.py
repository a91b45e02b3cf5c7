"""Wake-ups of the PostgreSQL store: what a letter brings, and when it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pynenc.core.records import Beat, ClaimRequest, Final, New, Outcome
from pynenc.core.status import InvocationStatus as S
from pynenc.store import open_store
from pynenc.store.postgres import PostgresStore
from pynenc.store.postgres.wake import MOST_BYTES, Letter, Watch
from pynenc.store.sleeper import Sleeper
from pynenc.testing.servers.postgres import empty_url

DAY = 86_400_000_000
LONG = 30.0


@pytest.fixture
def pair() -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """The stores of a runner and of a client."""
    url = empty_url()
    stores = []
    for _ in range(2):
        store = open_store(url, "unit")
        assert isinstance(store, PostgresStore)
        store.open()
        stores.append(store)
    stores[0].heartbeat([Beat(id="r", group="r", lease=DAY, tasks=("m.t",))])
    yield stores[0], stores[1]
    for store in stores:
        store.close()


def submitted(store: PostgresStore, *names: str) -> None:
    store.submit([New(id=name, task="m.t", args=b"x") for name in names])


def finish(store: PostgresStore, **how: object) -> None:
    """End all that can be claimed, one by one."""
    for each in store.claim(ClaimRequest("r", 10)).batch:
        fields = {"status": S.SUCCESS, "payload": b"7"} | how
        store.finish("r", [Outcome(id=each.id, attempt=each.attempt, **fields)])  # type: ignore[arg-type]


def watched(store: PostgresStore, *names: str) -> tuple[Sleeper, Watch]:
    sleeper = Sleeper()
    watch = store.watch(names, sleeper)
    assert isinstance(watch, Watch)
    return sleeper, watch


def test_a_single_success_comes_with_the_letter(pair: tuple[PostgresStore, PostgresStore]) -> None:
    runner, client = pair
    submitted(client, "a", "b")
    sleeper, lone = watched(client, "a")
    _, both = watched(client, "a", "b")
    finish(runner)
    assert sleeper.is_woken(within=LONG)
    assert lone.final == Final("a", S.SUCCESS, "m.t", b"7")
    assert both.final is None


@pytest.mark.parametrize("how", [{"payload": b"7" * 1025}, {"status": S.FAILED}], ids=["large", "failed"])
def test_anything_else_is_read(pair: tuple[PostgresStore, PostgresStore], how: dict[str, object]) -> None:
    runner, client = pair
    submitted(client, "a")
    sleeper, watch = watched(client, "a")
    finish(runner, **how)
    assert sleeper.is_woken(within=LONG)
    assert watch.final is None
    assert client.finals(["a"])[0].payload == how.get("payload", b"7")


def test_a_letter_of_before_the_wait_is_not_believed(pair: tuple[PostgresStore, PostgresStore]) -> None:
    _, client = pair
    submitted(client, "a")
    before = client.clock.now() - 1_000_000
    sleeper, watch = watched(client, "a")
    old = Final("a", S.SUCCESS, "m.t", b"of before a retry by hand")
    client._ringer.receive(Letter(f=["a"], k=[(before, old)]).encode())
    assert sleeper.is_woken()
    assert watch.final is None


def test_a_letter_that_is_too_long_brings_less() -> None:
    results = [(1, Final(f"{n}", S.SUCCESS, "m.t", b"7" * 1000)) for n in range(8)]
    ids = [str(n) for n in range(8)]
    assert '"k"' not in (text := Letter(2, ids, results).encode())
    assert '"w":2' in text
    assert '"7"' in text
    many = [f"{n:036}" for n in range(300)]
    assert Letter(2, many, results).encode() == '{"w":2,"f":null}'
    assert len(Letter(2, ids[:5], results[:5]).encode()) < MOST_BYTES
