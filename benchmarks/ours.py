"""What the cases share about this library: stores of their own, runners beside them, verified drains."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import marks
from benchmarks.harness import Checked
from benchmarks.processes import Program, program, wait_until
from benchmarks.tasks import app, nothing, presence
from pynenc.core.records import QueueState

PATIENCE = 300.0


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


def drain(count: int, runner_cls: str, checked: Checked, **settings: Any) -> float:
    """Calls of a task that does nothing per second: submitted before, run by a runner in a process of its own, all results verified."""
    with sqlite_app() as folder:
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
