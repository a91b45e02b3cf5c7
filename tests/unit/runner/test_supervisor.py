"""The supervisor without worker processes: what it does about its own lease."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pynenc.core.records import Beat, ClaimRequest, New
from pynenc.runner.keeper import Keeper
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.supervisor import Supervisor
from pynenc.store.memory import MemoryStore
from pynenc.testing.clock import SECOND, VirtualClock

LEASE = 15 * SECOND


class Impatient(Keeper):
    """Beats and sweeps whenever it is asked."""

    def beat(self, beats):
        self._beat_at = self._urgent_at = self._recover_at = 0.0
        return super().beat(beats)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("memory://", "test", VirtualClock())
    store.open()
    return store


@pytest.fixture
def supervisor(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr("pynenc.runner.supervisor.Keeper", Impatient)
    group = Beat(id="boss", group="boss", lease=LEASE)
    supervisor = Supervisor(SimpleNamespace(store=store), group, lambda name: group, WorkerSettings(), 0, b"", 5.0)
    yield supervisor
    supervisor._wake_reader.close()
    supervisor._wake_writer.close()


def others_go_on(store: MemoryStore, name: str, seconds: float) -> None:
    """Time passes in which only one other runner shows that it lives, and sweeps."""
    for _ in range(int(seconds / 5)):
        store.clock.advance(5)
        store.heartbeat([Beat(id=name, group=name, lease=LEASE, tasks=("t",))])
        store.recover(name, 100, b"")


def test_a_supervisor_that_lost_its_lease_still_takes_work_back(store: MemoryStore, supervisor: Supervisor) -> None:
    supervisor._beat()
    others_go_on(store, "other", 60)
    assert "boss" not in {info.beat.id for info in store.runners()}
    store.submit([New(id="i", task="t", args=b"")])
    assert store.claim(ClaimRequest("other", 1)).batch
    for _ in range(20):  # the other one is silent from now on
        store.clock.advance(3)
        supervisor._beat()
    assert store.owned("other") == []
    assert store.queues()[0].ready == 1


def test_every_beat_of_a_child_names_its_tasks() -> None:
    """Else what another runner parked for an unknown task would wait for a new runner, although one that lives knows it."""
    beat = Beat(id="c", group="boss", lease=LEASE, tasks=("t",))
    child = SimpleNamespace(beat=beat, board=SimpleNamespace(counts=lambda: (1, 2)))
    assert Supervisor._beat_of(child).tasks == ("t",)
