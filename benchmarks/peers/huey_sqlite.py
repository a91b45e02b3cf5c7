"""huey on SQLite, with its default durability (a commit waits for the disk) and with ``synchronous`` off."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from benchmarks import marks

#: How often an idle worker looks, in seconds: as huey comes, and as often as makes sense.
DEFAULT_POLL: dict[str, float] = {}
TUNED_POLL: dict[str, float] = {"initial_delay": 0.001, "max_delay": 0.001, "backoff": 1.0}


def is_installed() -> bool:
    """Whether there is anything to compare with."""
    return find_spec("huey") is not None


def version() -> str:
    from importlib.metadata import version as version_of

    return version_of("huey")


def make(path: str, *, fsync: bool) -> tuple[Any, Callable[[int], Any]]:
    """An instance on a file, and a task that does nothing."""
    from huey import SqliteHuey

    huey = SqliteHuey("bench", filename=path, fsync=fsync)

    @huey.task()
    def nothing(index: int) -> int:
        marks.hit(index)
        return index

    return huey, nothing
