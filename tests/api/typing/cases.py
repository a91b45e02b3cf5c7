"""What type checkers see of the public API: read by mypy --strict and pyright in strict mode, never run.

``assert_type`` states what a call gives. A line with an ignore comment must be an error: both checkers complain about an
ignore that hides nothing, so a check that got lost fails.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type

from pynenc import ConcurrencyControlType, InvocationStatus, Pynenc, PynencBuilder, RetryError, Task
from pynenc.arguments import Arguments
from pynenc.invocation import BaseInvocation, BaseInvocationGroup

app = Pynenc(app_id="typing", store="memory://")
built = PynencBuilder().app_id("typing").memory().build()
assert_type(built, Pynenc)


# -- a task keeps the signature of its function ---------------------------------------------------------------------------
@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(
    max_retries=3, retry_for=(ValueError, RetryError), running_concurrency=ConcurrencyControlType.TASK, queue="fast"
)
def shout(text: str, *, times: int = 1) -> list[str]:
    return [text.upper()] * times


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task(timeout=1.5)
async def fetch_soon(url: str) -> bytes:
    return url.encode()


@app.workflow
def approve(order: int) -> str | None:
    return approve.wf.identity.workflow_id if order else None


assert_type(add(1, 2).result, int)
assert_type(add(1).get_result(timeout=1.0), int)
assert_type(shout("x", times=2).result, list[str])
assert_type(approve(1).result, str | None)

add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
add(1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
add()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
shout("x", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
approve("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# -- async tasks give the awaited value -----------------------------------------------------------------------------------
assert_type(fetch("u").result, bytes)
assert_type(fetch_soon("u").result, bytes)


async def in_a_loop() -> None:
    assert_type(await fetch("u").async_result(), bytes)
    invocation = await add.async_call(1, 2)
    assert_type(await invocation.async_result(), int)
    async for value in add.parallelize([(1, 2)]).async_results():
        assert_type(value, int)
    await add.async_call("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- options of a call keep the type --------------------------------------------------------------------------------------
soon = add.options(delay=5.0, priority=1.0, queue="fast", timeout=3.0, key="k", tags=("a",))
assert_type(soon(1, 2).result, int)
add.options(run_at=datetime(2030, 1, 1, tzinfo=UTC))(1, 2)
soon("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
add.options(delya=5.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
app.task(max_retires=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
app.task(max_retries="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# -- groups ---------------------------------------------------------------------------------------------------------------
group = add.parallelize([(1, 2), {"x": 1}, add.args(1, y=2)], common_args=None)
assert_type(group.results, Iterator[int])
assert_type(add.map([1, 2, 3]).results, Iterator[int])
for each in group.as_completed():
    assert_type(each.result, int)
assert_type(add.args(1, 2), Arguments)
add.args("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- direct tasks give the value itself -----------------------------------------------------------------------------------
@app.direct_task
def double(x: int) -> int:
    return 2 * x


@app.direct_task
async def double_later(x: int) -> int:
    return 2 * x


def halves(arguments: dict[str, Any]) -> list[tuple[list[int]]]:
    numbers: list[int] = arguments["numbers"]
    return [(numbers[::2],), (numbers[1::2],)]


@app.direct_task(parallel_func=halves, aggregate_func=sum, max_retries=1)
def total(numbers: list[int]) -> int:
    return sum(numbers)


assert_type(double(2), int)
assert_type(total([1, 2, 3]), int)
double("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def direct_in_a_loop() -> None:
    assert_type(await double_later(2), int)


# -- handles are generic, and can be named in annotations -----------------------------------------------------------------
def wait_for(invocation: BaseInvocation[..., int]) -> int:
    return invocation.result


def wait_for_all(invocations: BaseInvocationGroup[..., int]) -> list[int]:
    return list(invocations.results)


def call_twice(task: Task[[int, int], int]) -> tuple[int, int]:
    return task(1, 2).result, task(3, 4).result


def later(function: Callable[[int], Awaitable[int]]) -> Awaitable[int]:
    return function(1)


wait_for(add(1, 2))
wait_for_all(group)
later(double_later)
wait_for(shout("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(add(1, 2).status, InvocationStatus)
assert_type(add(1, 2).wait(1.0), bool)
assert_type(add(1, 2).cancel(), bool)
