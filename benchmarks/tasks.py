"""The tasks that are measured. Processes that run them get the store from ``PYNENC__STORE``."""

from __future__ import annotations

import os
import time

from benchmarks import marks
from pynenc import Pynenc

app = Pynenc(app_id="bench", store="memory://")
marks.attach()


@app.task
def nothing(index: int) -> int:
    marks.hit(index)
    return index


@app.task
def presence() -> int:
    """Takes long enough for others to be there, too."""
    time.sleep(0.02)
    return os.getpid()


@app.task
def measure_text(index: int, text: str) -> int:
    marks.hit(index)
    return len(text)


@app.task
def fibonacci(n: int) -> int:
    if n < 2:
        return n
    one, two = fibonacci(n - 1), fibonacci(n - 2)
    return one.result + two.result


def compute(milliseconds: int) -> int:
    """Work that takes so much time of a processor, whatever else the machine does."""
    ends = time.thread_time_ns() + milliseconds * 1_000_000
    count = 0
    while time.thread_time_ns() < ends:
        count += 1
    return count


@app.task
def burn(milliseconds: int) -> int:
    compute(milliseconds)
    return milliseconds
