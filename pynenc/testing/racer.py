"""Several processes that race for the same store, in a test of the suite.

    python -m pynenc.testing.racer URL APP_ID TASK drain|register COUNT

They begin together, work, and the ids that each got are printed as JSON. They are forked by a process that has opened nothing, which is sooner done than
starting each.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from functools import partial
from typing import Any

from pynenc.core.records import Beat, ClaimRequest, New, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store, SystemClock
from pynenc.testing.clock import SECOND

KEYS = 25
#: Seconds that the first one waits for the last one.
PATIENCE = 10.0


def drain(store: Store, runner: str, _task: str) -> list[str]:
    """Claim and finish until nothing is left that is not final."""
    done: list[str] = []
    batch = store.claim(ClaimRequest(runner, 3)).batch
    while batch or any(queue.ready + queue.parked for queue in store.queues()):
        now = store.clock.now()
        outcomes = [
            Outcome(id=claimed.id, attempt=claimed.attempt, status=InvocationStatus.SUCCESS, ended=now)
            for claimed in batch
        ]
        finished = store.finish(runner, outcomes, ClaimRequest(runner, 3))
        if finished.lost:
            raise AssertionError(f"lost {finished.lost}")
        done += [claimed.id for claimed in batch]
        batch = finished.claim.batch
    return done


def register(store: Store, runner: str, task: str) -> list[str]:
    """Submit under the same registration keys as everybody else; the ids that answered."""
    calls = [New(id=f"{runner} {key}", task=task, args=b"", registration_key=f"k{key}") for key in range(KEYS)]
    return [store.submit([call])[0].id for call in calls]


WORK = {"drain": drain, "register": register}


_start: Any = None


def _wait_for(barrier: Any) -> None:
    global _start  # noqa: PLW0603  # one for each process
    _start = barrier


def race(index: int, url: str, app_id: str, task: str, work: str) -> list[str]:
    """One of those that race."""
    store = open_store(url, app_id, SystemClock())
    store.open()
    runner = f"racer {index}"
    store.heartbeat([Beat(id=runner, group=runner, lease=15 * SECOND, tasks=(task,))])
    _start.wait(PATIENCE)
    try:
        return WORK[work](store, runner, task)
    finally:
        store.close()


def main(url: str, app_id: str, task: str, work: str, count: int) -> None:
    """Race once."""
    open_store(url, app_id, SystemClock())  # opens nothing yet; its driver is loaded once, not by each
    forking = multiprocessing.get_context("fork")
    with forking.Pool(count, _wait_for, (forking.Barrier(count),)) as racers:
        print(json.dumps(racers.map(partial(race, url=url, app_id=app_id, task=task, work=work), range(count), 1)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
