"""``ProcessRunner``: a fresh process for every invocation."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from concurrent.futures import Future
from threading import Condition, Lock, Thread

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Claimed, Outcome
from pynenc.engine import Engine
from pynenc.engine.execute import HandBack
from pynenc.exceptions import RunnerError, StoreError, WorkerLostError
from pynenc.runner.body import BodySlot
from pynenc.runner.launch import LINGER, Job, Launch, Up, receive_frame, send_frame, send_launch, start_process
from pynenc.runner.process import describe_exit
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.thread_runner import ThreadRunner
from pynenc.runner.worker import Execute, Worker
from pynenc.serializer.errors import encode_error
from pynenc.workflow.compensation import end_without_body

logger = logging.getLogger("pynenc.runner")

#: Seconds between two looks at cancellation and deadlines of a fork.
TICK = 0.1
#: Exit statuses that are remembered; only those of forks that died without an outcome are asked for, and soon.
MAX_CODES = 1000
#: How often in a row a zygote that died is started again.
RESTARTS = 3


class ForkServer:
    """The runner's end of the zygote.

    The kernel kills the zygote when the *thread* that started it ends, so a thread of its own does that and lives as long.

    :raises RunnerError: the zygote did not get ready.
    """

    def __init__(self, launch: Launch) -> None:
        self._connection, theirs = socket.socketpair()
        self._lock = Lock()
        self._ended = Condition(Lock())
        self._codes: OrderedDict[int, int] = OrderedDict()
        self._ready: Future[bool] = Future()
        self._is_over = False
        started: Future[subprocess.Popen[bytes]] = Future()
        Thread(target=self._live, args=(started, theirs, launch), name="pynenc-forks", daemon=True).start()
        self._process = started.result()
        if not self._ready.result():
            self.close()
            raise RunnerError("the process that forks for tasks could not import the app; its error stands above")

    def _live(self, started: Future[subprocess.Popen[bytes]], theirs: socket.socket, launch: Launch) -> None:
        """Start the zygote, say whether it is ready, and read the exit codes of its forks until it is gone."""
        try:
            with theirs:
                started.set_result(start_process("pynenc.runner.zygote", (theirs.fileno(),)))
            send_launch(self._connection, launch)
            self._ready.set_result(receive_frame(self._connection) == b"ready")
            self._read_codes()
        except OSError as error:
            if not started.done():
                started.set_exception(error)
        finally:
            if not self._ready.done():
                self._ready.set_result(False)
            with self._ended:
                self._is_over = True
                self._ended.notify_all()

    def fork(self, job: Job) -> socket.socket:
        """Ask for a process; returns the socket to it.

        :raises ConnectionError: the zygote is gone.
        :raises msgspec.ValidationError: the record is damaged, which the zygote would not survive.
        """
        frame = msgspec.msgpack.encode(job)
        msgspec.msgpack.decode(frame, type=Job)
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._connection, [b"forkfork"], [theirs.fileno()])
                send_frame(self._connection, frame)
            except OSError as error:
                ours.close()
                raise ConnectionError("the process that forks for tasks is gone") from error
        return ours

    def _read_codes(self) -> None:
        while (frame := receive_frame(self._connection)) is not None:
            pid, code = frame.split()
            with self._ended:
                self._codes[int(pid)] = int(code)
                if len(self._codes) > MAX_CODES:
                    self._codes.popitem(last=False)
                self._ended.notify_all()

    def exit_code(self, pid: int) -> int:
        """The exit status of a fork that has closed its socket."""
        with self._ended:
            self._ended.wait_for(lambda: pid in self._codes or self._is_over, timeout=5.0)
            return self._codes.pop(pid, -signal.SIGKILL)

    def close(self) -> None:
        """Stop the zygote; its forks die with it. What they have to export still, they get a moment for."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
            self._process.wait(LINGER + 1.0)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._connection.close()


class ProcessRunner(ThreadRunner):
    """Every invocation, async ones too, gets a process of its own, which ends with it: full isolation, at some milliseconds each
    (``processes`` at once, 0: one a CPU).
    """

    needs_shared_store = True
    _forks: ForkServer
    _launch: Launch

    def slots(self) -> int:
        """How many processes run at once."""
        return int(self.conf.processes or os.cpu_count() or 1)

    def _run(self, engine: Engine, tasks: tuple[str, ...]) -> None:
        beat = self._beat(self.runner_id, (), slots=0, supervised=False)
        self._launch = Launch(
            app=self.app.launch_payload(),
            settings=self._worker_settings(1),
            beat=beat,
            supervisor=os.getpid(),
            paths=tuple(sys.path),
        )
        self._restart = Lock()
        self._forks = ForkServer(self._launch)
        try:
            super()._run(engine, tasks)
        finally:
            self._forks.close()

    def _settings(self) -> WorkerSettings:
        return msgspec.structs.replace(super()._settings(), coroutines=0)  # async bodies get processes too

    def _execute(self) -> Execute | None:
        return self._run_forked

    def _run_forked(self, claimed: Claimed, slot: BodySlot) -> Outcome:
        """Run one body in a fork; a slot thread of the worker waits here."""
        worker = slot.worker
        slot.running = worker.engine.executor.running(claimed, worker.beat.id, slot)
        forks, connection = self._fork(Job(claimed, worker.beat.id))
        with connection:
            fork = Fork(connection, worker, slot, claimed)
            return fork.follow() or self._end(worker, claimed, fork, forks)

    def _fork(self, job: Job) -> tuple[ForkServer, socket.socket]:
        """A process for one job; from a new zygote if the last one died."""
        for _ in range(RESTARTS):
            forks = self._forks
            try:
                return forks, forks.fork(job)
            except ConnectionError:
                self._replace(forks)
        return self._forks, self._forks.fork(job)

    def _replace(self, dead: ForkServer) -> None:
        """A new zygote, if nobody else started one; who kills it while it starts may do so again."""
        with self._restart:
            tries = 0
            while self._forks is dead:
                logger.warning("the process that forks for tasks died and is started again")
                dead.close()
                tries += 1
                try:
                    self._forks = ForkServer(self._launch)
                except RunnerError:
                    if tries == RESTARTS:
                        raise

    def _end(self, worker: Worker, claimed: Claimed, fork: Fork, forks: ForkServer) -> Outcome:
        """The fork died without an outcome."""
        claimed = _as_it_is(worker, claimed)
        return end_without_body(worker.engine, claimed, worker.turns.beat.id, self._fate(worker, claimed, fork, forks))

    def _fate(self, worker: Worker, claimed: Claimed, fork: Fork, forks: ForkServer) -> Outcome:
        """It was killed by us for a reason, or by its own doing."""
        now = worker.engine.store.clock.now()
        if fork.killed == "timeout":
            return worker.engine.executor.timed_out(claimed, now)
        if fork.killed == "cancel":
            return outcome.cancelled(claimed, 0, now)
        if fork.killed == "stop":
            return outcome.handed_back(claimed)
        if not fork.pid:
            return outcome.released(claimed, "its process did not start")
        cause = describe_exit(forks.exit_code(fork.pid))
        error = WorkerLostError(
            f"the process that ran {claimed.task} died: {cause}, {claimed.crashes + 1} time(s)", claimed.task
        )
        return outcome.crashed(claimed, cause, encode_error(error), now)


def _as_it_is(worker: Worker, claimed: Claimed) -> Claimed:
    """The record of an owned invocation, whose crashes may have been forgiven since it was claimed; as it was then if the store does not answer."""
    try:
        owned = worker.engine.store.owned(worker.beat.id)
    except StoreError as error:
        logger.warning("%s is counted as it was claimed: %s", claimed.id, error)
        return claimed
    return next((own for own in owned if own.id == claimed.id), claimed)


class Fork:
    """One forked process as its slot thread sees it."""

    def __init__(self, connection: socket.socket, worker: Worker, slot: BodySlot, claimed: Claimed) -> None:
        self.pid = 0
        self.killed = ""
        self._connection = connection
        self._worker = worker
        self._slot = slot
        self._grace = worker.settings.cancel_grace
        self._deadline = time.monotonic() + claimed.timeout / outcome.SECOND if claimed.timeout else 0.0
        self._kill_at: tuple[float, str] | None = None
        self._is_parked = False

    def follow(self) -> Outcome | None:
        """Obey the fork's frames until it is done (its outcome) or dead (None)."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if not poll.poll(TICK * 1000):
                self._enforce(time.monotonic())
                continue
            frame = receive_frame(self._connection)
            up = msgspec.msgpack.decode(frame, type=Up) if frame else None
            if up is not None and up.outcome is None:
                self._obey(up)
                continue
            if self._is_parked:  # a thread of the body waits still
                self._slot.unpark()
            return up.outcome if up else None

    def _obey(self, up: Up) -> None:
        if up.kind == "pid":
            self.pid = up.pid
        elif up.kind == "park":
            self._is_parked = True
            self._slot.park()
        elif up.kind == "unpark":
            self._slot.unpark()
            self._is_parked = False
            self._send(b"go")
        elif up.progress is not None and self._slot.running is not None:
            self._slot.running.progress = up.progress

    def _send(self, frame: bytes) -> None:
        try:
            send_frame(self._connection, frame)
        except OSError:
            pass

    def _enforce(self, now: float) -> None:
        """Tell the fork to stop, then kill it after the grace."""
        running = self._slot.running
        if self._kill_at is None:
            if running is not None and running.interrupt is HandBack:
                self._kill_at = (now, "stop")
            elif running is not None and running.cancel_requested:
                self._send(b"cancel")
                self._kill_at = (now + self._grace, "cancel")
            elif self._deadline and now > self._deadline:
                self._send(b"timeout")
                self._kill_at = (now + self._grace, "timeout")
        elif now < self._kill_at[0]:
            self._send(self._kill_at[1].encode())  # it may have been out of reach
        elif self.pid and not self.killed:
            self.killed = self._kill_at[1]
            os.kill(self.pid, signal.SIGKILL)
