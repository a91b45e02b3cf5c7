"""A fresh process for every invocation, forked from a warm one.

The *zygote* is a child that has imported the app and its tasks and runs nothing. For each invocation it forks; the fork
runs the one body, sends the outcome over its own socket and exits. Forking costs milliseconds where starting an
interpreter costs hundreds, and it is safe because the zygote has a single thread.

Between a slot thread of the runner and the fork travel frames: ``pid``, ``park``, ``unpark``, ``progress`` and ``done``
upwards, ``go``, ``cancel`` and ``timeout`` downwards.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from threading import Lock, Semaphore, Thread, main_thread
from typing import Any

import msgspec

from pynenc.context import Running, Slot
from pynenc.engine.execute import TimeUp
from pynenc.runner.body import interrupt
from pynenc.runner.launch import LINGER, Job, Up, die_with_parent, engine_of, receive_frame, receive_launch, send_frame


class ForkedSlot(Slot):
    """The slot of the only body in a forked process; the tokens are in the runner's process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._go = Semaphore(0)
        self._waits = 0
        self._lock = Lock()
        self._sending = Lock()
        self.running: Running | None = None
        #: Whether the outcome was sent: the runner hangs up then, and there may be something to export.
        self.is_done = False

    def send(self, frame: Up) -> None:
        """Send a frame to the runner's process."""
        with self._sending:
            send_frame(self._connection, msgspec.msgpack.encode(frame))

    def park(self, _ids: Sequence[str] = (), _turn: object = None, /) -> None:
        """Tell the runner that the body waits; once, however many of its branches do."""
        with self._lock:
            self._waits += 1
            is_first = self._waits == 1
        if is_first:
            self.send(Up("park"))

    def unpark(self, _turn: object = None, /) -> None:
        """Ask the runner for a slot and wait for it, once the last branch goes on."""
        with self._lock:
            self._waits -= 1
            is_last = self._waits == 0
        if is_last:
            self.send(Up("unpark"))
            self._go.acquire()

    async def unpark_async(self) -> None:
        """The same; whatever else runs on this process's loop belongs to the body too."""
        self.unpark()

    def listen(self) -> None:
        """Obey the frames that come down; die when the runner is gone."""
        is_told = False
        while (frame := receive_frame(self._connection)) is not None:
            running = self.running
            if frame == b"go":
                self._go.release()
            elif running is None:
                continue
            elif frame == b"cancel":
                if not is_told:
                    is_told = running.cancel_requested = True
                    running.wake_up()
            elif frame == b"timeout":
                interrupt(running, main_thread().ident or 0, TimeUp)
        if not self.is_done:
            os._exit(1)


def main(socket_fd: int) -> None:
    """Import the app, then fork on request until the runner goes away."""
    connection = socket.socket(fileno=socket_fd)
    launch = receive_launch(connection)
    die_with_parent(launch.supervisor)
    app = pickle.loads(launch.app)
    app.import_tasks()
    engine_of(app)
    app.close()  # all modules are imported now; each fork opens a store of its own
    gc.freeze()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    send_frame(connection, b"ready")
    while True:
        ready, _, _ = select.select([connection.fileno(), reader], [], [])
        if reader in ready:
            _drain(reader)
            _reap(connection)
        if connection.fileno() in ready and not _serve(connection, app):
            if app.conf.otel:
                _linger(reader)
            return


def _serve(connection: socket.socket, app: Any) -> bool:
    """Fork for one job; false when the runner is gone."""
    data, descriptors, _, _ = socket.recv_fds(connection, 8, 1)
    if not data:
        return False
    frame = receive_frame(connection)
    if frame is None:
        return False
    job = msgspec.msgpack.decode(frame, type=Job)
    try:
        child = os.fork()
    except OSError:  # no memory, or too many processes: the runner gives the work back
        traceback.print_exc()
        child = -1
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        parent = os.getppid()
        connection.close()
        die_with_parent(parent)
        _run(socket.socket(fileno=descriptors[0]), job, app)
    os.close(descriptors[0])
    return True


def _run(connection: socket.socket, job: Job, app: Any) -> None:
    """In the fork: run the body, send the outcome, be gone."""
    try:
        slot = ForkedSlot(connection)
        slot.send(Up("pid", pid=os.getpid()))
        engine = engine_of(app)
        assert engine is not None  # nothing ends this before it answers
        executor = engine.executor
        slot.running = running = executor.running(job.claimed, job.runner, slot)
        running.report = lambda progress: slot.send(Up("progress", progress=progress))
        Thread(target=slot.listen, daemon=True).start()
        ended = executor.run(job.claimed, running)
        slot.running = None
        slot.is_done = True
        slot.send(Up("done", outcome=ended))
        app.engine.flush_telemetry()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _linger(reader: int) -> None:
    """Wait a moment for forks that have said what became of their body, and export spans still."""
    deadline = time.monotonic() + LINGER
    while (left := deadline - time.monotonic()) > 0:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([reader], [], [], left)
        _drain(reader)


def _drain(reader: int) -> None:
    """Forget that children have ended."""
    try:
        os.read(reader, 4096)
    except BlockingIOError:
        pass


def _reap(connection: socket.socket) -> None:
    """Tell the runner how forks ended: ``pid status`` frames."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        send_frame(connection, f"{pid} {os.waitstatus_to_exitcode(status)}".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
