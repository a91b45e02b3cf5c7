"""Several processes that race for the same store.

    python -m pynenc.testing.store_suite.racer URL APP_ID drain|register COUNT

They begin together, work, and the ids that each got are printed as JSON. They are forked by a process that has opened nothing, which is sooner done than
starting each.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from functools import partial
from typing import Any

from pynenc.core.records import Beat, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store, SystemClock
from pynenc.testing.store_suite.base import LEASE, PATIENCE, TASK, new, request

KEYS = 25


def drain(store: Store, runner: str) -> list[str]:
    """Claim and finish until nothing is left that is not final."""
    done: list[str] = []
    batch = store.claim(request(runner, 3)).batch
    while batch or any(queue.ready + queue.parked for queue in store.queues()):
        now = store.clock.now()
        outcomes = [
            Outcome(id=claimed.id, attempt=claimed.attempt, status=InvocationStatus.SUCCESS, ended=now)
            for claimed in batch
        ]
        finished = store.finish(runner, outcomes, request(runner, 3))
        if finished.lost:
            raise AssertionError(f"lost {finished.lost}")
        done += [claimed.id for claimed in batch]
        batch = finished.claim.batch
    return done


def register(store: Store, runner: str) -> list[str]:
    """Submit under the same registration keys as everybody else; the ids that answered."""
    return [store.submit([new(f"{runner} {key}", registration_key=f"k{key}")])[0].id for key in range(KEYS)]


WORK = {"drain": drain, "register": register}


_start: Any = None


def _wait_for(barrier: Any) -> None:
    global _start  # noqa: PLW0603  # one for each process
    _start = barrier


def race(index: int, url: str, app_id: str, work: str) -> list[str]:
    """One of those that race."""
    store = open_store(url, app_id, SystemClock())
    store.open()
    runner = f"racer {index}"
    store.heartbeat([Beat(id=runner, group=runner, lease=LEASE, tasks=(TASK,))])
    _start.wait(PATIENCE)
    try:
        return WORK[work](store, runner)
    finally:
        store.close()


def main(url: str, app_id: str, work: str, count: int) -> None:
    """Race once."""
    forking = multiprocessing.get_context("fork")
    with forking.Pool(count, _wait_for, (forking.Barrier(count),)) as racers:
        print(json.dumps(racers.map(partial(race, url=url, app_id=app_id, work=work), range(count), 1)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
