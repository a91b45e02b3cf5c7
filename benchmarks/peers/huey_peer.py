"""huey, on SQLite with its default durability (a commit waits for the disk) or with ``synchronous`` off, and on Redis."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from benchmarks import marks
from benchmarks.peers import base

#: How often an idle worker looks, in seconds: as huey comes, and as often as makes sense.
DEFAULT_POLL: dict[str, float] = {}
TUNED_POLL: dict[str, float] = {"initial_delay": 0.001, "max_delay": 0.001, "backoff": 1.0}


def make(place: dict[str, Any]) -> tuple[Any, Callable[[int], Any]]:
    """An instance on a file (``filename``, ``fsync``) or a server (``url``), and a task that does nothing."""
    from huey import RedisHuey, SqliteHuey

    huey = (RedisHuey if "url" in place else SqliteHuey)("bench", **place)

    @huey.task()
    def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return huey, nothing


class Huey(base.Peer):
    """huey with a number of workers.

    :param poll: how often an idle worker looks, and where there is one, how often who waits for a result does.
    """

    package = "huey"
    stop_signal = signal.SIGINT

    def __init__(
        self, place: dict[str, Any], *, workers: int, worker_type: str = "thread", poll: dict[str, float] = TUNED_POLL
    ) -> None:
        self._huey, self._task = make(place)
        self._handles: list[Any] = []
        self._waiting = {"backoff": 1.0, "max_delay": 0.001} if poll else {}
        self._options = {"place": place, "workers": workers, "worker_type": worker_type, **poll}

    def submit(self, count: int) -> None:
        self._handles = [self._task(index) for index in range(count)]

    def accepted(self) -> int:
        return len(self._huey)

    def is_settled(self, count: int) -> bool:
        return bool(self._huey.result_count() >= count)

    def results(self) -> list[Any]:
        return [handle.get(blocking=False) for handle in self._handles]

    def call(self, index: int) -> object:
        return self._task(index).get(blocking=True, **self._waiting)

    def command(self) -> list[str]:
        return base.module("huey_worker", self._options)

    def close(self) -> None:
        self._huey.storage.close()


class HueySqlite(Huey):
    """huey on a file."""

    def __init__(self, path: str, *, fsync: bool, **options: Any) -> None:
        super().__init__({"filename": path, "fsync": fsync}, **options)


class HueyRedis(Huey):
    """huey on Redis; its workers block on a list.

    :param poll: whether who waits for a result looks every millisecond, instead of as huey comes. :param notify: whether results are announced.
    """

    def __init__(self, url: str, *, workers: int = 10, poll: bool = True, notify: bool = False) -> None:
        place = {"url": url, "notify_result": True} if notify else {"url": url}
        super().__init__(place, workers=workers, poll=TUNED_POLL if poll else DEFAULT_POLL)
