"""RQ, with its usual worker, which forks for each job. Safe: jobs are retried, and workers look every five seconds for those that were abandoned.

Idle workers look when they stop listening for a while, 15 s before their TTL is over; jobs are abandoned a minute after a missed sign of life.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate


class Rq(Contender):
    """RQ on Redis."""

    def __init__(self, url: str, *, safe: bool = False) -> None:
        from redis import Redis
        from rq import Queue, Retry

        super().__init__(url, safe=safe)
        self._client = Redis.from_url(url)
        self._queue = Queue("killed", connection=self._client)
        self._retry = Retry(max=3) if safe else None

    def submit(self, index: int) -> None:
        self.handles.append(self._queue.enqueue(witness.work, index, retry=self._retry))

    def fates(self) -> list[Fate]:
        known = {"finished": Fate.ANSWERED, "failed": Fate.FAILED}
        return [known.get(job.get_status(), Fate.HELD) for job in self.handles]

    def close(self) -> None:
        self._client.close()


def main(options: dict[str, Any]) -> None:
    """A worker."""
    from redis import Redis
    from rq import Queue, Worker

    connection = Redis.from_url(options["url"])
    often = {"maintenance_interval": 5, "job_monitoring_interval": 5, "worker_ttl": 20} if options["safe"] else {}
    Worker([Queue("killed", connection=connection)], connection=connection, **often).work(logging_level="ERROR")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
