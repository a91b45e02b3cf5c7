"""The supervisor: starts worker processes, beats for them, and settles what they leave behind.

It runs no user code after start-up, so nothing that a task does can keep it from renewing the leases. Each child is a
runner of its own in the store, with the supervisor's id as ``group``. A child's death is noticed at once. Its board
then says what it was running:

* what was claimed but not running, or waited for others, goes back as if nothing had happened;
* a single running body ran alone, so the crash is its own and is counted;
* several running bodies are *suspects*: each goes back marked ``alone``, uncounted, and is run once in an *isolation
  child* that takes nothing else.

Children die with their supervisor: they notice the closed socket, and on Linux the kernel kills them.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Alone, Beat, Claimed, Orders, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.engine import Engine, upkeep
from pynenc.exceptions import StoreError, WorkerLostError
from pynenc.runner.board import Entry
from pynenc.runner.keeper import Keeper
from pynenc.runner.numbers import Numbers, Totals
from pynenc.runner.process import WorkerProcess, describe_exit
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.vital import Loop, Vital
from pynenc.serializer.errors import encode_error
from pynenc.workflow.compensation import end_without_body

logger = logging.getLogger("pynenc.runner")

#: Longest time between two looks at deadlines, in seconds.
TICK = 0.5
#: A child that lived shorter than this many seconds without running anything is started again only after a pause.
SHORT_LIFE = 2.0
MAX_PAUSE = 30.0
#: Seconds that children get to go beyond the time of their bodies.
PATIENCE = 5.0


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
        self._keeper = Keeper(engine.store, heartbeat, partial(upkeep.renew_triggers, engine))
        self._children: dict[int, WorkerProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._is_stopping = False
        self._is_forced = False
        self._suspects = False
        self._deadline = 0.0
        self._start_at = 0.0
        self._pause = 0.0
        self._drained = 0
        #: What workers that are gone had finished.
        self._finished = 0
        self._turned = time.monotonic()
        self._totals = Totals()
        #: Held while boards are read by others, and while children leave.
        self._reading = Lock()

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
        self._keeper.hurry()
        self._wake()

    # -- the loop ------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Supervise until stopped and all children are gone."""
        self._keeper.beat([self._group])
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        listener = self._store.listen((), self._on_order)
        try:
            while self._go_on():
                self._turned = time.monotonic()
                self._wait()
                self._beat()
                self._enforce()
        finally:
            self._is_stopping = True
            listener.close()
            self._kill_all()
            for child in list(self._children.values()):
                self._bury(child)
            self._retire(self._group.id)
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    def _go_on(self) -> bool:
        """Start or stop children as it is time; false when there is nothing left to supervise."""
        if not self._is_stopping:
            self._start_missing()
            return bool(self._children) or not self._settings.burst or self._drained < self._count
        if not self._deadline:
            self._deadline = time.monotonic() + self._settings.shutdown_timeout + PATIENCE
            for child in self._children.values():
                child.tell("stop")
        if self._is_forced or time.monotonic() > self._deadline:
            self._kill_all()
        return bool(self._children)

    def _wait(self) -> None:
        """Sleep until a child speaks or dies, an order comes, or something is due."""
        for key, _ in self._selector.select(self._time_left()):
            child: WorkerProcess | None = key.data
            if child is None:
                self._drain_wakes()
            elif key.fd == child.pid_fd:
                self._bury(child)
            elif key.fd == child.socket.fileno() and not child.listen():
                self._selector.unregister(child.socket)
                if child.pid_fd < 0:
                    child.process.kill()
        for child in [child for child in self._children.values() if child.pid_fd < 0 and child.is_dead()]:
            self._bury(child)

    def _time_left(self) -> float:
        now = time.monotonic()
        due = [TICK, self._keeper.pause()]
        if self._is_stopping:
            due.append(self._deadline - now)
        elif self._start_at > now:
            due.append(self._start_at - now)
        return max(0.001, min(due))

    def _drain_wakes(self) -> None:
        try:
            while self._wake_reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    # -- what the health port asks, from other threads -----------------------------------------------------------------
    def vital(self) -> Vital:
        """The signs of life of the supervisor and its workers."""
        with self._reading:
            children = [child for child in self._children.values() if not child.is_isolation]
            loops = [_loop(child) for child in children if not child.is_recycling]
            return Vital(
                turned=self._turned,
                asked=self._keeper.asked,
                answered=self._keeper.answered,
                is_stopping=self._is_stopping,
                expected=self._count - (self._drained if self._settings.burst else 0),
                loops=tuple(loops),
                slots=len(loops) * self._settings.slots,
                running=sum(child.board.counts()[0] for child in children),
            )

    def numbers(self) -> Numbers:
        """The totals of all workers."""
        with self._reading:
            for pid, child in self._children.items():
                self._totals.hear(pid, child.board.published())
            numbers = self._totals.total()
        numbers.store_errors += self._keeper.errors
        return numbers

    # -- birth -----------------------------------------------------------------------------------------------------------
    def _start_missing(self) -> None:
        if time.monotonic() < self._start_at:
            return
        regular = sum(not (child.is_isolation or child.is_recycling) for child in self._children.values())
        try:
            for _ in range(self._count - regular - (self._drained if self._settings.burst else 0)):
                self._start(self._settings)
            if self._suspects and not any(child.is_isolation for child in self._children.values()):
                alone = msgspec.structs.replace(self._settings, slots=1, alone=Alone.ONLY, burst=True, max_tasks=0)
                self._start(alone)
                self._suspects = False
        except (StoreError, OSError) as error:
            self._pause = min(max(0.1, self._pause * 2), MAX_PAUSE)
            self._start_at = time.monotonic() + self._pause
            logger.warning("no worker could be started (%s); next try in %.1f s", error, self._pause)

    def _start(self, settings: WorkerSettings) -> None:
        beat = self._make_beat(f"{self._group.id}/{secrets.token_hex(3)}")
        beat = msgspec.structs.replace(beat, group=self._group.id)
        self._store.heartbeat([self._own_beat(), beat])
        child = WorkerProcess(beat, settings, self._payload)
        with self._reading:
            self._children[child.process.pid] = child
        child.watch(self._selector)

    # -- leases and orders --------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        children = list(self._children.values())
        beats = [self._own_beat(), *(self._beat_of(child) for child in children)]
        answers = self._keeper.beat(beats)
        for child, orders in zip(children, answers[1:], strict=False):
            self._obey(child, orders)
        if answers and not answers[0].alive:
            self._renew_group()
        self._keeper.keep_up(self._group.id)

    def _renew_group(self) -> None:
        """The own lease was taken away: nobody listens to the old id any more, and it could never take work back."""
        old = self._group.id
        name = f"{old.split('~')[0]}~{secrets.token_hex(3)}"
        self._group = msgspec.structs.replace(self._group, id=name, group=name)
        for child in self._children.values():
            child.beat = msgspec.structs.replace(child.beat, group=name)
        logger.warning("runner %s lost its lease; going on as %s", old, name)
        self._keeper.hurry()

    def _own_beat(self) -> Beat:
        """Counts what workers that are gone had finished, so that nothing is missing from the sum."""
        return msgspec.structs.replace(self._group, tasks=(), finished=self._finished)

    @staticmethod
    def _beat_of(child: WorkerProcess) -> Beat:
        """Always with its tasks: work that another runner gave back because it did not know the task goes on then."""
        running, finished = child.board.counts()
        return msgspec.structs.replace(child.beat, running=running, finished=finished)

    def _obey(self, child: WorkerProcess, orders: Orders) -> None:
        self._suspects = self._suspects or orders.suspects
        if not orders.alive:
            logger.warning("worker %s lost its lease and is replaced", child.beat.id)
            child.process.kill()
            return
        for invocation_id in orders.cancel:
            child.tell(f"cancel {invocation_id}")
            child.kills.setdefault(invocation_id, time.monotonic() + self._settings.cancel_grace)

    def _enforce(self) -> None:
        """Kill children with a body that has to be ended by force."""
        now = time.monotonic()
        for child in self._children.values():
            if not child.killed and (overdue := child.overdue(now)):
                child.kill(*overdue)

    # -- death ---------------------------------------------------------------------------------------------------------
    def _bury(self, child: WorkerProcess) -> None:
        """A child is gone: settle what it owned, and let another take its place."""
        code = child.process.wait()
        with self._reading:
            self._children.pop(child.process.pid, None)
            self._totals.hear(child.process.pid, child.board.published())
            self._totals.bury(child.process.pid)
        self._finished += child.board.counts()[1]
        child.hear_out()
        entries = child.board.entries()
        if child.is_done:
            self._pause = 0.0
            self._drained += child.is_drained and not child.is_isolation
        elif not self._is_stopping:
            self._totals.note_death()
            logger.warning(
                "worker %s died (%s) while it ran %d task(s)", child.beat.id, describe_exit(code), len(entries)
            )
            if time.monotonic() - child.started < SHORT_LIFE and not entries:
                self._pause = min(max(0.1, self._pause * 2), MAX_PAUSE)
                self._start_at = time.monotonic() + self._pause
        child.close(self._selector)
        self._settle(child, entries, code)

    def _settle(self, child: WorkerProcess, entries: Sequence[Entry], code: int) -> None:
        """Write what became of the work of a dead child; if the store does not answer, the lease does it later."""
        try:
            owned = self._store.owned(child.beat.id)
            if owned:
                running = {(entry.invocation_id, entry.attempt) for entry in entries if not entry.is_parked}
                fates = [(claimed, self._fate(claimed, child, running, code)) for claimed in owned]
                outcomes = [end_without_body(self._engine, claimed, child.beat.id, ended) for claimed, ended in fates]
                self._suspects = self._suspects or any(ended.alone for ended in outcomes)
                self._store.finish(child.beat.id, outcomes)
                with self._reading:
                    self._totals.settle(owned, outcomes)
                for claimed, ended in zip(owned, outcomes, strict=True):
                    if ended.alone or ended.crashes > claimed.crashes:
                        _log_crash(claimed, ended)
        except StoreError as error:
            logger.warning(
                "the work of worker %s could not be given back now (%s); its lease will run out", child.beat.id, error
            )
        self._retire(child.beat.id)

    def _retire(self, runner: str) -> None:
        try:
            self._store.retire([runner])
        except StoreError as error:
            logger.warning("runner %s could not sign off: %s", runner, error)

    def _fate(self, claimed: Claimed, child: WorkerProcess, running: set[tuple[str, int]], code: int) -> Outcome:
        """What becomes of one invocation that a dead child owned."""
        now = self._store.clock.now()
        if child.killed and child.killed[0] == claimed.id:
            if child.killed[1] == "timeout":
                return self._engine.executor.timed_out(claimed, now)
            return outcome.cancelled(claimed, 0, now)
        is_begun = (claimed.id, claimed.attempt) in running
        if self._is_stopping or child.is_done:
            return outcome.handed_back(claimed) if is_begun else outcome.released(claimed, "runner stopped")
        if child.killed or not is_begun:
            return outcome.released(claimed, "its process died", started=claimed.claimed if is_begun else 0)
        cause = describe_exit(code)
        if len(running) > 1:
            return outcome.released(claimed, f"shared a process that died ({cause})", alone=True)
        error = WorkerLostError(
            f"the process that ran {claimed.task} died: {cause}, {claimed.crashes + 1} time(s)", claimed.task
        )
        return outcome.crashed(claimed, cause, encode_error(error), now)

    # -- the end -------------------------------------------------------------------------------------------------------
    def _kill_all(self) -> None:
        for child in self._children.values():
            child.process.kill()


def _loop(child: WorkerProcess) -> Loop:
    return Loop(child.beat.id, child.process.pid, child.board.moved())


def _log_crash(claimed: Claimed, ended: Outcome) -> None:
    """One line, as a body that fails has one."""
    if ended.status is InvocationStatus.FAILED:
        logger.error("%s %s failed: %s", claimed.task, claimed.id, ended.reason)
    else:
        logger.warning("%s %s runs again, alone: %s", claimed.task, claimed.id, ended.reason)
