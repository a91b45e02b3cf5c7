"""Answers of a server that get lost: whoever called notices nothing, or is told; nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from pynenc import ConcurrencyControlType, Pynenc
from pynenc.core.records import Filter
from pynenc.exceptions import StoreError
from pynenc.invocation import DistributedInvocation, ReusedInvocation
from pynenc.testing.chaos.proxy import Proxy
from pynenc.testing.servers.postgres import empty_url
from pynenc.testing.servers.redis import RedisServer


def plus(x: int) -> int:
    return x + 1


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(aof="no") as server:
        yield server


@pytest.fixture(params=["postgresql", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return empty_url() if request.param == "postgresql" else str(request.getfixturevalue("server").url)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "", parts.port or 0)
    yield proxy
    proxy.close()


def minus(x: int) -> int:
    return x - 1


@pytest.fixture
def app(url: str, proxy: Proxy) -> Iterator[Pynenc]:
    parts = urlsplit(url)
    place = parts.netloc.replace(str(parts.port), str(proxy.port))
    app = Pynenc(app_id="lost", store=parts._replace(netloc=place).geturl())
    yield app
    app.close()


def test_a_call_that_was_sent_twice_is_the_callers_own(app: Pynenc, proxy: Proxy) -> None:
    task = app.task(plus)
    controlled = app.task(registration_concurrency=ConcurrencyControlType.ARGUMENTS)(minus)
    calls: tuple[Callable[[int], object], ...] = (
        task,
        lambda n: next(iter(task.parallelize([(n,), (n,)]))),
        controlled,
    )
    for call in calls:
        call(0)  # the server knows it now
        proxy.lose_next_reply()
        assert type(call(1)) is DistributedInvocation
        assert not proxy.is_losing
    assert type(controlled(1)) is ReusedInvocation
    assert app.store.count(Filter()) == {"registered": 8}


def test_a_signal_whose_answer_is_lost_does_not_come_twice(app: Pynenc, proxy: Proxy) -> None:
    run = app.workflow(plus)(1)
    run.signal("go", 1)
    proxy.lose_next_reply()
    with pytest.raises(StoreError) as raised:
        run.signal("go", 2)
    assert raised.value.retryable
    assert not proxy.is_losing
    assert 1 <= len(app.store.recall(run.invocation_id)) <= 2, "the second one came or not, and is not sent again"
