"""The way to the store, where everything goes wrong that can: calls fail, replies get lost, both come late or twice."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pynenc.core.records import Microseconds
from pynenc.exceptions import PynencError, StoreError
from pynenc.store.base import Store
from pynenc.testing.simulation.schedule import Call, Scheduler, Thread

Observer = Callable[[Call, Any], None]


class Weather(NamedTuple):
    """How often a call fails before it is applied, loses its reply, is applied after its caller gave up, or is applied twice.

    ``slow`` is how often it takes its time: up to half of ``longest`` seconds each way.
    """

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    longest: float = 0.0


CALM = Weather()
#: The longest time between a call and its last effect, in seconds; callers may rely on it.
LONGEST = 1.5
#: Calls after which a run is given up; a common one needs some hundreds.
MOST = 20_000


class Network:
    """Carries calls to one store in one order, and tells an observer of each that was applied.

    :ivar trace: the last calls that were applied: when, by whom, what, and the answer.
    """

    def __init__(self, scheduler: Scheduler, store: Store, observe: Observer, seed: random.Random) -> None:
        self.weather = CALM
        self.calls = 0
        self.faults = 0
        self.trace: deque[tuple[Microseconds, str, Call, Any]] = deque(maxlen=80)
        self._scheduler = scheduler
        self._store = store
        self._observe = observe
        self._random = seed
        scheduler.send = self.send

    def send(self, thread: Thread, call: Call) -> None:
        """Carry one call through the weather of now."""
        if self.calls > MOST:
            raise RuntimeError(f"{MOST} calls, and no end: somebody asks again and again without letting time pass")
        weather, draw = self.weather, self._random.random()
        there, back = self._delay(), self._delay()
        if draw < weather.before:
            self._fail(thread, there + back, "no connection")
        elif (draw := draw - weather.before) < weather.after:
            self._apply_at(there, thread, call, lambda _answer, _error: self._fail(thread, back, "the reply was lost"))
        elif (draw := draw - weather.after) < weather.late:
            self._fail(thread, there, "it took too long")
            self._apply_at(there + back + weather.longest * self._random.random(), thread, call, None)
        else:
            self._apply_at(there, thread, call, lambda answer, error: self._reply(thread, back, answer, error))
            if draw - weather.late < weather.twice and not _claims(call):
                self.faults += 1
                self._apply_at(there + self._delay(), thread, call, None)

    def _delay(self) -> float:
        is_slow = self._random.random() < self.weather.slow
        return self._random.random() * (self.weather.longest / 2 if is_slow else 0.002)

    def _fail(self, thread: Thread, delay: float, why: str) -> None:
        self.faults += 1
        self._reply(thread, delay, None, StoreError(why, retryable=True))

    def _reply(self, thread: Thread, delay: float, answer: Any, error: BaseException | None) -> None:
        turn = thread.turn
        self._scheduler.after(delay, lambda: self._scheduler.resume(thread, turn, answer, error))

    def _apply_at(
        self, delay: float, thread: Thread, call: Call, then: Callable[[Any, BaseException | None], None] | None
    ) -> None:
        def apply() -> None:
            if thread.process.is_dead and thread.process.is_atomic:
                return
            answer, error = self._apply(thread, call)
            if then is not None:
                then(answer, error)

        self._scheduler.after(delay, apply)

    def _apply(self, thread: Thread, call: Call) -> tuple[Any, BaseException | None]:
        """Do it, in one instant; errors of the contract are answers."""
        self.calls += 1
        answer, error = None, None
        try:
            answer = getattr(self._store, call.operation)(*call.arguments, **call.named)
        except PynencError as refused:
            error = refused
        self.trace.append((self._scheduler.clock.lease(), thread.process.name, call, error or answer))
        if error is None:
            self._observe(call, answer)
        return answer, error


def _claims(call: Call) -> bool:
    """Whether it claims: no store may do that twice for one answer, since nobody would know of the first."""
    return call.operation == "claim" or (call.operation == "finish" and len(call.arguments) > 2)
