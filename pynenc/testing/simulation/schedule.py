"""The scheduler: many processes and threads in one, on virtual time.

Theory of operation
-------------------
A *thread* is a generator. What it yields is what it waits for: a :class:`Call` to the store, a :class:`Sleep`, a :class:`Wait` for a
:class:`Signal`. A *process* is a name that threads share: when it is killed none of them goes on, when it is frozen all of them stand
still until it thaws; what reaches them meanwhile is delivered then.

Events stand in one heap by time; time jumps from event to event. Nothing depends on the machine, on threads or on hashes of texts
(:mod:`~pynenc.testing.simulation` fixes them), so the same seed gives the same run, instruction by instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Any, NamedTuple

from pynenc.core.records import Microseconds
from pynenc.exceptions import StoreError
from pynenc.testing.clock import SECOND, VirtualClock

Action = Callable[[], None]


class Call(NamedTuple):
    """A call to the store."""

    operation: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any] = MappingProxyType({})


class Sleep(NamedTuple):
    """A time to let pass, in seconds."""

    seconds: float


class Signal:
    """A flag that one thread waits for; set more than once before that, it counts once."""

    __slots__ = ("_wake", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._wake: Action | None = None

    def set(self) -> None:
        """Raise the flag, and wake who waits for it."""
        self.is_set = True
        if wake := self._wake:
            self._wake = None
            wake()

    def wait(self, wake: Action) -> None:
        """Register who waits now."""
        self._wake = wake


class Wait(NamedTuple):
    """Wait for a signal, at most so many seconds; lowers the flag."""

    signal: Signal
    seconds: float


Request = Call | Sleep | Wait
Steps = Generator[Request, Any, None]


def call(operation: str, *arguments: Any, **named: Any) -> Generator[Request, Any, Any]:
    """One call to the store, for ``yield from``; raises what the store raises, or the fault of the day."""
    return (yield Call(operation, arguments, named))


def insist(operation: str, *arguments: Any, **named: Any) -> Generator[Request, Any, Any]:
    """Call until the store answers."""
    while True:
        try:
            return (yield Call(operation, arguments, named))
        except StoreError:
            yield Sleep(0.1)


class Process:
    """A process: alive, frozen until a time, or dead. ``is_atomic``: what it had asked of the store and was not done yet died with it."""

    __slots__ = ("frozen_until", "is_atomic", "is_dead", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_atomic = False
        self.frozen_until: Microseconds = 0


class Thread:
    """A generator in a process; ``turn`` grows at every step, so that a late wake-up finds out that it is late."""

    __slots__ = ("process", "steps", "turn")

    def __init__(self, process: Process, steps: Steps) -> None:
        self.process = process
        self.steps = steps
        self.turn = 0


class Scheduler:
    """Runs threads; ``send`` carries out their calls and resumes them with the answer."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.send: Callable[[Thread, Call], None]
        self.crash: BaseException | None = None
        self._events: list[tuple[Microseconds, int, Action]] = []
        self._count = 0

    def after(self, seconds: float, action: Action) -> None:
        """Do something later."""
        self._at(self.clock.lease() + int(seconds * SECOND), action)

    def _at(self, when: Microseconds, action: Action) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, action))

    def start(self, process: Process, steps: Steps) -> None:
        """Start a thread, now."""
        thread = Thread(process, steps)
        self.after(0, lambda: self.resume(thread, 0))

    def run(self, until: Microseconds, is_done: Callable[[], bool]) -> bool:
        """Go on until it is done (true), or the time is over."""
        while self._events and self._events[0][0] <= until:
            when, _, action = heappop(self._events)
            now = self.clock.lease()
            if when > now:
                self.clock.advance((when - now) / SECOND)
            action()
            if self.crash is not None:
                raise self.crash
            if is_done():
                return True
        return is_done()

    def resume(self, thread: Thread, turn: int, value: Any = None, error: BaseException | None = None) -> None:
        """Let a thread take its next step, unless it has gone on, is dead, or stands still."""
        process = thread.process
        if process.is_dead or thread.turn != turn:
            return
        if process.frozen_until > self.clock.lease():
            self._at(process.frozen_until, lambda: self.resume(thread, turn, value, error))
            return
        thread.turn += 1
        try:
            request = thread.steps.throw(error) if error is not None else thread.steps.send(value)
        except StopIteration:
            return
        except Exception as crash:
            self.crash = crash
            return
        self._serve(thread, request)

    def _serve(self, thread: Thread, request: Request) -> None:
        turn = thread.turn
        if isinstance(request, Call):
            self.send(thread, request)
        elif isinstance(request, Sleep):
            self.after(request.seconds, lambda: self.resume(thread, turn))
        else:
            self._wait(thread, request)

    def _wait(self, thread: Thread, request: Wait) -> None:
        turn, signal = thread.turn, request.signal

        def wake() -> None:
            signal.is_set = False
            self.after(0, lambda: self.resume(thread, turn))

        if signal.is_set:
            wake()
        else:
            signal.wait(wake)
            self.after(request.seconds, lambda: self.resume(thread, turn))
