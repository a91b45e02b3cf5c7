"""What decorators make: the types of those with options, and direct tasks, plain functions whose calls run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from pynenc.exceptions import ConfigError
from pynenc.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """Makes tasks of functions, with options chosen before."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


class DirectDecorator(Protocol):
    """Makes direct tasks of functions."""

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]: ...


def make_direct(task: Task[Any, Any], parallel_func: Any, aggregate_func: Any) -> Callable[..., Any]:
    """The plain function over a task, sync or async as the task's own is; see :meth:`pynenc.app.Pynenc.direct_task`."""
    parallel_func, aggregate_func = _function_of(parallel_func), _function_of(aggregate_func)
    if aggregate_func and not parallel_func:
        raise ConfigError(f"'aggregate_func' (decorator of {task.task_id.key}) has no effect without 'parallel_func'")

    def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if parallel_func is None:
            return task(*args, **kwargs)
        chosen = parallel_func(task.args(*args, **kwargs).kwargs)
        is_pair = (
            isinstance(chosen, tuple)
            and len(chosen) == 2
            and isinstance(chosen[0], dict)
            and not isinstance(chosen[1], dict)
        )
        common, calls = chosen if is_pair else (None, chosen)
        return task.parallelize(calls, common)

    def finish(values: list[Any]) -> Any:
        return aggregate_func(values) if aggregate_func else values

    @wraps(task.func)
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = submit(args, kwargs)
        return finish(list(answer.results)) if parallel_func else answer.result

    @wraps(task.func)
    async def async_call(*args: Any, **kwargs: Any) -> Any:
        answer = submit(args, kwargs)
        return (
            finish([value async for value in answer.async_results()]) if parallel_func else await answer.async_result()
        )

    wrapper: Any = async_call if task.spec.is_async else call
    wrapper.__pynenc_task__ = task
    wrapper.__inner_function__ = task.func
    return cast("Callable[..., Any]", wrapper)


def _function_of(func: Any) -> Any:
    """A function that is called here; of a task, what it is made of."""
    return func.func if isinstance(func, Task) else func
