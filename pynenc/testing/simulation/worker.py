"""A worker of the simulation: the protocol of :mod:`pynenc.runner.worker` without its threads.

It claims for its slots and a little ahead, runs bodies as threads of its process, writes what they end with together with the next claim,
holds outcomes while the store does not answer, marks long bodies, gives back what cannot start, and takes a new identity when its lease was taken
away. After a call whose fate is unknown it asks what it owns, since a claim may have been carried out without its answer.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import msgspec

from pynenc.core import outcome
from pynenc.core.records import UNKNOWN_TASK, Alone, Beat, Claim, Claimed, ClaimRequest, New, Outcome, Ref
from pynenc.exceptions import RunnerLostError, StoreError
from pynenc.testing.checker import Body
from pynenc.testing.passes import Line
from pynenc.testing.simulation import script
from pynenc.testing.simulation.network import LONGEST
from pynenc.testing.simulation.schedule import Process, Request, Scheduler, Signal, Steps, Wait, call

Key = tuple[str, int]


class Place(Protocol):
    """What a worker knows of the world around it."""

    scheduler: Scheduler
    random: random.Random
    bodies: list[Body]
    passes: list[Line]

    def listen(self, signal: Signal) -> Any: ...

    def intend(self, new: Sequence[New]) -> None: ...


class Worker:
    """One loop.

    :param on_crash: called when a body kills the process; :param on_exit: when the loop has ended.
    """

    def __init__(
        self,
        place: Place,
        process: Process,
        beat: Beat,
        on_crash: Callable[[], None],
        on_exit: Callable[[], None],
        alone: Alone = Alone.NEVER,
    ) -> None:
        self.place = place
        self.random = place.random
        self.intend = place.intend
        self.passes = place.passes
        self.process = process
        self.beat = beat
        self.alone = alone
        self.signal = Signal()
        self.cancels: set[str] = set()
        self.running: dict[Key, Claimed] = {}
        self.buffer: deque[Claimed] = deque()
        self.outbox: list[Outcome] = []
        self.parked: set[Key] = set()
        self.is_stopping = False
        self.suspects = False
        self.has_new_identity = False
        self.die = on_crash
        self._exit = on_exit
        self._marked: set[Key] = set()
        self._unknown: dict[str, None] = {}
        self._turns = 0
        #: The store may have done more than it answered: look at once, and once more when the last late call has arrived.
        self._doubts: list[int] = []
        self._listener = place.listen(self.signal)
        place.scheduler.start(process, self.loop())

    def now(self) -> int:
        """Wall-clock time, as outcomes carry it."""
        return self.place.scheduler.clock.now()

    def stop(self) -> None:
        """Begin a graceful stop."""
        self.is_stopping = True
        self.signal.set()

    # -- the loop ----------------------------------------------------------------------------------------------------------
    def loop(self) -> Steps:
        """Work until stopped and nothing is left here."""
        while not (self.is_stopping and self._is_empty()):
            yield from self._turn()
            self._start_bodies()
            if self._is_finished():
                break
            yield from self._mark()
            yield Wait(self.signal, 0.2 if self.outbox or self.buffer else 1.5)
        self._listener.close()
        self._exit()

    def _is_empty(self) -> bool:
        return not (self.running or self.buffer or self.outbox or self._doubts)

    def _is_finished(self) -> bool:
        """A process for suspects lives for what it found at its first look."""
        return self.alone is Alone.ONLY and self._turns > 1 and self._is_empty()

    def _turn(self) -> Generator[Request, Any, None]:
        """Write the outbox and claim again, in one store operation."""
        if self.is_stopping or (self.parked and self.buffer):
            self._give_back()
        outbox, self.outbox = self.outbox, []
        asked = self.beat.id
        try:
            if self._is_doubtful():
                yield from self._reconcile(outbox)
            request = None if self.is_stopping else self._request()
            claim = yield from self._exchange(outbox, request)
        except RunnerLostError:
            self.renew_identity()
        except StoreError:
            self.outbox[:0] = outbox
            self._doubt()
        else:
            self.suspects = claim.suspects
            if asked == self.beat.id:  # otherwise it belongs to others by now
                self.buffer.extend(claim.batch)

    def _exchange(self, outbox: list[Outcome], request: ClaimRequest | None) -> Generator[Request, Any, Claim]:
        if outbox and request:
            finished = yield from call("finish", self.beat.id, outbox, request)
        elif outbox:
            finished = yield from call("finish", self.beat.id, outbox)
        elif request:
            claim: Claim = yield from call("claim", request)
            return claim
        else:
            return Claim(suspects=self.suspects)
        fused: Claim = finished.claim
        return fused

    def _request(self) -> ClaimRequest | None:
        """What to claim now; suspects only when nothing else is here and no supervisor looks after them."""
        self._turns += 1
        busy = len(self.running) - len(self.parked) + len(self.buffer)
        if self.suspects and not self.beat.supervised and self.alone is Alone.NEVER:
            alone = ClaimRequest(self.beat.id, 1, alone=Alone.ONLY, without=tuple(self._unknown))
            return None if busy else alone
        ahead = 0 if self.parked or self.alone is Alone.ONLY else self.random.randrange(4)
        limit = self.beat.slots - busy + ahead
        if limit <= 0:
            return None
        aged = self._turns % 16 == 0
        return ClaimRequest(self.beat.id, limit, alone=self.alone, aged=aged, without=tuple(self._unknown))

    def _give_back(self) -> None:
        while self.buffer:
            self.outbox.append(outcome.released(self.buffer.popleft(), "no slot became free soon enough"))

    # -- doubt -------------------------------------------------------------------------------------------------------------
    def _doubt(self) -> None:
        now = self.place.scheduler.clock.lease()
        self._doubts = [now, now + int((2 * LONGEST + 0.1) * outcome.SECOND)]

    def _is_doubtful(self) -> bool:
        return bool(self._doubts) and self._doubts[0] <= self.place.scheduler.clock.lease()

    def _reconcile(self, outbox: list[Outcome]) -> Generator[Request, Any, None]:
        """Take over what is owned and not known here."""
        known = {(ended.id, ended.attempt) for ended in outbox}
        known |= {(claimed.id, claimed.attempt) for claimed in self.buffer}
        asked = self.beat.id
        self._doubts.pop(0)
        owned = yield from call("owned", asked)
        known |= {*self.running, *((ended.id, ended.attempt) for ended in self.outbox)}
        if asked == self.beat.id:
            self.buffer.extend(claimed for claimed in owned if (claimed.id, claimed.attempt) not in known)

    def renew_identity(self) -> None:
        """The lease was taken away: what is buffered belongs to others now."""
        self.buffer.clear()
        self._doubts.clear()
        self.beat = msgspec.structs.replace(
            self.beat, id=f"{self.beat.id.split('~')[0]}~{self.random.getrandbits(24):x}"
        )
        if not self.beat.supervised:
            self.beat = msgspec.structs.replace(self.beat, group=self.beat.id)
        self.has_new_identity = True

    # -- bodies ------------------------------------------------------------------------------------------------------------
    def _start_bodies(self) -> None:
        while self.buffer and len(self.running) - len(self.parked) < self.beat.slots:
            claimed = self.buffer.popleft()
            if claimed.task not in self.beat.tasks:
                self._unknown[claimed.task] = None
                self.outbox.append(outcome.released(claimed, UNKNOWN_TASK))
                continue
            self.running[claimed.id, claimed.attempt] = claimed
            self.place.scheduler.start(self.process, self._body(claimed, self.beat.id))

    def _body(self, claimed: Claimed, runner: str) -> Steps:
        began, key = self.now(), (claimed.id, claimed.attempt)
        at = len(self.place.bodies)
        self.place.bodies.append(Body(claimed.id, claimed.attempt, runner, began))
        ended = yield from script.run(self, claimed)
        if ended is None:
            return
        self.place.bodies[at] = Body(claimed.id, claimed.attempt, runner, began, self.now(), script.result_of(claimed))
        self.running.pop(key)
        self.parked.discard(key)
        self._marked.discard(key)
        self.cancels.discard(claimed.id)
        self.outbox.append(ended)
        self.signal.set()

    def _mark(self) -> Generator[Request, Any, None]:
        """Tell the store which bodies run, for those that do so a little longer."""
        refs = [Ref(*key) for key in self.running if key not in self._marked]
        if not refs or self.random.random() < 0.5:
            return
        self._marked.update((ref.id, ref.attempt) for ref in refs)
        try:
            yield from call("start", self.beat.id, refs, self.now())
        except StoreError:
            pass
