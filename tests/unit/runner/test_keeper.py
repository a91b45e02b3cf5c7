"""What a process that holds leases does from time to time."""

import time

import pytest

from pynenc.core.records import Beat, ClaimRequest, Filter, New, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.engine import upkeep
from pynenc.runner import keeper
from pynenc.runner.keeper import PURGE_AGAIN, PURGE_EVERY, RETRY_AFTER, Keeper
from pynenc.store import open_store

OLD = 2 * upkeep.PURGE_BATCHES * upkeep.PURGE_ROWS + 100


@pytest.fixture
def store():
    """A store with finals that are over, and a runner."""
    store = open_store("memory://", "keeper")
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=10**12)])
    store.submit([New(id=f"i{n}", task="t", args=b"{}", result_ttl=1) for n in range(OLD)])
    claimed = store.claim(ClaimRequest("r", OLD)).batch
    now = store.clock.now()
    store.finish(
        "r",
        [Outcome(id=c.id, attempt=c.attempt, status=InvocationStatus.SUCCESS, started=now, ended=now) for c in claimed],
    )
    yield store
    store.close()


def test_a_backlog_of_what_is_over_is_removed_without_waiting_for_the_next_minute(store) -> None:
    keeper = Keeper(store, 5.0)
    keeper._purge_at = 0.0
    began = time.monotonic()
    counts = []
    while store.count(Filter()):
        keeper.keep_up("r")
        counts.append(sum(store.count(Filter()).values()))
        assert time.monotonic() < began + 30
    steps = sorted(set(counts), reverse=True)
    assert steps == [OLD - 1000, OLD - 2000, 0], "a little at a time"
    assert time.monotonic() - began < 10 * PURGE_AGAIN
    assert keeper._purge_at > time.monotonic() + PURGE_EVERY / 2, "nothing is left: it can wait"


def test_two_runners_do_not_purge_at_the_same_time(store) -> None:
    assert upkeep.purge(store, "r")
    assert not upkeep.purge(store, "other")
    assert sum(store.count(Filter()).values()) == OLD - 1000


def test_signs_of_asking_and_of_answers(store) -> None:
    keeper = Keeper(store, 5.0)
    assert (keeper.asked, keeper.answered, keeper.errors) == (0.0, 0.0, 0)
    keeper.beat([Beat(id="r", group="r", lease=10**12)])
    assert keeper.answered
    assert (keeper.asked, keeper.errors) == (0.0, 0)
    store.close()
    keeper.hurry()
    keeper._urgent_at = 0.0
    assert keeper.beat([Beat(id="r", group="r", lease=10**12)]) == []
    assert (keeper.asked, keeper.errors) == (0.0, 1)


def test_runners_that_met_an_outage_do_not_come_back_together(store, monkeypatch) -> None:
    store.close()
    beats, upkeeps = set(), set()
    for chance in (0.0, 1.0):
        monkeypatch.setattr(keeper.random, "random", lambda chance=chance: chance)
        one, began = Keeper(store, 5.0), time.monotonic()
        one.answered = began  # before
        one.beat([Beat(id="r", group="r", lease=10**12)])
        one.keep_up("r")
        beats.add(round(one._beat_at - began, 1))
        upkeeps.add(round(one._recover_at - began, 1))
    assert beats == upkeeps == {RETRY_AFTER / 2, RETRY_AFTER}


def test_a_duty_that_fails_by_a_defect_stops_no_other_and_is_told_once(store, monkeypatch, caplog) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(store, "recover", broken)
    keeper = Keeper(store, 5.0)
    for number in range(3):
        store.submit([New(id=f"late{number}", task="t", args=b"{}", expires=1)])
        keeper._recover_at = keeper._purge_at = 0.0
        keeper.keep_up("r")
        assert store.get([f"late{number}"])[0].status is InvocationStatus.CANCELLED
    assert store.count(Filter(tasks=("t",), statuses=(InvocationStatus.SUCCESS,))) == {}, "purged as well"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "taking back lost work failed, and will be tried again"
    ]
