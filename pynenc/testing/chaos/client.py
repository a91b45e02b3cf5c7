"""A client of the chaos test: ``python -m pynenc.testing.chaos.client NAME SEED COUNT``.

Writes down what it is about to submit under a nonce (the tag of those invocations), submits, and writes down what was acknowledged.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pynenc.exceptions import StoreError
from pynenc.testing.chaos import tasks, witness

#: Names of keys with a limit: few enough that there is a crowd behind each.
CROWD = 4


class Client:
    """Submits batches of mixed calls."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.number = 0

    def run(self, count: int) -> None:
        """Submit about ``count`` invocations, a little at a time."""
        while count > 0:
            task, params = self._choose()
            self._submit(task, params)
            count -= len(params)
            time.sleep(self.random.random() * 0.6)

    def _choose(self) -> tuple[Any, list[tuple[Any, ...]]]:
        draw = self.random
        nonce = f"{self.name}.{self.number}"
        (kind,) = draw.choices(_CHOICES, _WEIGHTS)
        return kind(draw, nonce)

    def _submit(self, task: Any, params: Sequence[tuple[Any, ...]]) -> None:
        nonce = f"{self.name}.{self.number}"
        self.number += 1
        witness.write(witness.CLIENTS, "I", nonce, len(params))
        call = task.options(tags=(nonce,))
        try:
            invocations = [call(*params[0])] if len(params) == 1 else call.parallelize(params).invocations
        except StoreError as error:
            if not error.retryable:
                raise
        else:
            witness.write(witness.CLIENTS, "A", nonce, *(invocation.invocation_id for invocation in invocations))


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


_CHOICES: tuple[Choice, ...] = (_batch, _single, _naps, _ones, _threes, _flaky, _once, _parent, _poison)
_WEIGHTS = (25, 10, 35, 12, 8, 5, 5, 5, 0.4)


if __name__ == "__main__":
    Client(sys.argv[1], int(sys.argv[2])).run(int(sys.argv[3]))
