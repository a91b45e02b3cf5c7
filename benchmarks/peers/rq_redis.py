"""rq: its simple workers, which run jobs in their own process; each has one slot, so there are several."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import base, redis_keys

#: Jobs that are submitted at once.
BATCH = 1000


def nothing(index: int) -> int:
    """The task."""
    marks.hit(index)
    return index


class Rq(base.Peer):
    """rq with simple workers."""

    package = "rq"

    def __init__(self, url: str, *, workers: int = 10) -> None:
        from redis import Redis
        from rq import Queue

        self._options = {"url": url, "workers": workers}
        self._client = Redis.from_url(url)
        self._queue = Queue("bench", connection=self._client)
        self._jobs: list[Any] = []

    def submit(self, count: int) -> None:
        self._jobs = [self._queue.enqueue(nothing, index) for index in range(count)]

    def submit_many(self, count: int) -> None:
        self._jobs = []
        for start in range(0, count, BATCH):
            data = [self._queue.prepare_data(nothing, (index,)) for index in range(start, min(start + BATCH, count))]
            self._jobs += self._queue.enqueue_many(data)

    def accepted(self) -> int:
        return int(self._queue.count)

    def is_settled(self, count: int) -> bool:
        return redis_keys.are_there(self._client, [f"rq:results:{each.id}" for each in self._jobs])

    def results(self) -> list[Any]:
        return [each.return_value() for each in self._jobs]

    def call(self, index: int) -> object:
        return self._queue.enqueue(nothing, index).latest_result(timeout=60).return_value

    def command(self) -> list[str]:
        return base.module("rq_redis", self._options)

    def close(self) -> None:
        self._client.close()


def _work(url: str) -> None:
    from redis import Redis
    from rq import Queue, SimpleWorker

    marks.attach()
    connection = Redis.from_url(url)
    SimpleWorker([Queue("bench", connection=connection)], connection=connection).work(logging_level="ERROR")


def main(options: dict[str, Any]) -> None:
    """Workers, until a signal ends them."""
    from rq import SimpleWorker  # noqa: F401  # once for all

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(options["url"],)) for _ in range(options["workers"])]
    for worker in workers:
        worker.start()
    signal.sigwait({signal.SIGTERM})
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(json.loads(sys.argv[1]))
