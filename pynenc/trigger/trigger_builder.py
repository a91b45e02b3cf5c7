"""``TriggerBuilder``: say when a task is called, and with what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, TypeAlias

from pynenc.core.status import REACTED, InvocationStatus
from pynenc.exceptions import TriggerError
from pynenc.trigger.arguments import (
    ArgumentProvider,
    StaticArguments,
    TriggerContextProvider,
    event_arguments,
    exception_arguments,
    result_arguments,
    status_arguments,
)
from pynenc.trigger.conditions.base import Condition, TriggerContext
from pynenc.trigger.conditions.composite import CompositeCondition
from pynenc.trigger.conditions.cron import CronCondition, IntervalCondition
from pynenc.trigger.conditions.event import EventCondition, EventContext
from pynenc.trigger.conditions.exception import ExceptionCondition, ExceptionContext
from pynenc.trigger.conditions.result import ResultCondition, ResultContext
from pynenc.trigger.conditions.status import StatusCondition, StatusContext
from pynenc.trigger.filters import make_filter
from pynenc.trigger.functions import check_class, checked
from pynenc.trigger.schedule import MISFIRES
from pynenc.trigger.trigger import Debounce, Key, Throttle, Trigger

Misfire: TypeAlias = Literal["skip", "once", "all"]
#: A dict of keys that must be equal, or a module-level function of the value.
FilterLike: TypeAlias = Mapping[str, Any] | Callable[[Any], object] | None
Statuses: TypeAlias = InvocationStatus | str | Iterable[InvocationStatus | str]
ExceptionLike: TypeAlias = type[BaseException] | str
KeyLike: TypeAlias = str | Callable[[TriggerContext], object] | None

_UNHEARD = (
    "it is passed many times a second, in batches that no transaction of their own stands for, "
    "so it cannot be reacted to exactly once"
)


class TriggerBuilder:
    """Collects conditions, arguments and limits; given to a task as ``triggers=``, which builds it. Every method but ``build`` gives the builder back.

    Several conditions must all hold (``with_logic("or")``: one is enough). Without arguments the task is called with none.

    :raises TriggerError: by any method: what it is told makes no sense.
    """

    def __init__(self) -> None:
        self._conditions: list[Condition] = []
        self._logic = "and"
        self._within: float | None = None
        self._providers: list[ArgumentProvider] = []
        self._debounce: Debounce | None = None
        self._throttle: Throttle | None = None
        self._name: str | None = None

    def __repr__(self) -> str:
        return f"<TriggerBuilder {self.condition().describe() if self._conditions else 'without conditions'}>"

    # -- conditions ----------------------------------------------------------------------------------------------------
    def on_cron(self, expr: str, tz: str = "UTC", misfire: Misfire = "once") -> Self:
        """The times of a cron expression: ``minute hour day month weekday``, with seconds in front when there are six fields.

        :param misfire: when no runner was there in time: ``once`` makes up for all missed ticks with one firing, ``all`` with one for each (the latest, see the
            setting ``trigger_catch_up``), ``skip`` with none.
        """
        return self._add_schedule(CronCondition(_misfire(misfire), expr, tz))

    def on_interval(self, seconds: float, misfire: Misfire = "once") -> Self:
        """Every so many seconds, counted from the Unix epoch, so that all processes tick together."""
        return self._add_schedule(IntervalCondition(_misfire(misfire), seconds))

    def _add_schedule(self, condition: CronCondition | IntervalCondition) -> Self:
        _ = condition.schedule  # says now what is wrong with it
        return self.add_condition(condition)

    def on_event(self, event_code: str, payload_filter: FilterLike = None) -> Self:
        """``app.trigger.emit_event(event_code, payload)`` with a payload that the filter wants."""
        if not event_code or not event_code.isprintable():
            raise TriggerError(f"the code of an event is a printable text, not {event_code!r}")
        return self.add_condition(EventCondition(event_code, make_filter(payload_filter, "payload filter")))

    def on_status(
        self, task: Any, statuses: Statuses = InvocationStatus.SUCCESS, call_arguments: FilterLike = None
    ) -> Self:
        """An invocation of ``task`` (or its name) gets one of these statuses: any final one, RETRY or PAUSED.

        :param call_arguments: which calls: a dict of arguments that must be equal, or a function of all arguments by name.
        """
        chosen = make_filter(call_arguments, "argument filter")
        return self.add_condition(StatusCondition(_task(task), chosen, _statuses(statuses)))

    def on_result(self, task: Any, filter_result: Any, call_arguments: FilterLike = None) -> Self:
        """An invocation of ``task`` returns what is wanted: a function of the result, a dict of keys that must be equal, or the value itself."""
        wanted, chosen = make_filter(filter_result, "result filter"), make_filter(call_arguments, "argument filter")
        return self.add_condition(ResultCondition(_task(task), chosen, wanted))

    def on_any_result(self, task: Any, call_arguments: FilterLike = None) -> Self:
        """An invocation of ``task`` returns."""
        return self.on_result(task, None, call_arguments)

    def on_exception(
        self,
        task: Any,
        exception_types: ExceptionLike | Iterable[ExceptionLike] | None = None,
        call_arguments: FilterLike = None,
    ) -> Self:
        """An invocation of ``task`` fails for good, with one of these exceptions or a subclass: classes or names; any if none is given."""
        several = [exception_types] if isinstance(exception_types, type | str) else list(exception_types or ())
        chosen = make_filter(call_arguments, "argument filter")
        return self.add_condition(ExceptionCondition(_task(task), chosen, tuple(map(_exception, several))))

    def add_condition(self, condition: Condition | TriggerBuilder) -> Self:
        """A condition, or those of another builder as one of these."""
        if isinstance(condition, TriggerBuilder):
            condition = condition._as_part()
        if not isinstance(condition, Condition):
            raise TriggerError(f"a condition or a TriggerBuilder is needed, not {condition!r:.80}")
        self._conditions.append(condition)
        return self

    def with_logic(self, logic: Literal["and", "or"], within: float | None = None) -> Self:
        """Whether all conditions must hold or one of them.

        :param within: for ``and``: the most seconds between the first and the last of the causes; None for any number.
        """
        if logic.lower() not in ("and", "or"):
            raise TriggerError(f"the logic of several conditions is 'and' or 'or', not {logic!r}")
        if within is not None and not within > 0:
            raise TriggerError(f"'within' is a positive number of seconds, not {within!r}")
        if within is not None and logic.lower() == "or":
            raise TriggerError("'within' goes with 'and': of several conditions joined by 'or' one is enough")
        self._logic, self._within = logic.lower(), within
        return self

    # -- arguments -----------------------------------------------------------------------------------------------------
    def with_args_static(self, arguments: Mapping[str, Any]) -> Self:
        """The same arguments each time."""
        if not isinstance(arguments, Mapping):
            raise TriggerError(f"static arguments are a dict by name, not {arguments!r:.80}")
        return self.with_args_provider(StaticArguments(dict(arguments)))

    def with_args_from_event(self, fn: Callable[[EventContext], Mapping[str, Any]]) -> Self:
        """Arguments that a function makes of the event."""
        return self.with_args_provider(event_arguments(fn))

    def with_args_from_status(self, fn: Callable[[StatusContext], Mapping[str, Any]]) -> Self:
        """Arguments that a function makes of the invocation whose status has changed."""
        return self.with_args_provider(status_arguments(fn))

    def with_args_from_result(self, fn: Callable[[ResultContext], Mapping[str, Any]]) -> Self:
        """Arguments that a function makes of a result."""
        return self.with_args_provider(result_arguments(fn))

    def with_args_from_exception(self, fn: Callable[[ExceptionContext], Mapping[str, Any]]) -> Self:
        """Arguments that a function makes of an exception."""
        return self.with_args_provider(exception_arguments(fn))

    def with_args_from_trigger_context(self, fn: Callable[[TriggerContext], Mapping[str, Any]]) -> Self:
        """Arguments that a function makes of all conditions that hold."""
        return self.with_args_provider(TriggerContextProvider(fn))

    def with_args_provider(self, p: ArgumentProvider) -> Self:
        """Arguments from an object of your own. Several providers are merged, later ones win."""
        if not isinstance(p, ArgumentProvider):
            raise TriggerError(f"an argument provider is an ArgumentProvider, not {p!r:.80}: derive a class from it")
        check_class(type(p), "argument provider")
        self._providers.append(p)
        return self

    # -- limits --------------------------------------------------------------------------------------------------------
    def debounce(self, seconds: float, key: KeyLike = None) -> Self:
        """Wait until no further cause has come for so many seconds, then fire for the last one.

        :param key: causes of different keys do not touch one another: the name of an argument of the triggered task, or a function of the trigger context.
        """
        self._debounce = Debounce(_positive(seconds, "debounce"), _key(key))
        return self

    def throttle(self, n: int, seconds: float, key: KeyLike = None) -> Self:
        """Fire at most ``n`` times in any window of so many seconds; what is more is not fired. ``key`` as in :meth:`debounce`."""
        if n < 1:
            raise TriggerError(f"a throttle lets a positive number of firings pass, not {n!r}")
        self._throttle = Throttle(n, _positive(seconds, "throttle"), _key(key))
        return self

    # -- the end -------------------------------------------------------------------------------------------------------
    def named(self, name: str) -> Self:
        """A name of its own among the triggers of its task. Without one it is numbered, and another order of the triggers gives each another identity."""
        if not name.isidentifier():
            raise TriggerError(f"the name of a trigger is a Python identifier, not {name!r}")
        self._name = name
        return self

    def condition(self) -> Condition:
        """The conditions so far as one.

        :raises TriggerError: there is none.
        """
        if not self._conditions:
            raise TriggerError("a trigger needs a condition, such as .on_cron('0 6 * * *') or .on_event('order.paid')")
        if len(self._conditions) == 1:
            return self._conditions[0]
        return CompositeCondition(self._logic, tuple(self._conditions), self._within)

    def _as_part(self) -> Condition:
        if self._providers or self._debounce or self._throttle or self._name:
            raise TriggerError(
                "a builder inside another one brings conditions only: give the outer one arguments, limits and name"
            )
        return self.condition()

    def build(self, task_id: object, number: int = 1) -> Trigger:
        """The trigger of a task; tasks do this with what they are given as ``triggers=``.

        :param number: its place among those of the task, which makes its name if it has none.
        """
        task = getattr(task_id, "key", None) or str(task_id)
        name = self._name or f"trigger{number}"
        return Trigger(f"{task}.{name}", task, self.condition(), tuple(self._providers), self._debounce, self._throttle)


# -- one condition -------------------------------------------------------------------------------------------------------
def on_cron(expr: str, tz: str = "UTC", misfire: Misfire = "once") -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_cron`."""
    return TriggerBuilder().on_cron(expr, tz, misfire)


def on_interval(seconds: float, misfire: Misfire = "once") -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_interval`."""
    return TriggerBuilder().on_interval(seconds, misfire)


def on_event(event_code: str, payload_filter: FilterLike = None) -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_event`."""
    return TriggerBuilder().on_event(event_code, payload_filter)


def on_status(
    task: Any, statuses: Statuses = InvocationStatus.SUCCESS, call_arguments: FilterLike = None
) -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_status`."""
    return TriggerBuilder().on_status(task, statuses, call_arguments)


def on_result(task: Any, filter_result: Any, call_arguments: FilterLike = None) -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_result`."""
    return TriggerBuilder().on_result(task, filter_result, call_arguments)


def on_any_result(task: Any, call_arguments: FilterLike = None) -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_any_result`."""
    return TriggerBuilder().on_any_result(task, call_arguments)


def on_exception(
    task: Any,
    exception_types: ExceptionLike | Iterable[ExceptionLike] | None = None,
    call_arguments: FilterLike = None,
) -> TriggerBuilder:
    """A builder with :meth:`TriggerBuilder.on_exception`."""
    return TriggerBuilder().on_exception(task, exception_types, call_arguments)


# -- what people write ---------------------------------------------------------------------------------------------------
def _task(task: Any) -> str:
    """The key of a task: the task itself, a direct task, a task id, or its dotted name."""
    task = getattr(task, "__pynenc_task__", task)
    key = getattr(getattr(task, "task_id", task), "key", task)
    if not isinstance(key, str) or "." not in key:
        raise TriggerError(f"a task or its name (module.function) is needed, not {task!r:.80}")
    return key


def _statuses(statuses: Statuses) -> frozenset[InvocationStatus]:
    several = [statuses] if isinstance(statuses, str) else list(statuses)
    found = set()
    for each in several:
        try:
            found.add(InvocationStatus(str(each).lower()))
        except ValueError as error:
            raise TriggerError(f"there is no status {each!r}; triggers hear of {_listed(REACTED)}") from error
    if unheard := found - REACTED:
        raise TriggerError(f"no trigger hears of {_listed(unheard)}: {_UNHEARD}; use one of {_listed(REACTED)}")
    if not found:
        raise TriggerError(f"name at least one status of {_listed(REACTED)}")
    return frozenset(found)


def _listed(statuses: Iterable[InvocationStatus]) -> str:
    return ", ".join(sorted(each.name for each in statuses))


def _exception(each: object) -> str:
    if isinstance(each, type) and issubclass(each, BaseException):
        return each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
    if isinstance(each, str) and all(part.isidentifier() for part in each.split(".")):
        return each.removeprefix("builtins.")
    raise TriggerError(f"exception classes or their names are needed, not {each!r:.80}")


def _misfire(policy: str) -> str:
    if policy not in MISFIRES:
        raise TriggerError(f"misfire is one of {', '.join(MISFIRES)}, not {policy!r}")
    return policy


def _positive(seconds: float, what: str) -> float:
    if not seconds > 0:
        raise TriggerError(f"{what} needs a positive number of seconds, not {seconds!r}")
    return float(seconds)


def _key(key: KeyLike) -> Key:
    return Key(checked(key, "key function") if callable(key) else key)
