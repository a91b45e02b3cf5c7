"""The inline runner: drains the real engine on the calling thread, in the order of the store. For development mode and
tests.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from pynenc.core.outcome import SECOND
from pynenc.core.records import Beat, Claimed, ClaimRequest, Microseconds
from pynenc.engine import Engine
from pynenc.store.base import SystemClock

LEASE = 365 * 24 * 3600 * SECOND


class SkipClock(SystemClock):
    """The system's clock with the waiting cut out: it can be moved forward."""

    def __init__(self) -> None:
        self._ahead: Microseconds = 0

    def now(self) -> Microseconds:
        return super().now() + self._ahead

    def skip_to(self, time: Microseconds) -> bool:
        """Be at ``time`` now, unless it is past already; it always is possible."""
        self._ahead += max(0, time - self.now())
        return True


class InlineSlot:
    """The slot of a body on the calling thread; while it waits, the runner works on what there is."""

    def __init__(self, runner: InlineRunner) -> None:
        self._runner = runner

    def park(self) -> None:
        """Nobody else will do the work: do it now."""
        self._runner.waiting += 1
        self._runner.drain()

    def unpark(self) -> None:
        """The thread is its own."""
        self._runner.waiting -= 1

    async def unpark_async(self) -> None:
        """The thread is its own."""
        self._runner.waiting -= 1


class InlineRunner:
    """Runs invocations one after the other until there are none.

    :param advance: called with the time at which the next invocation is due; moves the clock of the store there, or
    returns False to stop instead.
    """

    def __init__(self, engine: Engine, advance: Callable[[Microseconds], bool] = lambda _: False) -> None:
        self._engine = engine
        self._advance = advance
        self._id = f"inline-{secrets.token_hex(4)}"
        self.executed = 0
        self.waiting = 0
        engine.store.heartbeat([Beat(id=self._id, group=self._id, lease=LEASE, kind="InlineRunner", slots=1)])

    def run(self, invocation_id: str) -> None:
        """Run this invocation to its end, retries included, then whatever else became claimable."""
        while self._step((invocation_id,)):
            pass
        self.drain()

    def drain(self) -> int:
        """Run until nothing is claimable; how many bodies were run."""
        before = self.executed
        while self._step(()):
            pass
        return self.executed - before

    def _step(self, ids: tuple[str, ...]) -> bool:
        claim = self._engine.store.claim(ClaimRequest(self._id, 1, ids=ids))
        for claimed in claim.batch:
            self._run(claimed)
        if not claim.batch:
            return bool(claim.next_due) and self._advance(claim.next_due)
        return True

    def _run(self, claimed: Claimed) -> None:
        self.executed += 1
        running = self._engine.executor.running(claimed, self._id, InlineSlot(self))
        self._engine.store.finish(self._id, [self._engine.executor.run(claimed, running)])
