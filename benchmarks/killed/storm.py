"""One contender in a storm: its workers, what is done to them, and what is found afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate
from benchmarks.killed.witness import Body, Witness
from benchmarks.processes import ROOT
from pynenc.testing.chaos.fleet import descendants, send

WORKERS = 2
#: Seconds until a service manager starts a worker again, and between two questions about results.
RESTART, LOOK = 0.5, 0.25
#: Seconds between two calls that find out whether a worker that was started works already, and until it is believed to: idle, it may leave them to the other.
PROBE, READY = 0.2, 5.0
#: Seconds without progress after which a library that holds no call is believed to run none.
REST = 5.0
#: Seconds in which a worker must begin something when it has work.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Harm:
    """How much: calls, kills, and seconds without any progress after which it is over."""

    calls: int
    kills: int
    stillness: float


@dataclass(slots=True)
class Found:
    """What became of the calls.

    :ivar killed: bodies that a kill cut off. :ivar lost: never ended, and the library knows nothing of them. :ivar held: never ended, and the library still
        has them at the end. :ivar failed: never ended, recorded as failed. :ivar unanswered: ended, but no result is recorded. :ivar twice: begun more
        than once. :ivar phantom: a result is recorded, but no body ended. :ivar again: seconds from each kill until a call that it cut off began again.
    """

    accepted: int
    kills: int
    killed: int
    lost: int = 0
    held: int = 0
    failed: int = 0
    unanswered: int = 0
    twice: int = 0
    phantom: int = 0
    again: list[float] = field(default_factory=list)

    @property
    def never(self) -> int:
        """Bodies that were cut off and never began again."""
        return self.killed - len(self.again)

    @property
    def is_clean(self) -> bool:
        """Whether every accepted call has a result that its body returned."""
        return not (self.lost or self.held or self.failed or self.unanswered or self.phantom)


class Service:
    """A worker that is started again when it was killed."""

    def __init__(self, name: str, contender: Contender, pipe: Path) -> None:
        self._name, self._starts = name, 0
        self._command = contender.command()
        self._environment = {**os.environ, **contender.environment(), witness.PATH: str(pipe)}
        self.start()

    @property
    def worker(self) -> str:
        """How its bodies name it; another name after each start."""
        return f"{self._name}.{self._starts}"

    def start(self) -> None:
        self._starts += 1
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**self._environment, witness.WORKER: self.worker},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> float:
        """SIGKILL to it and all that it started, which cannot start more meanwhile; when."""
        root = self._process.pid
        tree = [root]
        send(root, signal.SIGSTOP)
        for pid in descendants(root):
            send(pid, signal.SIGSTOP)
            tree.append(pid)
        at = time.monotonic()
        for pid in tree:
            send(pid, signal.SIGKILL)
        self._process.wait()
        return at

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()


class Storm:
    """A contender, its services and their witness."""

    def __init__(self, contender: Contender, seen: Witness, services: list[Service]) -> None:
        self._contender, self._seen, self._services = contender, seen, services
        self._accepted = 0
        self._killed: list[tuple[Body, float]] = []

    def rage(self, harm: Harm) -> Found:
        """Submit, kill, wait; what is found."""
        for number in range(harm.kills):
            self._get_ready()
            self._submit((number + 1) * harm.calls // harm.kills - number * harm.calls // harm.kills)
            self._kill(self._busy())
        fates = self._settled(harm.stillness)
        return self._judge(harm.kills, fates)

    def _submit(self, count: int) -> None:
        for _ in range(count):
            self._contender.submit(self._accepted)
            self._accepted += 1

    def _get_ready(self) -> None:
        """Submit single calls until each worker has begun one, so that it is not starting any more when the other is killed."""
        ready, workers = time.monotonic() + READY, {service.worker for service in self._services}
        while time.monotonic() < ready and not workers <= {body.worker for body, _ in self._seen.begun}:
            self._submit(1)
            self._seen.watch(PROBE)

    def _busy(self) -> Service:
        """Whoever began the last body that has not ended; another call is submitted where all is done already."""
        give_up = time.monotonic() + PATIENCE
        self._seen.look(0)
        while not self._seen.running:
            if time.monotonic() > give_up:
                raise TimeoutError(f"no worker began anything within {PATIENCE:g} s")
            if not self._seen.look(2.0):
                self._submit(1)
        last = next(reversed(self._seen.running)).worker
        return next(service for service in self._services if service.worker == last)

    def _kill(self, service: Service) -> None:
        at, worker = service.kill(), service.worker
        self._seen.look(0)
        for body in [body for body in self._seen.running if body.worker == worker]:
            del self._seen.running[body]
            self._killed.append((body, at))
        self._seen.watch(RESTART)
        service.start()

    def _settled(self, stillness: float) -> list[Fate]:
        """What became of all calls when nothing more will, or nothing did for a while."""
        last = time.monotonic()
        while True:
            while self._seen.look(LOOK):
                last = time.monotonic()
            fates, still = self._contender.fates(), time.monotonic() - last
            is_over = still > stillness or (still > REST and Fate.HELD not in fates)
            if is_over or all(fate in {Fate.ANSWERED, Fate.FAILED} for fate in fates):
                return fates

    def _judge(self, kills: int, fates: list[Fate]) -> Found:
        begun, ended = self._seen.begun, self._seen.ended
        found = Found(self._accepted, kills, len(self._killed))
        for index, fate in enumerate(fates):
            answered, done = fate == Fate.ANSWERED, index in ended
            found.lost += not done and fate == Fate.GONE
            found.held += not done and fate == Fate.HELD
            found.failed += not done and fate == Fate.FAILED
            found.unanswered += done and not answered
            found.phantom += answered and not done
            found.twice += sum(body.index == index for body, _ in begun) > 1
        for body, at in self._killed:
            later = [when - at for other, when in begun if other.index == body.index and other != body and when > at]
            found.again += later[:1]
        return found


@contextmanager
def _storm(contender: Contender) -> Iterator[Storm]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pynenc-killed-")))
        stack.callback(contender.close)
        seen = stack.enter_context(closing(Witness(folder / "witness")))
        services = [
            stack.enter_context(closing(Service(f"w{number}", contender, seen.path))) for number in range(WORKERS)
        ]
        yield Storm(contender, seen, services)


def run(contender: Contender, harm: Harm) -> Found:
    """Let a contender stand a storm on its empty store, and close it."""
    with _storm(contender) as storm:
        return storm.rage(harm)
