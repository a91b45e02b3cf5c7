"""Whether results are there, asked in a few round trips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STEP = 1000


def are_there(client: Any, keys: Sequence[str]) -> bool:
    """Whether each of the keys exists; the last ones are asked for first, as they are written last."""
    starts = range(0, len(keys), STEP)
    return all(
        client.exists(*keys[start : start + STEP]) == len(keys[start : start + STEP]) for start in reversed(starts)
    )
