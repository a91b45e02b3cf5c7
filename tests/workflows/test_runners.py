"""Workflows on real runners: processes that a step kills, suspension while others work, cancellation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pynenc.core.status import InvocationStatus
from pynenc.exceptions import InvocationCancelledError, TaskTimeoutError, WorkerLostError
from tests.workflows.apps import shop

ROOT = Path(__file__).parents[2]
LONG = 60.0


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    shop.app.close()
    shop.app.conf.store = f"sqlite:///{tmp_path / 'wf.db'}"
    yield shop.app.conf.store
    shop.app.close()
    shop.app.conf.store = "memory://"


def words(tmp_path: Path) -> list[str]:
    path = tmp_path / "witness"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def program(url: str, runner_cls: str, **settings: str) -> Iterator[None]:
    """``pynenc runner start`` in a process of its own."""
    environment = os.environ | {"PYNENC__STORE": url, "PYNENC__RUNNER_CLS": runner_cls}
    environment |= {f"PYNENC__RUNNER__{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "pynenc", "--app", "tests.workflows.apps.shop", "runner", "start"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(LONG) == 0


@contextmanager
def threads() -> Iterator[None]:
    """A runner on threads of this process."""
    shop.app.conf.runner_cls = "ThreadRunner"
    shop.app.runner = None
    runner = shop.app.runner
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        yield
    finally:
        runner.stop_runner_loop()
        thread.join(LONG)


@pytest.mark.parametrize("runner_cls", ["MultiThreadRunner", "ProcessRunner"])
def test_processes_that_die_at_each_step(url, tmp_path, runner_cls):
    one, other = shop.deadly(4), shop.async_deadly(2)
    with program(url, runner_cls, PROCESSES="1"):
        assert one.get_result(timeout=LONG) == 6 + 7
        assert other.get_result(timeout=LONG) == 1 + 2
    done = Counter(words(tmp_path))
    assert done["step 2"] == done["step 3"] == 2
    assert one.num_retries == other.num_retries == 0
    assert shop.app.store.check() == []


@pytest.mark.parametrize("runner_cls", ["MultiThreadRunner", "ProcessRunner"])
def test_a_workflow_that_kills_its_processes_is_compensated(url, tmp_path, runner_cls):
    with program(url, runner_cls, PROCESSES="1"):
        once = shop.dies("once")
        with pytest.raises(WorkerLostError, match="2 time"):
            once.get_result(timeout=LONG)
        always = shop.dies("always")
        with pytest.raises(WorkerLostError, match="3 time"):
            always.get_result(timeout=LONG)
    done = Counter(words(tmp_path))
    assert (done["die once"], done["undo once"]) == (2, 1)
    assert (done["die always"], done["undo always"]) == (3, 0)
    assert shop.app.engine.get(once.invocation_id).reason.startswith("crash 2 of 2")
    assert shop.app.engine.get(once.invocation_id).reason.endswith("; compensated")
    assert "its compensation was not carried out" in shop.app.engine.get(always.invocation_id).reason
    assert shop.app.store.check() == []


def run_until_it_ends(url, invocation):
    """Start runners that nobody supervises, one after the other, as long as they die of it."""
    command = [sys.executable, "-m", "pynenc", "--app", "tests.workflows.apps.shop", "runner", "start"]
    environment = os.environ | {"PYNENC__STORE": url, "PYNENC__RUNNER_CLS": "ThreadRunner"}
    for _ in range(10):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        eventually(lambda process=process: process.poll() is not None or invocation.wait(0))
        if process.poll() is None:
            process.terminate()
            assert process.wait(LONG) == 0
            return


@pytest.mark.parametrize("word", ["once", "always"])
def test_a_workflow_that_kills_a_runner_that_nobody_supervises_is_compensated(url, tmp_path, word):
    invocation = shop.dies(word)
    run_until_it_ends(url, invocation)
    with pytest.raises(WorkerLostError, match="died"):
        invocation.get_result(timeout=0)
    row, is_once = shop.app.engine.get(invocation.invocation_id), word == "once"
    assert row.reason.startswith("crash 2 of 2: its process died")
    assert row.reason.endswith("compensated") == is_once
    assert words(tmp_path).count(f"undo {word}") == is_once
    assert shop.app.store.check() == []


def test_a_workflow_that_does_not_react_to_its_timeout_is_compensated(url, tmp_path, monkeypatch):
    monkeypatch.setattr(shop.app.conf.runner, "cancel_grace", 0.1)
    with shop.FREED, threads():
        once, always = shop.sticks("once"), shop.sticks("always")
        for invocation in (once, always):
            with pytest.raises(TaskTimeoutError):
                invocation.get_result(timeout=LONG)
    assert words(tmp_path) == ["undo once"]
    assert shop.app.engine.get(once.invocation_id).reason == "timeout; compensated"
    assert "its compensation was not carried out" in shop.app.engine.get(always.invocation_id).reason


def test_cancelling_a_workflow_stops_its_members(url, tmp_path):
    with threads():
        invocation = shop.waits_long(str(tmp_path))
        eventually(lambda: {"begun 0", "begun 1"} <= set(words(tmp_path)))
        eventually(lambda: invocation.status is InvocationStatus.PAUSED)
        assert invocation.cancel()
        with pytest.raises(InvocationCancelledError):
            invocation.get_result(timeout=LONG)
        eventually(lambda: {"stopped 0", "stopped 1"} <= set(words(tmp_path)))
    assert "finally" in words(tmp_path)
    assert {row.status for row in shop.app.find_invocations(tasks=(shop.slow.task_id.key,))} <= {
        InvocationStatus.CANCELLED,
        InvocationStatus.FAILED,
    }


def test_a_suspended_run_holds_no_slot(url):
    before, shop.app.conf.runner.threads = shop.app.conf.runner.threads, 1
    try:
        with threads():
            sleepers = [shop.naps_briefly(1.5) for _ in range(20)]
            eventually(lambda: all(run.status is InvocationStatus.PAUSED for run in sleepers))
            assert shop.add(1, 2).get_result(timeout=LONG) == 3
            assert [run.get_result(timeout=LONG) for run in sleepers] == [True] * 20
    finally:
        shop.app.conf.runner.threads = before
