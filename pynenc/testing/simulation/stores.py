"""The stores that a simulation runs over: memory, or a real SQLite file whose wake-ups, which come from a thread, are not heard."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from pynenc.core.records import ClaimRequest, Ref
from pynenc.store.base import IdleListener, Store, Wake, Watch
from pynenc.store.memory import MemoryStore
from pynenc.store.sqlite import SqliteStore
from pynenc.testing.clock import VirtualClock

APP_ID = "simulation"

MakeStore = Callable[[VirtualClock], Any]


def make_memory_store(clock: VirtualClock) -> Store:
    """The store of a simulation, unless another is asked for."""
    store = MemoryStore("memory://", APP_ID, clock)
    store.open()
    return store


class DeafSqliteStore(SqliteStore):
    """On a file of its own, which goes with it. Workers and waiters look for themselves, since nothing may come from another thread."""

    def __init__(self, clock: VirtualClock) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="pynenc-simulation-"))
        super().__init__(f"sqlite:///{self._home / 'simulation.db'}?synchronous=off", APP_ID, clock)

    def close(self) -> None:
        super().close()
        rmtree(self._home, ignore_errors=True)

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:  # noqa: ARG002
        return super().listen(queues, _nothing)

    def watch(
        self,
        ids: Sequence[str],
        wake: Wake,  # noqa: ARG002
        *,
        waiter: Ref | None = None,
        request: ClaimRequest | None = None,
    ) -> Watch:
        return super().watch(ids, _nothing, waiter=waiter, request=request)


def _nothing() -> None:
    """What is not heard."""


def make_sqlite_store(clock: VirtualClock) -> Store:
    """A real file, without its wake-ups."""
    store = DeafSqliteStore(clock)
    store.open()
    return store


STORES: dict[str, MakeStore] = {"memory": make_memory_store, "sqlite": make_sqlite_store}
