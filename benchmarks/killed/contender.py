"""What is asked of a library: to accept a call, to say what became of each, and how its worker is started."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Any


class Fate(StrEnum):
    """What a library says of a call that it accepted."""

    ANSWERED = "answered"  # its result is recorded
    FAILED = "failed"  # its failure is recorded
    HELD = "held"  # it waits, or is thought to run
    GONE = "gone"  # nothing is known of it


class Contender:
    """A library on an empty store.

    :param safe: with the settings that its documentation has for workers that die.
    """

    def __init__(self, url: str, *, safe: bool = False) -> None:
        self.options: dict[str, Any] = {"url": url, "safe": safe}
        self.handles: list[Any] = []

    def submit(self, index: int) -> None:
        """Submit the next call; it is accepted on return."""
        raise NotImplementedError

    def fates(self) -> list[Fate]:
        """What became of each call, in the order of their submission."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts its worker: by default the module of the class, with its options as JSON."""
        return [sys.executable, "-m", type(self).__module__, json.dumps(self.options)]

    def environment(self) -> dict[str, str]:
        """What its worker is told besides."""
        return {}

    def close(self) -> None:
        """Give back connections."""
