"""Tasks: functions whose calls are executed by runners.

``Task(...)`` is made by the decorators of an app. Calling it submits an invocation and returns its handle at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Unpack

from pynenc import context
from pynenc.arguments import Arguments
from pynenc.conf.config_task import ConfigTask, check_argument_names, check_effect, check_options
from pynenc.core.ids import TaskId
from pynenc.core.naming import check_function, check_importable, task_id_of
from pynenc.core.options import OptionsOfCall
from pynenc.engine.call_options import NO_OPTIONS, CallOptions
from pynenc.engine.spec import TaskSpec
from pynenc.exceptions import ConfigError, WorkflowError
from pynenc.invocation.base_invocation import BaseInvocation, BaseInvocationGroup
from pynenc.invocation.conc_invocation import ConcurrentInvocation
from pynenc.invocation.dist_invocation import DistributedInvocation, DistributedInvocationGroup, ReusedInvocation
from pynenc.invocation.spreading import CallParams, bind, distribute, in_batches, one_by_one
from pynenc.invocation.spreading import can_batch_process as can_batch_process  # noqa: PLC0414 - its public place is here
from pynenc.types import Func, Params, Result
from pynenc.workflow.compensation import Undo
from pynenc.workflow.flow import Flow, recording
from pynenc.workflow.telling import tell_once
from pynenc.workflow.workflow_context import WorkflowContext

if TYPE_CHECKING:
    from pynenc.app import Pynenc
    from pynenc.core.records import Submitted
    from pynenc.engine import Engine


class Task(Generic[Params, Result]):
    """A function that can be executed elsewhere.

    :param app: the app that it belongs to. :param func: a module-level function, sync or async. :param options: the options of the decorator.
    :ivar task_id: its identity. :ivar conf: its options, assignable. :ivar wf: workflow functions for use in its body.

    :raises TypeError: ``func`` is no function, or a task already.
    :raises RuntimeError: ``func`` is defined in ``__main__``, which no other process can import.
    :raises ValueError: ``func`` is a lambda or is defined inside another function or a class.
    :raises InvalidTaskOptionsError: some options do not exist; all of them are listed.
    :raises ConfigError: an option has a bad value or no effect, or names an argument that the function does not have.
    """

    wf: ClassVar[WorkflowContext] = WorkflowContext()

    def __init__(self, app: Pynenc, func: Func[Params, Any], options: dict[str, Any]) -> None:
        check_function(func)
        check_importable(func)
        self.app = app
        self.func = func
        self.options: Options[Params, Result] = Options(self, options)
        self.task_id = task_id_of(func, options.get("name"))
        self.validate_options()
        check_argument_names(self.options, func, self.task_id.key)
        self.conf: ConfigTask = app.task_conf(self.task_id, dict(options))
        check_effect(self.options, self.conf, self.task_id.key)
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

        :raises ValueError: there is no such module, name or task, or the module cannot be imported.
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
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            raise ValueError(f"no task {task_id.key}: importing its module raised {error!r}") from error
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
    def args(self, /, *args: Params.args, **kwargs: Params.kwargs) -> Arguments:
        """The arguments of a call, bound by name."""
        return Arguments(self.spec.binder.bind(args, kwargs), self._hidden_names)

    @property
    def _hidden_names(self) -> tuple[str, ...]:
        """The names of arguments whose values are never shown, by the settings of the app and of the task."""
        return (*self.app.conf.redact, *self.conf.redact)

    def __call__(self, /, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
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
            return ReusedInvocation(
                self, answer.id, engine, diff_arg=Arguments(bound, self._hidden_names) if differs else None
            )
        return DistributedInvocation(self, answer.id, engine)

    async def async_call(self, /, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
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
        return distribute(self, list(param_iter), common_args, NO_OPTIONS, progress=progress)


class Options(dict[str, Any], Generic[Params, Result]):
    """The options of a task's decorator; called, it makes options for single calls: ``task.options(delay=60)(1, 2)``."""

    def __init__(self, task: Task[Params, Result], options: dict[str, Any]) -> None:
        super().__init__(options)
        self._task = task

    def __call__(self, **options: Unpack[OptionsOfCall]) -> CallWithOptions[Params, Result]:
        """The task with options for the calls made through the returned object; what is None is not given.

        :param delay: how long from now until it may start: seconds, a ``timedelta``, or text such as ``"30s"``.
        :param run_at: the same as a point in time, with its time zone. :param priority: -100 to 100, higher first.
        :param queue: instead of the task's own. :param timeout: per attempt, written as ``delay``.
        :param key: idempotency key: calls of this task under one key are one invocation, until it is purged.
        :param tags: labels for search (or one), added to those of the task.
        :raises ValueError: a value makes no sense. :raises InvalidTaskOptionsError: some options do not exist.
        """
        return CallWithOptions(self._task, NO_OPTIONS).options(**options)


class WorkflowTask(Task[Params, Result]):
    """A task whose every call starts a new workflow; made by ``@app.workflow``."""


class CallWithOptions(Generic[Params, Result]):
    """A task with options for the calls made through it; called like the task itself."""

    __slots__ = ("call_options", "task")

    def __init__(self, task: Task[Params, Result], call_options: CallOptions) -> None:
        self.task = task
        self.call_options = call_options

    def options(self, **options: Unpack[OptionsOfCall]) -> CallWithOptions[Params, Result]:
        """The same with more options, as those of the task; the later wins, and tags are added."""
        more = self.call_options.with_more(options, self.task.task_id.key)
        return CallWithOptions(self.task, more)

    def __call__(self, /, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
        spec = self.task.spec
        return self.task._submit(spec, spec.binder.bind(args, kwargs), self.call_options)

    async def async_call(self, /, *args: Params.args, **kwargs: Params.kwargs) -> BaseInvocation[Params, Result]:
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
        return distribute(self.task, list(param_iter), common_args, self.call_options, progress=progress)


def free_names(task: Task[Any, Any], known: Mapping[str, Task[Any, Any]]) -> tuple[str, ...]:
    """The key of a task and its former names; the same function may have them already, as when its module is loaded again.

    :raises ConfigError: a task of another function has one of them.
    """
    names = (task.task_id.key, *task.conf.aliases)
    for name in names:
        other = known.get(name)
        if other and _place(other) != _place(task) and task.app.tasks.get(other.task_id) is other:
            raise ConfigError(
                f"{_place(task)} cannot be the task {name!r}, which is {_place(other)}: "
                "change 'name' or 'aliases' of one of them"
            )
    return names


def _place(task: Task[Any, Any]) -> str:
    """Where its function is defined."""
    return f"{task.func.__module__}.{task.func.__qualname__}"


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


def prepare_arguments(
    task: Task[Any, Any], param_iter: Iterable[CallParams], common_args: dict[str, Any] | None = None
) -> list[Arguments]:
    """The arguments of each call, with the common ones merged in.

    :raises ValueError: parameters that are no dict, together with common arguments.
    :raises TypeError: parameters of another type, or that do not fit the function.
    """
    hidden = task._hidden_names
    return [Arguments(bind(task.spec.binder, params, common_args), hidden) for params in param_iter]


def distribute_calls(
    task: Task[Params, Result], param_list: Sequence[CallParams], common_args: dict[str, Any] | None = None
) -> BaseInvocationGroup[Params, Result]:
    """Submit calls one by one."""
    return one_by_one(task, param_list, common_args, NO_OPTIONS, iter)


def distribute_batch_calls(
    task: Task[Params, Result], param_list: Sequence[CallParams], common_args: dict[str, Any] | None = None
) -> DistributedInvocationGroup[Params, Result]:
    """Submit calls in batches of ``parallel_batch_size``, one transaction each; common arguments are encoded once."""
    return in_batches(task, param_list, common_args, NO_OPTIONS, iter)
