"""The internal tasks behind triggers: one for each trigger, so that its firings are invocations like all others."""

from __future__ import annotations

from contextlib import suppress
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from pynenc.conf.values import suggestion
from pynenc.core.ids import TaskId
from pynenc.core.reaction import FIRING
from pynenc.engine.firing import Firing
from pynenc.engine.spec import TaskSpec
from pynenc.exceptions import QueueFullError, RetryError, StoreError, TriggerError
from pynenc.task import Options, Task
from pynenc.trigger.trigger import Trigger

if TYPE_CHECKING:
    from pynenc.app import Pynenc

#: A firing that finds a full queue, or a store that does not answer, is tried again: seconds before the first retry, and times.
RETRY_DELAY, RETRIES = 1.0, 20


class FiringTask(Task[Any, Any]):
    """The task whose invocations are the firings of one trigger.

    :param target: the task that is triggered.
    """

    def __init__(self, app: Pynenc, target: Task[Any, Any], trigger: Trigger) -> None:
        self.app = app
        self.task_id = TaskId.from_key(trigger.key)
        self.firing = Firing(trigger, lambda: self.spec, lambda: target.spec)
        self.func = self.firing.fire
        self.options = Options(self, {})
        options = {"queue": target.conf.queue, "retry_delay": RETRY_DELAY, "max_retries": RETRIES}
        self.conf = app.task_conf(self.task_id, options)
        self._target = target
        self._spec = None

    @property
    def spec(self) -> TaskSpec:
        """The task as the engine needs it; values of events are those that the triggered task may get."""
        if self._spec is None:
            gate = self.app.gate_for(self._target.func)
            self._spec = (0, TaskSpec(self.task_id.key, self.func, self.conf, gate, self.retriable_exceptions))
        return self._spec[1]

    @property
    def retriable_exceptions(self) -> tuple[type[Exception], ...]:
        """What is no fault of the trigger."""
        return (RetryError, QueueFullError, StoreError)

    def __str__(self) -> str:
        return f"Task(func={self.task_id.func_name})"

    def __repr__(self) -> str:
        return f"FiringTask({self.firing.trigger.id})"


class StrangeFiring(Task[Any, Any]):
    """Stands for the firings of a trigger that this process does not know, or that is gone: they can be looked at, not run."""

    def __init__(self, app: Pynenc, key: str) -> None:
        self.app = app
        self.task_id = TaskId.from_key(key)
        self.func = app.engine.triggers.spec(key).func
        self.options = Options(self, {})
        self.conf = app.task_conf(self.task_id, {})

    @property
    def spec(self) -> TaskSpec:
        """What is needed to read their values."""
        return self.app.engine.triggers.spec(self.task_id.key)


def firing_task(app: Pynenc, key: str, there: dict[str, Any]) -> Task[Any, Any]:
    """The internal task of a name, whose triggered task is imported when needed."""
    if key not in there:
        with suppress(ValueError):
            app.get_task(key.removeprefix(FIRING).rpartition(".")[0])
    return there.get(key) or StrangeFiring(app, key)


def add_triggers(app: Pynenc, task: Task[Any, Any], there: dict[str, Any]) -> dict[str, Task[Any, Any]]:
    """Build the triggers of a task; their internal tasks by name, added to those that are ``there``.

    :raises TriggerError: one has no condition or a key that is no parameter of the task, or two have the same name.
    """
    builders = task.conf.triggers or ()
    triggers = [builder.build(task.task_id, number) for number, builder in enumerate(builders, start=1)]
    for trigger in triggers:
        if sum(each.id == trigger.id for each in triggers) > 1:
            raise TriggerError(f"there are two triggers {trigger.id}: give one another name")
        _check_keys(trigger, task)
    made: dict[str, Task[Any, Any]] = {trigger.key: FiringTask(app, task, trigger) for trigger in triggers}
    there |= made
    return made


def _check_keys(trigger: Trigger, task: Task[Any, Any]) -> None:
    """Refuse a key that names no argument: it would be one key for all causes."""
    for limit in trigger.limits:
        if not isinstance(name := limit.key.by, str):
            continue
        parameters = signature(task.func).parameters
        if name not in parameters and not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
            raise TriggerError(
                f"the key of {trigger.id} ({limit.describe()}) is no parameter of {task.task_id.key}{suggestion(name, parameters)}"
            )
