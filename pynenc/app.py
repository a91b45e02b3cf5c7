"""``Pynenc``: the composition root, the only place that knows all the parts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from pynenc import context
from pynenc.conf.classes import load_class, load_module
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.config_task import ConfigTask, TaskOptions
from pynenc.conf.location import calling_module
from pynenc.core.ids import TaskId
from pynenc.core.reaction import FIRING
from pynenc.core.records import Claimed, Filter, Invocation, Page, Purge
from pynenc.direct import DirectDecorator, TaskDecorator, make_direct
from pynenc.engine import Engine, Hooks
from pynenc.engine.codec import Codec
from pynenc.engine.spec import TaskSpec
from pynenc.engine.transaction import handed_out, join, refuse_inside
from pynenc.exceptions import RunnerError, SerializationError
from pynenc.invocation.base_invocation import BaseInvocation
from pynenc.invocation.dist_invocation import DistributedInvocation
from pynenc.logs import configure
from pynenc.serializer import JsonSerializer
from pynenc.serializer.gate import TypeGate
from pynenc.store import open_store
from pynenc.store.base import Clock, Store
from pynenc.task import Task, WorkflowTask, free_names
from pynenc.travel import Launched, remember, restore
from pynenc.workflow.events import is_asking
from pynenc.workflow.flow import Flow
from pynenc.workflow.telling import tell_once

if TYPE_CHECKING:
    from pynenc.engine.triggers import Triggers
    from pynenc.runner import BaseRunner
    from pynenc.runner.inline import InlineRunner

P = ParamSpec("P")
R = TypeVar("R")


class Pynenc:
    """An app: its tasks, its configuration and its store.

    :param config_values: settings by name, sections as nested dicts. :param config_filepath: a toml, yaml or json file.
    :param app_id: isolates the app in a shared store, and names its default database.
    :param store: URL of the store; default an SQLite file ``.pynenc/<app_id>.db`` beside the project file of the module that builds the app.
    :param settings: more settings by name.
    :raises ConfigError: a setting is unknown or has a bad value.

    Safe to use from several threads, and after ``fork``: a child process opens its own connections.
    """

    def __init__(
        self,
        config_values: dict[str, Any] | None = None,
        config_filepath: str | None = None,
        *,
        app_id: str | None = None,
        store: str | None = None,
        **settings: Any,
    ) -> None:
        self._token = os.urandom(16).hex()
        module = calling_module()
        self._module = module.get("__name__", "__main__")
        self._file = module.get("__file__")
        given = {**(config_values or {}), **settings}
        given |= {name: value for name, value in (("app_id", app_id), ("store", store)) if value is not None}
        self._set_up(ConfigPynenc.resolve(given, config_filepath, self._file))

    def _set_up(self, conf: ConfigPynenc) -> None:
        self.conf = conf
        self.tasks: dict[TaskId, Task[Any, Any]] = {}
        self.hooks = Hooks()
        self._shows_log = False
        self._by_key: dict[str, Task[Any, Any]] = {}
        self._firing_tasks: dict[str, Any] = {}
        self._unknown: set[str] = set()
        self._lock = RLock()
        self._engine: Engine | None = None
        self._dev: tuple[Engine, InlineRunner] | None = None
        self._runner: BaseRunner | None = None
        self._clock: Clock | None = None
        conf.watch(self._follow)
        remember(self._token, self)

    def _follow(self, field: str) -> None:
        """What was made of a setting is made anew when it is assigned."""
        if field == "store":
            self.close()
        elif field == "otel":
            for engine in filter(None, (self._engine, self._dev and self._dev[0])):
                engine.trace(is_on=self.conf.otel)
        elif field == "runner_cls" and self._runner and not self._runner.is_running:
            self._runner = None

    # -- parts ---------------------------------------------------------------------------------------------------------
    @property
    def app_id(self) -> str:
        """The name that isolates the app in its store."""
        return self.conf.app_id

    @property
    def logger(self) -> logging.Logger:
        """The logger of the app."""
        return tell_once(logging.getLogger(f"pynenc.{self.app_id}"))

    @property
    def is_dev_mode(self) -> bool:
        """Whether calls run in their caller."""
        return self.conf.dev_mode_force_sync_tasks

    @property
    def engine(self) -> Engine:
        """What moves invocations: over the app's store, or over memory in development mode."""
        if self.conf.dev_mode_force_sync_tasks:
            return self._development()[0]
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._make_engine(self._open(self.conf.store_url))
        return self._engine

    orchestrator = engine

    @property
    def store(self) -> Store:
        """The store of the app, open. Inside of :meth:`transaction` it refuses what takes no part in that."""
        return handed_out(self.engine.store)

    @property
    def trigger(self) -> Triggers:
        """Events and triggers: ``app.trigger.emit_event("order.paid", {"id": 7})``."""
        return self.engine.triggers

    @property
    def serializer(self) -> Any:
        """What encodes values."""
        return self.engine.codec.serializer

    @property
    def client_data_store(self) -> Any:
        """Where large arguments are kept once."""
        return self.engine.codec.blobs

    def configure_logging(self) -> None:
        """Make log lines visible as the settings say; for programs that run tasks. A root logger with handlers of others keeps them."""
        conf = self.conf
        self._shows_log = True
        configure(
            conf.logging_level,
            format=conf.log_format,
            colors=conf.log_colors,
            stream=conf.log_stream,
            get_context=context.log_fields,
            get_secrets=lambda: context.secret_names(conf.redact),
        )

    def use_clock(self, clock: Clock | None) -> None:
        """Open the store with another clock (None: its own); for tests, before the first call."""
        self._clock = clock

    def _open(self, url: str, clock: Clock | None = None) -> Store:
        store = open_store(url, self.app_id, clock or self._clock)
        store.open()
        return store

    def _make_engine(self, store: Store) -> Engine:
        gate = TypeGate.for_app(self._module, (*self.conf.imports, *self.conf.allowed_types))
        codec = Codec.from_conf(self.conf, store, gate, self._resolve)
        if isinstance(codec.serializer, JsonSerializer):
            codec.serializer.register("invocation", BaseInvocation, self._name_invocation, self._named_invocation)
        engine = Engine(
            store,
            codec,
            conf=self.conf,
            resolve=self._resolve,
            handle=self._handle,
            hooks=self.hooks,
            make_flow=Flow,
            triggers=self._firing_tasks,
        )
        engine.owns, engine.is_asking = self._by_key.__contains__, is_asking
        return engine

    def scratch_engine(self) -> Engine:
        """The same app over an empty store of its own, for what must leave no trace; to be closed by who asked for it."""
        return self._make_engine(self._open("memory://"))

    def _development(self) -> tuple[Engine, InlineRunner]:
        with self._lock:
            if self._dev is None:
                from pynenc.runner.inline import InlineRunner, SkipClock

                clock = SkipClock()
                engine = self._make_engine(self._open("memory://", clock))
                self._dev = engine, InlineRunner(engine, clock.skip_to)
                engine.results.drive = self._dev[1].drive
                engine.inline = self.run_inline
                engine.results.refuse_to_hang = self._dev[1].refuse_to_hang
            return self._dev

    def run_inline(self, invocation_id: str) -> None:
        """Development mode: run an invocation to its end, now; what a body schedules for later stays until then."""
        engine, runner = self._development()
        if self._firing_tasks:
            engine.triggers.declare_known()
        runner.call(invocation_id)

    # -- tasks ---------------------------------------------------------------------------------------------------------
    @overload
    def task(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, func: Any = None, /, **options: Any) -> Any:
        """Make a task of a module-level function; bare, or with options by name (see the reference of the options)."""
        if func is None:
            return lambda f: self.register(Task(self, f, options))
        return self.register(Task(self, func, options))

    @overload
    def workflow(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> WorkflowTask[P, R]: ...
    @overload
    def workflow(self, func: Callable[P, R], /) -> WorkflowTask[P, R]: ...
    @overload
    def workflow(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def workflow(self, func: Any = None, /, **options: Any) -> Any:
        """The same, and each call starts a new workflow."""
        chosen = {"force_new_workflow": True, **options}
        if func is None:
            return lambda f: self.register(WorkflowTask(self, f, chosen))
        return self.register(WorkflowTask(self, func, chosen))

    @overload
    def direct_task(self, func: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def direct_task(
        self,
        /,
        *,
        parallel_func: Callable[[dict[str, Any]], Iterable[Any]] | None = None,
        aggregate_func: Callable[[list[Any]], Any] | None = None,
        **options: Unpack[TaskOptions],
    ) -> DirectDecorator: ...
    def direct_task(
        self, func: Any = None, /, *, parallel_func: Any = None, aggregate_func: Any = None, **options: Any
    ) -> Any:
        """Make a function whose calls run elsewhere and hand back the value, sync or async as the function is.

        :param parallel_func: gets the arguments of the call by name and returns the calls to make instead (as ``parallelize`` takes them),
            or a pair of common arguments and calls.
        :param aggregate_func: makes the value of the list of their results; without it the list is the value.
        """

        def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
            return make_direct(self.register(Task(self, f, options)), parallel_func, aggregate_func)

        return decorate if func is None else decorate(func)

    def register(self, task: Task[P, R]) -> Task[P, R]:
        """Make a task known to the app, under its id and its former names; raises :class:`ConfigError` when another function has one of them."""
        names = free_names(task, self._by_key)
        self.tasks[task.task_id] = task
        self._by_key |= dict.fromkeys(names, task)
        if task.conf.triggers:
            from pynenc.firing import add_triggers  # not needed by programs without triggers

            self._by_key |= add_triggers(self, task, self._firing_tasks)
        self._unknown.clear()
        return task

    def get_task(self, task_id: TaskId | str) -> Task[Any, Any]:
        """The task of an id (or its ``module.function``), imported when needed; raises ``ValueError`` if there is none."""
        key = task_id if isinstance(task_id, str) else task_id.key
        if key.startswith(FIRING):
            from pynenc.firing import firing_task

            return firing_task(self, key, self._firing_tasks)
        return self._by_key.get(key) or Task.from_id(self, TaskId.from_key(key))

    def import_tasks(self) -> tuple[str, ...]:
        """Import the app's own module and those of the setting ``imports``; the keys of all tasks that are known then.

        :raises ConfigError: one of ``imports`` cannot be imported.
        """
        if self._module != "__main__":
            self._adopt(import_module(self._module))
        for setting in ("imports", "trigger_task_modules"):
            for name in getattr(self.conf, setting):
                self._adopt(load_module(name, f"{setting!r} ({self.conf.origin(setting)})"))
        return tuple(self._by_key)

    def _adopt(self, module: ModuleType) -> None:
        """Register the tasks of a module that belong to this app under another object of the same app."""
        for value in list(vars(module).values()):
            task = value if isinstance(value, Task) else getattr(value, "__pynenc_task__", None)
            if (
                isinstance(task, Task)
                and task.app is not self
                and task.app.app_id == self.app_id
                and task.task_id not in self.tasks
            ):
                self.register(type(task)(self, task.func, dict(task.options)))

    def _resolve(self, key: str) -> TaskSpec | None:
        """The spec of a task that was imported, or that lies in the app's own package; never of any other stored name."""
        task = self._by_key.get(key)
        if task is None and key not in self._unknown:
            task = self._import_own(key)
        return task.spec if task else None

    def _import_own(self, key: str) -> Task[Any, Any] | None:
        package = self._module.partition(".")[0]
        if key.startswith(FIRING):
            self._resolve(key.removeprefix(FIRING).rpartition(".")[0])
            self._unknown.add(key)
            return self._by_key.get(key)
        if "." in self._module and key.startswith(f"{package}."):
            try:
                return Task.from_id(self, TaskId.from_key(key))
            except ValueError as error:
                self.logger.warning("%s", error)
        self._unknown.add(key)
        return None

    def task_conf(self, task_id: TaskId, options: dict[str, Any]) -> ConfigTask:
        """The resolved options of a task."""
        return self.conf.for_task(task_id.module, task_id.func_name, options)

    def gate_for(self, func: Callable[..., Any]) -> TypeGate:
        """The classes that data of this task may bring back to life."""
        return TypeGate.for_task(func, self._module, (*self.conf.imports, *self.conf.allowed_types))

    # -- invocations ---------------------------------------------------------------------------------------------------
    def _handle(self, claimed: Claimed) -> BaseInvocation[Any, Any]:
        return DistributedInvocation(self.get_task(claimed.task), claimed.id, self.engine, claimed=claimed)

    def get_invocation(self, invocation_id: str) -> BaseInvocation[Any, Any]:
        """The handle of an invocation; raises :class:`InvocationNotFoundError` when the store has none."""
        return self._from_row(self.engine.get(invocation_id))

    def find_invocations(
        self, *, limit: int = 50, oldest_first: bool = False, **where: Any
    ) -> list[BaseInvocation[Any, Any]]:
        """Handles of invocations that match: fields of :class:`~pynenc.core.records.Filter` by name, such as ``statuses=("failed",)``.

        One text stands for a tuple of it; raises ``ValueError`` for a status that does not exist.
        """
        page = Page(limit=limit, oldest_first=oldest_first)
        return [self._from_row(row) for row in self.store.find(Filter.of(where), page).invocations]

    def _name_invocation(self, invocation: BaseInvocation[Any, Any]) -> list[str]:
        """What stands for an invocation that is an argument or a result."""
        if invocation.app.app_id != self.app_id:
            raise SerializationError(
                f"invocation {invocation.invocation_id} belongs to app {invocation.app.app_id!r}, whose store this app does not read: pass its result"
            )
        return [invocation.task.task_id.key, str(invocation.invocation_id)]

    def _named_invocation(self, names: Any) -> BaseInvocation[Any, Any]:
        """The invocation that :meth:`_name_invocation` named."""
        key, invocation_id = names
        return DistributedInvocation(self.get_task(key), invocation_id, self.engine)

    def _from_row(self, row: Invocation) -> BaseInvocation[Any, Any]:
        return DistributedInvocation(self.get_task(row.task), row.id, self.engine)

    # -- life ----------------------------------------------------------------------------------------------------------
    @property
    def runner(self) -> BaseRunner:
        """The runner of this process, made by the setting ``runner_cls``; assignable."""
        if self._runner is None:
            from pynenc.runner import RUNNERS, BaseRunner  # not needed by programs that only submit calls

            name = self.conf.runner_cls
            self._runner = (RUNNERS.get(name) or load_class(name, BaseRunner, "runner_cls"))(self)
        return self._runner

    @runner.setter
    def runner(self, runner: BaseRunner) -> None:
        self._runner = runner

    def on(self, event: str, hook: Callable[..., object]) -> None:
        """Attach a function to ``before_task``, ``after_task`` (both get the invocation), ``on_failure`` (and the exception),
        ``worker_start`` or ``worker_stop``.
        """
        self.hooks.add(event, hook)

    def transaction(self, connection: object) -> AbstractContextManager[None]:
        """Make the calls of a block a part of your own database transaction: committed, they run; rolled back, they never did.

        ::

            with app.transaction(connection):
                send_receipt(order.id)
            connection.commit()

        :param connection: of ``sqlite3``, psycopg, or SQLAlchemy's or Django's around one of these; it is not committed. In development mode calls run at once.
        :raises StoreError: the store or the connection is not of that kind; or by what takes no part in it: a result, a cancellation, a purge.
        """
        return nullcontext() if self.is_dev_mode else join(self.engine.store, connection)

    def purge(self) -> None:
        """Remove everything that the store holds of this app, but the pauses of its queues. Not inside of :meth:`transaction`."""
        refuse_inside(self.engine.store, "purge")
        while self.store.purge(Purge(everything=True, limit=5000)).more:
            pass
        if self._firing_tasks:
            self.engine.triggers.forget_declared()

    def close(self) -> None:
        """Stop the runner of this process, as gracefully as a signal would, and close the store; the next use opens it again.

        :raises RunnerError: a task of this app wants it, whose runner needs the store to finish it.
        """
        running = context.current()
        if running is not None and running.invocation.app is self:
            raise RunnerError(f"{running.invocation.task} cannot close the app that runs it: leave that to the program")
        if self._runner:
            self._runner.close()
        with self._lock:
            for engine in (self._engine, self._dev and self._dev[0]):
                if engine:
                    engine.store.close()
            self._engine = self._dev = None

    # -- travelling ----------------------------------------------------------------------------------------------------
    def launch_payload(self) -> bytes:
        """What a child process needs to build the same app, with the same log."""
        import pickle  # takes long to import

        return pickle.dumps(Launched(self))

    def __reduce__(self) -> tuple[Any, ...]:
        modules = sorted({task.func.__module__ for task in self.tasks.values()})
        assigned = {task.task_id.key: task.conf.assigned() for task in self.tasks.values() if task.conf.assigned()}
        return restore, (type(self), self._token, self._module, self._file, self.conf.to_dict(), modules, assigned)

    def __repr__(self) -> str:
        return f"Pynenc(app_id={self.app_id!r}, {len(self.tasks)} tasks)"
