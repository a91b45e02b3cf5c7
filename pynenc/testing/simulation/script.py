"""What bodies do in the simulation: a few words in the arguments of each invocation say it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from pynenc.core import outcome
from pynenc.core.outcome import RetryPolicy
from pynenc.core.records import Claimed, New, Outcome, Ref
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import PynencError
from pynenc.testing.clock import SECOND
from pynenc.testing.simulation.schedule import Request, Signal, Sleep, Wait, insist

if TYPE_CHECKING:
    from pynenc.testing.simulation.worker import Worker

Ending = Generator[Request, Any, Outcome | None]

#: ``work`` succeeds; ``flaky`` after two retries; ``fail`` never does; ``pause`` suspends itself once for a while, ``wait`` until somebody resumes
#: it; ``parent`` waits for children; ``poison`` kills its process; ``long`` runs longer than a lease.
KINDS = ("work", "flaky", "fail", "pause", "wait", "parent", "poison", "long")
WEIGHTS = (40, 8, 4, 4, 3, 5, 1, 3)


def kind_of(task: str) -> str:
    """The script that a task follows; tasks are named after theirs."""
    return task.partition(".")[2]


def result_of(claimed: Claimed) -> bytes:
    """The value of an attempt; no other attempt has the same."""
    return f"{claimed.id}:{claimed.attempt}".encode()


def run(worker: Worker, claimed: Claimed) -> Ending:
    """One body, to its outcome; None when it took its process with it."""
    began, kind = worker.now(), kind_of(claimed.task)
    yield Sleep(worker.random.random() * (6.0 if kind == "long" else 0.3))
    if claimed.id in worker.cancels:
        return outcome.cancelled(claimed, began, worker.now())
    if kind == "poison":
        worker.die()
        return None
    try:
        ended = (yield from _COURSES[kind](worker, claimed, began)) if kind in _COURSES else None
    except PynencError as error:
        return outcome.failed(claimed, repr(error).encode(), began, worker.now())
    return ended or _end(worker, claimed, kind, began)


def _end(worker: Worker, claimed: Claimed, kind: str, began: int) -> Outcome:
    """How a body ends that got to its end."""
    now = worker.now()
    if kind == "fail" or (kind == "flaky" and claimed.retries < 2):
        return outcome.to_retry(claimed, b"failed", _POLICIES[kind], began, now, worker.random.random(), None)
    return outcome.succeeded(claimed, result_of(claimed), began, now)


def _pause(worker: Worker, claimed: Claimed, began: int) -> Ending:
    """Suspend once; that it did so is remembered before, so that a repetition of the body goes on."""
    if (yield from insist("recall", claimed.id)).get("paused") == b"yes":
        return None
    yield from insist("remember", claimed.id, {"paused": b"yes"})
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.PAUSED,
        due=worker.now() + SECOND if kind_of(claimed.task) == "pause" else 0,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=began,
        ended=worker.now(),
    )


def _parent(worker: Worker, claimed: Claimed, _began: int) -> Ending:
    """Submit children under derived ids and wait for them with the slot lent to others."""
    ids = tuple(f"{claimed.id}.{number}" for number in range(2))
    children = [New(id=name, task="t.work", args=b"", parent=claimed.id, result_ttl=0) for name in ids]
    worker.intend(children)
    yield from insist("submit", children)
    wake = Signal()
    worker.parked.add((claimed.id, claimed.attempt))
    worker.signal.set()
    subscription = yield from insist("watch", ids, wake.set, waiter=Ref(claimed.id, claimed.attempt))
    while len((yield from insist("finals", ids))) < len(ids):
        yield Wait(wake, 2.0)
    subscription.close()
    worker.parked.discard((claimed.id, claimed.attempt))
    return None


_POLICIES = {"flaky": RetryPolicy(max_retries=3, delay=0.2), "fail": RetryPolicy(max_retries=1)}
_COURSES = {"pause": _pause, "wait": _pause, "parent": _parent}
