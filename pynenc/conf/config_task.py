"""The options of a task, live: ``task.conf``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, cast

from pynenc.conf.section import Section, setting
from pynenc.conf.values import (
    boolean,
    choice,
    duration,
    member,
    number,
    optional,
    rate,
    rate_text,
    several,
    suggestion,
    text,
    triggers,
    whole,
)
from pynenc.core.options import ConcurrencyControlType, TaskOptions
from pynenc.exceptions import ConfigError, InvalidTaskOptionsError, RetryError

__all__ = [
    "ConcurrencyControlType",
    "ConfigTask",
    "TaskOptions",
    "check_argument_names",
    "check_effect",
    "check_options",
    "exception_classes",
]

ExceptionRef = type[Exception] | str


def _exception(value: object) -> ExceptionRef:
    """An exception class, or the dotted name of one (of a builtin, its name), which is resolved when first needed."""
    if isinstance(value, type) and issubclass(value, Exception):
        return value
    if isinstance(value, str) and all(part.isidentifier() for part in value.strip().split(".")):
        return value.strip()
    raise ValueError("exception classes or their dotted names")


def _jitter(value: object) -> str:
    """``full`` or ``none``; true and false mean the same."""
    if isinstance(value, bool):
        return "full" if value else "none"
    return choice("full", "none")(value)


class ConfigTask(Section, section="task"):
    """What a task is told about retries, concurrency, queues and time; fields are assignable."""

    parallel_batch_size: int = setting(1000, whole(), "Rows per batch in parallelize; 0 sends one by one.")
    retry_for: tuple[ExceptionRef, ...] = setting(
        (RetryError,),
        several(_exception),
        "Exceptions that are retried: classes or dotted names; RetryError always is.",
    )
    max_retries: int = setting(0, whole(), "How often a failed attempt is tried again.")
    retry_delay: float = setting(0.0, duration(), "Seconds before the first retry.")
    retry_backoff: float = setting(2.0, number(minimum=1.0), "Factor by which the delay grows at each retry.")
    retry_max_delay: float = setting(3600.0, duration(), "Longest delay between retries, in seconds.")
    retry_jitter: str = setting("full", _jitter, "full: a delay is drawn between 0 and its length; none: it is exact.")
    running_concurrency: ConcurrencyControlType = setting(
        ConcurrencyControlType.DISABLED,
        member(ConcurrencyControlType),
        "Which invocations exclude one another while they run.",
    )
    registration_concurrency: ConcurrencyControlType = setting(
        ConcurrencyControlType.DISABLED,
        member(ConcurrencyControlType),
        "Which calls are answered by an invocation that waits already.",
    )
    key_arguments: tuple[str, ...] = setting((), several(text()), "Arguments that form the key for KEYS.")
    running_limit: int = setting(1, whole(minimum=1), "How many may run per key.")
    rate_limit: str | None = setting(
        None, optional(rate_text), "How many may start in a period, such as 100/m; per key when key_arguments are set."
    )
    on_diff_non_key_args_raise: bool = setting(
        False, boolean, "Raise when a registered duplicate has other arguments outside its key."
    )
    reroute_on_concurrency_control: bool = setting(
        True, boolean, "True: a blocked invocation waits for its key. False: it is dropped."
    )
    call_result_cache: bool = setting(False, boolean, "Reuse the latest successful result of the same call.")
    result_ttl: float = setting(
        7 * 86400.0, duration(), "Seconds that final invocations are kept; 0 keeps them for ever."
    )
    disable_cache_args: tuple[str, ...] = setting(
        (), several(text()), "Arguments kept out of the client data store; * keeps all out."
    )
    queue: str = setting("default", text(), "Queue of the task.")
    priority: float = setting(0.0, number(minimum=-100.0, maximum=100.0), "From -100 to 100, higher first.")
    timeout: float | None = setting(
        None, optional(duration(exclusive=True)), "Seconds that one attempt may take; none for no limit."
    )
    max_crashes: int = setting(3, whole(minimum=1), "Crashes of its own process before an invocation fails.")
    on_crash: str = setting("retry", choice("retry", "fail"), "retry: run again after a crash; fail: at most once.")
    expires: float | None = setting(
        None, optional(duration(exclusive=True)), "Seconds after which an invocation that has not started is cancelled."
    )
    inline: bool = setting(False, boolean, "May run in place on the thread of a parent that waits for it.")
    aliases: tuple[str, ...] = setting((), several(text()), "Former names, still accepted.", single=True)
    force_new_workflow: bool = setting(False, boolean, "Always start a new workflow.")
    triggers: tuple[Any, ...] | None = setting(
        None, triggers, "What the task is triggered by: trigger builders.", single=True
    )
    name: str | None = setting(None, optional(text()), "Stable name, whatever the function is called.", single=True)
    tags: tuple[str, ...] = setting((), several(text()), "Labels for search.")
    redact: tuple[str, ...] = setting((), several(text()), "Arguments whose values are never shown.")

    @property
    def rate(self) -> tuple[int, float] | None:
        """The rate limit as (number, period in seconds)."""
        return rate(self.rate_limit) if self.rate_limit is not None else None

    @property
    def has_jitter(self) -> bool:
        """Whether retry delays are spread."""
        return self.retry_jitter == "full"

    def retriable_exceptions(self) -> tuple[type[Exception], ...]:
        """The classes of ``retry_for``, :class:`RetryError` always among them.

        :raises ConfigError: a dotted name leads to no exception class.
        """
        return exception_classes((RetryError, *self.retry_for), self.origin("retry_for"))

    def check(self) -> None:
        """KEYS needs to know the key."""
        for field in ("running_concurrency", "registration_concurrency"):
            if self.__dict__[field] is ConcurrencyControlType.KEYS and not self.key_arguments:
                raise ConfigError(
                    f"{field} is KEYS ({self.origin(field)}) but 'key_arguments' is empty: "
                    "name the arguments that form the key"
                )


def exception_classes(references: Iterable[ExceptionRef], origin: str) -> tuple[type[Exception], ...]:
    """Classes and dotted names → classes, each once.

    :raises ConfigError: a name leads to no exception class.
    """
    found = (each if isinstance(each, type) else _load_exception(each, origin) for each in references)
    return tuple(dict.fromkeys(found))


def _load_exception(name: str, origin: str) -> type[Exception]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module or "builtins"), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"'retry_for' ({origin}) names {name!r}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise ConfigError(f"'retry_for' ({origin}) names {name!r}, which is no exception class")
    return found


def check_options(names: Iterable[str], task_id: str) -> None:
    """Refuse options that do not exist, all of them at once.

    :raises InvalidTaskOptionsError: lists every invalid name with the nearest valid one.
    """
    unknown = (name for name in names if name not in ConfigTask.names)
    refuse_options(unknown, ConfigTask.settings, f"task {task_id}", task_id)


def refuse_options(names: Iterable[str], valid: Collection[str], what: str, task_id: str) -> None:
    """Refuse names that are not ``valid``, all of them at once.

    :raises InvalidTaskOptionsError: lists every invalid name with the nearest valid one.
    """
    from pynenc.conf.values import nearest

    hints = {name: nearest(name, valid) for name in names if name not in valid}
    if not hints:
        return
    listed = ", ".join(f"{name!r} (did you mean {close!r}?)" if close else f"{name!r}" for name, close in hints.items())
    everything = "" if all(hints.values()) else f"; valid options: {', '.join(valid)}"
    raise InvalidTaskOptionsError(f"invalid options for {what}: {listed}{everything}", task_id, list(hints))


def check_argument_names(options: Mapping[str, object], func: Callable[..., object], task_id: str) -> None:
    """Refuse a decorator that speaks of arguments which the function does not have: a wrong key would be one key for all calls, and a
    wrong name in ``redact`` would hide nothing.

    :raises ConfigError: names the option, and the nearest parameter.
    """
    where = f"decorator of {task_id}"
    for option in {"key_arguments", "disable_cache_args", "redact"}.intersection(options):
        parameters = signature(func).parameters
        for name in cast("tuple[str, ...]", ConfigTask.parse(option, options[option], where)):
            if not _may_name(option, name, parameters):
                raise ConfigError(
                    f"{option!r} ({where}) names {name!r}, which is no parameter{suggestion(name, parameters)}"
                )


def check_effect(options: Mapping[str, object], conf: ConfigTask, task_id: str) -> None:
    """Refuse a decorator's option that does nothing, as neither the decorator nor the configuration has what it belongs to.

    :raises ConfigError: names the option, and what is missing.
    """
    where = f"decorator of {task_id}"

    def said(option: str) -> set[object]:
        written = {ConfigTask.parse(option, options[option], where)} if option in options else set()
        return {getattr(conf, option)} | written

    running = said("running_concurrency")
    if "running_limit" in options and running == {ConcurrencyControlType.DISABLED}:
        raise ConfigError(f"'running_limit' ({where}) has no effect without 'running_concurrency'")
    keyed = ConcurrencyControlType.KEYS in running | said("registration_concurrency") or said("rate_limit") != {None}
    if "key_arguments" in options and not keyed:
        raise ConfigError(
            f"'key_arguments' ({where}) has no effect without 'running_concurrency' or 'registration_concurrency' KEYS, or 'rate_limit'"
        )


def _may_name(option: str, name: str, parameters: Mapping[str, Parameter]) -> bool:
    """Whether an option may name this; ``redact`` in any spelling that hides a parameter, and what ``**kwargs`` may hold."""
    if option != "redact":
        return name in parameters or (option, name) == ("disable_cache_args", "*")
    from pynenc.core.printing import is_one_of  # not needed by most programs

    return is_one_of(name, parameters) or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
