"""Celery on Redis, with its worker as it comes. Safe: late acknowledgement, and what is not acknowledged in ten seconds is delivered again."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate

FATES = {"SUCCESS": Fate.ANSWERED, "FAILURE": Fate.FAILED}


def make(url: str, *, safe: bool) -> tuple[Any, Any]:
    """An app and its task."""
    from celery import Celery

    app = Celery("killed", broker=url, backend=url)
    app.conf.broker_connection_retry_on_startup = True
    if safe:
        app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)
        app.conf.broker_transport_options = {
            "visibility_timeout": 10,
            "unacked_restore_interval": 1,  # seconds between two looks ...
            "unacked_restore_throttle": 1,  # ... of which each is one
        }
    return app, app.task(name="work")(witness.work)


class OnRedis(Contender):
    """Celery with Redis as broker and result backend."""

    def __init__(self, url: str, *, safe: bool = False) -> None:
        super().__init__(url, safe=safe)
        self._app, self._task = make(url, safe=safe)

    def submit(self, index: int) -> None:
        self.handles.append(self._task.delay(index))

    def fates(self) -> list[Fate]:
        client = self._app.backend.client
        messages = [json.loads(data) for data in client.lrange("celery", 0, -1)]
        messages += [json.loads(data)[0] for data in client.hvals("unacked")]
        held = {message["headers"]["id"] for message in messages}
        return [FATES.get(each.state, Fate.HELD if each.id in held else Fate.GONE) for each in self.handles]

    def close(self) -> None:
        self._app.close()


def main(options: dict[str, Any]) -> None:
    """A worker with a name of its own."""
    app, _ = make(options["url"], safe=options["safe"])
    app.worker_main(["worker", "--loglevel", "ERROR", "--hostname", f"{os.environ[witness.WORKER]}@%h"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
