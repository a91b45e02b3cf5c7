"""One of several processes that race for the same store.

    python -m pynenc.testing.store_suite.racer URL APP_ID drain|register INDEX

It says ``ready``, waits for a line, works, and prints the ids it got as JSON.
"""

from __future__ import annotations

import json
import sys

from pynenc.core.records import Beat, Outcome
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store, SystemClock
from pynenc.testing.store_suite.base import LEASE, TASK, new, request

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


def main(url: str, app_id: str, work: str, index: str) -> None:
    """Race once."""
    store = open_store(url, app_id, SystemClock())
    store.open()
    runner = f"racer {index}"
    store.heartbeat([Beat(id=runner, group=runner, lease=LEASE, tasks=(TASK,))])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(WORK[work](store, runner)), flush=True)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
