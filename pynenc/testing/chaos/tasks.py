"""The tasks of the chaos test. Every body has a witness; its result names its attempt."""

from __future__ import annotations

import os
import signal
import time

from pynenc import ConcurrencyControlType, Pynenc, RetryError
from pynenc.exceptions import StoreError
from pynenc.testing.chaos.witness import witnessed

#: Seconds by which a tick that is not made up for may be late.
TOLERANCE = 0.5

app = Pynenc(app_id="chaos", trigger_tolerance=TOLERANCE)

KEYS = ConcurrencyControlType.KEYS


@app.task
def work(nonce: str) -> str:
    """Nothing."""
    with witnessed(nonce) as result:
        return result


@app.task
def nap(nonce: str, seconds: float) -> str:
    """Takes its time."""
    with witnessed(nonce) as result:
        time.sleep(seconds)
        return result


@app.task(running_concurrency=KEYS, key_arguments=("key",))
def one_at_a_time(key: str, seconds: float) -> str:
    """Never two of one key at once."""
    with witnessed(key) as result:
        time.sleep(seconds)
        return result


@app.task(running_concurrency=KEYS, key_arguments=("key",), running_limit=3)
def three_at_a_time(key: str, seconds: float) -> str:
    """Never four of one key at once."""
    with witnessed(key) as result:
        time.sleep(seconds)
        return result


@app.task(max_retries=3, retry_delay=0.05)
def flaky(nonce: str) -> str:
    """Succeeds after two retries."""
    with witnessed(nonce) as result:
        if flaky.invocation.num_retries < 2:
            raise RetryError("not yet")
        return result


@app.task(registration_concurrency=KEYS, key_arguments=("key",))
def once(key: str) -> str:
    """One waits at a time for each key; other calls are answered by it."""
    with witnessed(key) as result:
        return result


@app.task(max_retries=100, retry_for=(StoreError,), retry_delay=0.2, retry_max_delay=1.0)
def parent(nonce: str, count: int) -> str:
    """Waits for children, its slot lent to others. In an outage its calls fail, and so it does, for a while."""
    with witnessed(nonce) as result:
        list(work.parallelize([(f"{nonce}.{number}",) for number in range(count)]).results)
        return result


@app.task
def poison(nonce: str) -> str:
    """Takes its process with it, every time."""
    with witnessed(nonce) as result:
        os.kill(os.getpid(), signal.SIGKILL)
        return result
