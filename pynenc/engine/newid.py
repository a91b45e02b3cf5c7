"""Fresh invocation ids: version 7 UUIDs from one pool of kernel entropy per process."""

from __future__ import annotations

import os
import time
from threading import Lock

from pynenc.core.ids import uuid7_from

_POOL = 10 * 256
_lock = Lock()
_entropy = b""
_used = 0


def new_id() -> str:
    """The text of a new version 7 UUID; one call of the kernel's random source serves 256 of them."""
    global _entropy, _used
    with _lock:
        if _used + 10 > len(_entropy):
            _entropy, _used = os.urandom(_POOL), 0
        start, _used = _used, _used + 10
        entropy = _entropy[start : start + 10]
    return uuid7_from(time.time_ns() // 1_000_000, entropy)


def _forget_pool() -> None:
    """A forked child must not hand out the ids of its parent."""
    global _entropy, _lock
    _entropy, _lock = b"", Lock()


os.register_at_fork(after_in_child=_forget_pool)
