"""How often each call was executed, counted across processes: one byte per call in a file that all of them map.

The file is named by the environment variable ``BENCH_MARKS``. Who only measures looks at it without a system call.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from pathlib import Path

VARIABLE = "BENCH_MARKS"
#: Seconds between two looks.
LOOK = 0.0002

_map: mmap.mmap | None = None


def create(path: Path, count: int) -> Marks:
    """A fresh file for ``count`` calls, used by this process and by those that it starts from now on."""
    path.write_bytes(b"\0" * count)
    os.environ[VARIABLE] = str(path)
    attach()
    assert _map is not None
    return Marks(_map)


def attach() -> None:
    """Map the file that the environment names, if it names one."""
    global _map
    if path := os.environ.get(VARIABLE):
        with open(path, "r+b") as file:
            _map = mmap.mmap(file.fileno(), 0)


def forget() -> None:
    """The file is gone: processes that are started from now on count nothing."""
    global _map
    os.environ.pop(VARIABLE, None)
    _map = None


def hit(index: int) -> None:
    """Call ``index`` was executed."""
    if _map is not None:
        _map[index] += 1


async def executed(index: int) -> int:
    """Wait, on an event loop, until call ``index`` was executed somewhere, and return it."""
    assert _map is not None
    while not _map[index]:  # noqa: ASYNC110  # nothing but a look at memory tells
        await asyncio.sleep(LOOK)
    return index


class Marks:
    """What the file says."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped

    def has_begun(self) -> bool:
        """Whether any call was executed."""
        return any(self._map[:])

    def are_complete(self) -> bool:
        """Whether every call was executed."""
        return self._map.find(b"\0") < 0

    def duplicates(self) -> int:
        """How many executions were one too many."""
        return sum(value - 1 for value in self._map[:] if value > 1)
