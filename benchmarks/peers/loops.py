"""Peers whose interface is asynchronous: one event loop for each, which stands still between two questions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from benchmarks.latency import times_async
from benchmarks.peers import base


class AsyncPeer(base.Peer):
    """A peer with a loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, work: Awaitable[Any]) -> Any:
        """The outcome of something asynchronous."""
        return self._runner.run(work)  # type: ignore[arg-type]

    def times(self, count: int) -> dict[str, float]:
        return self.run(times_async(count, self.call_async))

    async def call_async(self, index: int) -> object:
        """One call and its result."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Give back connections."""

    def close(self) -> None:
        self.run(self.disconnect())
        self._runner.close()
