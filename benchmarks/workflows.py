"""The workflows that are measured: apart from the other tasks, which must not pay for their import."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from benchmarks.tasks import app

MICROSECONDS = 1_000_000


def now() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def same(number: int) -> int:
    return number


@app.workflow
def steps(index: int, count: int) -> int:
    """Steps that do nothing, one after the other."""
    wf = steps.wf
    return index + sum(wf.step(same, 1) for _ in range(count))


@app.workflow
def replayed(count: int) -> float:
    """Steps, then a short sleep: the body runs twice, and tells how many seconds its recorded steps took the second time."""
    wf = replayed.wf
    began = time.perf_counter()
    for number in range(count):
        wf.step(same, number)
    took = time.perf_counter() - began
    wf.sleep(0.2)
    assert replayed.invocation.attempt == 2, "it did not sleep"
    return took


@app.workflow
def sleeper(due: int) -> int:
    """Sleeps until ``due``; how many microseconds later it goes on."""
    sleeper.wf.sleep_until(datetime.fromtimestamp(due / MICROSECONDS, UTC))
    return now() - due
