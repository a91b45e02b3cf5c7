"""The page of metrics of a runner whose store stands still."""

from __future__ import annotations

import time

from pynenc.core.records import Filter
from pynenc.runner.health import Health
from pynenc.runner.numbers import Numbers
from pynenc.runner.vital import Vital
from pynenc.store.redis import RedisStore
from pynenc.testing.servers.redis import RedisServer


class Quiet:
    """A runner without workers."""

    def vital(self) -> Vital:
        return Vital(turned=time.monotonic())

    def numbers(self) -> Numbers:
        return Numbers()


def test_a_frozen_store_is_told_and_does_not_keep_the_page() -> None:
    with RedisServer() as server:
        store = RedisStore(f"{server.url}?timeout=60", "unit")
        store.open()
        health = Health("unit", Quiet(), store, 5.0)
        assert b"pynenc_store_up 1" in health.answer("/metrics").body
        health._queues_at = 0.0  # that answer is old
        server.pause()
        began = time.monotonic()
        body = health.answer("/metrics").body
        took = time.monotonic() - began
        again = health.answer("/metrics").body
        server.go_on()
        assert b"pynenc_store_up 0" in body
        assert b"pynenc_store_up 0" in again
        assert took < 10
        store.count(Filter())
        while b"pynenc_store_up 1" not in health.answer("/metrics").body:
            health._queues_at = 0.0
        store.close()
