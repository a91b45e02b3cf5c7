"""How the SQLite store wakes who waits in another process: letters, what they bring along, and who receives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import pytest

from pynenc.core.records import Beat, ClaimRequest, Final, New, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import RunnerLostError
from pynenc.store.sleeper import Sleeper
from pynenc.store.sqlite import SqliteStore
from pynenc.store.sqlite.database import Pending, Tx
from pynenc.store.sqlite.post import LETTER
from pynenc.store.sqlite.wake import Watch

LONG = 30.0


class Pair:
    """A client and a runner: two store objects on one file, which are to each other as two processes are."""

    def __init__(self, folder: Path) -> None:
        self.client, self.runner = (SqliteStore(f"sqlite:///{folder}/a.db", "app") for _ in range(2))
        self.client.open()
        self.runner.open()
        self.runner.heartbeat([Beat(id="r", group="r", lease=10**9, tasks=("m.t",))])

    def submit(self, *names: str) -> None:
        self.client.submit([New(id=name, task="m.t", args=b"{}") for name in names])

    def finish(self, *names: str, payload: bytes = b"7", store: SqliteStore | None = None) -> None:
        self.runner.claim(ClaimRequest("r", len(names), ids=names))
        ends = [Outcome(id=name, attempt=1, status=InvocationStatus.SUCCESS, payload=payload) for name in names]
        assert (store or self.runner).finish("r", ends, None).lost == ()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.client.close()
    pair.runner.close()


def receivers() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pynenc-wake"]


def slept(sleeper: Sleeper, wakes: Callable[[], object]) -> float:
    """Seconds until a sleeper is woken by what another thread does."""
    thread = Thread(target=wakes)
    began = time.monotonic()
    thread.start()
    sleeper.sleep(LONG)
    taken = time.monotonic() - began
    thread.join()
    return taken


def watched(store: SqliteStore, *names: str) -> tuple[Sleeper, Watch]:
    sleeper = Sleeper()
    watch = store.watch(names, sleeper)
    assert isinstance(watch, Watch)
    return sleeper, watch


def without_looks(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The looks for finals that are made instead of being heard."""
    looks: list[Sequence[str]] = []
    look = store._ringer._finals_among
    monkeypatch.setattr(store._ringer, "_finals_among", lambda ids: looks.append(ids) or look(ids))
    return looks


def test_who_waits_for_one_receives_it_by_itself_and_reads_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    before = receivers()
    pair.submit("a")
    looks = without_looks(pair.client, monkeypatch)
    sleeper, watch = watched(pair.client, "a")
    assert slept(sleeper, lambda: pair.finish("a")) < LONG
    assert watch.final == Final("a", InvocationStatus.SUCCESS, "m.t", b"7")
    assert not sleeper.is_woken(), "it would sleep again"
    watch.close()
    assert looks == []
    assert receivers() == before, "no thread was needed"


def test_what_is_too_large_for_a_letter_is_read(pair: Pair) -> None:
    pair.submit("a")
    sleeper, watch = watched(pair.client, "a")
    payload = b"7" * LETTER
    assert slept(sleeper, lambda: pair.finish("a", payload=payload)) < LONG
    assert pair.client.finals(["a"])[0].payload == payload
    watch.close()


def test_a_letter_of_before_the_wait_is_not_believed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.submit("a")
    looks = without_looks(pair.client, monkeypatch)
    before = time.monotonic()
    sleeper, watch = watched(pair.client, "a")
    bell = pair.client._ringer
    old = Final("a", InvocationStatus.SUCCESS, "m.t", b"of before a retry by hand")
    other = pair.runner._ringer
    other._start()
    other.ring(0, ["a"], (before, old), orders=False)
    bell._post._receive()  # type: ignore[union-attr]
    assert looks == [["a"]]
    assert (watch.final, sleeper.is_woken()) == (None, False)
    bell._wake_watches({"a": old}, before)
    assert (watch.final, sleeper.is_woken()) == (None, True)
    watch.close()


def test_of_several_who_sleep_each_is_woken(pair: Pair) -> None:
    names = [f"n{index}" for index in range(4)]
    pair.submit(*names)
    taken: dict[str, float] = {}
    asleep = [watched(pair.client, name) for name in names]

    def sleep(name: str, sleeper: Sleeper) -> None:
        sleeper.sleep(LONG)
        taken[name] = time.monotonic()

    threads = [Thread(target=sleep, args=(name, each)) for name, (each, _) in zip(names, asleep, strict=True)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for name, thread in zip(names, threads, strict=True):
        pair.finish(name)
        thread.join(LONG)
        assert name in taken
    assert max(taken.values()) - began < LONG
    for _, watch in asleep:
        watch.close()
    pair.submit("late")
    late, watch = watched(pair.client, "late")
    assert slept(late, lambda: pair.finish("late")) < LONG
    watch.close()


def test_who_receives_serves_those_who_cannot(pair: Pair) -> None:
    pair.submit("a", "b")
    woken = Event()
    called = pair.client.watch(["b"], woken.set)
    sleeper, watch = watched(pair.client, "a")
    thread = Thread(target=sleeper.sleep, args=(LONG,))
    thread.start()
    pair.finish("b")
    assert woken.wait(LONG)
    called.close()
    pair.finish("a")
    thread.join(LONG)
    assert not thread.is_alive()
    watch.close()


def test_who_receives_hears_of_what_ends_in_the_own_process(pair: Pair) -> None:
    pair.submit("a")
    sleeper, watch = watched(pair.client, "a")
    assert slept(sleeper, lambda: pair.finish("a", store=pair.client)) < LONG
    watch.close()


def test_a_commit_that_ends_several_tells_of_all(pair: Pair) -> None:
    pair.submit("a", "b")
    known = (time.monotonic(), Final("a", InvocationStatus.SUCCESS, "m.t"))
    asleep = [watched(store, "b") for store in (pair.client, pair.runner)]
    pair.finish("b")
    for sleeper, _ in asleep:
        sleeper.sleep(LONG)
    pair.runner._ringer.ring(0, ["a", "b"], known, orders=False)
    for sleeper, watch in asleep:
        began = time.monotonic()
        sleeper.sleep(LONG)
        assert time.monotonic() - began < LONG
        watch.close()


def test_letters_that_nobody_reads_keep_none_from_others(pair: Pair) -> None:
    """What lies unread elsewhere counts against what the socket of a sender may send."""
    board = pair.runner._ringer._board
    pair.runner._ringer._start()
    deaf = [board.take_slot() for _ in range(40)]
    for taken in deaf:
        assert taken is not None
        for _ in range(12):
            assert board.send(taken[0], b"f" * LETTER)
    pair.submit("a")
    sleeper, watch = watched(pair.client, "a")
    assert slept(sleeper, lambda: pair.finish("a")) < LONG
    watch.close()
    for taken in deaf:
        taken[1].close()  # type: ignore[index]


def test_a_look_of_before_the_wait_gives_it_no_result(pair: Pair) -> None:
    pair.submit("a")
    before = time.monotonic()
    sleeper, watch = watched(pair.client, "a")
    pair.client._ringer._wake_watches({"a": Final("a", InvocationStatus.SUCCESS, "m.t", b"old")}, before)
    assert (watch.final, sleeper.is_woken()) == (None, True)
    watch.close()


def test_a_wake_that_fails_ends_no_others(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.submit("a", "b")
    woken = Event()

    def fails() -> None:
        raise ValueError("a wake of somebody else's")

    watches = [pair.client.watch(["a"], fails), pair.client.watch(["b"], woken.set)]
    pair.finish("a")
    pair.finish("b")
    assert woken.wait(LONG)
    assert "a wake-up failed" in caplog.text
    for watch in watches:
        watch.close()


def test_letters_that_come_together_are_followed_by_a_look(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that found no room in the socket says no less than those that had room."""
    pair.submit("a", "b", "c")
    looks = without_looks(pair.client, monkeypatch)
    asleep = [watched(pair.client, name) for name in "abc"]
    pair.finish("a")
    pair.finish("b")
    pair.client._ringer._post._receive()  # type: ignore[union-attr]
    assert len(looks) == 1
    assert [sleeper.is_woken() for sleeper, _ in asleep] == [True, True, False]
    for _, watch in asleep:
        watch.close()


def test_letters_are_received_again_when_their_reader_was_interrupted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.submit("a")
    sleeper, watch = watched(pair.client, "a")
    post = pair.client._ringer._post
    assert post is not None
    pair.finish("a")
    read = post._read

    def interrupted(letters: Sequence[bytes]) -> float:
        monkeypatch.setattr(post, "_read", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(post, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sleeper.sleep(LONG)
    sleeper.sleep(LONG)
    assert watch.final is not None
    watch.close()


def test_a_store_that_is_closed_lets_go_of_who_receives(pair: Pair) -> None:
    pair.submit("a")
    sleeper, _ = watched(pair.client, "a")
    is_received: list[bool] = []
    thread = Thread(target=lambda: is_received.append(sleeper.receive(sleeper, LONG)))  # type: ignore[misc]
    thread.start()
    pair.client.close()
    thread.join(LONG)
    assert is_received == [False]


def test_what_is_undone_for_one_of_several_callers_is_told_to_nobody(pair: Pair) -> None:
    pair.submit("a")

    def fails(tx: Tx) -> None:
        tx.known = (time.monotonic(), Final("a", InvocationStatus.SUCCESS, "m.t"))
        raise RunnerLostError("as a claim that goes with a finish")

    seen: list[object] = []
    database = pair.client._database
    with database._turn:
        failing = Pending(fails)
        thread = Thread(target=lambda: seen.append(_error_of(lambda: database._meet(failing))))
        thread.start()
        other = Thread(target=lambda: database._meet(Pending(lambda tx: seen.append(tx.known))))
        while not database._waiting:
            time.sleep(0.001)
        other.start()
        while len(database._waiting) < 2:
            time.sleep(0.001)
    thread.join(LONG)
    other.join(LONG)
    assert None in seen
    assert RunnerLostError in map(type, seen)


def _error_of(work: Callable[[], object]) -> BaseException | None:
    try:
        work()
    except RunnerLostError as error:
        return error
    return None
