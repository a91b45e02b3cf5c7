"""Round trips one after the other, with a pause in which the other side falls asleep."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

#: Seconds between two calls, in which the runner falls asleep.
PAUSE = 0.003
#: Calls that are not counted.
WARM_UP = 20


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """The median, and what one in a hundred takes longer than."""
    hundredths = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": hundredths[49], "p99": hundredths[98]}


def times(count: int, call: Callable[[int], object]) -> dict[str, float]:
    """How long a call takes until its result is there; results are the argument."""
    warm_up = min(count, WARM_UP)
    taken = []
    for index in range(warm_up + count):
        time.sleep(PAUSE)
        began = time.perf_counter()
        assert call(index) == index
        taken.append((time.perf_counter() - began) * 1000)
    return percentiles(taken[warm_up:])


async def times_async(count: int, call: Callable[[int], Awaitable[object]]) -> dict[str, float]:
    """The same on an event loop."""
    warm_up = min(count, WARM_UP)
    taken = []
    for index in range(warm_up + count):
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        assert await call(index) == index
        taken.append((time.perf_counter() - began) * 1000)
    return percentiles(taken[warm_up:])
