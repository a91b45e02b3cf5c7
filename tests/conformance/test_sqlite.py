"""The SQLite store honours the contract."""

from __future__ import annotations

import sqlite3

from pynenc.store.base import Store
from pynenc.store.sqlite import SqliteStore
from pynenc.testing.store_suite import Joining, SharedStoreSuite


class TestSqliteStore(Joining, SharedStoreSuite):
    def make_url(self) -> str:
        return f"sqlite:///{self.folder}/suite.db"

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.folder}/suite.db")

    def kill_group(self, store: Store, group: str) -> None:
        assert isinstance(store, SqliteStore)
        store.declare_dead(group)
