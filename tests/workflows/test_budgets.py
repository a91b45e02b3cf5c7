"""What durable operations cost: transactions for each of them, and what a replay reads and needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynenc.core.status import InvocationStatus
from pynenc.runner.inline import InlineSlot
from pynenc.testing import InlineRunner
from tests.workflows.apps import shop

STEPS = 100


@pytest.fixture
def writes(tmp_path: Path) -> Iterator[tuple[InlineRunner, Counter[str]]]:
    shop.app.close()
    shop.app.conf.store = f"sqlite:///{tmp_path / 'wf.db'}"
    with InlineRunner(shop.app) as runner:
        counts: Counter[str] = Counter()
        store = shop.app.store
        for name in ("submit", "claim", "finish", "remember", "amend", "watch"):
            method = getattr(store, name)

            def counted(*args, _method=method, _name=name, **kwargs):
                counts[_name] += 1
                return _method(*args, **kwargs)

            setattr(store, name, counted)
        yield runner, counts
    shop.app.conf.store = "memory://"


def test_a_step_is_one_transaction(writes):
    runner, counts = writes
    invocation = shop.steps(STEPS)
    counts.clear()
    runner.drain()
    assert invocation.status is InvocationStatus.SUCCESS
    assert counts == {"remember": STEPS, "claim": counts["claim"], "finish": 1}
    assert counts.total() <= STEPS + 5


def test_a_call_is_two_transactions(writes):
    runner, counts = writes
    invocation = shop.only_calls(STEPS)
    counts.clear()
    runner.drain()
    assert invocation.status is InvocationStatus.SUCCESS
    assert (counts["submit"], counts["remember"], counts["watch"]) == (STEPS, STEPS, 0)


def test_a_batch_is_two_transactions(writes):
    runner, counts = writes
    shop.fan_out(STEPS)
    counts.clear()
    runner.drain()
    assert (counts["submit"], counts["remember"]) == (1, 1)


def test_a_wait_begins_however_slow_the_machine_is(writes, monkeypatch):
    monkeypatch.setattr(InlineSlot, "patience", 1e-9)
    test_a_batch_is_two_transactions(writes)


def test_random_numbers_are_not_written(writes):
    runner, counts = writes
    invocation = shop.only_draws(STEPS)
    counts.clear()
    runner.drain()
    assert invocation.status is InvocationStatus.SUCCESS
    assert counts["remember"] == 0
