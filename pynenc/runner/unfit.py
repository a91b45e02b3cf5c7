"""Records that cannot be run, whoever tries: what the store holds of an invocation is damaged. It fails, and nothing else does."""

from __future__ import annotations

import logging
import struct

import msgspec

from pynenc.core import outcome
from pynenc.core.records import Claimed, Outcome
from pynenc.engine import Engine
from pynenc.serializer.errors import encode_error

logger = logging.getLogger("pynenc.runner")

#: What reading a damaged record raises. All else says something about this process, and nothing about what was claimed.
UNFIT = (TypeError, ValueError, LookupError, AttributeError, struct.error, msgspec.MsgspecError)


def unfit(engine: Engine, claimed: Claimed, error: Exception) -> Outcome:
    """The end of what was claimed and cannot be run."""
    logger.error("%s %s cannot be run, so it fails: %r", claimed.task, claimed.id, error, exc_info=error)
    now = engine.store.clock.now()
    return outcome.failed(claimed, encode_error(error), now, now, "it cannot be run")
