"""Periodic duties, one small function each, all bounded: take back lost work, end what expired, remove what is over."""

from __future__ import annotations

import logging
from functools import cache

from pynenc.core.ids import digest
from pynenc.core.outcome import SECOND
from pynenc.core.reaction import DEFINITIONS
from pynenc.core.records import Purge, Recovered
from pynenc.engine import Engine
from pynenc.exceptions import WorkerLostError
from pynenc.serializer.errors import encode_error
from pynenc.store.base import Store

logger = logging.getLogger("pynenc.runner")

RECOVER_BATCH = EXPIRE_BATCH = 500
PURGE_EVERY = 60 * SECOND
#: Batches that are removed at a time, and rows in each: little, as whoever does it has other duties.
PURGE_BATCHES, PURGE_ROWS = 2, 500


def recover(store: Store, runner: str) -> list[Recovered]:
    """Take back the work of runners that are gone."""
    recovered = store.recover(runner, RECOVER_BATCH, _too_often())
    for dead in sorted({item.runner for item in recovered}):
        count = sum(item.runner == dead for item in recovered)
        logger.warning("runner %s is gone: %d invocation(s) taken back", dead, count)
    return recovered


def expire(store: Store) -> bool:
    """End what was not claimed in time; whether there may be more."""
    count = store.expire(EXPIRE_BATCH)
    if count:
        logger.info("%d invocation(s) expired: not started in time", count)
    return count == EXPIRE_BATCH


def declare_triggers(engine: Engine) -> None:
    """What a runner does when it starts. Where nobody has ever had a trigger, the modules of triggers are not even loaded."""
    if engine.known_triggers or engine.store.recall(DEFINITIONS):
        engine.triggers.declare()


def renew_triggers(engine: Engine, runner: str) -> None:
    """Declare what was lost, such as a tick that somebody has cancelled, if no other runner that knows the same triggers did so lately."""
    known = engine.known_triggers
    if known and engine.store.lease(f"triggers {digest(*sorted(known))}", runner, PURGE_EVERY):
        engine.triggers.renew()


@cache
def _too_often() -> bytes:
    """The error of an invocation under which processes died."""
    return encode_error(
        WorkerLostError("the process that ran this task died under it too often; see the history for the causes")
    )


def purge(store: Store, runner: str) -> bool:
    """Remove some of what retention allows, unless another runner does; whether there is more."""
    if not store.lease("purge", runner, PURGE_EVERY):
        return False
    return all(store.purge(Purge(limit=PURGE_ROWS)).more for _ in range(PURGE_BATCHES))
