"""Tasks: functions whose calls are executed by runners.

``Task(...)`` is made by the decorators of an app. Calling it submits an invocation and returns its handle at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial, update_wrapper
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from pynenc import context
from pynenc.arguments import Arguments
from pynenc.conf.config_task import ConcurrencyControlType, ConfigTask, check_argument_names, check_options
from pynenc.core.binding import Binder
from pynenc.core.ids import TaskId
from pynenc.core.naming import check_importable, task_id_of
from pynenc.engine.spec import TaskSpec
from pynenc.engine.submit import NO_OPTIONS, CallOptions
from pynenc.exceptions import WorkflowError
from pynenc.invocation.base_invocation import BaseInvocation, BaseInvocationGroup
from pynenc.invocation.conc_invocation import ConcurrentInvocation, ConcurrentInvocationGroup
from pynenc.invocation.dist_invocation import DistributedInvocation, DistributedInvocationGroup, ReusedInvocation
from pynenc.types import Func, Params, Result
from pynenc.workflow.flow import Flow, Undo, recording
from pynenc.workflow.telling import tell_once
from pynenc.workflow.workflow_context import WorkflowContext

if TYPE_CHECKING:
    from pynenc.app import Pynenc
    from pynenc.core.records import Submitted
    from pynenc.engine import Engine
    from pynenc.engine.codec import Encoded

#: What one call of ``parallelize`` may be given as.
CallParams = tuple[Any, ...] | dict[str, Any] | Arguments


class Task(Generic[Params, Result]):
    """A function that can be executed elsewhere.

    :param app: the app that it belongs to. :param func: a module-level function, sync or async. :param options: the options of the decorator.
    :ivar task_id: its identity. :ivar conf: its options, assignable. :ivar wf: workflow functions for use in its body.

    :raises RuntimeError: ``func`` is defined in ``__main__``, which no other process can import.
    :raises ValueError: ``func`` is a lambda or is defined inside another function or a class.
    :raises InvalidTaskOptionsError: some options do not exist; all of them are listed.
    :raises ConfigError: an option has a bad value, or names an argument that the function does not have.
    """

    wf: ClassVar[WorkflowContext] = WorkflowContext()

    def __init__(self, app: Pynenc, func: Func[Params, Any], options: dict[str, Any]) -> None:
        check_importable(func)
        self.app = app
        self.func = func
        self.options: Options[Params, Result] = Options(self, options)
        self.task_id = task_id_of(func, options.get("name"))
        self.validate_options()
        check_argument_names(self.options, func, self.task_id.key)
        self.conf: ConfigTask = app.task_conf(self.task_id, dict(options))
        self._spec: tuple[int, TaskSpec] | None = None
        update_wrapper(self, func, updated=())

    def validate_options(self) -> None:
        """Check that all options exist; raises :class:`InvalidTaskOptionsError` with all that do not."""
        check_options(self.options, self.task_id.key)

    @property
    def spec(self) -> TaskSpec:
        """The task as the engine needs it, compiled again after an option was assigned."""
        version = self.conf.version
        if self._spec is None or self._spec[0] != version:
            self._spec = (
                version,
                TaskSpec(
                    self.task_id.key, self.func, self.conf, self.app.gate_for(self.func), self.retriable_exceptions
                ),
            )
        return self._spec[1]

    @property
    def logger(self) -> logging.Logger:
        """The logger of the task; its records carry the invocation that runs. What a workflow told before it does not tell again."""
        return tell_once(logging.getLogger(f"pynenc.task.{self.task_id.key}"))

    @property
    def invocation(self) -> BaseInvocation[Params, Result]:
        """The invocation that runs here, whatever its task.

        :raises RuntimeError: nothing runs here.
        """
        running = context.current()
        if running is None:
            raise RuntimeError(
                "no invocation runs here: task.invocation works in the body of a task, and in threads started with pynenc.context.wrap"
            )
        found: BaseInvocation[Params, Result] = running.invocation
        return found

    @property
    def retriable_exceptions(self) -> tuple[type[Exception], ...]:
        """The exception types that cause a retry; :class:`RetryError` is always among them."""
        return self.conf.retriable_exceptions()

    # -- identity ------------------------------------------------------------------------------------------------------
    def __getstate__(self) -> dict[str, Any]:
        return {"app": self.app, "task_id": self.task_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = type(self).from_id(state["app"], state["task_id"])
        self.__dict__.update(found.__dict__)

    @staticmethod
    def _get_from_task_id(task_id: TaskId) -> Task[Any, Any] | Callable[..., Any]:
        """Whatever the module of the task holds under its name; the module is imported."""
        module = sys.modules.get(task_id.module) or import_module(task_id.module)
        found: Task[Any, Any] | Callable[..., Any] = getattr(module, task_id.func_name)
        return found

    @classmethod
    def from_id(cls, app: Pynenc, task_id: TaskId) -> Task[Any, Any]:
        """The task of this id, bound to ``app``: the registered one, else one made from the task that its module holds.

        A task found in a module is never shared: ``app`` gets its own, so that several apps can live in one process.

        :raises ValueError: there is no such module, name or task.
        """
        registered = app.tasks.get(task_id)
        if registered is not None:
            return registered
        try:
            found = cls._get_from_task_id(task_id)
        except (ImportError, AttributeError, ValueError) as error:
            task = _find_named(task_id)
            if task is None:
                raise ValueError(f"no task {task_id.key}: {error}") from error
        else:
            task = found if isinstance(found, Task) else _extract_task_from_wrapper(found)
        if task is None:
            raise ValueError(f"{task_id.key} is a {type(found).__name__}, not a task: decorate it with @app.task")
        return task if task.app is app else app.register(type(task)(app, task.func, dict(task.options)))

    def __str__(self) -> str:
        return f"Task(func={self.func.__name__})"

    def __repr__(self) -> str:
        return f"Task(func={self.func.__name__}, task_id={self.task_id.key})"

    # -- calling -------------------------------------------------------------------------------------------------------
    def args(self, *args: Params.args, **kwargs: Params.kwargs) -> Arguments:
        """The arguments of a call, bound by name."""
        return Arguments(self.spec.binder.bind(args, kwargs))

    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
        """Submit a call; returns its invocation as soon as the store has it.

        :raises TypeError: the arguments do not fit the function. :raises SerializationError: one cannot be encoded.
        :raises TaskRoutingError: it was refused.
        """
        spec = self.spec
        return self._submit(spec, spec.binder.bind(args, kwargs), NO_OPTIONS)

    def _call(self, arguments: Arguments) -> BaseInvocation[Params, Result]:
        """Submit a call with bound arguments; in development mode it runs before this returns."""
        return self._submit(self.spec, arguments.kwargs, NO_OPTIONS)

    def _submit(self, spec: TaskSpec, bound: dict[str, Any], options: CallOptions) -> BaseInvocation[Params, Result]:
        engine = self.app.engine
        running = context.current()
        if running is not None and running.flow is not None and (flow := recording(engine)) is not None:
            return self._submit_durably(flow, spec, bound, options)
        return self._accepted(engine, engine.submitter.submit(spec, bound, options), bound)

    def _submit_in(self, flow: Flow, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseInvocation[Params, Result]:
        """A call that is a durable operation of ``flow``, whatever its body is.

        :raises WorkflowError: the task lives in another store.
        """
        if not flow.covers(self.app.engine):
            raise WorkflowError(f"{self} belongs to another app: call it in a step, wf.step(...)")
        spec = self.spec
        return self._submit_durably(flow, spec, spec.binder.bind(args, kwargs), NO_OPTIONS)

    def _submit_durably(
        self, flow: Flow, spec: TaskSpec, bound: dict[str, Any], options: CallOptions
    ) -> BaseInvocation[Params, Result]:
        engine = self.app.engine
        (child,), is_new = flow.call(
            spec.key,
            1,
            lambda ids: engine.submitter.submit_encoded(spec, [engine.codec.encode(spec, bound)], options, ids),
        )
        if not self.app.conf.dev_mode_force_sync_tasks:
            return DistributedInvocation(self, child, engine)
        if is_new:
            self.app.run_inline(child)
        return ConcurrentInvocation(self, child, engine)

    def _undo(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Undo:
        """A call that a workflow makes if it fails, with the arguments as they are now."""
        engine, spec = self.app.engine, self.spec
        call = engine.codec.encode(spec, spec.binder.bind(args, kwargs))
        return Undo(spec.key, lambda ids: engine.submitter.submit_encoded(spec, [call], NO_OPTIONS, ids))

    def _accepted(self, engine: Engine, answer: Submitted, bound: dict[str, Any]) -> BaseInvocation[Params, Result]:
        """The handle of a call that the store accepted; in development mode it runs first."""
        if self.app.conf.dev_mode_force_sync_tasks:
            self.app.run_inline(answer.id)
            return ConcurrentInvocation(self, answer.id, engine)
        if answer.existing:
            differs = engine.codec.digest(engine.codec.encode(self.spec, bound)) != answer.args_digest
            return ReusedInvocation(self, answer.id, engine, diff_arg=Arguments(bound) if differs else None)
        return DistributedInvocation(self, answer.id, engine)

    async def async_call(self, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
        """The same without blocking the event loop."""
        from asyncio import to_thread

        return await to_thread(self, *args, **kwargs)

    def map(self, values: Iterable[Any], *, progress: bool = False) -> BaseInvocationGroup[Params, Result]:
        """One call for each value, which is the first argument."""
        return self.parallelize([(value,) for value in values], progress=progress)

    def parallelize(
        self, param_iter: Iterable[CallParams], common_args: dict[str, Any] | None = None, *, progress: bool = False
    ) -> BaseInvocationGroup[Params, Result]:
        """Submit many calls at once.

        :param param_iter: for each call its positional arguments (tuple), keyword arguments (dict) or ``task.args(...)``;
            dicts only when there are common arguments.
        :param common_args: arguments that all calls share; encoded and stored once. A key of a single call wins over the common one.
        :param progress: show a progress bar on standard error.
        :raises ValueError: ``common_args`` with parameters that are not dicts.
        :raises TaskRoutingError: a call was refused; ``accepted`` of the exception holds what was accepted before.
        """
        return _distribute(self, list(param_iter), common_args, NO_OPTIONS, progress=progress)


class Options(dict[str, Any], Generic[Params, Result]):
    """The options of a task's decorator; called, it makes options for single calls: ``task.options(delay=60)(1, 2)``."""

    def __init__(self, task: Task[Params, Result], options: dict[str, Any]) -> None:
        super().__init__(options)
        self._task = task

    def __call__(
        self,
        *,
        delay: float | None = None,
        run_at: datetime | None = None,
        priority: float | None = None,
        queue: str | None = None,
        timeout: float | None = None,
        key: str | None = None,
        tags: Iterable[str] = (),
    ) -> CallWithOptions[Params, Result]:
        """The task with options for the calls made through the returned object.

        :param delay: seconds from now until it may start. :param run_at: the same as a point in time, with its time zone.
        :param priority: -100 to 100, higher first. :param timeout: seconds per attempt.
        :param key: idempotency key: calls of this task under one key are one invocation, until it is purged.
        :param tags: labels for search (or one), added to those of the task.
        :raises ValueError: a value makes no sense.
        """
        own = (tags,) if isinstance(tags, str) else tuple(tags)
        chosen = CallOptions(
            delay=delay, run_at=run_at, priority=priority, queue=queue, timeout=timeout, key=key, tags=own
        )
        return CallWithOptions(self._task, chosen)


class WorkflowTask(Task[Params, Result]):
    """A task whose every call starts a new workflow; made by ``@app.workflow``."""


class CallWithOptions(Generic[Params, Result]):
    """A task with options for the calls made through it; called like the task itself."""

    __slots__ = ("call_options", "task")

    def __init__(self, task: Task[Params, Result], call_options: CallOptions) -> None:
        self.task = task
        self.call_options = call_options

    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
        spec = self.task.spec
        return self.task._submit(spec, spec.binder.bind(args, kwargs), self.call_options)

    async def async_call(self, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
        """The same without blocking the event loop."""
        from asyncio import to_thread

        return await to_thread(self, *args, **kwargs)

    def map(self, values: Iterable[Any], *, progress: bool = False) -> BaseInvocationGroup[Params, Result]:
        """As :meth:`Task.map`, each call with these options."""
        return self.parallelize([(value,) for value in values], progress=progress)

    def parallelize(
        self, param_iter: Iterable[CallParams], common_args: dict[str, Any] | None = None, *, progress: bool = False
    ) -> BaseInvocationGroup[Params, Result]:
        """As :meth:`Task.parallelize`, each call with these options.

        :raises ValueError: the options hold an idempotency key, which stands for one call.
        """
        if self.call_options.key is not None:
            raise ValueError("an idempotency key stands for one call: call the task once for each key")
        return _distribute(self.task, list(param_iter), common_args, self.call_options, progress=progress)


def _extract_task_from_wrapper(wrapper: object) -> Task[Any, Any] | None:
    """The first task among the instance attributes of a wrapper, whatever the attribute is called."""
    attributes = list(getattr(wrapper, "__dict__", {}).values())
    for kind in type(wrapper).__mro__:
        slots = getattr(kind, "__slots__", ())
        attributes += [getattr(wrapper, name, None) for name in ((slots,) if isinstance(slots, str) else slots)]
    return next((value for value in attributes if isinstance(value, Task)), None)


def _find_named(task_id: TaskId) -> Task[Any, Any] | None:
    """The task of an imported module that has this id by its option ``name``, or had it before (``aliases``)."""
    module = sys.modules.get(task_id.module)
    for value in list(vars(module).values()) if module else ():
        task = value if isinstance(value, Task) else _extract_task_from_wrapper(value)
        if task is not None and (task.task_id == task_id or task_id.key in task.conf.aliases):
            return task
    return None


def can_batch_process(task: Task[Any, Any], num_calls: int) -> bool:
    """Whether calls of a task can be submitted in batches: more than one, a batch size, no development mode, and no control at
    registration, which answers each call on its own.
    """
    return (
        not task.app.is_dev_mode
        and num_calls > 1
        and task.conf.parallel_batch_size > 0
        and task.conf.registration_concurrency is ConcurrencyControlType.DISABLED
    )


def prepare_arguments(
    task: Task[Any, Any], param_iter: Iterable[CallParams], common_args: dict[str, Any] | None = None
) -> list[Arguments]:
    """The arguments of each call, with the common ones merged in.

    :raises ValueError: parameters that are no dict, together with common arguments.
    :raises TypeError: parameters of another type, or that do not fit the function.
    """
    return [Arguments(_bind(task.spec.binder, params, common_args)) for params in param_iter]


def distribute_calls(
    task: Task[Params, Result], param_list: Sequence[CallParams], common_args: dict[str, Any] | None = None
) -> BaseInvocationGroup[Params, Result]:
    """Submit calls one by one."""
    return _one_by_one(task, param_list, common_args, NO_OPTIONS, iter)


def distribute_batch_calls(
    task: Task[Params, Result], param_list: Sequence[CallParams], common_args: dict[str, Any] | None = None
) -> DistributedInvocationGroup[Params, Result]:
    """Submit calls in batches of ``parallel_batch_size``, one transaction each; common arguments are encoded once."""
    return _in_batches(task, param_list, common_args, NO_OPTIONS, iter)


# -- how calls are spread ------------------------------------------------------------------------------------------------
Track = Callable[[Iterable[Any]], Iterable[Any]]


def _distribute(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    *,
    progress: bool,
) -> BaseInvocationGroup[Params, Result]:
    track = _progress_bar(task, len(params)) if progress else iter
    if can_batch_process(task, len(params)):
        return _in_batches(task, params, common, options, track)
    return _one_by_one(task, params, common, options, track)


def _one_by_one(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    track: Track,
) -> BaseInvocationGroup[Params, Result]:
    accepted: list[BaseInvocation[Params, Result]] = []
    bound = [_bind(task.spec.binder, item, common) for item in params]
    with _Accepted(accepted):
        accepted.extend(task._submit(task.spec, arguments, options) for arguments in track(bound))
    kind = ConcurrentInvocationGroup if task.app.is_dev_mode else DistributedInvocationGroup
    return kind(task, accepted)


def _in_batches(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    track: Track,
) -> DistributedInvocationGroup[Params, Result]:
    engine = task.app.engine
    spec = task.spec
    accepted: list[BaseInvocation[Params, Result]] = []
    encode = _encoder(task, common)
    calls = iter(track(params))
    flow = recording(engine)
    with _Accepted(accepted):
        while batch := list(islice(calls, task.conf.parallel_batch_size)):
            submit = partial(_submit_batch, engine, spec, batch, encode, options)
            if flow is not None:
                children, _ = flow.call(spec.key, len(batch), submit)
                accepted.extend([DistributedInvocation(task, child, engine) for child in children])
                continue
            answers = submit(None)
            accepted.extend(
                [
                    (ReusedInvocation if answer.existing else DistributedInvocation)(task, answer.id, engine)
                    for answer in answers
                ]
            )
    return DistributedInvocationGroup(task, accepted)


def _submit_batch(
    engine: Engine,
    spec: TaskSpec,
    batch: Sequence[CallParams],
    encode: Callable[[CallParams], Encoded],
    options: CallOptions,
    ids: Sequence[str] | None,
) -> list[Submitted]:
    return engine.submitter.submit_encoded(spec, [encode(item) for item in batch], options, ids)


def _encoder(task: Task[Any, Any], common: dict[str, Any] | None) -> Callable[[CallParams], Encoded]:
    """How one call of a batch is encoded: the common part only once."""
    codec, spec = task.app.engine.codec, task.spec
    binder = spec.binder
    if not common:
        return lambda params: codec.encode(spec, _bind(binder, params, None))
    fragments = codec.encode_common(spec, common)

    def encode(params: CallParams) -> Encoded:
        bound = _bind(binder, params, common)
        own = {
            name: value
            for name, value in bound.items()
            if name not in fragments or (isinstance(params, dict) and name in params)
        }
        return codec.encode_with_common(spec, fragments, own)

    return encode


def _bind(binder: Binder, params: CallParams, common: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of one call, bound by name."""
    if common:
        if not isinstance(params, dict):
            raise ValueError(
                f"with common_args each call is a dict of its own arguments, not {type(params).__name__}: {params!r:.80}"
            )
        return binder.bind((), {**common, **params})
    if isinstance(params, tuple):
        return binder.bind(params, {})
    if isinstance(params, dict):
        return binder.bind((), params)
    if isinstance(params, Arguments):
        return params.kwargs
    raise TypeError(
        f"each call of parallelize is a tuple, a dict or {binder.name}.args(...), not {type(params).__name__}: {params!r:.80}"
    )


class _Accepted:
    """Tells an exception what had been accepted before it."""

    def __init__(self, accepted: Sequence[object]) -> None:
        self._accepted = accepted

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            error.__dict__["accepted"] = tuple(self._accepted)


def _progress_bar(task: Task[Any, Any], total: int) -> Track:
    from rich.console import Console
    from rich.progress import track

    return lambda items: track(items, description=task.task_id.func_name, total=total, console=Console(stderr=True))
