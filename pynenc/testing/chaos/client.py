"""A client of the chaos test: ``python -m pynenc.testing.chaos.client NAME SEED COUNT``.

Writes down what it is about to submit under a nonce (the tag of those invocations), submits, and writes down what was acknowledged. It emits events in the same
way, and sends the workflows that wait for it their signals, a little later. With a ``COUNT`` of 0 it does that for clients that are dead.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.testing.chaos import tasks, triggers, witness, workflows

#: Names of keys with a limit: few enough that there is a crowd behind each.
CROWD = 4


class Client:
    """Submits batches of mixed calls."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.number = 0
        #: Workflows that wait for a signal.
        self.unpaid: list[str] = []

    def run(self, count: int) -> None:
        """Submit about ``count`` invocations, a little at a time."""
        if count == 0:
            self.unpaid += _orphans()
        while count > 0:
            task, params = self._choose()
            if task is triggers.noted:
                self._emit(params)
            else:
                self._submit(task, params)
            count -= len(params)
            time.sleep(self.random.random() * 0.6)
            self._pay(len(self.unpaid) // 2)
        while self.unpaid:
            self._pay(len(self.unpaid))
            time.sleep(0.1)

    # -- signals and events ------------------------------------------------------------------------------------------------
    def _pay(self, count: int) -> None:
        """Send the next ``count`` signals; what may not have arrived is sent again later."""
        due, self.unpaid = self.unpaid[:count], self.unpaid[count:]
        for workflow in due:
            if not _is_done(partial(workflows.send, workflow, workflows.PAID)):
                self.unpaid.append(workflow)

    def _emit(self, params: Sequence[tuple[Any, ...]]) -> None:
        """Emit an event for each; nobody knows about one that failed, and it is not emitted again."""
        for (nonce,) in params:
            witness.write(witness.CLIENTS, "V", nonce)
            if _is_done(partial(tasks.app.trigger.emit_event, triggers.NOTE, {"nonce": nonce})):
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
            self.unpaid += accepted if task is workflows.order else ()


def _is_done(call: Callable[[], object]) -> bool:
    """Whether the store has answered."""
    try:
        call()
    except StoreError as error:
        if not error.retryable:
            raise
        return False
    return True


def _orphans() -> list[str]:
    """The workflows that wait for a signal which nobody sent for certain."""
    delivered = witness.read(Path(os.environ[witness.FOLDER])).delivered
    unfinished = [status for status in InvocationStatus if not status.is_final()]
    found = tasks.app.find_invocations(tasks=workflows.order.task_id.key, statuses=unfinished, limit=1000)
    return [str(each.invocation_id) for each in found if each.invocation_id not in delivered]


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


def _notes(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return triggers.noted, [(f"{nonce}.{number}",) for number in range(draw.randint(10, 20))]


def _measures(draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return triggers.measure, [(nonce, number) for number in range(draw.randint(10, 30))]


def _wavers(_draw: random.Random, nonce: str) -> tuple[Any, list[tuple[Any, ...]]]:
    return triggers.waver, [(nonce,)] * 4


#: What each client submits at first.
_DURABLE: tuple[Choice, ...] = (_orders, _trips, _relays, _forks, _notes, _measures, _wavers)
#: What it submits then, and how often.
_CHOICES: tuple[Choice, ...] = (_batch, _single, _naps, _ones, _threes, _flaky, _once, _parent, _poison, *_DURABLE)
_WEIGHTS = (25, 10, 35, 12, 8, 5, 5, 5, 0.4, 6, 4, 3, 3, 5, 5, 3)


if __name__ == "__main__":
    tasks.app.import_tasks()
    Client(sys.argv[1], int(sys.argv[2])).run(int(sys.argv[3]))
