"""``ProcessRunner``: the process that forks for tasks may die at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from pynenc.core.records import Beat
from pynenc.runner.launch import Launch
from pynenc.runner.process_runner import ForkServer
from pynenc.runner.settings import WorkerSettings
from pynenc.testing.chaos.fleet import descendants
from tests.integration.apps import basic
from tests.integration.conftest import LONG, RunnerProgram, configured, eventually, url_of

Start = Callable[..., RunnerProgram]


def zygotes(runner: int) -> list[int]:
    """The zygote of a runner, without the forks that look like it."""
    found = []
    for pid in descendants(runner):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == runner and b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_it_is_started_again_also_when_it_dies_while_it_starts(start_runner: Start) -> None:
    program = start_runner("ProcessRunner", PROCESSES="2")
    assert basic.add(1, 1).get_result(LONG) == 2
    calls = []
    killed: set[int] = set()
    for number in range(3):
        eventually(lambda: set(zygotes(program.process.pid)) - killed, "there is a zygote that lives")
        for pid in set(zygotes(program.process.pid)) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        calls.append(basic.add(number, 0))
    assert [call.get_result(LONG) for call in calls] == [0, 1, 2]
    assert program.stop() == 0


def test_it_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    """The kernel kills a child when the thread that started it ends."""
    with configured(url_of("sqlite", tmp_path), "ProcessRunner") as app:
        beat = Beat(id="r", group="r", lease=1)
        launch = Launch(
            app=app.launch_payload(),
            settings=WorkerSettings(),
            beat=beat,
            supervisor=os.getpid(),
            paths=tuple(sys.path),
        )
        made: list[ForkServer] = []
        thread = Thread(target=lambda: made.append(ForkServer(launch)))
        thread.start()
        thread.join()
        with pytest.raises(subprocess.TimeoutExpired):
            made[0]._process.wait(0.5)
        made[0].close()
