"""The processes of the chaos test: started, stopped, killed, each by its own id."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pynenc.core.outcome import SECOND

#: Seconds of the lease and between two heartbeats of the runners.
LEASE, HEARTBEAT = 2.0, 0.5
#: Kinds of runners, with their options.
KINDS: tuple[tuple[str, ...], ...] = (
    ("--runner-cls", "MultiThreadRunner", "--processes", "2", "--threads", "4"),
    ("--runner-cls", "ThreadRunner", "--threads", "4"),
    ("--runner-cls", "PersistentProcessRunner", "--processes", "2"),
    ("--runner-cls", "ProcessRunner", "--processes", "3"),
)
#: What a runner says before it ends because its first child died while it started.
NOT_READY = "could not import the app"
#: Seconds that a process gets to end by itself.
PATIENCE = 20.0
APP = "pynenc.testing.chaos.tasks"
#: Modules with more of its tasks.
IMPORTS = ("pynenc.testing.chaos.workflows", "pynenc.testing.chaos.triggers")


class Hit(NamedTuple):
    """A process was killed: when (wall clock, microseconds), which, and whether all its descendants went with it."""

    at: int
    pid: int
    is_runner: bool


class Managed:
    """One process that we started."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.kind = 0
        self.started = time.monotonic()
        self.is_expected_to_die = False
        self.has_lost_a_child = False
        #: What its end may look like; None is none. A task may kill the process that it runs in.
        self.good_codes: tuple[int | None, ...] = (None, 0, -signal.SIGKILL)
        self.stopped: dict[int, float] = {}
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    @property
    def has_failed(self) -> bool:
        """Whether it ended although nobody killed it, nor what it needs to start."""
        is_excused = self.is_expected_to_die or (self.has_lost_a_child and NOT_READY in self.tail())
        return self.process.poll() not in self.good_codes and not is_excused

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self.is_expected_to_die = True
        self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Fleet:
    """All processes of one run.

    :param imports: modules that all of them import besides.
    """

    def __init__(self, folder: Path, url: str, seed: random.Random, imports: Sequence[str] = ()) -> None:
        self.folder = folder
        self.random = seed
        self.runners: list[Managed] = []
        self.clients: list[Managed] = []
        self.hits: list[Hit] = []
        self._environment = os.environ | {
            "PYNENC__STORE": url,
            "PYNENC__IMPORTS": ",".join((*IMPORTS, *imports)),
            "PYNENC__RUNNER__LEASE_SECONDS": str(LEASE),
            "PYNENC__RUNNER__HEARTBEAT_SECONDS": str(HEARTBEAT),
            "PYNENC_CHAOS_FOLDER": str(folder),
        }

    def start_runner(self) -> Managed:
        """A runner of the kind of which there are the fewest."""
        number = len(self.runners)
        kinds = [runner.kind for runner in self.living()]
        kind = min(range(len(KINDS)), key=kinds.count)
        command = ["-m", "pynenc", "--app", APP, "runner", "start", "--log-level", "WARNING", *KINDS[kind]]
        self.runners.append(Managed(f"runner-{number}", command, self._environment, self.folder))
        self.runners[-1].kind = kind
        return self.runners[-1]

    def start_client(self, count: int) -> Managed:
        """A client that submits about ``count`` invocations; with none, one that sends the signals that others did not live to send."""
        name = f"c{len(self.clients)}"
        command = ["-m", "pynenc.testing.chaos.client", name, str(self.random.getrandbits(32)), str(count)]
        self.clients.append(Managed(name, command, self._environment, self.folder))
        return self.clients[-1]

    def living(self) -> list[Managed]:
        """The runners that have not ended."""
        return [runner for runner in self.runners if runner.is_alive]

    # -- harm --------------------------------------------------------------------------------------------------------------
    def kill_runner(self, runner: Managed) -> None:
        """SIGKILL to the process that was started; what it started dies with it."""
        self.hits.append(Hit(_now(), runner.pid, is_runner=True))
        runner.kill()

    def kill_child(self, runner: Managed) -> None:
        """SIGKILL to one descendant."""
        if pids := list(descendants(runner.pid)):
            pid = self.random.choice(pids)
            self.hits.append(Hit(_now(), pid, is_runner=False))
            runner.has_lost_a_child = True
            send(pid, signal.SIGKILL)

    def stop(self, runner: Managed, seconds: float) -> None:
        """SIGSTOP to the whole tree, to its root or to one descendant, until a time."""
        pids = [runner.pid, *descendants(runner.pid)]
        draw = self.random.random()
        chosen = pids if draw < 0.5 else pids[:1] if draw < 0.75 else [self.random.choice(pids)]
        for pid in chosen:
            runner.stopped[pid] = time.monotonic() + seconds
            send(pid, signal.SIGSTOP)

    def go_on(self, *, everybody: bool = False) -> None:
        """SIGCONT to those whose time is over."""
        now = time.monotonic()
        for runner in self.runners:
            for pid in [pid for pid, until in runner.stopped.items() if everybody or until <= now]:
                del runner.stopped[pid]
                send(pid, signal.SIGCONT)

    # -- the end -----------------------------------------------------------------------------------------------------------
    def end(self) -> None:
        """Stop the runners gracefully; those that do not obey are killed."""
        self.go_on(everybody=True)
        for runner in self.living():
            runner.good_codes += (-signal.SIGTERM,)  # the latter before it was ready to obey
            runner.process.terminate()
        deadline = time.monotonic() + PATIENCE
        for runner in self.living():
            try:
                runner.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.is_expected_to_die = False

    def close(self) -> None:
        """Leave nothing behind."""
        self.go_on(everybody=True)
        for managed in (*self.runners, *self.clients):
            if managed.is_alive:
                managed.kill()


def _now() -> int:
    return int(time.time() * SECOND)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def descendants(pid: int) -> Iterator[int]:
    """The children of a process, their children, and so on."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    """The processes that any thread of ``pid`` started."""
    if not Path("/proc/self/task").exists():
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
        return [int(word) for word in listed.stdout.split()]
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found
