"""A client of the chaos test: ``python -m pynenc.testing.chaos.client NAME SEED COUNT``.

Writes down what it is about to submit under a nonce (the tag of those invocations), submits, and writes down what was acknowledged. It emits events in the same
way, and sends the workflows that wait for it their signals, a little later. With a ``COUNT`` of 0 it does that for clients that are dead, and emits one event
of each code: in the calm, what has to come of them is known.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.testing.chaos import tasks, triggers, witness, workflows

#: Names of keys with a limit: few enough that there is a crowd behind each.
CROWD = 4
#: How often errands are tried at the end.
ROUNDS = 30


class Client:
    """Submits batches of mixed calls."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.number = 0
        #: What is to be done for workflows that wait for somebody.
        self.errands: list[Errand] = []

    def run(self, count: int) -> None:
        """Submit about ``count`` invocations, a little at a time."""
        if count == 0:
            self._end_the_schedule()
            self._emit([(code, f"{self.name}.0") for code in triggers.CODES])
            self.errands += _orphans()
        while count > 0:
            task, params = self._choose()
            if task is None:
                self._emit(params)
            else:
                self._submit(task, params)
            count -= len(params)
            time.sleep(self.random.random() * 0.6)
            self._run_errands(len(self.errands) // 2)
        for _ in range(ROUNDS):
            if self.errands:
                self._run_errands(len(self.errands))
                time.sleep(0.1)

    # -- signals and events ------------------------------------------------------------------------------------------------
    def _run_errands(self, count: int) -> None:
        """Run the next ``count``; what may not have been done is tried again later, at last by those who stand in for the dead."""
        due, self.errands = self.errands[:count], self.errands[count:]
        for errand in due:
            if not _is_done(errand.run):
                self.errands.append(errand)

    def _end_the_schedule(self) -> None:
        """What ticks, fires no more."""
        for task in triggers.TICKING:
            while not _is_done(partial(tasks.app.trigger.pause, task.task_id.key)):
                time.sleep(0.1)

    def _emit(self, params: Sequence[tuple[Any, ...]]) -> None:
        """Emit an event for each; nobody knows about one that failed, and it is not emitted again."""
        for code, number in params:
            nonce = f"{code}:{number}"
            witness.write(witness.CLIENTS, "V", nonce)
            if _is_done(partial(tasks.app.trigger.emit_event, code, {"nonce": nonce})):
                witness.write(witness.CLIENTS, "W", nonce)
        self.number += 1

    def _choose(self) -> tuple[Any, list[tuple[Any, ...]]]:
        draw = self.random
        nonce = f"{self.name}.{self.number}"
        kinds = _DURABLE[self.number : self.number + 1] or draw.choices(_CHOICES, _WEIGHTS)
        return kinds[0](draw, nonce)

    def _submit(self, task: Any, params: Sequence[tuple[Any, ...]]) -> None:
        nonce = f"{self.name}.{self.number}"
        self.number += 1
        witness.write(witness.CLIENTS, "I", nonce, len(params))
        call = task.options(tags=(nonce,))
        accepted: list[str] = []

        def submit() -> None:
            invocations = [call(*params[0])] if len(params) == 1 else call.parallelize(params).invocations
            accepted.extend(str(invocation.invocation_id) for invocation in invocations)

        if _is_done(submit):
            witness.write(witness.CLIENTS, "A", nonce, *accepted)
            key = task.task_id.key
            self.errands += [Errand(key, each) for each in accepted] if key in workflows.ERRANDS else ()


class Errand(NamedTuple):
    """What somebody has to do for a workflow of a task."""

    task: str
    workflow: str

    def run(self) -> bool:
        """Whether it is done."""
        return workflows.ERRANDS[self.task](self.workflow)


def _is_done(call: Callable[[], object]) -> bool:
    """Whether the store has answered, and not that it is not yet done."""
    try:
        return call() is not False
    except StoreError as error:
        if not error.retryable:
            raise
        return False


def _orphans() -> list[Errand]:
    """What nobody did for certain. Who was cancelled may have children that were not, as the one who did it died."""
    seen = witness.read(Path(os.environ[witness.FOLDER]))
    done = seen.delivered | seen.cancelled.keys()
    open_ = [status for status in InvocationStatus if not status.is_final() or status is InvocationStatus.CANCELLED]
    found = tasks.app.find_invocations(tasks=tuple(workflows.ERRANDS), statuses=open_, limit=1000)
    return [Errand(each.task.task_id.key, each.invocation_id) for each in found if each.invocation_id not in done]


Choice = Callable[[random.Random, str], tuple[Any, list[tuple[Any, ...]]]]


def _batch(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.work, [(f"{nonce}.{number}",) for number in range(draw.randint(20, 120))]


def _single(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.work, [(nonce,)]


def _naps(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.nap, [(nonce, draw.random() * 0.15) for _ in range(draw.randint(20, 80))]


def _ones(draw: random.Random, _nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.one_at_a_time, [(f"one-{draw.randrange(CROWD)}", draw.random() * 0.01) for _ in range(5)]


def _threes(draw: random.Random, _nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.three_at_a_time, [(f"three-{draw.randrange(CROWD)}", draw.random() * 0.02) for _ in range(10)]


def _flaky(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.flaky, [(nonce,)] * 4


def _once(draw: random.Random, _nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.once, [(f"once-{draw.randrange(CROWD)}",)]


def _parent(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.parent, [(nonce, 3)]


def _poison(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return tasks.poison, [(nonce,)]


def _orders(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.order, [(nonce, draw.randint(2, 4)) for _ in range(8)]


def _trips(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.trip, [(nonce, draw.randint(1, 3)) for _ in range(5)]


def _relays(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.relay, [(nonce, workflows.ROUNDS, [])] * 5


def _forks(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.fork, [(nonce, draw.randint(2, 3)) for _ in range(5)]


def _reviews(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.review, [(nonce,)] * 4


def _vigils(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return workflows.vigil, [(nonce, draw.randint(2, 4)) for _ in range(4)]


def _events(*codes: str) -> Choice:
    """Events of these codes in turn."""
    return lambda draw, nonce: (
        None,
        [(code, f"{nonce}.{number}") for number in range(draw.randint(6, 12)) for code in codes],
    )


_notes, _pairs = _events(triggers.NOTE), _events(triggers.LEFT, triggers.RIGHT)
_bursts, _rushes = _events(triggers.BURST), _events(triggers.RUSH)


def _measures(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return triggers.measure, [(nonce, number) for number in range(draw.randint(10, 30))]


def _wavers(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return triggers.waver, [(nonce,)] * 4


#: What each client submits at first.
_DURABLE: tuple[Choice, ...] = (
    _orders,
    _trips,
    _relays,
    _forks,
    _notes,
    _measures,
    _wavers,
    _reviews,
    _vigils,
    _pairs,
    _bursts,
    _rushes,
)
#: What it submits then, and how often.
_CHOICES: tuple[Choice, ...] = (_batch, _single, _naps, _ones, _threes, _flaky, _once, _parent, _poison, *_DURABLE)
_WEIGHTS = (25, 10, 35, 12, 8, 5, 5, 5, 0.4, 6, 4, 3, 3, 7, 5, 3, 3, 3, 3, 2, 2)


if __name__ == "__main__":
    tasks.app.import_tasks()
    Client(sys.argv[1], int(sys.argv[2])).run(int(sys.argv[3]))
