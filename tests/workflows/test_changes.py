"""What a run did before binds what it does now, also where an operation has begun and not ended."""

from __future__ import annotations

import asyncio
import time
from threading import Event, Thread
from typing import Any

import pytest

from pynenc import Pynenc, context
from pynenc.exceptions import InvocationCancelledError, NonDeterminismError
from pynenc.testing import InlineRunner
from pynenc.workflow import check

app = Pynenc(app_id="changes", store="memory://")
#: Whether the code has been changed.
changed: list[int] = []
seen: list[Any] = []


@pytest.fixture
def runner():
    changed.clear()
    seen.clear()
    with InlineRunner(app) as runner:
        yield runner


@app.task
def one() -> int:
    return 1


@app.task
def notify(number: int) -> int:
    return number


# -- code that has changed ---------------------------------------------------------------------------------------------
@app.workflow
def swaps() -> Any:
    wf = swaps.wf
    return wf.wait_signal("sig", timeout=3600) if changed else wf.pause("old")


@app.workflow
def asks_first() -> Any:
    wf = asks_first.wf
    if changed and wf.patched("ask first"):
        seen.append("an old run takes the new path")
    return wf.pause("approve")


@app.workflow
def behind_a_child() -> Any:
    child = one.options(delay=100)()
    if changed and behind_a_child.wf.patched("later"):
        seen.append("an old run takes the new path")
    return child.result


@app.workflow
def ends_early() -> str:
    wf = ends_early.wf
    wf.step(len, "a")
    if changed:
        return "ended early"
    wf.step(len, "b")
    wf.sleep(5)
    return "whole"


def problem_of(invocation: Any) -> str:
    return check.check(app.scratch_engine(), check.tell(app.engine, invocation.invocation_id)).problem


def test_another_operation_in_the_place_of_one_that_waits(runner: InlineRunner) -> None:
    invocation = swaps()
    runner.drain()
    changed.append(1)
    assert "asks for 'wait_signal sig'" in problem_of(invocation)
    invocation.resume("yes")
    with pytest.raises(NonDeterminismError, match=r"asks for 'wait_signal sig'.*recorded is 'pause'"):
        runner.result(invocation)


@pytest.mark.parametrize(("flow", "result"), [(asks_first, "yes"), (behind_a_child, 1)], ids=["pause", "child"])
def test_a_run_that_waits_where_a_change_comes_goes_the_old_way(runner: InlineRunner, flow: Any, result: Any) -> None:
    invocation = flow()
    runner.drain()
    changed.append(1)
    assert problem_of(invocation) == ""
    invocation.resume("yes")
    assert runner.result(invocation) == result
    assert seen == []


def test_a_body_that_ends_before_what_it_did(runner: InlineRunner) -> None:
    invocation = ends_early()
    runner.drain()
    changed.append(1)
    with pytest.raises(NonDeterminismError, match="returns, but recorded is 'step len' at position 00000002"):
        runner.result(invocation)


# -- steps ---------------------------------------------------------------------------------------------------------------
def draw() -> float:
    return draws.wf.random()


@app.workflow
def draws() -> float:
    draws.wf.step(draw)
    return 0.0


def test_numbers_are_not_drawn_in_a_step(runner: InlineRunner) -> None:
    with pytest.raises(Exception, match=r"a step cannot use task\.wf"):
        runner.result(draws())


def flaky() -> int:
    seen.append("step")
    if len(seen) == 1:
        raise ConnectionError("once")
    return len(seen)


@app.workflow
async def survives() -> list[int]:
    got = await asyncio.gather(*(survives.wf.async_step(flaky) for _ in range(2)), return_exceptions=True)
    calls = [notify(value) for value in got if not isinstance(value, BaseException)]
    await survives.wf.async_sleep(5)
    return [await call.async_result() for call in calls]


def test_a_step_that_failed_in_a_branch_is_remembered_when_others_go_on(runner: InlineRunner) -> None:
    assert runner.result(survives()) == [2]
    assert seen == ["step", "step"]


# -- asyncio beside durable operations -------------------------------------------------------------------------------------
@app.workflow
async def in_time() -> str:
    try:
        return str(await asyncio.wait_for(in_time.wf.async_wait_signal("go"), timeout=0.2))
    except TimeoutError:
        return "timed out"


@app.workflow
async def in_time_on_a_loop_that_stands_still() -> str:
    asyncio.get_running_loop().call_later(0.15, time.sleep, 0.1)
    return await in_time.func()


@app.workflow(timeout=3600)
async def sleeps_for_long() -> list[Any]:
    return list(await asyncio.gather(sleeps_for_long.wf.async_sleep(7200), one().async_result()))


def test_the_limit_of_an_attempt_does_not_keep_it_in_memory(runner: InlineRunner) -> None:
    assert runner.result(sleeps_for_long()) == [None, 1]


@app.workflow
async def polls() -> int:
    stop = asyncio.create_task(polls.wf.async_wait_signal("stop"))
    for number in range(3):
        await asyncio.sleep(0.05)
        seen.append(number)
    await stop
    return len(seen)


@pytest.fixture
def threads():
    """A real runner: what asyncio does takes its time."""
    seen.clear()
    app.close()
    app.conf.runner_cls = "ThreadRunner"
    app.runner = None  # type: ignore[assignment]
    thread = Thread(target=app.runner.run, daemon=True)
    thread.start()
    yield
    app.runner.stop_runner_loop()
    thread.join(60)
    app.close()


def test_a_timeout_of_asyncio_ends_a_durable_wait(threads: None) -> None:
    assert in_time().get_result(60) == "timed out"


def test_a_timeout_that_comes_late_is_not_overlooked(threads: None) -> None:
    assert in_time_on_a_loop_that_stands_still().get_result(20) == "timed out"


def test_what_a_body_does_between_its_branches_is_not_cut_off(threads: None) -> None:
    invocation = polls()
    deadline = time.monotonic() + 60
    while invocation.status != "paused":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert seen == [0, 1, 2]
    invocation.signal("stop")
    assert invocation.get_result(60) == 6


# -- cancelling ------------------------------------------------------------------------------------------------------------
began = Event()


@app.workflow
def charges() -> str:
    charges.wf.step(len, "a")
    began.set()
    running = context.current()
    deadline = time.monotonic() + 60
    while running is not None and not running.cancel_requested and time.monotonic() < deadline:
        time.sleep(0.005)
    for number in range(3):
        notify(number)
    return "done"


def test_a_cancelled_workflow_makes_no_further_call(threads: None) -> None:
    invocation = charges()
    assert began.wait(60)
    assert invocation.cancel()
    with pytest.raises(InvocationCancelledError):
        invocation.get_result(60)
    assert app.find_invocations(tasks=notify.task_id.key) == []
