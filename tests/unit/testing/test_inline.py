"""The inline runner of the testing kit: the real engine, step by step, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pynenc import Pynenc, RetryError
from pynenc.exceptions import ResultTimeoutError
from pynenc.testing import InlineRunner, VirtualClock

app = Pynenc(app_id="inline-kit", store="memory://")
order: list[str] = []


@app.task
def note(name: str) -> str:
    order.append(name)
    return name.upper()


@app.task(max_retries=3, retry_delay=60, retry_jitter=False)
def flaky(failures: int) -> int:
    order.append("try")
    if len(order) <= failures:
        raise RetryError("again")
    return len(order)


@app.task
def parent() -> list[str]:
    now, later = note("now"), note.options(delay=3600)("later")
    return [later.result, now.result]


@app.task
def leaves_some() -> str:
    note.options(delay=3600)("later")
    note.options(priority=-1)("low")
    return note("now").result


@app.task
async def async_parent() -> list[str]:
    calls = note.parallelize([("a",), ("b",)])
    return [await call.async_result() for call in calls]


@app.task
def half_way() -> list[float]:
    half_way.invocation.set_progress(1, 2)
    return [progress.done for progress in [half_way.invocation.progress] if progress]


@pytest.fixture
def runner() -> Iterator[InlineRunner]:
    order.clear()
    with InlineRunner(app) as runner:
        yield runner


def test_nothing_runs_before_it_is_drained(runner: InlineRunner) -> None:
    call = note("a")
    assert order == []
    assert call.status == "registered"
    assert runner.drain() == 1
    assert call.result == "A"
    assert runner.executed == 1


def test_progress_is_told(runner: InlineRunner) -> None:
    call = half_way()
    assert runner.result(call) == [1.0]
    assert call.progress is not None
    assert call.progress.total == 2.0


def test_what_is_delayed_runs_at_its_time_and_in_order(runner: InlineRunner) -> None:
    late, soon = note.options(delay=3600)("late"), note.options(delay=60)("soon")
    assert runner.drain() == 0
    assert runner.advance(59) == 0
    assert runner.advance(1) == 1
    assert soon.done()
    assert not late.done()
    assert runner.advance(10_000) == 1
    assert order == ["soon", "late"]
    row = app.store.get([late.invocation_id])[0]
    assert row.claimed == row.due


def test_retries_wait_on_the_virtual_clock(runner: InlineRunner) -> None:
    call = flaky(2)
    assert runner.drain() == 1
    assert call.status == "retry"
    assert runner.advance(60) == 1
    assert call.status == "retry"
    assert runner.advance(119) == 0
    assert runner.advance(1) == 1
    assert call.result == 3


def test_result_lets_the_time_pass_that_it_needs(runner: InlineRunner) -> None:
    before = runner.clock.now()
    assert runner.result(flaky(2)) == 3
    assert runner.clock.now() - before == 180_000_000


def test_result_has_a_limit(runner: InlineRunner) -> None:
    with pytest.raises(ResultTimeoutError):
        runner.result(note.options(delay=100)("x"), within=99)


def test_a_waiting_body_gets_what_it_waits_for(runner: InlineRunner) -> None:
    before = runner.clock.now()
    assert runner.result(parent()) == ["LATER", "NOW"]
    assert runner.clock.now() - before == 3_600_000_000


def test_a_waiting_body_runs_nothing_that_it_does_not_need(runner: InlineRunner) -> None:
    before = runner.clock.now()
    assert runner.result(leaves_some()) == "NOW"
    assert order == ["now"]
    assert runner.clock.now() == before
    assert runner.drain() == 1
    assert order == ["now", "low"]
    assert runner.advance(3600) == 1


def test_async_bodies_wait_too(runner: InlineRunner) -> None:
    assert runner.result(async_parent()) == ["A", "B"]


def test_it_can_be_used_from_an_async_test(runner: InlineRunner) -> None:
    async def main() -> object:
        return runner.result(async_parent())

    assert asyncio.run(main()) == ["A", "B"]


def test_time_cannot_pass_backwards(runner: InlineRunner) -> None:
    with pytest.raises(ValueError, match="backwards"):
        runner.advance(-1)


def test_a_clock_can_be_shared_and_the_app_gets_its_own_back() -> None:
    clock = VirtualClock(start=1_000_000)
    with InlineRunner(app, clock):
        assert app.store.clock is clock
    assert app.store.clock.now() > 1_600_000_000_000_000
    app.close()
