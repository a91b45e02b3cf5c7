"""dramatiq on Redis, with its result backend on the same server."""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import base, redis_keys


def make(url: str, *, bare: bool) -> tuple[Any, Any]:
    """A broker, and an actor that does nothing.

    :param bare: without the middleware that no-op tasks do not need.
    """
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends.redis import RedisBackend

    broker = RedisBroker(url=url, **({"middleware": []} if bare else {}))
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    dramatiq.set_broker(broker)

    @dramatiq.actor(broker=broker, store_results=True)
    def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return broker, nothing


def from_environment() -> Any:
    """The broker of a worker: ``python -m dramatiq benchmarks.peers.dramatiq_redis:from_environment``."""
    marks.attach()
    return make(os.environ["BENCH_URL"], bare=bool(os.environ.get("BENCH_BARE")))[0]


class Dramatiq(base.Peer):
    """dramatiq with processes of threads.

    :param prefetch: messages that a process takes ahead; by default twice its threads.
    """

    package = "dramatiq"

    def __init__(
        self, url: str, *, processes: int = 2, threads: int = 5, prefetch: int = 0, bare: bool = False
    ) -> None:
        self._environment = {"BENCH_URL": url, "BENCH_BARE": "yes" if bare else ""}
        if prefetch:
            self._environment["dramatiq_queue_prefetch"] = str(prefetch)
        self._size = ["--processes", str(processes), "--threads", str(threads)]
        self._broker, self._actor = make(url, bare=bare)
        self._backend = self._broker.get_results_backend()
        self._messages: list[Any] = []

    def submit(self, count: int) -> None:
        self._messages = [self._actor.send(index) for index in range(count)]

    def accepted(self) -> int:
        return int(self._broker.client.llen("dramatiq:default"))

    def is_settled(self, count: int) -> bool:
        return redis_keys.are_there(
            self._backend.client, [self._backend.build_message_key(each) for each in self._messages]
        )

    def results(self) -> list[Any]:
        return [self._backend.get_result(each) for each in self._messages]

    def call(self, index: int) -> object:
        return self._backend.get_result(self._actor.send(index), block=True)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq_redis:from_environment", *self._size]

    def environment(self) -> dict[str, str]:
        return self._environment

    def close(self) -> None:
        self._broker.close()
