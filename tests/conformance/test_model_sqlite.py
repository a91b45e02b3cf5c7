"""The SQLite store agrees with the plain model."""

from __future__ import annotations

import pytest

from pynenc.store.base import Store
from pynenc.store.sqlite import SqliteStore
from pynenc.testing.clock import VirtualClock
from pynenc.testing.model import StoreMachine, model_settings
from pynenc.testing.store_suite import APP_ID

#: A time-out looks like a failure of a program, and searching for a shorter one takes long.
pytestmark = pytest.mark.timeout(300)


class SqliteMachine(StoreMachine):
    def make_store(self, clock: VirtualClock) -> Store:
        store = SqliteStore(f"sqlite:///{self.folder}/model.db", APP_ID, clock)
        store.open()
        return store

    def kill_group(self, group: str) -> None:
        assert isinstance(self.store, SqliteStore)
        self.store.declare_dead(group)


class TestSqliteModel(SqliteMachine.TestCase):
    settings = model_settings(60)
