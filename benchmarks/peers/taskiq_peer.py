"""taskiq on a Redis list, with its result backend on the same server."""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers.loops import AsyncPeer

#: Seconds between two questions for a result: as taskiq comes, and as often as makes sense.
DEFAULT_CHECK, TUNED_CHECK = 0.2, 0.001
#: Messages that a worker process takes ahead.
PREFETCH = 50


def make(url: str) -> tuple[Any, Any]:
    """A broker, and a task that does nothing."""
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url))

    @broker.task(task_name="nothing")
    async def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return broker, nothing


def from_environment() -> Any:
    """The broker of a worker: ``python -m taskiq worker benchmarks.peers.taskiq_peer:from_environment``."""
    marks.attach()
    return make(os.environ["BENCH_URL"])[0]


class Taskiq(AsyncPeer):
    """taskiq with worker processes of a number of concurrent tasks."""

    package = "taskiq-redis"

    def __init__(self, url: str, *, workers: int = 2, concurrency: int = 5, check: float = TUNED_CHECK) -> None:
        super().__init__()
        self._url, self._check = url, check
        self._size = ["--workers", str(workers), "--max-async-tasks", str(concurrency), "--max-prefetch", str(PREFETCH)]
        self._broker, self._task = make(url)
        self._handles: list[Any] = []
        self.run(self._broker.startup())

    def submit(self, count: int) -> None:
        self._handles = self.run(self._submit(count))

    async def _submit(self, count: int) -> list[Any]:
        return [await self._task.kiq(index) for index in range(count)]

    def accepted(self) -> int:
        return self.run(self._count("llen", "taskiq"))

    def is_settled(self, count: int) -> bool:
        return self.run(self._count("exists", *[each.task_id for each in self._handles])) == count

    async def _count(self, command: str, *keys: str) -> int:
        from redis.asyncio import Redis

        async with Redis(connection_pool=self._broker.connection_pool) as client:
            return int(await getattr(client, command)(*keys))

    def results(self) -> list[Any]:
        return self.run(self._results())

    async def _results(self) -> list[Any]:
        return [(await each.get_result()).return_value for each in self._handles]

    async def call_async(self, index: int) -> object:
        return (await (await self._task.kiq(index)).wait_result(check_interval=self._check)).return_value

    def command(self) -> list[str]:
        place = "benchmarks.peers.taskiq_peer:from_environment"
        return [sys.executable, "-m", "taskiq", "worker", place, *self._size, "--log-level", "ERROR"]

    def environment(self) -> dict[str, str]:
        return {"BENCH_URL": self._url}

    async def disconnect(self) -> None:
        await self._broker.shutdown()
