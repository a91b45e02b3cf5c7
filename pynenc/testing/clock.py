"""A clock that moves only when it is told to; every store accepts it in place of the machine's."""

from __future__ import annotations

from threading import Lock

from pynenc.core.records import Microseconds

SECOND: Microseconds = 1_000_000


class VirtualClock:
    """Implements :class:`pynenc.store.base.Clock`; safe to read and to move from several threads.

    :param start: wall-clock time at the beginning, in microseconds since the Unix epoch.
    """

    def __init__(self, start: Microseconds = 1_700_000_000 * SECOND) -> None:
        self._now = start
        self._lease: Microseconds = 1_000 * SECOND
        self._boot = 1
        self._lock = Lock()

    def now(self) -> Microseconds:
        return self._now

    def lease(self) -> Microseconds:
        return self._lease

    def boot_id(self) -> str:
        return f"boot-{self._boot}"

    def advance(self, seconds: float) -> None:
        """Let time pass, on the wall and for leases.

        :raises ValueError: ``seconds`` is negative; only the wall clock can go back (:meth:`jump`).
        """
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards by {seconds!r} s; use jump() to set the wall clock back")
        step = round(seconds * SECOND)
        with self._lock:
            self._now += step
            self._lease += step

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a person or a time server does; leases do not notice."""
        with self._lock:
            self._now += round(seconds * SECOND)

    def reboot(self, seconds: float = 30.0) -> None:
        """Restart the machine: ``seconds`` pass, and the time of leases begins anew under another boot id."""
        with self._lock:
            self._now += round(seconds * SECOND)
            self._lease = round(seconds * SECOND)
            self._boot += 1
