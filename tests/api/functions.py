"""What the tests of the API make tasks of: functions of a module, and one app whose tasks other processes can import."""

from __future__ import annotations

from pynenc import ConcurrencyControlType, Pynenc, RetryError
from pynenc.runner import ThreadRunner

app = Pynenc(app_id="functions", store="memory://")


# -- plain functions; tests register them with apps of their own ------------------------------------------------------------
def plus(x: int, y: int = 10) -> int:
    return x + y


async def later(x: int) -> int:
    return x + 1


def measure(large_data: str, index: int) -> int:
    return len(large_data) + index


def anything(*args: object, **kwargs: object) -> list[object]:
    return [list(args), kwargs]


def total(numbers: list[int]) -> int:
    return sum(numbers)


def summed(values: list[int]) -> int:
    return sum(values)


def split(arguments: dict[str, list[int]]) -> list[dict[str, list[int]]]:
    return [{"numbers": [number]} for number in arguments["numbers"]]


def split_with_common(arguments: dict[str, object]) -> tuple[dict[str, object], list[dict[str, object]]]:
    return {"large_data": arguments["large_data"]}, [{"index": 1}, {"index": 2}]


def owner(self: str, fn: int = 0, task: int = 0) -> str:
    return f"{self} {fn} {task}"


attempts: list[int] = []


def flaky(failures: int) -> int:
    attempts.append(len(attempts))
    if len(attempts) <= failures:
        raise RetryError
    return len(attempts)


def broken() -> None:
    raise KeyError("gone")


def keep_text(text: str) -> str:
    return text


def hand_on(invocation: object) -> object:
    return invocation


def unsendable() -> object:
    return unsendable


class OwnRunner(ThreadRunner):
    """A runner of a user."""


class Box:
    """What only this process knows."""

    current: object = None


def who_am_i() -> str:
    task = Box.current
    return task.invocation.invocation_id  # type: ignore[attr-defined,no-any-return]


def keep(value: dict[str, int]) -> list[object]:
    wf = Box.current.wf  # type: ignore[attr-defined]
    wf.set_data("value", value)
    return [wf.get_data("value"), wf.get_data("nothing", "default"), wf.identity.workflow_id]


def keep_under(key: object, *, is_read: bool) -> None:
    wf = Box.current.wf  # type: ignore[attr-defined]
    wf.get_data(key) if is_read else wf.set_data(key, 1)


# -- tasks of the module's app -----------------------------------------------------------------------------------------------
@app.task(max_retries=2, tags=("a",))
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="stable_name")
def renamed() -> None: ...


@app.workflow
def flow() -> None: ...


@app.direct_task(queue="direct")
def direct(x: int) -> int:
    return x


@app.task(registration_concurrency=ConcurrencyControlType.DISABLED)
def process(large_data: str, index: int) -> int:
    return len(large_data) + index


class Shim:
    """How another library might wrap a task."""

    def __init__(self, task: object) -> None:
        self.name = "shim"
        self.pynenc_task = task


class SlottedShim:
    """The same without a dict."""

    __slots__ = ("inner",)

    def __init__(self, task: object) -> None:
        self.inner = task


shim = Shim(add)
not_a_task = 3
