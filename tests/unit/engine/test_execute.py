"""How bodies end: whatever they raise is an outcome of their invocation, and no end of a worker."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from pynenc import Pynenc, RetryError, Task, context
from pynenc.core.duration import LONGEST
from pynenc.core.records import Progress
from pynenc.exceptions import InvocationCancelledError
from pynenc.invocation import BaseInvocation
from pynenc.testing import InlineRunner

app = Pynenc(app_id="ends", store="memory://")


@app.task(max_retries=1)
def asks_for(delay: Any) -> str:
    if asks_for.invocation.num_retries == 0:
        raise RetryError(delay=delay)
    return "again"


@app.task(max_retries=1)
def spoils() -> None:
    error = RetryError("later")
    error.delay = "soon"  # type: ignore[assignment]
    raise error


@app.task(max_retries=1)
async def async_spoils() -> None:
    error = RetryError("later")
    error.delay = "soon"  # type: ignore[assignment]
    raise error


@app.task(max_retries=1)
def retries_never() -> None:
    error = RetryError("later")
    error.delay = math.inf
    raise error


@app.workflow
def sleeps(seconds: float) -> None:
    sleeps.wf.sleep(seconds)


@app.workflow
async def async_sleeps(seconds: float) -> None:
    await async_sleeps.wf.async_sleep(seconds)


@app.task
def reports_file(name: bytes) -> str:
    reports_file.invocation.set_progress(1, 2, os.fsdecode(name))
    running = context.current()
    assert running is not None
    return msgspec.json.decode(msgspec.json.encode(running.progress), type=Progress).message


@app.task
def reports_number() -> None:
    reports_number.invocation.set_progress(1, 2, 3)  # type: ignore[arg-type]


@app.task
def gives_up() -> None:
    own = gives_up.invocation
    assert own.cancel()
    assert own.cancel_requested
    raise InvocationCancelledError("nothing to do", own.invocation_id)


@pytest.fixture
def runner() -> Iterator[InlineRunner]:
    with InlineRunner(app) as runner:
        yield runner


@pytest.mark.parametrize("delay", [60, "1m", timedelta(minutes=1)])
def test_a_retry_waits_as_long_as_it_asked_for(runner: InlineRunner, delay: object) -> None:
    before = runner.clock.now()
    assert runner.result(asks_for(delay)) == "again"
    assert runner.clock.now() - before == 60_000_000


@pytest.mark.parametrize("delay", [math.nan, math.inf, -1, 1e13])
def test_a_delay_that_makes_no_sense_is_an_error_of_the_body(runner: InlineRunner, delay: float) -> None:
    call = asks_for(delay)
    assert runner.drain() == 1
    with pytest.raises(ValueError, match="'delay' of RetryError"):
        call.result  # noqa: B018


@pytest.mark.parametrize("task", [spoils, async_spoils])
def test_an_end_that_cannot_be_worked_out_is_a_failure(runner: InlineRunner, task: Task[[], None]) -> None:
    call = task()
    assert runner.drain() == 1
    assert call.status == "failed"
    with pytest.raises(TypeError) as caught:
        call.result  # noqa: B018
    assert "later" in caught.value.remote_traceback  # type: ignore[union-attr]
    assert app.store.get([call.invocation_id])[0].reason == "how it ended could not be told"


@pytest.mark.parametrize(
    "call",
    [retries_never, partial(sleeps, 1e13), partial(sleeps, math.inf), partial(async_sleeps, 1e13)],
)
def test_a_wait_is_a_thousand_years_at_most(
    runner: InlineRunner, call: Callable[[], BaseInvocation[..., None]]
) -> None:
    waiting = call()
    assert runner.drain() == 1
    due = app.store.get([waiting.invocation_id])[0].due
    assert due - runner.clock.now() == LONGEST * 1_000_000


def test_a_file_name_that_cannot_be_decoded_can_be_told_as_progress(runner: InlineRunner) -> None:
    assert runner.result(reports_file(b"caf\xc3\xa9")) == "café"
    assert runner.result(reports_file(b"caf\xe9")) == r"caf\udce9"


def test_progress_that_is_no_text_is_an_error_of_the_body(runner: InlineRunner) -> None:
    with pytest.raises(TypeError, match="message of set_progress is text, not int"):
        runner.result(reports_number())


def test_a_body_can_cancel_itself(runner: InlineRunner) -> None:
    call = gives_up()
    with pytest.raises(InvocationCancelledError, match="was cancelled: on request"):
        runner.result(call)
    assert call.status == "cancelled"
