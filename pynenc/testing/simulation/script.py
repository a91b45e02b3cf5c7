"""What bodies do in the simulation: a few words in the arguments of each invocation say it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from pynenc.core import outcome
from pynenc.core.outcome import RetryPolicy
from pynenc.core.records import Claimed, New, Outcome, Owner, Ref
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import PynencError
from pynenc.testing.clock import SECOND
from pynenc.testing.passes import Act, Line
from pynenc.testing.simulation.schedule import Request, Signal, Sleep, Wait, insist

if TYPE_CHECKING:
    from pynenc.testing.simulation.worker import Worker

Ending = Generator[Request, Any, Outcome | None]

#: ``work`` succeeds; ``flaky`` after two retries; ``fail`` never does; ``pause`` suspends itself once for a while, ``wait`` until somebody resumes
#: it; ``parent`` waits for children; ``poison`` kills its process; ``long`` runs longer than a lease; ``flow`` is a workflow of some rounds. Nobody
#: but the store submits an ``echo``.
KINDS = ("work", "flaky", "fail", "pause", "wait", "parent", "poison", "long", "flow", "echo")
WEIGHTS = (40, 8, 4, 4, 3, 5, 1, 3, 4, 0)
#: Rounds of a ``flow`` that is not asked for once more.
ROUNDS = 3


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


def _flow(worker: Worker, claimed: Claimed, began: int) -> Ending:
    """A round of a workflow: a step, a signal, and a state that counts the rounds. Everything is remembered before it counts."""
    scope, by = f"{claimed.id}/{claimed.round}", Owner(claimed.id, claimed.attempt, worker.beat.id)
    lost = outcome.released(claimed, "another attempt owns it")
    worker.passes.append(Line(Act.BEGAN, *by_of(claimed)))
    records = yield from insist("recall", scope)
    if not (yield from insist("remember", scope, {"begun": b""}, by=by)):
        return lost  # it begins too late: what was remembered may be gone with its round
    if "step" not in records:
        made = result_of(claimed)
        worker.passes.append(Line(Act.MADE, *by_of(claimed), f"{claimed.round}.step", made.decode()))
        records |= yield from insist("remember", scope, {"step": made}, once=True, by=by)
        if "step" not in records:
            return lost
    worker.passes.append(Line(Act.GOT, *by_of(claimed), f"{claimed.round}.step", records["step"].decode()))
    yield Sleep(worker.random.random() * 0.5)
    if "signal" not in records:
        first, signals = int(claimed.args or 0), (yield from insist("recall", claimed.id))
        came = {int(key[7:]): value for key, value in signals.items() if key.startswith("signal:")}
        if not (usable := [number for number in sorted(came) if number >= first]):
            seen = max([first, *(number + 1 for number in came)])
            return outcome.paused(claimed, "waits for a signal", began, worker.now(), signals=seen)
        taken = b"%d %b" % (usable[0], came[usable[0]])
        records |= yield from insist("remember", scope, {"signal": taken}, once=True, by=by)
    if "read" not in records:
        state = yield from insist("recall", f"{claimed.id}/state")
        records |= yield from insist("remember", scope, {"read": state.get("rounds", b"0")}, once=True, by=by)
    if not records.keys() >= {"signal", "read"}:
        return lost
    number, token = records["signal"].decode().split(" ")
    worker.passes.append(Line(Act.GOT, *by_of(claimed), f"{claimed.round}.signal", token))
    rounds = {"rounds": b"%d" % (int(records["read"]) + 1)}
    if not (yield from insist("remember", f"{claimed.id}/state", rounds, by=by)):
        return lost
    if claimed.round + 1 < ROUNDS:
        return outcome.continued(claimed, b"%d" % (int(number) + 1), (), int(number) + 1, began)
    return None


def by_of(claimed: Claimed) -> tuple[str, int]:
    """Whose line it is."""
    return claimed.id, claimed.attempt


_POLICIES = {"flaky": RetryPolicy(max_retries=3, delay=0.2), "fail": RetryPolicy(max_retries=1)}
_COURSES = {"pause": _pause, "wait": _pause, "parent": _parent, "flow": _flow}
