"""Development mode: what runs when, and how far its clock is moved for that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pynenc import Pynenc, RetryError
from pynenc.core.records import QueueState
from pynenc.exceptions import ResultTimeoutError
from pynenc.invocation import BaseInvocation

app = Pynenc(app_id="inline-development", store="memory://", dev_mode_force_sync_tasks=True)
order: list[str] = []
HOUR = 3600


@app.task
def note(name: str) -> str:
    order.append(name)
    return name.upper()


@app.task(max_retries=1, retry_delay=HOUR, retry_jitter="none")
def second_time() -> str:
    if second_time.invocation.num_retries == 0:
        raise RetryError("not yet")
    return note.func("second")


@app.task
def plan(waits: bool, *delays: float) -> list[BaseInvocation[..., str]]:
    """Schedules calls, and waits for another one if it is asked to."""
    planned = [note.options(delay=delay)(f"in {delay:g}") for delay in delays]
    if waits:
        order.append(note("now").result)
    return planned


@app.task
def wait_for_last(*delays: float) -> str:
    return plan.func(False, *delays)[-1].result


@app.task
async def wait_for_last_async(*delays: float) -> str:
    return await plan.func(False, *delays)[-1].async_result()


@app.task
def wait_for_paused() -> str:
    every_hour.options(delay=HOUR)()
    return note.options(queue="paused", delay=HOUR)("paused").get_result(timeout=0.01)


@app.task
def every_hour() -> None:
    order.append("hour")
    every_hour.options(delay=HOUR)()


@app.task(running_concurrency="task")
def one_at_a_time(children: int) -> None:
    every_hour.options(delay=HOUR)()
    for _ in range(children):
        one_at_a_time(0)
    order.append(f"parent of {children}")


@app.task
def wait_for(invocation: BaseInvocation[..., str]) -> str:
    return invocation.result


@app.task
async def wait_for_async(invocation: BaseInvocation[..., str]) -> str:
    return await invocation.async_result()


@app.task
def called_by_what_it_waits_for(is_async: bool) -> str:
    child = (wait_for_async if is_async else wait_for)(called_by_what_it_waits_for.invocation)
    return type(child.exception).__name__


@app.workflow
def flow_that_waits_for(invocation: BaseInvocation[..., Any]) -> Any:
    return invocation.result


@app.task
def starts_what_waits_for_it() -> BaseInvocation[..., Any]:
    return flow_that_waits_for(starts_what_waits_for_it.invocation)


@app.task(running_concurrency="task")
def holds_its_key(has_child: bool) -> str:
    return type(waits_for_the_key().exception).__name__ if has_child else "free"


@app.task
def waits_for_the_key() -> str:
    return holds_its_key(False).result


@app.task(rate_limit="1/h")
def rare() -> None:
    order.append("rare")


@app.task
def twice_rare() -> None:
    rare()
    rare()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    order.clear()
    yield
    app.close()


def passed(since: int) -> float:
    """Hours on the clock of the store since a time, without what the test itself took."""
    return round((app.store.clock.now() - since) / 1e6 / HOUR, 1)


def test_a_call_of_the_program_runs_at_once_whatever_its_delay() -> None:
    now = app.store.clock.now()
    assert note.options(delay=HOUR)("a").done()
    assert passed(now) == 1.0


def test_retries_are_not_waited_for() -> None:
    assert second_time().result == "SECOND"


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_body_schedules_for_later_stays_until_it_is_asked_for(waits: bool) -> None:
    now = app.store.clock.now()
    (planned,) = plan(waits, 24 * HOUR).result
    assert not planned.done()
    assert "in 86400" not in order
    assert passed(now) == 0.0
    assert planned.result == "IN 86400"
    assert passed(now) == 24.0


def test_what_a_body_schedules_can_be_awaited_on_a_loop() -> None:
    (planned,) = plan(False, HOUR).result
    assert asyncio.run(_result(planned)) == "IN 3600"


async def _result(invocation: BaseInvocation[..., str]) -> str:
    return await invocation.async_result()


@pytest.mark.parametrize("task", [wait_for_last, wait_for_last_async])
def test_a_waiting_body_lets_as_much_time_pass_as_that_needs(task: object) -> None:
    now = app.store.clock.now()
    assert task(24 * HOUR, HOUR, 2 * HOUR).result == "IN 7200"  # type: ignore[operator]
    assert order == ["in 3600", "in 7200"], "what is due before runs before, what is due later does not"
    assert passed(now) == 2.0


def test_what_is_due_runs_with_the_next_call() -> None:
    (planned,) = plan(False, HOUR).result
    second_time()
    assert planned.done()
    assert order == ["in 3600", "second"]


def test_a_task_that_schedules_itself_does_not_go_on_for_ever() -> None:
    every_hour()
    assert order == ["hour"]
    assert second_time().result == "SECOND"
    assert order.count("hour") == 2


def test_a_wait_that_no_time_can_end_lets_no_time_pass_beyond_what_is_awaited() -> None:
    app.store.set_queue("paused", QueueState.PAUSED)
    with pytest.raises(ResultTimeoutError):
        _ = wait_for_paused().result
    assert order == ["hour"]


def test_what_its_caller_blocks_runs_after_it_and_time_stands_still() -> None:
    now = app.store.clock.now()
    one_at_a_time(2)
    assert order == ["parent of 2", "parent of 0", "parent of 0"]
    assert passed(now) == 0.0


def test_a_rate_is_kept_on_the_moved_clock() -> None:
    now = app.store.clock.now()
    twice_rare()
    assert order == ["rare", "rare"]
    assert passed(now) == 1.0


@pytest.mark.parametrize("is_async", [False, True])
def test_what_waits_for_its_caller_is_refused_as_that_waits_for_it(is_async: bool) -> None:
    assert called_by_what_it_waits_for(is_async).result == "CycleDetectedError"


def test_what_waits_for_a_key_of_its_caller_is_refused_too() -> None:
    assert holds_its_key(True).result == "CycleDetectedError"


def test_a_workflow_that_waits_for_its_caller_goes_on_when_that_has_ended() -> None:
    started = starts_what_waits_for_it()
    assert started.result.result == started.result
