"""Tasks that the integration tests run, on whatever store the environment or a fixture chooses."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pynenc.context
from pynenc import ConcurrencyControlType, Pynenc, RetryError, Secret, Task

app = Pynenc(app_id="basic", store="memory://")

KEYS = ConcurrencyControlType.KEYS


@dataclass
class Point:
    x: int
    y: int


class ShopError(Exception):
    pass


@app.task
def add(x: int, y: int = 10) -> int:
    return x + y


@app.task
def everything(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> list[object]:
    return [a, b, list(rest), c, more]


@app.task
def move(point: Point, by: int) -> Point:
    return Point(point.x + by, point.y + by)


@app.task
async def async_add(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


@app.task
def fail(text: str) -> None:
    raise ShopError(text)


@app.task
def fail_builtin(text: str) -> None:
    raise KeyError(text)


@app.task(max_retries=3)
def flaky(path: str, failures: int) -> int:
    count = note(path)
    if count <= failures:
        raise RetryError(f"attempt {count}")
    return count


@app.task(retry_for=(ShopError,), max_retries=2)
def flaky_shop(path: str) -> None:
    note(path)
    raise ShopError("always")


@app.task(max_retries=1)
def retry_with_delay(path: str, delay: float) -> int:
    if note(path) == 1:
        raise RetryError("later", delay=delay)
    return 2


@app.task
def fib(n: int) -> int:
    if n < 2:
        return n
    left, right = fib(n - 1), fib(n - 2)
    return left.result + right.result


@app.task
def fib_group(n: int) -> int:
    return n if n < 2 else sum(fib_group.parallelize([(n - 1,), (n - 2,)]).results)


@app.task
async def async_fib(n: int) -> int:
    if n < 2:
        return n
    left, right = async_fib(n - 1), async_fib(n - 2)
    return await left.async_result() + await right.async_result()


@app.task(inline=True)
def inline_thread() -> int:
    return threading.get_ident()


@app.task
def parent_of_inline() -> bool:
    return inline_thread().result == threading.get_ident()


@app.task(inline=True, max_retries=1)
def inline_flaky(path: str) -> int:
    return flaky.func(path, 1)


@app.task
def parent_of_flaky(path: str) -> int:
    return flaky(path, 1).result


@app.task
def parent_of_inline_flaky(path: str) -> int:
    return inline_flaky(path).result


@app.task
def parent_of_one(index: int) -> int:
    return add(index, 0).result


@app.task
async def waits_in_two_threads(done: str) -> None:
    """And then for ever."""
    first, second = sleeps(0.02), sleeps(0.05)
    one = asyncio.create_task(asyncio.to_thread(lambda: first.result))
    await asyncio.to_thread(lambda: second.result)
    await one
    await asyncio.to_thread(Path(done).touch)
    await asyncio.sleep(3600)


@app.task
def sleeps(seconds: float) -> None:
    time.sleep(seconds)


@app.task(running_concurrency=ConcurrencyControlType.TASK)
def serial(path: str, name: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"+{name}\n")
    time.sleep(0.002)
    with Path(path).open("a") as file:
        file.write(f"-{name}\n")


@app.task(running_concurrency=KEYS, key_arguments=("key",), running_limit=2)
def two_at_once(path: str, key: str, name: str) -> None:
    serial.func(path, f"{key}:{name}")


@app.task(registration_concurrency=ConcurrencyControlType.ARGUMENTS)
def registered_once(x: int) -> int:
    return x


@app.task(registration_concurrency=KEYS, key_arguments=("user",), on_diff_non_key_args_raise=True)
def per_user(user: int, text: str) -> str:
    return text


@app.task(running_concurrency=ConcurrencyControlType.TASK, reroute_on_concurrency_control=False)
def dropped(path: str) -> str:
    wait_for(path)
    return "ran"


@app.task(running_concurrency=ConcurrencyControlType.TASK)
def holds_key_and_waits(depth: int) -> int:
    return holds_key_and_waits(depth - 1).result if depth else 0


@app.task
def wait_for_parent(invocation_id: str) -> object:
    return app.get_invocation(invocation_id).result


@app.task
def waits_in_a_circle() -> object:
    return wait_for_parent(waits_in_a_circle.invocation.invocation_id).result


@app.task
def wait_until(path: str) -> str:
    wait_for(path)
    return "seen"


@app.task
def closes_its_app() -> None:
    app.close()


@app.task
def obeys_cancel(started: str) -> str:
    Path(started).touch()
    while not obeys_cancel.invocation.cancel_requested:
        time.sleep(0.005)
    from pynenc.exceptions import InvocationCancelledError

    raise InvocationCancelledError("stopped as asked")


@app.task
async def async_sleeper(started: str) -> None:
    Path(started).touch()  # noqa: ASYNC240  # a signal to the test
    await asyncio.sleep(3600)


@app.task(timeout=0.2)
def too_slow() -> None:
    while True:
        time.sleep(0.005)


@app.task(timeout=0.2)
async def async_too_slow() -> None:
    await asyncio.sleep(3600)


@app.task
def exits(code: int) -> None:
    os._exit(code)


@app.task
def segfaults() -> None:
    ctypes.string_at(0)


@app.task
async def async_exits() -> None:
    os._exit(4)


@app.task
async def async_pid() -> int:
    return os.getpid()


@app.task
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(on_crash="fail")
def at_most_once(path: str) -> None:
    note(path)
    os._exit(3)


@app.task
def system_exit() -> None:
    sys.exit(3)


@app.task
def pid_of_runner() -> int:
    return os.getpid()


@app.task
def in_thread() -> bool:
    seen: list[object] = []
    thread = threading.Thread(target=pynenc.context.wrap(lambda: seen.append(in_thread.invocation)))
    thread.start()
    thread.join()
    return seen == [in_thread.invocation]


@app.task
async def in_to_thread() -> bool:
    return await asyncio.to_thread(lambda: in_to_thread.invocation) == in_to_thread.invocation


@app.task
def takes_invocation(other: object) -> object:
    return other.result  # type: ignore[attr-defined]


@app.task
def changes_its_argument(values: list[int]) -> list[int]:
    values.append(len(values))
    return values


@app.task
def measure(text: str, index: int) -> int:
    return len(text) + index


@app.task
def reports_progress(path: str) -> None:
    reports_progress.invocation.set_progress(3, 10, "counting")
    wait_for(path)


@app.task(call_result_cache=True)
def cached(path: str) -> int:
    return note(path)


@app.task
def store_data(value: dict[str, int]) -> dict[str, int]:
    store_data.wf.set_data("shared", value)
    return read_data().result


@app.task
def read_data() -> dict[str, int]:
    found: dict[str, int] = read_data.wf.get_data("shared")
    return {**found, "missing": read_data.wf.get_data("nothing", -1)}


@app.task
def workflow_of_child() -> tuple[str, str]:
    own: Task[..., str] = workflow_id
    return workflow_of_child.wf.identity.workflow_id, own().result


@app.task
def workflow_id() -> str:
    return workflow_id.wf.identity.workflow_id


@app.workflow
def durable(number: int) -> list[object]:
    wf = durable.wf
    first = wf.step(pow, 2, number)
    wf.sleep(0.2)
    return [first, add(number, 1).result, wf.wait_signal("go")]


@app.workflow
def sub_workflow() -> tuple[str, str | None]:
    identity = sub_workflow.wf.identity
    return identity.workflow_id, identity.parent_workflow_id


@app.task
def starts_sub_workflow() -> tuple[str, tuple[str, str | None]]:
    return starts_sub_workflow.invocation.invocation_id, sub_workflow().result


@app.direct_task
def direct_add(x: int, y: int) -> int:
    return x + y


@app.direct_task
async def direct_async_add(x: int, y: int) -> int:
    return x + y


def _split(arguments: dict[str, object]) -> list[dict[str, object]]:
    return [{"numbers": [number]} for number in arguments["numbers"]]  # type: ignore[attr-defined]


@app.direct_task(parallel_func=_split, aggregate_func=sum)
def direct_sum(numbers: list[int]) -> int:
    return sum(numbers)


def note(path: str) -> int:
    """Append a byte to a witness file; how many there are now."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, b".")
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def wait_for(path: str) -> None:
    """Block until a file exists."""
    while not Path(path).exists():
        time.sleep(0.005)


# -- runners that stop, die and are replaced -------------------------------------------------------------------------------
@app.task
def runs_until(path: str, started: str) -> int:
    """Say that it started, and by whom; end when a file appears."""
    note_line(started, str(os.getpid()))
    wait_for(path)
    return os.getpid()


@app.task
async def async_runs_until(path: str, started: str) -> int:
    note_line(started, str(os.getpid()))
    while not exists(path):  # noqa: ASYNC110  # a file is all that another process can touch
        await asyncio.sleep(0.005)
    return os.getpid()


@app.task
def ignores_everything(started: str) -> None:
    """Sleep in C, where no exception reaches it."""
    note_line(started, str(os.getpid()))
    time.sleep(3600)


@app.task(timeout=0.1)
def ignores_its_timeout(started: str) -> None:
    note_line(started, str(os.getpid()))
    time.sleep(3600)


@app.task(timeout=0.2)
def cleans_up_in_time(cleaned: str) -> None:
    try:
        while True:
            try:
                time.sleep(0.005)
            except Exception:  # not what a timeout raises
                pass
    finally:
        Path(cleaned).touch()


@app.task
def waits_for(path: str, started: str) -> str:
    inner = wait_until(path)
    note_line(started, inner.invocation_id)
    return inner.result


@app.task
def waits_for_closed_queue(started: str) -> int:
    inner = add.options(queue="closed")(1, 2)
    note_line(started, inner.invocation_id)
    return inner.result


@app.task(timeout=0.2)
def waits_too_long(path: str) -> str:
    return wait_until(path).result


@app.task
def eats_memory(megabytes: int) -> int:
    """Keep so much memory; the operating system may have something against it."""
    KEPT.append(bytearray(megabytes * 2**20))
    for at in range(0, len(KEPT[-1]), 4096):
        KEPT[-1][at] = 1
    return os.getpid()


@app.task
def runs_out_of_memory() -> None:
    """Die as under a memory limit: the kernel sends SIGKILL to the process."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    try:
        bytearray(2**33)
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


KEPT: list[bytearray] = []


exists = os.path.exists


def note_line(path: str, line: str) -> None:
    """Append a line to a witness file."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


# -- control -----------------------------------------------------------------------------------------------------------------
@app.task(running_concurrency=ConcurrencyControlType.ARGUMENTS)
def one_per_arguments(path: str, name: str) -> None:
    serial.func(path, name)


@app.task(rate_limit="3/s")
def rated(path: str) -> float:
    note(path)
    return time.time()


@app.task(rate_limit="1/h", key_arguments=("user",))
def rated_per_user(user: str) -> str:
    return user


@app.task(retry_for=(ShopError,), max_retries=3, retry_delay=0.1, retry_backoff=2.0, retry_jitter="none")
def backs_off(path: str) -> None:
    note(path)
    raise ShopError("always")


@app.task(retry_for=(ShopError,), max_retries=4, retry_delay=0.1, retry_backoff=1.0)
def jitters(path: str) -> None:
    note(path)
    raise ShopError("always")


@app.task(retry_for=(TimeoutError,), max_retries=1, timeout=0.1)
def retried_after_its_timeout(path: str) -> int:
    if note(path) == 1:
        while True:
            time.sleep(0.005)
    return 2


@app.task
def record(path: str, name: str) -> None:
    note_line(path, name)


@app.task(expires=0.05)
def expires_soon() -> None: ...


@app.task(aliases=("tests.integration.apps.basic.old_name",))
def new_name(x: int) -> int:
    return x + 1


@app.task(queue="nobody")
def served_by_nobody() -> None: ...


# -- arguments ---------------------------------------------------------------------------------------------------------------
@app.task(disable_cache_args=("text",))
def measure_inline(text: str) -> int:
    return len(text)


@app.task(redact=("pin",))
def with_pin(pin: str, iban: str, user: str) -> str:
    raise ShopError(f"{user} failed")


@app.task(redact=("pin",))
def logs_a_pin(pin: str) -> str:
    """A line of JSON as a runner writes it."""
    from pynenc.logs import JsonFormatter

    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "hello", None, None)
    record.card = {"PIN": pin}
    return JsonFormatter(pynenc.context.secret_names).format(record)


@app.task
def with_secret(password: Secret[str]) -> str:
    return password.reveal()


@app.task
def big_result(size: int) -> str:
    return "x" * size


@app.task(result_ttl=0.01)
def soon_forgotten() -> int:
    return 1


@app.task
def logs_a_line(path: str) -> dict[str, object]:
    """The fields that the log lines of a body carry, also from a thread of its own."""
    import logging

    from pynenc.context import log_fields
    from pynenc.logs import ContextFilter

    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Keep()
    handler.addFilter(ContextFilter(log_fields))
    logs_a_line.logger.addHandler(handler)
    try:
        thread = threading.Thread(target=pynenc.context.wrap(lambda: logs_a_line.logger.warning("hello")))
        thread.start()
        thread.join()
    finally:
        logs_a_line.logger.removeHandler(handler)
    return {name: getattr(seen[0], name) for name in ("invocation_id", "task", "attempt", "workflow_id")}
