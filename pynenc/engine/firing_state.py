"""What a trigger must know of earlier causes: one value under its scope, read and written by its firings, which run one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pynenc.core.outcome import SECOND
from pynenc.core.reaction import FIRING
from pynenc.core.records import Microseconds
from pynenc.engine.codec import Codec
from pynenc.store.base import Store
from pynenc.trigger.trigger import Trigger

#: How long, in microseconds, and how many causes are known to have been joined: until no attempt of their firings comes again, which takes a lease.
JOINED_FOR, JOINED_MOST = 600 * SECOND, 256


def state_scope(trigger_id: str) -> str:
    """Where a trigger keeps what it must know of earlier causes."""
    return f"{FIRING}{trigger_id}"


class State:
    """What a trigger knows of earlier causes; read when it is first needed.

    :ivar leaves: the latest cause of each condition that has not been used. :ivar latest: by key, what a debounce waits for. :ivar decided: by firing, what
    has come together (``parts``), then what is to be submitted and may not have been yet (``rows``).
    """

    def __init__(self, trigger: Trigger, store: Store, codec: Codec) -> None:
        self._scope = state_scope(trigger.id)
        self._store = store
        self._codec = codec
        self.is_used = trigger.has_state
        kept = self._read() if self.is_used else {}
        self.leaves: dict[str, Any] = kept.get("leaves", {})
        self.latest: dict[str, str] = kept.get("latest", {})
        self.decided: dict[str, dict[str, Any]] = kept.get("decided", {})
        self._passed: dict[str, list[list[Any]]] = kept.get("passed", {})
        #: Causes that were joined lately, with the time.
        self._joined: list[list[Any]] = kept.get("joined", [])

    def _read(self) -> dict[str, Any]:
        found = self._store.recall(self._scope, ["state"]).get("state")
        return dict(self._codec.decode_value(found, self._scope, "state")) if found else {}

    def was_joined(self, cause: str) -> bool:
        """Whether a cause was used lately."""
        return any(each[1] == cause for each in self._joined)

    def use_up(self, leaves: Sequence[int], now: Microseconds) -> None:
        """Forget the causes of conditions that are joined now."""
        fresh = [each for each in self._joined if each[0] > now - JOINED_FOR]
        used = [[now, self.leaves.pop(str(leaf))[2]] for leaf in leaves]
        self._joined = [*fresh, *used][-JOINED_MOST:]

    def may_pass(self, key: str, target: str, now: Microseconds, n: int, window: Microseconds) -> bool:
        """Whether a firing keeps a throttle; it counts from now on. One that is tried again counts once."""
        self._passed = {
            name: fresh
            for name, passed in self._passed.items()
            if (fresh := [each for each in passed if each[0] > now - window])
        }
        passed = self._passed.setdefault(key, [])
        if not any(each[1] == target for each in passed):
            if len(passed) >= n:
                return False
            passed.append([now, target])
        return True

    def changed(self) -> dict[str, bytes]:
        """What is to be written."""
        if not self.is_used:
            return {}
        state = {
            "leaves": self.leaves,
            "latest": self.latest,
            "passed": self._passed,
            "decided": self.decided,
            "joined": self._joined,
        }
        return {"state": self._codec.encode_value(state, self._scope, "state")}
