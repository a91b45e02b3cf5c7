"""pgqueuer with asyncpg, its faster driver. It deletes the row of a job that succeeded, writes a row of its log, and keeps no value."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import base
from benchmarks.peers.loops import AsyncPeer

QUEUED = "SELECT count(*) FROM pgqueuer"
LOGGED = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
BATCH = 1000


class Pgqueuer(AsyncPeer):
    """pgqueuer with one worker.

    :param batch: jobs that it takes at once, and outcomes that it writes at once.
    """

    package = "pgqueuer"
    has_results = False

    def __init__(self, url: str, *, batch: int = 10) -> None:
        super().__init__()
        self._options = {"url": url, "batch": batch}
        self.run(self._open(url))

    async def _open(self, url: str) -> None:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        self._connection = await asyncpg.connect(url)
        self._queries = Queries(AsyncpgDriver(self._connection))
        await self._queries.install()

    def submit(self, count: int) -> None:
        self.run(self._submit(count))

    async def _submit(self, count: int) -> None:
        for index in range(count):
            await self._queries.enqueue("nothing", b"%d" % index)

    def submit_many(self, count: int) -> None:
        self.run(self._submit_many(count))

    async def _submit_many(self, count: int) -> None:
        for start in range(0, count, BATCH):
            payloads = [b"%d" % index for index in range(start, min(start + BATCH, count))]
            await self._queries.enqueue(["nothing"] * len(payloads), payloads, [0] * len(payloads))

    def accepted(self) -> int:
        return self._count(QUEUED)

    def is_settled(self, count: int) -> bool:
        return self._count(LOGGED) == count

    def _count(self, query: str) -> int:
        return int(self.run(self._connection.fetchval(query)))

    async def call_async(self, index: int) -> object:
        await self._queries.enqueue("nothing", b"%d" % index)
        return await marks.executed(index)

    def command(self) -> list[str]:
        return base.module("pgqueuer_peer", self._options)

    async def disconnect(self) -> None:
        await self._connection.close()


async def _work(options: dict[str, Any]) -> None:
    import asyncpg
    from pgqueuer import PgQueuer

    pgq = PgQueuer.from_asyncpg_connection(await asyncpg.connect(options["url"]))

    @pgq.entrypoint("nothing")
    async def nothing(job: Any) -> None:
        marks.hit(int(job.payload))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pgq.shutdown.set)
    await pgq.run(batch_size=options["batch"])


if __name__ == "__main__":
    marks.attach()
    asyncio.run(_work(json.loads(sys.argv[1])))
