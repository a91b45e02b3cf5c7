"""Calls in transactions of others: SQLite tells nobody of a commit that is not its own, so one call of each is looked for until it can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock, Thread

from pynenc.exceptions import StoreError
from pynenc.store.sqlite.database import Database

SEEN = "SELECT 1 FROM $inv WHERE id = ?"
#: Seconds between two looks, each longer than the one before; and how long to look at all. Idle runners claim now and then by themselves.
FIRST_PAUSE, LAST_PAUSE, PATIENCE = 0.001, 0.05, 60.0


class Joined:
    """The calls that are not committed yet, as far as this process knows.

    :param ring: tells runners that so many calls may have become claimable.
    """

    def __init__(self, database: Database, ring: Callable[[int], None]) -> None:
        self._database = database
        self._ring = ring
        self._lock = Lock()
        #: The last call of a submission, and how many it had.
        self._expected: dict[str, int] = {}
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._looks = False

    def expect(self, invocation_id: str, count: int) -> None:
        """Ring once this call can be seen."""
        with self._lock:
            self._expected[invocation_id] = count
            self._pause, self._until = FIRST_PAUSE, time.monotonic() + PATIENCE
            if not self._looks:
                self._looks = True
                Thread(target=self._look, name="pynenc-joined", daemon=True).start()

    def _look(self) -> None:
        while self._expects():
            time.sleep(self._pause)
            self._pause = min(self._pause * 1.5, LAST_PAUSE)
            try:
                seen = [name for name in list(self._expected) if self._database.query(SEEN, name)]
                if ready := sum(self._expected.pop(name) for name in seen):
                    self._ring(ready)
            except StoreError:  # it is closing, or does not answer now
                self._until = 0.0

    def _expects(self) -> bool:
        with self._lock:
            if time.monotonic() > self._until:
                self._expected.clear()
            self._looks = bool(self._expected)
            return self._looks
