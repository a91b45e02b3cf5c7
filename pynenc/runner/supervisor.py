"""The supervisor: starts worker processes, beats for them, and settles what they leave behind.

It runs no user code after start-up, so nothing that a task does can keep it from renewing the leases. Each child is a runner of its own in the store, with the supervisor's id as ``group``.
A child's death is noticed at once (its socket closes). Its board then says what it was running:

* what was claimed but not running, or waited for others, goes back as if nothing had happened;
* a single running body ran alone, so the crash is its own and is counted;
* several running bodies are *suspects*: each goes back marked ``alone``, uncounted, and is run once in an *isolation child* that takes nothing else.

Children die with their supervisor: they notice the closed socket, and on Linux the kernel kills them.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Alone, Beat, Claimed, Orders, Outcome
from pynenc.engine import Engine
from pynenc.exceptions import StoreError, WorkerLostError
from pynenc.runner.board import Entry, MmapBoard
from pynenc.runner.keeper import Keeper
from pynenc.runner.launch import Launch, send_launch
from pynenc.runner.worker import WorkerSettings
from pynenc.serializer.errors import encode_error

logger = logging.getLogger("pynenc.runner")

#: Seconds between two looks at deadlines and clocks.
TICK = 0.25
#: A child that lived shorter than this many seconds is started again only after a pause.
SHORT_LIFE = 2.0
MAX_PAUSE = 30.0


class Child:
    """A worker process and what connects the supervisor to it."""

    def __init__(self, beat: Beat, settings: WorkerSettings, payload: bytes) -> None:
        self.beat = beat
        self.settings = settings
        self.started = time.monotonic()
        self.kills: dict[str, tuple[float, str]] = {}
        self.killed: tuple[str, str] | None = None
        self.board, board_fd = MmapBoard.create()
        self.socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "pynenc.runner.child", str(theirs.fileno()), str(board_fd)]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(), board_fd), stdin=subprocess.DEVNULL)
        os.close(board_fd)
        theirs.close()
        send_launch(
            self.socket,
            Launch(app=payload, settings=settings, beat=beat, supervisor=os.getpid(), paths=tuple(sys.path)),
        )

    @property
    def is_isolation(self) -> bool:
        """Whether it only runs suspects."""
        return self.settings.alone is Alone.ONLY

    def tell(self, line: str) -> None:
        """Send an order; a dead child is noticed elsewhere."""
        try:
            self.socket.sendall(line.encode() + b"\n")
        except OSError:
            pass

    def close(self) -> None:
        """Release what belongs to a child that is gone."""
        self.socket.close()
        self.board.close()


class Supervisor:
    """Keeps ``count`` worker processes alive for one runner.

    :param make_beat: the identity of a child for an id; :param group: the supervisor's own.
    """

    def __init__(
        self,
        engine: Engine,
        group: Beat,
        make_beat: Callable[[str], Beat],
        settings: WorkerSettings,
        count: int,
        payload: bytes,
        heartbeat: float,
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._group = group
        self._make_beat = make_beat
        self._settings = settings
        self._count = count
        self._payload = payload
        self._keeper = Keeper(engine.store, heartbeat)
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._is_stopping = False
        self._is_forced = False
        self._has_orders = False
        self._suspects = False
        self._deadline = 0.0
        self._start_at = 0.0
        self._pause = 0.0
        self._finished = 0

    # -- from other threads -------------------------------------------------------------------------------------------
    def stop(self, *, now: bool = False) -> None:
        """Stop gracefully, or at once."""
        self._is_stopping = True
        self._is_forced = self._is_forced or now
        self._wake()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"x")
        except OSError:
            pass

    def _on_order(self) -> None:
        self._has_orders = True
        self._wake()

    # -- the loop ------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Supervise until stopped and all children are gone."""
        self._keeper.beat([self._group])
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        listener = self._store.listen((), self._on_order)
        was_told = False
        try:
            while True:
                if self._is_stopping:
                    if not was_told:
                        was_told = True
                        self._tell_stop()
                    if not self._children:
                        return
                    if self._is_forced or time.monotonic() > self._deadline:
                        self._kill_all()
                else:
                    self._start_missing()
                    if self._settings.burst and not self._children:
                        return
                self._wait()
                self._beat()
                self._enforce()
        finally:
            listener.close()
            self._kill_all()
            for child in list(self._children.values()):
                self._bury(child)
            self._store.retire([self._group.id])
            self._selector.close()

    def _wait(self) -> None:
        """Sleep until a child dies, an order comes, or the next tick."""
        for key, _ in self._selector.select(TICK):
            if key.data is None:
                self._drain_wakes()
            elif not self._read(key.data):
                self._bury(key.data)

    def _drain_wakes(self) -> None:
        try:
            while self._wake_reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    @staticmethod
    def _read(child: Child) -> bool:
        """Whether the child is still there; it never sends more than its last breath."""
        try:
            return bool(child.socket.recv(64))
        except OSError:
            return False

    def _start_missing(self) -> None:
        now = time.monotonic()
        regular = sum(not child.is_isolation for child in self._children.values())
        if now >= self._start_at and not (self._settings.burst and self._finished):
            for _ in range(self._count - regular):
                self._start(self._settings)
        if self._suspects and not any(child.is_isolation for child in self._children.values()):
            self._suspects = False
            self._start(msgspec.structs.replace(self._settings, slots=1, alone=Alone.ONLY, burst=True, max_tasks=0))

    def _start(self, settings: WorkerSettings) -> None:
        beat = self._make_beat(f"{self._group.id}/{secrets.token_hex(3)}")
        self._store.heartbeat([self._group, beat])
        child = Child(beat, settings, self._payload)
        self._children[child.process.pid] = child
        self._selector.register(child.socket, selectors.EVENT_READ, child)

    # -- leases and orders --------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        urgent, self._has_orders = self._has_orders, False
        children = list(self._children.values())
        beats = [msgspec.structs.replace(self._group, tasks=()), *(self._beat_of(child) for child in children)]
        answers = self._keeper.beat(beats, is_urgent=urgent)
        if urgent and not answers:
            self._has_orders = True
        for child, orders in zip(children, answers[1:], strict=False):
            self._obey(child, orders)
        if answers and not answers[0].alive:
            self._store.heartbeat([self._group])
        self._keeper.keep_up(self._group.id)

    @staticmethod
    def _beat_of(child: Child) -> Beat:
        running, finished = child.board.counts()
        return msgspec.structs.replace(child.beat, running=running, finished=finished, tasks=())

    def _obey(self, child: Child, orders: Orders) -> None:
        self._suspects = self._suspects or orders.suspects
        if not orders.alive:
            logger.warning("worker %s lost its lease and is replaced", child.beat.id)
            child.process.kill()
            return
        for invocation_id in orders.cancel:
            child.tell(f"cancel {invocation_id}")
            child.kills.setdefault(invocation_id, (time.monotonic() + self._settings.cancel_grace, "cancel"))

    def _enforce(self) -> None:
        """Kill children whose body ignores a deadline or, when it is alone in its process, a cancellation."""
        now = time.monotonic()
        for child in self._children.values():
            if child.killed or not (child.kills or self._settings.slots):
                continue
            entries = child.board.entries()
            present = {entry.invocation_id: entry for entry in entries}
            child.kills = {key: value for key, value in child.kills.items() if key in present}
            for entry in entries:
                if entry.deadline and now * outcome.SECOND > entry.deadline + outcome.SECOND:
                    self._kill(child, entry, "timeout")
                elif (
                    entry.invocation_id in child.kills
                    and now > child.kills[entry.invocation_id][0]
                    and self._settings.slots == 1
                ):
                    self._kill(child, entry, "cancel")

    @staticmethod
    def _kill(child: Child, entry: Entry, why: str) -> None:
        logger.warning("worker %s is killed: %s of %s", child.beat.id, why, entry.invocation_id)
        child.killed = (entry.invocation_id, why)
        child.process.kill()

    # -- death ---------------------------------------------------------------------------------------------------------
    def _bury(self, child: Child) -> None:
        """A child is gone: settle what it owned, and let another take its place."""
        self._selector.unregister(child.socket)
        code = child.process.wait()
        self._children.pop(child.process.pid, None)
        self._finished += 1
        entries = child.board.entries()
        if code == 0:
            self._pause = 0.0
        elif not self._is_stopping:
            logger.warning(
                "worker %s died (%s) while it ran %d task(s)", child.beat.id, describe_exit(code), len(entries)
            )
            if time.monotonic() - child.started < SHORT_LIFE and not entries:
                self._pause = min(max(0.1, self._pause * 2), MAX_PAUSE)
                self._start_at = time.monotonic() + self._pause
        child.close()
        self._settle(child, entries, code)

    def _settle(self, child: Child, entries: Sequence[Entry], code: int) -> None:
        """Write what became of the work of a dead child; if the store does not answer, the lease does it later."""
        try:
            owned = self._store.owned(child.beat.id)
            if owned:
                running = {(entry.invocation_id, entry.attempt) for entry in entries if not entry.is_parked}
                is_forced = self._is_stopping or code == 0
                outcomes = [self._fate(claimed, child, running, code, is_forced) for claimed in owned]
                self._suspects = self._suspects or any(ended.alone for ended in outcomes)
                self._store.finish(child.beat.id, outcomes)
            self._store.retire([child.beat.id])
        except StoreError as error:
            logger.warning(
                "the work of worker %s could not be given back now (%s); its lease will run out", child.beat.id, error
            )

    def _fate(
        self, claimed: Claimed, child: Child, running: set[tuple[str, int]], code: int, is_forced: bool
    ) -> Outcome:
        """What becomes of one invocation that a dead child owned."""
        now = self._store.clock.now()
        if child.killed and child.killed[0] == claimed.id:
            return (
                self._engine.executor.timed_out(claimed, now)
                if child.killed[1] == "timeout"
                else outcome.cancelled(claimed, 0, now)
            )
        is_running = (claimed.id, claimed.attempt) in running
        if is_forced or child.killed or not is_running:
            return outcome.released(claimed, "runner stopped" if is_forced else "its process died")
        if len(running) > 1:
            return outcome.released(claimed, f"shared a process that died ({describe_exit(code)})", alone=True)
        cause = describe_exit(code)
        error = WorkerLostError(
            f"the process that ran {claimed.task} died: {cause}, {claimed.crashes + 1} time(s)", claimed.task
        )
        return outcome.crashed(claimed, cause, encode_error(error), now)

    # -- the end -------------------------------------------------------------------------------------------------------
    def _tell_stop(self) -> None:
        self._deadline = time.monotonic() + self._settings.shutdown_timeout + 5.0
        for child in self._children.values():
            child.tell("stop")

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.process.kill()


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
