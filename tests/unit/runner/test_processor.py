"""A sleeping thread is summoned to the processor of its waker, and only for as long as it sleeps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread, get_native_id

import pytest

from pynenc.runner import processor
from pynenc.runner.slots import Slots, Turn

LONG = 20.0


@pytest.fixture(autouse=True)
def where_this_test_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody has said where threads may run."""
    monkeypatch.setattr(processor, "ALL", frozenset(os.sched_getaffinity(0)))


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The id of a thread that sleeps."""
    ids: Queue[int] = Queue()
    end = Event()
    thread = Thread(target=lambda: (ids.put(get_native_id()), end.wait(LONG)))
    thread.start()
    yield ids.get(timeout=LONG)
    end.set()
    thread.join(LONG)


def test_a_sleeper_is_summoned_to_one_processor(sleeper: int) -> None:
    assert processor.summon(sleeper)
    assert len(os.sched_getaffinity(sleeper)) == 1


def test_where_somebody_has_said_where_threads_run_they_stay(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "ALL", processor.ALL | {4000})
    assert not processor.summon(sleeper)
    assert os.sched_getaffinity(sleeper) == processor.ALL - {4000}


def test_a_thread_that_is_gone_is_no_error() -> None:
    assert not processor.summon(2**22)  # more than any thread has


def test_a_system_that_does_not_know_of_this_is_no_error(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_here", None)
    assert not processor.summon(sleeper)


def _summoned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that will be summoned, and really were."""
    found: list[int] = []
    summon = processor.summon

    def note(thread_id: int) -> bool:
        done = summon(thread_id)
        found.extend([thread_id] * done)
        return done

    monkeypatch.setattr(processor, "summon", note)
    return found


def test_a_body_that_waits_summons_who_takes_its_token_and_is_summoned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _summoned(monkeypatch)
    slots = Slots(1)
    slots.call()
    assert slots.acquire()
    seen: Queue[tuple[int, set[int]]] = Queue()

    def work() -> None:
        slots.acquire()
        seen.put((get_native_id(), os.sched_getaffinity(0)))
        while not slots.wanted:
            pass
        slots.give()

    other = Thread(target=work)
    other.start()
    while not slots._sleepers:
        pass
    slots.park()
    its_id, where = seen.get(timeout=LONG)
    slots.unpark(Turn())
    other.join(LONG)
    assert found == [its_id, get_native_id()]
    assert where == os.sched_getaffinity(0) == processor.ALL


def test_a_call_from_elsewhere_summons_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _summoned(monkeypatch)
    slots = Slots(1)
    woken: Queue[bool] = Queue()
    Thread(target=lambda: woken.put(slots.acquire())).start()
    while not slots._sleepers:
        pass
    slots.call()
    assert woken.get(timeout=LONG)
    assert found == []
