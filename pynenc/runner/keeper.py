"""Sign of life and upkeep: what a process that holds leases does from time to time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pynenc.core.records import Beat, Orders
from pynenc.engine import upkeep
from pynenc.exceptions import StoreError, StoreGoneError
from pynenc.store.base import Store

logger = logging.getLogger("pynenc.runner")
T = TypeVar("T")

#: Seconds between two searches for runners that are gone, and for what expired.
RECOVER_EVERY = 0.5
#: The same while more has expired than ends at a time.
EXPIRE_AGAIN = 0.05
#: Seconds between two attempts to purge.
PURGE_EVERY = 60.0
#: The same while there is more to remove, so that retention keeps up with thousands of invocations a second.
PURGE_AGAIN = 0.2
#: Seconds until the store is tried again that did not answer, at most: leases should not end meanwhile, and runners should not come all at once.
RETRY_AFTER = 1.0
#: Seconds that beats asked for out of turn keep between them.
URGENT_EVERY = 0.1


class Keeper:
    """Renews leases every ``heartbeat`` seconds and does the upkeep on behalf of one runner.

    :param renew: a further duty, as often as the purge; gets the id of the runner.
    """

    def __init__(self, store: Store, heartbeat: float, renew: Callable[[str], None] = lambda _: None) -> None:
        self._store = store
        self._renew = renew
        self._heartbeat = heartbeat
        self._is_urgent = False
        self._beat_at = 0.0
        self._urgent_at = 0.0
        self._recover_at = 0.0
        self._purge_at = time.monotonic() + PURGE_EVERY
        #: Since when it waits for the store (0: it does not), and when the store last answered, in monotonic seconds.
        self.asked = 0.0
        self.answered = 0.0
        self.errors = 0
        #: The duties that fail by a defect, and how.
        self._told: dict[str, str] = {}

    def hurry(self) -> None:
        """There may be orders: beat soon."""
        self._is_urgent = True

    def pause(self) -> float:
        """Seconds until something is due."""
        beat_at = self._urgent_at if self._is_urgent else self._beat_at
        return max(0.0, min(beat_at, self._recover_at, self._purge_at) - time.monotonic())

    def beat(self, beats: Sequence[Beat]) -> list[Orders]:
        """Renew the leases when it is time; the orders that came back, none when it was not time or the store did not
        answer.

        :raises StoreGoneError: there is nothing left to work on.
        :raises StoreError: it has never answered, and will not by itself.
        """
        now = time.monotonic()
        if now < (self._urgent_at if self._is_urgent else self._beat_at):
            return []
        self._beat_at, self._urgent_at = now + self._heartbeat, now + URGENT_EVERY
        try:
            with self._asking():
                orders = self._store.heartbeat(beats)
        except StoreGoneError:
            raise
        except StoreError as error:
            if not (error.retryable or self.answered):
                raise
            logger.warning("heartbeat failed: %s", error)
            self._beat_at = self._urgent_at = now + min(RETRY_AFTER, self._heartbeat) * (0.5 + random.random() / 2)
            return []
        self._is_urgent = False
        return orders

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Leave signs of asking the store, and of its answer."""
        self.asked = time.monotonic()
        try:
            yield
            self.answered = time.monotonic()
        except StoreError:
            self.errors += 1
            raise
        finally:
            self.asked = 0.0

    def keep_up(self, runner: str) -> None:
        """Take back lost work, end what expired, purge, and what else there is to do, each when it is time.

        :raises StoreGoneError: there is nothing left to work on.
        """
        now = time.monotonic()
        try:
            if now >= self._recover_at:
                self._recover_at = now + RECOVER_EVERY
                if self._do("taking back lost work", lambda: upkeep.recover(self._store, runner)):
                    self.hurry()  # there may be suspects among it
                if self._do("ending what expired", lambda: upkeep.expire(self._store)):
                    self._recover_at = now + EXPIRE_AGAIN
            if now >= self._purge_at:
                self._purge_at = now + PURGE_EVERY
                if self._do("purging", lambda: upkeep.purge(self._store, runner)):
                    self._purge_at = now + PURGE_AGAIN
                self._do("renewing triggers", lambda: self._renew(runner))
        except StoreGoneError:
            raise
        except StoreError as error:
            self._recover_at = now + RETRY_AFTER * (0.5 + random.random() / 2)
            logger.warning("upkeep failed: %s", error)

    def _do(self, name: str, duty: Callable[[], T]) -> T | None:
        """Do one duty; None when it failed for a reason that says nothing of the others, told once until it succeeds.

        :raises StoreError: the store does not answer, so that nothing else is worth a try.
        """
        try:
            with self._asking():
                done = duty()
        except StoreError:
            raise
        except Exception as error:
            if self._told.get(name) != repr(error):
                self._told[name] = repr(error)
                logger.exception("%s failed, and will be tried again", name)
            return None
        self._told.pop(name, None)
        return done
