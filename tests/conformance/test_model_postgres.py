"""The PostgreSQL store agrees with the plain model."""

from __future__ import annotations

import pytest

from pynenc.store.base import Store
from pynenc.store.postgres import PostgresStore
from pynenc.testing.clock import VirtualClock
from pynenc.testing.model import StoreMachine, model_settings
from pynenc.testing.servers.postgres import empty_url
from pynenc.testing.store_suite import APP_ID

#: A time-out looks like a failure of a program, and searching for a shorter one takes long.
pytestmark = pytest.mark.timeout(300)


class PostgresMachine(StoreMachine):
    def make_store(self, clock: VirtualClock) -> Store:
        store = PostgresStore(empty_url(), APP_ID, clock)
        store.open()
        return store

    def kill_group(self, group: str) -> None:
        assert isinstance(self.store, PostgresStore)
        self.store.declare_dead(group)


class TestPostgresModel(PostgresMachine.TestCase):
    settings = model_settings(15)
