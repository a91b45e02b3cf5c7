"""Turns over a store that loses replies."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pynenc.core import outcome
from pynenc.core.records import Beat, Claim, ClaimRequest, Finished, New
from pynenc.exceptions import StoreError
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.slots import Slots
from pynenc.runner.turns import Turns
from pynenc.store.base import Watch
from pynenc.store.memory import MemoryStore
from pynenc.testing.clock import SECOND, VirtualClock


class LosesReplies(MemoryStore):
    """Carries everything out; of the next ``lost`` operations nobody hears."""

    lost = 0
    #: What happens while the answer to a claim is on its way.
    meanwhile: Callable[[], object] = staticmethod(bool)

    def claim(self, request: ClaimRequest) -> Claim:
        answer = super().claim(request)
        self.meanwhile()
        return self._answer(answer)

    def finish(self, runner, outcomes, request=None) -> Finished:
        return self._answer(super().finish(runner, outcomes, request))

    def _answer(self, answer):
        if self.lost:
            self.lost -= 1
            raise StoreError("the reply was lost", retryable=True)
        return answer


@pytest.fixture
def store() -> LosesReplies:
    store = LosesReplies("memory://", "test", VirtualClock())
    store.open()
    return store


@pytest.fixture
def turns(store: LosesReplies) -> Turns:
    beat = Beat(id="r", group="r", lease=15 * SECOND, tasks=("t",))
    store.heartbeat([beat])
    turns = Turns(
        store,
        WorkerSettings(),
        beat,
        Slots(3),
        max_ahead=0,
        coroutines=None,
        on_lost=lambda: None,
    )
    turns.listener = store.listen((), lambda: None)
    return turns


def again(turns: Turns) -> bool:
    turns.retry_at = 0.0
    return turns.make()


def names(turns: Turns) -> list[str]:
    return [claimed.id for claimed in turns.buffer]


def test_a_claim_without_an_answer_is_taken_over(store: LosesReplies, turns: Turns) -> None:
    store.submit([New(id="a", task="t", args=b""), New(id="b", task="t", args=b"")])
    store.lost = 1
    assert not turns.make()
    assert [claimed.id for claimed in store.owned("r")] == ["a", "b"]
    assert again(turns)
    assert names(turns) == ["a", "b"]
    assert turns.claimed == 2


def test_what_is_known_is_not_taken_over_twice(store: LosesReplies, turns: Turns) -> None:
    store.submit([New(id="a", task="t", args=b"")])
    assert turns.make()
    running = turns.buffer.popleft()
    store.submit([New(id="b", task="t", args=b"")])
    store.lost = 1
    assert not turns.make()
    assert again(turns)
    assert names(turns) == ["b"]
    turns.put(outcome.succeeded(running, b"", 0, 1), 0.0, 0.0)
    turns.buffer.clear()
    again(turns)
    assert names(turns) == []


def test_an_outcome_without_an_answer_is_written_again_with_its_claim(store: LosesReplies, turns: Turns) -> None:
    store.submit([New(id="a", task="t", args=b"")])
    assert turns.make()
    store.submit([New(id="b", task="t", args=b"")])
    turns.put(outcome.succeeded(turns.buffer.popleft(), b"1", 0, 1), 0.0, 0.0)
    store.lost = 1
    turns.make()
    assert again(turns)
    assert (names(turns), turns.outbox) == (["b"], [])
    assert store.get(["a"])[0].payload == b"1"


def test_what_an_earlier_identity_claimed_is_not_started(store: LosesReplies, turns: Turns) -> None:
    """Its lease was taken away while the answer was on its way; nothing that came of it would count."""
    store.submit([New(id=name, task="t", args=b"") for name in "abcd"])
    other = msgspec.structs.replace(turns.beat, id="r~1", group="r~1")
    store.heartbeat([other])
    assert turns.make()
    store.submit([New(id=name, task="t", args=b"") for name in "ef"])
    turns.renew(other)
    assert names(turns) == []
    third = msgspec.structs.replace(other, id="r~2", group="r~2")
    store.heartbeat([third])
    store.meanwhile = lambda: turns.renew(third)
    assert not turns.make()
    assert store.owned("r~1")
    store.meanwhile = bool
    store.retire(["r", "r~1"])
    assert turns.make()
    assert set(names(turns)) == {claimed.id for claimed in store.owned("r~2")}


def test_what_an_earlier_identity_claimed_with_a_wait_is_not_started(store: LosesReplies, turns: Turns) -> None:
    store.submit([New(id="a", task="t", args=b"")])
    other = msgspec.structs.replace(turns.beat, id="r~1", group="r~1")
    store.heartbeat([other])

    def begin(request: ClaimRequest | None) -> Watch:
        assert request is not None
        watch = store.watch(["a"], bool)
        watch.claim = store.claim(request)
        assert watch.claim.batch
        turns.renew(other)
        return watch

    turns.watch(["x"], begin)
    assert names(turns) == []
