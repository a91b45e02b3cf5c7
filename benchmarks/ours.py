"""What the cases share about this library: stores of their own, runners beside them, verified drains."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import marks
from benchmarks.engines import Serving
from benchmarks.harness import Checked
from benchmarks.peers.base import Peer
from benchmarks.processes import Program, program, wait_until
from benchmarks.tasks import app, nothing, presence
from pynenc.core.records import QueueState

PATIENCE = 300.0
#: Puts the app on an empty store, and gives a folder.
Place = Callable[[], AbstractContextManager[Path]]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pynenc-bench-") as folder:
        try:
            yield Path(folder)
        finally:
            marks.forget()


@contextmanager
def sqlite_app(synchronous: str = "normal") -> Iterator[Path]:
    """The app on a new SQLite file; the folder of the file."""
    with scratch() as folder, on_store(f"sqlite:///{folder / 'bench.db'}?synchronous={synchronous}"):
        yield folder


@contextmanager
def app_on(serving: Serving) -> Iterator[Path]:
    """The app on an empty store of a server; a folder for what else is needed."""
    with scratch() as folder, on_store(serving.fresh()):
        yield folder


@contextmanager
def on_store(url: str) -> Iterator[None]:
    """The app on another store."""
    app.conf.store = url
    try:
        app.store  # noqa: B018  # opened before any clock starts
        yield
    finally:
        app.close()


@contextmanager
def runner(runner_cls: str, imports: str = "", **settings: Any) -> Iterator[Program]:
    """A runner of the app's store in a process of its own, from when each of its processes has executed something."""
    options = {"runner_cls": runner_cls, **settings}
    environment = {"PYNENC__STORE": app.conf.store, "PYNENC__IMPORTS": imports}
    with program("benchmarks.worker", options, signal.SIGTERM, **environment) as started:
        seen: set[int] = set()
        while len(seen) < settings.get("processes", 1):
            if started.process.poll() is not None:
                raise RuntimeError("the runner ended before it did anything")
            calls = presence.options(queue="warm-up").parallelize([()] * 4 * settings.get("threads", 1))
            seen.update(calls.get_results(PATIENCE))
        yield started


def timed_drain(executed: marks.Marks) -> float:
    """Seconds from when work may be taken until the last result is written."""
    store = app.store
    began = time.perf_counter()
    store.set_queue("default", QueueState.ACTIVE)
    wait_until(executed.are_complete, what="the execution of all calls")
    wait_until(lambda: not any(info.claimed for info in store.queues()), what="the last result")
    return time.perf_counter() - began


def drain(count: int, runner_cls: str, checked: Checked, place: Place = sqlite_app, **settings: Any) -> float:
    """Calls of a task that does nothing per second: submitted before, run by a runner in a process of its own, all results verified.

    :param place: what puts the app on an empty store.
    """
    with place() as folder:
        executed = marks.create(folder / "marks", count)
        app.store.set_queue("default", QueueState.PAUSED)
        group = nothing.parallelize([(index,) for index in range(count)])
        with runner(runner_cls, **settings):
            seconds = timed_drain(executed)
        verify(group.get_results(PATIENCE), list(range(count)), executed, checked)
    return count / seconds


def verify(results: Sequence[Any], expected: Sequence[Any], executed: marks.Marks, checked: Checked) -> None:
    """Count what is missing or wrong, and what ran twice."""
    wrong = sum(one != two for one, two in zip(results, expected, strict=True))
    checked.add(len(expected), lost=wrong, duplicates=executed.duplicates())


def rate(count: int, work: Callable[[], object]) -> float:
    """How many a second, when ``work`` does ``count`` of something."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def drain_peer(peer: Peer, count: int, checked: Checked) -> float:
    """The same with another library: from the first execution until the last outcome is written. Where it keeps results, all are verified."""
    with scratch() as folder:
        executed = marks.create(folder / "marks", count)
        peer.submit_many(count)
        with peer.worker():
            wait_until(executed.has_begun, what="the first execution")
            began = time.perf_counter()
            wait_until(executed.are_complete, what="the execution of all calls")
            wait_until(lambda: peer.is_settled(count), pause=0.002, what="the last result")
            seconds = time.perf_counter() - began
        expected = list(range(count))
        verify(peer.results() if peer.has_results else expected, expected, executed, checked)
        peer.close()
    return count / seconds
