"""The Redis store honours the contract, on Valkey and on the oldest Redis that is supported."""

from __future__ import annotations

from pynenc.store.base import Store
from pynenc.store.redis import RedisStore
from pynenc.testing.servers.redis import program_of
from pynenc.testing.store_suite import SharedStoreSuite
from tests.servers import empty, url_of


class TestValkeyStore(SharedStoreSuite):
    KIND = "valkey"

    def make_url(self) -> str:
        return empty(url_of(self.KIND))

    def kill_group(self, store: Store, group: str) -> None:
        assert isinstance(store, RedisStore)
        store.declare_dead(group)


if program_of("redis"):

    class TestRedis62Store(TestValkeyStore):
        KIND = "redis"
