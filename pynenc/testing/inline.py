"""A runner for tests: the real engine, drained step by step on the calling thread, on a clock that the test moves."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from pynenc.app import Pynenc
from pynenc.core.records import Microseconds
from pynenc.invocation import BaseInvocation
from pynenc.runner.inline import InlineRunner as EngineRunner
from pynenc.testing.clock import SECOND, VirtualClock


class InlineRunner:
    """Runs the calls of an app one after the other, in the order of its store, whenever the test says so.

    ::

        with InlineRunner(app) as runner:
            reminder = remind.options(delay=3600)("Ana")
            assert runner.drain() == 0          # not due yet
            assert runner.advance(3600) == 1    # an hour passes
            assert reminder.result == "Ana was reminded"

    Nothing runs between these calls, so each test sees the same order each time. A body that waits for others runs them there and then; as much time passes
    at once as they need (delays, retries). What else becomes due until then runs at its time, what is due later does not.

    :param app: its store is closed and opened again with the clock; what ``memory://`` held before is gone.
    :param clock: a clock to share; by default a new one. :ivar clock: the clock of the store.
    """

    def __init__(self, app: Pynenc, clock: VirtualClock | None = None) -> None:
        self.app = app
        self.clock = clock or VirtualClock()
        app.close()
        app.use_clock(self.clock)
        self._runner = EngineRunner(app.engine, self._skip_to)
        app.trigger.declare()
        self._until: Microseconds = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def executed(self) -> int:
        """How many bodies have run."""
        return self._runner.executed

    def drain(self) -> int:
        """Run until nothing is claimable now; how many bodies ran."""
        return self.advance(0)

    def advance(self, seconds: float) -> int:
        """Let time pass; what becomes due runs at its time. Returns how many bodies ran.

        :raises ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards by {seconds!r} s")
        before = self.executed
        self._until = self.clock.now() + round(seconds * SECOND)
        self._runner.drain()
        self._skip_to(max(self._until, self.clock.now()))
        self._runner.drain()
        return self.executed - before

    def result(self, invocation: BaseInvocation[Any, Any], within: float = 365 * 24 * 3600.0) -> Any:
        """The result of an invocation, after all that has to run and all the time that has to pass for it; what it does not need stays.

        :param within: the most seconds that may pass on the clock.
        :raises ResultTimeoutError: it is not final then. :raises WorkflowPauseError: it waits for somebody to resume or signal it.
        :raises Exception: what the task raised.
        """
        self._until = self.clock.now() + round(within * SECOND)
        self._runner.run(invocation.invocation_id)
        self._runner.refuse_to_hang((invocation.invocation_id,))
        return invocation.get_result(0)

    def close(self) -> None:
        """Close the store; the next one has its own clock."""
        self.app.close()
        self.app.use_clock(None)

    def _skip_to(self, due: Microseconds) -> bool:
        """Move the clock to the next thing that is due, if it may be moved so far."""
        if due > self._until and not self._runner.waiting:
            return False
        self.clock.advance(max(0, due - self.clock.now()) / SECOND)
        return True
