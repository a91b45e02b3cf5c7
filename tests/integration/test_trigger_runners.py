"""Triggers with real runners: several at once, killed between cause and call, absent for a while; and how fast they are."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynenc.core.records import Filter, Page
from tests.integration.apps import triggered
from tests.integration.conftest import LONG, ROOT, eventually, url_of

app = triggered.app
MODULE = triggered.__name__
#: Milliseconds from a cause to the end of the call that it triggers, at the median. Nothing polls that often: idle runners look after a second.
FAST = 250.0


class Program:
    """A runner in a process of its own, in a process group of its own."""

    def __init__(self, url: str, runner_cls: str, log: Path) -> None:
        self.log = log
        command = [
            sys.executable,
            "-m",
            "pynenc",
            "--app",
            f"{MODULE}:app",
            "runner",
            "start",
            "--runner-cls",
            runner_cls,
        ]
        environment = {
            "PYNENC__STORE": url,
            "PYTHONPATH": str(ROOT),
            "PYNENC__RUNNER__PROCESSES": "2",
            "PYNENC__RUNNER__THREADS": "2",
        }
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environment}, stderr=file, cwd=ROOT, start_new_session=True
            )

    def kill(self) -> None:
        """``kill -9`` of the runner and all its processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LONG)


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts runners on one store, on which the app is too: a SQLite file, unless a test says otherwise."""
    app.close()
    app.conf.store = url_of(getattr(request, "param", "sqlite"), tmp_path)
    programs: list[Program] = []

    def begin(runner_cls: str = "MultiThreadRunner") -> Program:
        programs.append(Program(app.conf.store, runner_cls, tmp_path / f"runner-{len(programs)}.log"))
        return programs[-1]

    yield begin
    for program in programs:
        program.kill()
    app.close()
    app.conf.store = "memory://"


def calls(task: Any) -> list[Any]:
    """The calls of a task that have ended: their arguments."""
    found = app.store.find(Filter(tasks=(task.task_id.key,)), Page(10_000)).invocations
    return [app.engine.codec.decode(task.spec, row)["value"] for row in found if row.status.is_final()]


def emit(code: str, **payload: Any) -> str:
    return app.trigger.emit_event(code, payload)


def alive() -> int:
    return sum(info.alive and info.beat.slots > 0 for info in app.store.runners())


@pytest.mark.parametrize("start", ["sqlite", "postgres"], indirect=True)
def test_several_runners_fire_each_cause_once(start: Callable[..., Program]) -> None:
    start("MultiThreadRunner"), start("PersistentProcessRunner")
    eventually(lambda: alive() >= 2)
    for n in range(100):
        emit("counted", n=n)
    eventually(lambda: len(calls(triggered.after_counted)) == 100, "all have run")
    assert sorted(calls(triggered.counted)) == list(range(100))
    assert sorted(value for value, _ in map(tuple, calls(triggered.after_counted))) == list(range(100))
    assert app.store.check() == []


def test_runners_that_are_killed_lose_and_repeat_nothing(start: Callable[..., Program]) -> None:
    """Three rounds of ``kill -9`` in the middle of the work; whatever was between cause and call then is made up for."""
    for n in range(150):
        emit("counted", n=n)
    for at_least in (20, 60, 100):
        program = start()
        eventually(lambda reached=at_least: len(calls(triggered.counted)) >= reached, "some have run")
        program.kill()
    start()
    eventually(lambda: len(calls(triggered.after_counted)) == 150, "all have run")
    assert Counter(calls(triggered.counted)) == Counter(range(150))
    assert Counter(value for value, _ in map(tuple, calls(triggered.after_counted))) == Counter(range(150))
    assert app.store.check() == []


def test_a_process_that_dies_in_the_decision(start: Callable[..., Program], tmp_path: Path) -> None:
    start()
    eventually(lambda: alive() >= 1)
    mark = tmp_path / "killed"
    emit("deadly", n=7, mark=str(mark))
    eventually(lambda: calls(triggered.survived) == [7], "it was fired after all")
    assert mark.exists()


def test_causes_wait_while_no_runner_is_there(start: Callable[..., Program]) -> None:
    program = start()
    eventually(lambda: calls(triggered.each_second), "it ticks")
    program.kill()
    before = len(calls(triggered.each_second))
    emit("counted", n=1)
    time.sleep(2.5)  # ticks are missed meanwhile: that is what is tested
    assert len(calls(triggered.each_second)) == before
    assert calls(triggered.counted) == []
    start()
    eventually(lambda: calls(triggered.counted) == [1], "the event has waited")
    eventually(lambda: len(calls(triggered.each_second)) > before, "it ticks again")


def test_ticks_do_not_depend_on_the_number_of_runners(start: Callable[..., Program]) -> None:
    for _ in range(3):
        start("PersistentProcessRunner")
    eventually(lambda: len(calls(triggered.each_second)) >= 4, "it ticks")
    ticks = [value[0] for value in calls(triggered.each_second)]
    assert len(ticks) == len(set(ticks)), "a tick was fired twice"


def test_a_cause_is_acted_on_at_once(start: Callable[..., Program]) -> None:
    start("MultiThreadRunner")
    eventually(lambda: alive() >= 1)
    emit("counted", n=-1)
    eventually(lambda: calls(triggered.after_counted), "everything is imported")
    took = []
    for n in range(20):
        began = time.perf_counter()
        emit("counted", n=n)
        eventually(lambda reached=n: any(value == reached for value, _ in map(tuple, calls(triggered.after_counted))))
        took.append((time.perf_counter() - began) * 1000)
    assert statistics.median(took) < FAST, f"an event, its call, and the call on its result: {took} ms"
