"""celery with Redis as its broker and its result backend."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import base, redis_keys


def make(url: str) -> tuple[Any, Any]:
    """An app, and a task that does nothing."""
    from celery import Celery

    app = Celery("bench", broker=url, backend=url)
    app.conf.update(
        worker_prefetch_multiplier=16,  # the best of a few that were tried
        broker_connection_retry_on_startup=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        result_serializer="json",
    )

    @app.task(name="nothing")
    def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return app, nothing


class Celery(base.Peer):
    """celery with a pool of threads."""

    package = "celery"

    def __init__(self, url: str, *, threads: int = 10) -> None:
        self._options = {"url": url, "threads": threads}
        self._app, self._task = make(url)
        self._handles: list[Any] = []

    def submit(self, count: int) -> None:
        self._handles = [self._task.delay(index) for index in range(count)]

    def accepted(self) -> int:
        return int(self._app.backend.client.llen("celery"))

    def is_settled(self, count: int) -> bool:
        backend = self._app.backend
        return redis_keys.are_there(backend.client, [backend.get_key_for_task(each.id) for each in self._handles])

    def results(self) -> list[Any]:
        return [each.get() for each in self._handles]

    def call(self, index: int) -> object:
        return self._task.delay(index).get()

    def command(self) -> list[str]:
        return base.module("celery_redis", self._options)

    def close(self) -> None:
        self._app.close()


def main(options: dict[str, Any]) -> None:
    """A worker, until a signal ends it."""
    marks.attach()
    app, _ = make(options["url"])
    size = ["--pool", "threads", "--concurrency", str(options["threads"])]
    app.worker_main(
        ["worker", *size, "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
