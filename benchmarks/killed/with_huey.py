"""huey, with its consumer as it comes: one thread. Nothing in it is kept of a call that a consumer took."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate


def make(url: str) -> tuple[Any, Callable[[int], Any]]:
    """An instance on a file or a server, and its task."""
    from huey import RedisHuey, SqliteHuey

    file = url.removeprefix("sqlite:///")
    huey = SqliteHuey("killed", filename=file) if file != url else RedisHuey("killed", url=url)
    return huey, huey.task()(witness.work)


class Huey(Contender):
    """huey on a file or on Redis."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._huey, self._task = make(url)

    def submit(self, index: int) -> None:
        self.handles.append(self._task(index))

    def fates(self) -> list[Fate]:
        held = {task.id for task in self._huey.pending()}
        return [self._fate(handle, held) for handle in self.handles]

    def _fate(self, handle: Any, held: set[str]) -> Fate:
        if handle.get(preserve=True) is not None:
            return Fate.ANSWERED
        return Fate.HELD if handle.id in held else Fate.GONE

    def close(self) -> None:
        self._huey.storage.close()


if __name__ == "__main__":
    make(json.loads(sys.argv[1])["url"])[0].create_consumer().run()
