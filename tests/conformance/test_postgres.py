"""The PostgreSQL store honours the contract."""

from __future__ import annotations

import psycopg

from pynenc.store.base import Store
from pynenc.store.postgres import PostgresStore
from pynenc.store.postgres.url import parse
from pynenc.testing.servers.postgres import empty_url
from pynenc.testing.store_suite import Joining, SharedStoreSuite


class TestPostgresStore(Joining, SharedStoreSuite):
    def make_url(self) -> str:
        return empty_url()

    def kill_group(self, store: Store, group: str) -> None:
        assert isinstance(store, PostgresStore)
        store.declare_dead(group)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(parse(self.url).conninfo)
