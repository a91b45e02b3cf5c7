"""procrastinate. It keeps the status of a job, and no value that it returns."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import base
from benchmarks.peers.loops import AsyncPeer

QUEUED = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status = 'todo'"
SUCCEEDED = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status = 'succeeded'"
BATCH = 1000


def make(url: str) -> tuple[Any, Any]:
    """An app, and a task that does nothing."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="nothing")
    async def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return app, nothing


class Procrastinate(AsyncPeer):
    """procrastinate with one worker of a number of concurrent jobs, woken by NOTIFY."""

    package = "procrastinate"
    has_results = False

    def __init__(self, url: str, *, concurrency: int = 10) -> None:
        super().__init__()
        self._options = {"url": url, "concurrency": concurrency}
        self._app, self._task = make(url)
        self.run(self._open())

    async def _open(self) -> None:
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

    def submit(self, count: int) -> None:
        self.run(self._submit(count))

    async def _submit(self, count: int) -> None:
        for index in range(count):
            await self._task.defer_async(index=index)

    def submit_many(self, count: int) -> None:
        self.run(self._submit_many(count))

    async def _submit_many(self, count: int) -> None:
        for start in range(0, count, BATCH):
            await self._task.batch_defer_async(*[{"index": index} for index in range(start, min(start + BATCH, count))])

    def accepted(self) -> int:
        return self._count(QUEUED)

    def is_settled(self, count: int) -> bool:
        return self._count(SUCCEEDED) == count

    def _count(self, query: str) -> int:
        return int(self.run(self._app.connector.execute_query_one_async(query))["count"])

    async def call_async(self, index: int) -> object:
        await self._task.defer_async(index=index)
        return await marks.executed(index)

    def command(self) -> list[str]:
        return base.module("procrastinate_peer", self._options)

    async def disconnect(self) -> None:
        await self._app.close_async()


async def _work(options: dict[str, Any]) -> None:
    app, _ = make(options["url"])
    async with app.open_async():
        await app.run_worker_async(concurrency=options["concurrency"])


if __name__ == "__main__":
    marks.attach()
    asyncio.run(_work(json.loads(sys.argv[1])))
