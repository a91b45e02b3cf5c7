"""The time of a server, as far as it can be known here."""

from __future__ import annotations

import time
from collections.abc import Callable

from pynenc.core.records import Microseconds


class ServerClock:
    """The wall clock of the server; for leases as well, since all who share the server share it.

    The difference to the clock of this machine is measured by :meth:`measure`, to half a round trip; one that may be nothing is taken for nothing.
    """

    def __init__(self, ask: Callable[[], tuple[int, int]]) -> None:
        self._ask = ask
        self._ahead: Microseconds = 0

    def measure(self) -> None:
        """Look at both clocks."""
        before = time.time_ns() // 1000
        seconds, rest = self._ask()
        after = time.time_ns() // 1000
        at = int(seconds) * 1_000_000 + int(rest)
        self._ahead = 0 if before <= at <= after else at - (before + after) // 2

    def now(self) -> Microseconds:
        return time.time_ns() // 1000 + self._ahead

    def lease(self) -> Microseconds:
        return self.now()

    def boot_id(self) -> str:
        return ""
