"""Tokens and sleeping threads: nothing is lost between a call and a token, and returning parents come first."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from threading import Thread

import pytest

from pynenc.runner.slots import SPARE_THREADS, Slots, Turn

LONG = 20.0


class Sleepers:
    """Threads that sleep in ``acquire`` and report what came of it."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.woken: Queue[bool] = Queue()
        self.threads: list[Thread] = []

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            before = len(self.slots._sleepers)
            thread = Thread(target=lambda: self.woken.put(self.slots.acquire()), daemon=True)
            thread.start()
            self.threads.append(thread)
            while len(self.slots._sleepers) == before and self.woken.empty():
                pass

    def next(self) -> bool:
        return self.woken.get(timeout=LONG)


@pytest.fixture
def slots() -> Slots:
    return Slots(2)


@pytest.fixture
def sleepers(slots: Slots) -> Iterator[Sleepers]:
    sleepers = Sleepers(slots)
    yield sleepers
    slots.close()
    for thread in sleepers.threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_a_call_before_anybody_sleeps_is_kept(slots: Slots) -> None:
    slots.call()
    assert slots.acquire()
    assert (slots.free, slots.calls) == (1, 0)


def test_a_call_wakes_one_sleeper_with_a_token(slots: Slots, sleepers: Sleepers) -> None:
    sleepers.add(2)
    slots.call()
    assert sleepers.next()
    assert sleepers.woken.empty()
    assert slots.busy == 1


def test_calls_wake_no_more_threads_than_there_are_tokens(slots: Slots, sleepers: Sleepers) -> None:
    sleepers.add(4)
    slots.call(10)
    assert sleepers.next()
    assert sleepers.next()
    assert sleepers.woken.empty()
    assert slots.busy == 2


def test_a_call_while_no_token_is_free_is_answered_when_one_is_given_back(slots: Slots, sleepers: Sleepers) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    sleepers.add()
    slots.call()
    assert sleepers.woken.empty()
    slots.give()
    assert sleepers.next()


def test_a_claim_answers_the_calls_before_it(slots: Slots, sleepers: Sleepers) -> None:
    slots.call(2)
    assert slots.acquire()
    slots.calls = 0
    sleepers.add()
    slots.give()
    assert sleepers.woken.empty()
    slots.call()
    assert sleepers.next()


def test_a_parked_body_lends_its_token(slots: Slots, sleepers: Sleepers) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    assert slots.park(), "nobody sleeps: a thread is missing"
    assert slots.acquire()
    assert (slots.free, slots.parked) == (0, 1)


def test_no_thread_is_missing_when_one_sleeps_for_each_token(slots: Slots, sleepers: Sleepers) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    sleepers.add()
    assert not slots.park()
    assert slots.park()


def test_returning_parents_come_before_new_work_in_their_order(slots: Slots, sleepers: Sleepers) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    slots.parked = 2
    returned: Queue[str] = Queue()
    for name in ("first", "second"):
        Thread(target=lambda name=name: (slots.unpark(Turn()), returned.put(name)), daemon=True).start()
        while len(slots._returning) < (1 if name == "first" else 2):
            pass
    sleepers.add()
    slots.call()
    assert slots.wanted
    slots.give()
    assert returned.get(timeout=LONG) == "first"
    slots.give()
    assert returned.get(timeout=LONG) == "second"
    assert not slots.wanted
    assert sleepers.woken.empty()
    slots.give()
    assert sleepers.next()
    assert (slots.free, slots.parked) == (0, 0)


def test_a_parent_takes_a_free_token_at_once(slots: Slots) -> None:
    slots.call()
    assert slots.acquire()
    slots.park()
    slots.unpark(Turn())
    assert (slots.free, slots.parked) == (1, 0)


def test_threads_that_are_not_needed_go_home(slots: Slots, sleepers: Sleepers) -> None:
    sleepers.add(slots.count + SPARE_THREADS)
    assert not slots.acquire()


def test_closing_sends_sleepers_home_and_serves_parents_still(slots: Slots, sleepers: Sleepers) -> None:
    slots.call()
    assert slots.acquire()
    sleepers.add(2)
    slots.park()
    assert sleepers.next(), "the token is lent at once"
    slots.close()
    assert not sleepers.next()
    assert not slots.acquire()
    slots.unpark(Turn())
    assert slots.busy == 2


def test_a_recalled_body_is_woken_once_it_has_a_token(slots: Slots) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    turn, woken = Turn(), []
    slots.park()
    assert slots.acquire(), "somebody else runs meanwhile"
    slots.recall(turn, lambda: woken.append(turn.has_token))
    assert (slots.wanted, woken) == (True, [])
    slots.give()
    assert (slots.wanted, woken, slots.busy) == (False, [True], 2)
    slots.unpark(turn)
    assert (slots.busy, slots.parked) == (2, 0)


def test_a_body_is_recalled_once(slots: Slots) -> None:
    slots.call()
    assert slots.acquire()
    turn, woken = Turn(), []
    slots.park()
    for _ in range(2):
        slots.recall(turn, lambda: woken.append(True))
    assert (woken, slots.busy) == ([True], 1)
    slots.unpark(turn)
    slots.recall(turn, lambda: woken.append(True))
    assert (woken, slots.busy) == ([True], 1)


@pytest.mark.parametrize("has_token", [True, False])
def test_a_body_that_was_recalled_in_vain_lends_its_token_again(slots: Slots, *, has_token: bool) -> None:
    slots.call(2)
    assert slots.acquire()
    assert slots.acquire()
    turn, woken = Turn(), []
    slots.park()
    if not has_token:
        slots.call()
        assert slots.acquire()
    slots.recall(turn, lambda: woken.append(True))
    slots.rest(turn)
    slots.rest(turn)
    assert (slots.wanted, slots.busy, slots.parked) == (False, 1 if has_token else 2, 1)
    slots.recall(turn, lambda: woken.append(True))
    assert slots.wanted is not has_token
