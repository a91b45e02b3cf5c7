"""The settings of an app: ``app.conf``, with the other sections inside (``app.conf.runner.threads``)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pynenc.conf.config_client_data_store import ConfigClientDataStore
from pynenc.conf.config_runner import ConfigRunner
from pynenc.conf.config_sqlite import ConfigSqlite
from pynenc.conf.config_task import ConfigTask
from pynenc.conf.location import store_url
from pynenc.conf.section import Section, setting
from pynenc.conf.values import (
    Parser,
    boolean,
    choice,
    duration,
    key_bytes,
    member,
    nearest,
    optional,
    several,
    size,
    text,
    whole,
)
from pynenc.exceptions import ConfigError

if TYPE_CHECKING:
    from pynenc.conf.resolver import Sources

__all__ = ["ArgumentPrintMode", "ConfigPynenc", "LogFormat"]

RUNNERS = ("MultiThreadRunner", "PersistentProcessRunner", "ProcessRunner", "ThreadRunner", "DummyRunner")
SERIALIZERS = {
    "json": "json",
    "jsonserializer": "json",
    "pickle": "pickle",
    "pickleserializer": "pickle",
}
LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


class ArgumentPrintMode(StrEnum):
    """How much of the arguments of a call its log lines and pages show."""

    FULL = "full"
    KEYS = "keys"
    TRUNCATED = "truncated"
    HIDDEN = "hidden"


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


def _class_name(value: object) -> str:
    """A class, or the name of one; our own classes go by their bare names."""
    if isinstance(value, type):
        is_ours = value.__module__.partition(".")[0] == "pynenc"
        return value.__name__ if is_ours else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str) and all(part.isidentifier() for part in value.strip().split(".")):
        return value.strip()
    raise ValueError("a class or the name of one")


def _runner_cls(value: object) -> str:
    name = _class_name(value)
    if "." in name or name in RUNNERS:
        return name
    close = nearest(name, RUNNERS)
    hint = f"; did you mean {close!r}?" if close else ""
    raise ValueError(f"one of {', '.join(RUNNERS)}, or a dotted name{hint}")


def _serializer(value: object) -> str:
    name = _class_name(value)
    if "jsonpickle" in name.lower():
        raise ValueError(
            "json or pickle. JsonPickleSerializer is not offered: reading its data runs whatever code the data names. "
            "Use json (which keeps dataclasses, enums, dates and more) or, if you must, pickle with 'signing_keys'"
        )
    known = SERIALIZERS.get(name.lower())
    if known or "." in name:
        return known or name
    raise ValueError("json or pickle, or the dotted name of a serializer class")


def _level(value: object) -> str:
    """The name of a logging level, from its name or number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = LEVELS.get(value, "")
    return choice(*LEVELS.values())(value).upper()


def _colors(value: object) -> bool | None:
    return None if isinstance(value, str) and value.strip().lower() == "auto" else optional(boolean)(value)


def _legacy(doc: str) -> str:
    return setting("", _optional_class, f"Older setting, {doc}; use 'store'.", flat=True)


def _optional_class(value: object) -> str:
    return "" if value in (None, "") else _class_name(value)


def _spec(value: object) -> str | None:
    parse: Parser[str | None] = optional(text())
    return parse(value)


class ConfigPynenc(Section, section="pynenc"):
    """What an app is told; fields are assignable. Sizes are bytes, times seconds."""

    app_id: str = setting("pynenc", text(), "Name that keeps apps apart which share a store.")
    store: str = setting(
        "", store_url, "Store URL; without it, SQLite in .pynenc/<app_id>.db of the project.", secret=True
    )
    runner_cls: str = setting(
        "MultiThreadRunner", _runner_cls, "Runner class; the default runs a process per CPU with eight threads each."
    )
    serializer: str = setting("json", _serializer, "json, or pickle with signing_keys.", aliases=("serializer_cls",))
    dev_mode_force_sync_tasks: bool = setting(
        False, boolean, "Run calls in the caller when they are made.", aliases=("dev_mode_force_sync_task",)
    )
    imports: tuple[str, ...] = setting((), several(text()), "Modules with tasks that a runner imports.")
    trigger_task_modules: tuple[str, ...] = setting((), several(text()), "Modules whose triggers a runner declares.")
    trigger_catch_up: int = setting(
        100, whole(minimum=1), "Most missed ticks of a schedule that are made up for when its misfire policy is all."
    )
    trigger_tolerance: float = setting(
        60.0, duration(), "Seconds that a tick may be late when its misfire policy is skip."
    )
    trigger_ttl: float = setting(
        86400.0, duration(), "Seconds that the decisions of triggers are kept; 0 keeps them for ever."
    )
    allowed_types: tuple[str, ...] = setting((), several(text()), "Modules whose data classes may be decoded.")
    app: str | None = setting(None, _spec, "The app that the command line uses: module, module:attr or a file.")
    logging_level: str = setting("INFO", _level, "Level of the runner's log.", aliases=("log_level",))
    log_format: LogFormat = setting(LogFormat.TEXT, member(LogFormat), "text or json.", aliases=("logging_format",))
    log_colors: bool | None = setting(
        None, _colors, "Colour in the log; auto when it goes to a terminal.", aliases=("logging_colors",)
    )
    log_stream: str = setting("stderr", choice("stderr", "stdout"), "stderr or stdout.", aliases=("logging_stream",))
    otel: bool = setting(False, boolean, "Make OpenTelemetry spans and metrics (extra: otel).")
    argument_print_mode: ArgumentPrintMode = setting(
        ArgumentPrintMode.TRUNCATED, member(ArgumentPrintMode), "How much of the arguments logs and pages show."
    )
    truncate_arguments_length: int = setting(32, whole(minimum=1), "Characters per argument for TRUNCATED.")
    redact: tuple[str, ...] = setting((), several(text()), "Arguments of any task whose values are never shown.")
    signing_keys: tuple[bytes, ...] = setting(
        (), several(key_bytes), "Keys that sign payloads: the first signs, all verify.", secret=True
    )
    max_inline_argument: int = setting(256 * 1024, size, "Bytes of one argument above which it goes to the data store.")
    max_arguments: int = setting(
        64 * 2**20, size, "Most bytes of all arguments of a call, without values in the data store."
    )
    max_result: int = setting(64 * 2**20, size, "Most bytes of a result.")
    max_depth: int = setting(64, whole(minimum=1, maximum=900), "Deepest nesting of an argument or result.")
    max_traceback: int = setting(64 * 1024, size, "Bytes of traceback text that are kept.")
    max_queue_length: int = setting(0, whole(), "Most unfinished invocations of a queue; 0 for no limit.")
    queue_full: str = setting("raise", choice("raise", "block"), "What a call does when its queue is full.")
    max_pending_seconds: float = setting(
        5.0, duration(exclusive=True), "Seconds that claimed work may wait to start before it is given back."
    )
    orchestrator_cls: str = _legacy("the class that kept the order of work")
    broker_cls: str = _legacy("the class that kept the queue")
    state_backend_cls: str = _legacy("the class that kept the results")
    client_data_store_cls: str = _legacy("the class that kept large values")
    trigger_cls: str = _legacy("the class that kept triggers")

    #: Defaults of all tasks; fixed, assign on the task itself.
    task: ConfigTask
    runner: ConfigRunner
    client_data_store: ConfigClientDataStore
    sqlite: ConfigSqlite
    _sources: Sources | None

    def __init__(self) -> None:
        super().__init__()
        self.attach(ConfigTask(), ConfigRunner(), ConfigClientDataStore(), ConfigSqlite(), None)

    @classmethod
    def resolve(
        cls, values: Mapping[str, object] | None = None, filepath: str | None = None, app_file: str | None = None
    ) -> ConfigPynenc:
        """The configuration of an app; see :func:`~pynenc.conf.app_conf.resolve_app_conf`."""
        from pynenc.conf.app_conf import resolve_app_conf  # knows all the sections, this one too

        return resolve_app_conf(values, filepath, app_file)

    def for_task(self, module: str, func: str, options: Mapping[str, object]) -> ConfigTask:
        """The options of one task: its decorator's, with what file and environment say of it.

        :raises ConfigError: a bad value, or two that contradict each other.
        """
        from pynenc.conf.app_conf import resolve_task_conf

        return resolve_task_conf(module, func, options, self._sources)

    def attach(
        self,
        task: ConfigTask,
        runner: ConfigRunner,
        client_data_store: ConfigClientDataStore,
        sqlite: ConfigSqlite,
        sources: Sources | None,
    ) -> None:
        """Put the other sections in; ``sources`` answers later questions (other runners, tasks)."""
        task.freeze("it is the default of all tasks; assign task.conf of each, or set it when the app is built")
        self.__dict__.update(
            task=task, runner=runner, client_data_store=client_data_store, sqlite=sqlite, _sources=sources
        )

    @property
    def sources(self) -> Sources | None:
        """What the environment, the file and the constructor said; None for bare defaults."""
        return self._sources

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, this one first."""
        return (self, self.task, self.runner, self.client_data_store, self.sqlite)

    @property
    def store_url(self) -> str:
        """The URL of the store, with what ``[sqlite]`` says about it unless the URL says so itself."""
        chosen = self.sqlite.synchronous
        if not self.store.startswith("sqlite:") or chosen == "normal" or "synchronous=" in self.store:
            return self.store
        return f"{self.store}{'&' if '?' in self.store else '?'}synchronous={chosen}"

    def runner_for(self, class_name: str) -> ConfigRunner:
        """The settings for a runner of this class: ``[runner]``, then the table of its own name, then what was assigned."""
        fresh = self._sources.section(ConfigRunner, class_name) if self._sources else ConfigRunner()
        fresh.assign(self.runner.assigned())
        return fresh

    def update(self, state: Mapping[str, Any]) -> None:
        """Become like the app configuration that gave ``state``; the sections inside stay the same objects."""
        inside = {each.section: each for each in self.sections[1:]}
        for name, each in inside.items():
            each.update(state[name].to_dict())
        super().update({**state, **inside})

    def check(self) -> None:
        """Pickle is only read when it is signed."""
        if self.serializer == "pickle" and not self.signing_keys:
            raise ConfigError(
                f"serializer is pickle ({self.origin('serializer')}) but 'signing_keys' is empty: "
                "unpickling data that anybody may have written runs their code; give at least one key"
            )

    def _refuse_frozen(self, field: str) -> None:
        super()._refuse_frozen(field)
        if field.endswith("_cls") and field != "runner_cls":
            raise ConfigError(
                f"{field!r} is an older setting that chooses the store when the app is built: use 'store'"
            )

    def _keep(self, field: str, value: object) -> None:
        if field == "runner_cls":
            fresh = self.runner_for(str(value))
            self.runner.__dict__.update(fresh.values(), _origins=fresh._origins)
        super()._keep(field, value)
