"""The memory store honours the contract."""

from __future__ import annotations

from pynenc.store.base import Store
from pynenc.store.memory import MemoryStore
from pynenc.testing.clock import VirtualClock
from pynenc.testing.store_suite import APP_ID, StoreSuite


class TestMemoryStore(StoreSuite):
    def make_store(self, clock: VirtualClock) -> Store:
        store = MemoryStore("memory://", APP_ID, clock)
        store.open()
        return store

    def kill_group(self, store: Store, group: str) -> None:
        assert isinstance(store, MemoryStore)
        store.declare_dead(group)
