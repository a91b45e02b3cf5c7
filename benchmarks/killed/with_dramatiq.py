"""Dramatiq on Redis, with its worker as it comes, and results. Safe: a worker is dead after ten seconds of silence, and every command looks for such."""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate

URL, SAFE = "BENCH_URL", "BENCH_SAFE"
#: Each message that waits or is worked on, that waits for its retry, and that is given up.
WAITING, DELAYED, DEAD = "dramatiq:default.msgs", "dramatiq:default.DQ.msgs", "dramatiq:default.XQ.msgs"


def make(url: str, *, safe: bool) -> tuple[Any, Any]:
    """A broker and its actor."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends.redis import RedisBackend

    broker = RedisBroker(url=url, **({"heartbeat_timeout": 10_000, "maintenance_chance": 1_000_000} if safe else {}))
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(witness.work, broker=broker, store_results=True)


def from_environment() -> Any:
    """The broker of a worker."""
    return make(os.environ[URL], safe=bool(os.environ[SAFE]))[0]


class Dramatiq(Contender):
    """Dramatiq on Redis."""

    def __init__(self, url: str, *, safe: bool = False) -> None:
        super().__init__(url, safe=safe)
        self._broker, self._actor = make(url, safe=safe)
        self._backend = self._broker.get_results_backend()

    def submit(self, index: int) -> None:
        self.handles.append(self._actor.send(index))

    def fates(self) -> list[Fate]:
        held, dead = self._in(WAITING) | self._in(DELAYED), self._in(DEAD)
        return [self._fate(message, held, dead) for message in self.handles]

    def _in(self, key: str) -> set[str]:
        from dramatiq import Message

        return {Message.decode(data).message_id for data in self._broker.client.hvals(key)}

    def _fate(self, message: Any, held: set[str], dead: set[str]) -> Fate:
        if self._backend.client.exists(self._backend.build_message_key(message)):
            return Fate.ANSWERED
        if message.message_id in dead:
            return Fate.FAILED
        return Fate.HELD if message.message_id in held else Fate.GONE

    def command(self) -> list[str]:
        return [sys.executable, "-m", "dramatiq", f"{__name__}:from_environment"]

    def environment(self) -> dict[str, str]:
        return {URL: self.options["url"], SAFE: "yes" if self.options["safe"] else ""}

    def close(self) -> None:
        self._broker.close()
