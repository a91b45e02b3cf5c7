"""The Redis store agrees with the plain model, on Valkey and on the oldest Redis that is supported."""

from __future__ import annotations

import pytest

from pynenc.store.base import Store
from pynenc.store.redis import RedisStore
from pynenc.testing.clock import VirtualClock
from pynenc.testing.model import StoreMachine, model_settings
from pynenc.testing.servers.redis import program_of
from pynenc.testing.store_suite import APP_ID
from tests.servers import empty, url_of

#: A time-out looks like a failure of a program, and searching for a shorter one takes long.
pytestmark = pytest.mark.timeout(300)


class RedisMachine(StoreMachine):
    KIND = "valkey"

    def make_store(self, clock: VirtualClock) -> Store:
        store = RedisStore(empty(url_of(self.KIND)), APP_ID, clock)
        store.open()
        return store

    def kill_group(self, group: str) -> None:
        assert isinstance(self.store, RedisStore)
        self.store.declare_dead(group)


class TestValkeyModel(RedisMachine.TestCase):
    settings = model_settings(40)


if program_of("redis"):

    class Redis62Machine(RedisMachine):
        KIND = "redis"

    class TestRedis62Model(Redis62Machine.TestCase):
        settings = model_settings(20)
