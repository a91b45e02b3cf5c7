"""The worker loop: claim, run, finish; one for all runners.

Theory of operation
-------------------
``n`` threads run bodies; none of them is a dispatcher. A thread that holds a token
(:mod:`~pynenc.runner.slots`) takes the next claimed invocation from the buffer, runs it and puts its outcome into the
outbox. When the buffer is empty, or the oldest outcome has waited long enough, the same thread makes one *turn*
(:mod:`~pynenc.runner.turns`): one store operation that writes the outbox and claims again. So no-op tasks cost one
transaction a batch and no hand-over between threads, and a lone task is written the moment it ends.

A thread that finds nothing to claim gives its token back and sleeps until it is called: by the store (new work), by a
body that lends its token, or by the *pump* (:mod:`~pynenc.runner.pump`), the thread that called :meth:`Worker.run`,
which does what has a time. Async bodies run on one event loop beside the threads (:mod:`~pynenc.runner.coroutines`).

A body that waits for other invocations lends its token; when no thread sleeps that could use it, one more is started.
What was claimed ahead goes back first, and so do the outcomes: its children come before everything else, and somebody
may wait for what is in the outbox.

A lost lease (``RunnerLostError``) gives a worker a new identity: outcomes under the old one are refused by the store,
which is logged. A supervised worker ends instead; its supervisor starts another.

The end: *stop* gives back what has not started, lets bodies end for ``shutdown_timeout`` seconds, and hands the rest
back for a new attempt. *Recycling* (enough tasks, too much memory, a thread given up) waits for the bodies as long as
they need, while the supervisor starts a successor.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Protocol

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Beat, Claimed, Outcome
from pynenc.engine import Engine
from pynenc.engine.execute import HandBack, Interruption
from pynenc.exceptions import StoreError
from pynenc.runner.body import BodySlot, forget_raised
from pynenc.runner.pump import Pump
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.slots import Slots, Turn
from pynenc.runner.turns import Turns
from pynenc.runner.unfit import UNFIT, unfit
from pynenc.workflow.compensation import end_without_body

if TYPE_CHECKING:
    from pynenc.runner.coroutines import AsyncSlot, Coroutines

logger = logging.getLogger("pynenc.runner")

#: Seconds after which a worker that stops looks whether anybody could run what its tasks wait for.
HOPE = 1.0


class Execute(Protocol):
    """Runs one claimed invocation on the calling thread."""

    def __call__(self, claimed: Claimed, slot: BodySlot, /) -> Outcome: ...


class Board(Protocol):
    """Where a supervisor sees what a worker runs, also after the worker's death."""

    def enter(self, index: int, claimed: Claimed, deadline: int) -> None: ...

    def leave(self, index: int) -> None: ...

    def lend(self, index: int, *, is_parked: bool) -> None: ...


class NoBoard:
    """Nobody looks."""

    def enter(self, index: int, claimed: Claimed, deadline: int) -> None: ...

    def leave(self, index: int) -> None: ...

    def lend(self, index: int, *, is_parked: bool) -> None: ...


class Worker:
    """One loop over one store, with its own slots.

    :param beat: its identity.
    :param keep_up: called now and then by the pump to renew leases and the like; returns the seconds until it wants to
    be called again.
    :param execute: how a body runs; by default on the slot's own thread.
    :param on_recycling: called when the worker will end by itself.
    """

    def __init__(
        self,
        engine: Engine,
        settings: WorkerSettings,
        beat: Beat,
        *,
        keep_up: Callable[[Worker], float],
        execute: Execute | None = None,
        board: Board | None = None,
        on_recycling: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.slots = Slots(settings.slots)
        self.board = board
        self.is_stopping = self.is_recycling = False
        self.was_woken = self.has_unmarked = False
        self.next_deadline = 0.0
        self.failure: BaseException | None = None
        self._resolve = engine.executor.resolve
        self._keep_up = keep_up
        self._is_here = execute is None
        self._execute = execute
        self._on_recycling = on_recycling
        self._bodies: dict[int, BodySlot] = {}
        self._free_places: list[int] = []
        self._places = 0
        self._places_lock = Lock()
        self.coroutines: Coroutines | None = None
        if settings.coroutines:  # they bring asyncio, which takes long to import
            from pynenc.runner.coroutines import Coroutines

            self.coroutines = Coroutines(self)
        self.turns = Turns(
            engine.store,
            settings,
            beat,
            self.slots,
            max_ahead=settings.max_ahead if execute is None else 0,
            coroutines=self.coroutines,
            on_lost=self.renew_identity,
        )
        self.pump = Pump(self)
        self.turns.on_change = self.pump.nudge

    @property
    def beat(self) -> Beat:
        """Its identity."""
        return self.turns.beat

    # -- life ---------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Work until :meth:`stop`, or until there is nothing left (``burst``).

        :raises StoreGoneError: there is no store any more.
        :raises BaseException: what broke one of the threads, which is a defect of this library or of a store.
        """
        turns = self.turns
        turns.listener = self.engine.store.listen(self.settings.queues, self._on_wake)
        if self.coroutines:
            self.coroutines.start()
        self.engine.hooks.fire("worker_start")
        try:
            for _ in range(self.settings.slots):
                self._spawn()
            self.slots.call()
            while not (self.is_stopping or self.is_recycling or turns.is_drained):
                self.pump.step()
            self._shut_down()
        finally:
            self.is_stopping = turns.is_closed = True
            self.slots.close()
            turns.listener.close()
            if self.coroutines:
                self.coroutines.close()
            self.engine.hooks.fire("worker_stop")
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Begin a graceful stop; from any thread."""
        self.is_stopping = True
        self.turns.is_closed = True
        self.pump.nudge()

    def recycle(self, reason: str) -> None:
        """End when all bodies have ended, without hurry."""
        if not self.is_recycling:
            logger.info("worker %s will be replaced: %s", self.beat.id, reason)
            self.is_recycling = self.turns.is_closed = True
            self._on_recycling()
            self.pump.nudge()

    def keep_up(self) -> float:
        """Renew leases and the like; seconds until the next time."""
        return self._keep_up(self)

    def renew_identity(self) -> None:
        """The lease was taken away: what runs here belongs to others now."""
        old = self.beat.id
        if self.beat.supervised:
            logger.warning("worker %s lost its lease and ends", old)
            self.settings = msgspec.structs.replace(self.settings, shutdown_timeout=0.0)
            self.stop()
            return
        new = f"{old.split('~')[0]}~{random.getrandbits(32):08x}"
        self.turns.renew(msgspec.structs.replace(self.beat, id=new, group=new))
        logger.warning("runner %s lost its lease; going on as %s", old, new)
        self.pump.keep_up_now()

    # -- threads ------------------------------------------------------------------------------------------------------
    def _spawn(self) -> None:
        try:
            Thread(target=self._thread, name="pynenc-slot", daemon=True).start()
        except RuntimeError as error:
            logger.warning("no thread for the children of a waiting task (%s): they run when another is free", error)

    def _thread(self) -> None:
        """A thread: sleep until called, work while there is something to do."""
        me = BodySlot(self, self.take_place())
        self._bodies[me.index] = me
        try:
            while self.slots.acquire():
                if not self._work(me):
                    return
        except BaseException as error:
            logger.critical("worker %s failed and stops: %r", self.beat.id, error)
            self.failure = error
            self.stop()
        finally:
            self._bodies.pop(me.index, None)
            self.return_place(me.index)

    def _work(self, me: BodySlot) -> bool:
        """Run bodies while holding a token, until there are none or a waiting body wants the token; false when another
        thread took this one's place.
        """
        slots, turns, buffer = self.slots, self.turns, self.turns.buffer
        while not (slots.wanted or self.is_stopping):
            try:
                claimed = buffer.popleft()
            except IndexError:
                if turns.make():
                    continue
                break
            if not self._run(claimed, me):
                return False
        if turns.outbox:
            turns.make(claims=False)
        slots.give()
        if self.is_stopping or self.is_recycling:
            self.pump.nudge()
        return True

    def take_place(self) -> int:
        """A small number that nothing else here uses: the place on the board."""
        with self._places_lock:
            if self._free_places:
                return heapq.heappop(self._free_places)
            self._places += 1
            return self._places - 1

    def return_place(self, index: int) -> None:
        """The number may be used again."""
        with self._places_lock:
            heapq.heappush(self._free_places, index)

    # -- one body -----------------------------------------------------------------------------------------------------
    def _run(self, claimed: Claimed, me: BodySlot) -> bool:
        """Run one body; false when the pump ended the attempt and gave this thread up."""
        me.since = started = time.monotonic()
        has_begun = False
        try:
            is_late = started - self.turns.asked_at > self.turns.lease and self.turns.release_late(claimed)
            if is_late or (self.coroutines and self.coroutines.takes(claimed)):
                return True
            me.deadline = started + claimed.timeout / outcome.SECOND if claimed.timeout and self._is_here else 0.0
            me.marked = False
            me.running = None
            me.claimed = claimed
            has_begun = True  # from here on the pump may take it
            if self.board:
                self.board.enter(me.index, claimed, self.kill_time(me.deadline))
            ended, is_mine = self._guarded(claimed, me)
        except UNFIT as error:
            if has_begun and not me.ends(claimed):
                return False
            ended, is_mine = unfit(self.engine, claimed, error), True
        if not is_mine:
            return False
        if self.board:
            self.board.leave(me.index)
        now = time.monotonic()
        turns = self.turns
        turns.put(ended, now - started, now, me.running)
        if ended.unknown_task:
            turns.note_unknown(claimed.task)
        if turns.buffer and (turns.mean > self.settings.flush or turns.is_overdue(now)):
            turns.make()
        return True

    def _guarded(self, claimed: Claimed, me: BodySlot) -> tuple[Outcome, bool]:
        """The outcome, and whether it is this thread's to give. An interruption that comes a moment too late must not
        reach the loop.
        """
        try:
            if self._execute:
                ended = self._execute(claimed, me)
            else:
                me.running = self.engine.executor.running(claimed, self.turns.beat.id, me)
                ended = self.engine.executor.run(claimed, me.running)
            is_mine = me.take(claimed)
            if me.running is not None and me.running.is_interrupted:
                forget_raised()
        except Interruption as error:
            now = self.engine.store.clock.now()
            is_hand_back = isinstance(error, HandBack)
            ended = outcome.handed_back(claimed) if is_hand_back else self._timed_out(claimed, now)
            is_mine = me.ends(claimed)  # it may have come while this thread took it
        return ended, is_mine

    def _timed_out(self, claimed: Claimed, started: int) -> Outcome:
        ended = self.engine.executor.timed_out(claimed, started)
        return end_without_body(self.engine, claimed, self.turns.beat.id, ended)

    def kill_time(self, deadline: float) -> int:
        """When a supervisor kills the process for a body that ignores its deadline; 0 for never."""
        return int((deadline + self.settings.cancel_grace) * outcome.SECOND) if deadline else 0

    # -- what wakes ---------------------------------------------------------------------------------------------------
    def _on_wake(self) -> None:
        """The store has work, or an order for a body that runs here."""
        has_bodies = self.is_active
        self.turns.note_wake()
        self.slots.call()
        if has_bodies and not self.beat.supervised:
            self.was_woken = True
            self.pump.keep_up_now()

    @property
    def is_active(self) -> bool:
        """Whether bodies run or wait here."""
        return bool(self.slots.busy or self.slots.parked or (self.coroutines and self.coroutines.active))

    def moved(self) -> float:
        """When the fetch loop last moved, in monotonic seconds: now while every slot runs a body, so that there is nothing to claim for."""
        running = sum(body.claimed is not None and not body.is_parked for body in list(self._bodies.values()))
        return time.monotonic() if running >= self.settings.slots else self.turns.moved

    def bodies(self) -> list[BodySlot | AsyncSlot]:
        """What runs here now."""
        return [*self._bodies.values(), *(self.coroutines.running() if self.coroutines else ())]

    # -- waiting bodies -----------------------------------------------------------------------------------------------
    def park(self, me: BodySlot) -> None:
        """The body of ``me`` waits: others may use its token."""
        if self.board:
            self.board.lend(me.index, is_parked=True)
        if self.turns.outbox:
            self.turns.make(claims=False)
        if self.slots.park():
            self._spawn()

    def unpark(self, me: BodySlot, turn: Turn) -> None:
        """The body of ``me`` goes on as soon as a token is free."""
        self.slots.unpark(turn)
        if self.board:
            self.board.lend(me.index, is_parked=False)

    def mind_coroutines(self, now: float) -> None:
        """All threads are busy: claim for the event loop alone. What turns out to be sync goes back at once."""
        if not self.coroutines:
            return
        self.turns.release(self.coroutines.stale(now - self.settings.stale), "no slot became free soon enough")
        if self.slots.free or not self.slots.calls or self.is_stopping or not self.coroutines.wants_more(now):
            return
        if self.turns.buffer or not self.turns.make(tokens=0):
            return
        sync = [claimed for claimed in self.turns.empty_buffer() if not self.coroutines.takes(claimed)]
        self.turns.release(sync, "no slot is free")

    # -- ending bodies -------------------------------------------------------------------------------------------------
    def give_up(self, body: BodySlot, claimed: Claimed) -> None:
        """The body does not react to its timeout: end its attempt and let another thread take its place."""
        if not body.take(claimed):
            return
        logger.error("%s %s does not react to its timeout; its thread is given up", claimed.task, claimed.id)
        now = time.monotonic()
        ended = self._timed_out(claimed, self.engine.store.clock.now())
        if body.running is not None and body.running.span is not None:
            body.running.span.end(ended)
        self.turns.put(ended, now - body.since, now)
        self.turns.make(claims=False)
        self._bodies.pop(body.index, None)
        if self.board:
            self.board.leave(body.index)
        self.slots.give()
        self._spawn()
        self.slots.call()
        if self.beat.supervised:
            self.recycle("a thread of it was given up")

    def _waits_in_vain(self) -> bool:
        """Whether all bodies wait for others while no other runner lives."""
        if self.slots.busy or not self.is_active or ((loop := self.coroutines) and loop.active > loop.parked):
            return False
        try:
            return not any(info.alive and info.beat.group != self.beat.group for info in self.engine.store.runners())
        except StoreError:
            return False

    def cancel(self, invocation_id: str) -> None:
        """Tell a body that it should stop."""
        for body in self.bodies():
            if (running := body.running) and running.id == invocation_id and body.claimed:
                running.cancel_requested = True
                running.wake_up()

    def _shut_down(self) -> None:
        """Give back what has not started, let bodies end, hand the rest back."""
        turns = self.turns
        turns.is_closed = True
        while self.is_recycling and not self.is_stopping and (turns.buffer or self.is_active):
            self.pump.step()
        self.is_stopping = True
        logger.info("worker %s stops; %d task(s) run here", self.beat.id, self.slots.busy + self.slots.parked)
        self.slots.close()
        turns.give_back("runner stopped")
        began = time.monotonic()
        while self.is_active and self.failure is None and time.monotonic() < began + self.settings.shutdown_timeout:
            self.pump.step()
            if time.monotonic() > began + HOPE and self._waits_in_vain():
                logger.info("the tasks of worker %s wait for others, which nobody runs", self.beat.id)
                break
        for body in list(self._bodies.values()):
            if (claimed := body.claimed) is not None:
                body.interrupt(claimed, HandBack)  # where it waits
                body.interrupt(claimed, HandBack)  # where it computes
                if body.take(claimed):
                    turns.hand_back([body.running.claimed if body.running else claimed])
        if self.coroutines:
            turns.release(self.coroutines.stale(float("inf")), "runner stopped")
            turns.hand_back(self.coroutines.hand_back())
        turns.give_back("runner stopped")
        turns.flush(time.monotonic() + self.settings.shutdown_timeout)
