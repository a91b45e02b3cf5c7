"""Processes that the cases start: ended by their id, looked at through the system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
#: Seconds that a worker of another library has to end in order; it has nothing to do any more.
GRACE = 1.0


class Program:
    """A process that was started; ``answer`` is the JSON that it printed last."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.answer: Any = None

    def stop(self, signal: int) -> None:
        self.process.send_signal(signal)
        try:
            output, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
        lines = output.strip().splitlines()
        self.answer = json.loads(lines[-1]) if lines else None


@contextmanager
def program(module: str, options: dict[str, Any], signal: int, **environment: str) -> Iterator[Program]:
    """Run a module of this package with options as JSON while the body of ``with`` runs."""
    with _running([sys.executable, "-m", module, json.dumps(options)], environment, stdout=subprocess.PIPE) as process:
        started = Program(process)
        try:
            yield started
        finally:
            started.stop(signal)


@contextmanager
def launched(command: list[str], signal: int, **environment: str) -> Iterator[Program]:
    """Run a worker of another library while the body of ``with`` runs. It may start processes of its own: they end with it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with _running(command, environment, **quiet) as process:
        try:
            yield Program(process)
        finally:
            process.send_signal(signal)
            _leave(process)


@contextmanager
def _running(command: list[str], environment: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True, **options) as process:
        yield process


def _leave(process: subprocess.Popen[str]) -> None:
    """Wait until a worker has ended, and end what is left of its group."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        os.killpg(process.pid, SIGKILL)
    except ProcessLookupError:
        pass


def wait_until(condition: Callable[[], bool], *, pause: float = 0.001, what: str = "something") -> None:
    """Wait for a condition, not for ever."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} did not happen within {PATIENCE:g} s")
        time.sleep(pause)


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds (Linux; elsewhere what ``ps`` says)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1e3


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that the threads of a process have used (Linux; nanoseconds count)."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except OSError:
            continue
    return total / 1e9
