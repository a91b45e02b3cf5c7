"""A fluent way to say how an app is set up."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

from pynenc.app import Pynenc
from pynenc.conf.config_pynenc import ArgumentPrintMode, LogFormat
from pynenc.conf.location import sqlite_url
from pynenc.core.options import ConcurrencyControlType, Seconds


class RunnerTuning(TypedDict, total=False):
    """The settings of runners, as in :class:`~pynenc.conf.config_runner.ConfigRunner`."""

    name: str | None
    coroutines: int
    queues: tuple[str, ...] | list[str] | str
    queue_policy: Literal["ordered", "round_robin", "weighted"]
    queue_weights: tuple[float, ...] | list[float]
    heartbeat_seconds: Seconds
    lease_seconds: Seconds
    shutdown_timeout: Seconds
    max_tasks_per_child: int
    max_memory_per_child: int | str
    max_claim_ahead: int
    poll_seconds: Seconds
    flush_ms: float
    cancel_grace: Seconds
    burst: bool


class PynencBuilder:
    """Collects settings; :meth:`build` makes the app. Every method but ``build`` gives the builder back.

    What the environment says still wins, and a configuration file fills in the rest. A bad value is reported by ``build``.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def build(self) -> Pynenc:
        """The app.

        :raises ConfigError: a setting is unknown, has a bad value or contradicts another.
        """
        return Pynenc(config_values=self.values())

    def values(self) -> dict[str, Any]:
        """A copy of what was said so far, as ``config_values`` of :class:`~pynenc.app.Pynenc`."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in self._values.items()}

    def _set(self, **values: Any) -> Self:
        self._values.update(values)
        return self

    def _set_in(self, section: str, values: dict[str, Any]) -> Self:
        """Set what was given, leave alone what is None."""
        given = {name: value for name, value in values.items() if value is not None}
        self._values.setdefault(section, {}).update(given)
        return self

    # -- the app and its store ----------------------------------------------------------------------------------------
    def app_id(self, app_id: str) -> Self:
        """The name that keeps apps apart which share a store."""
        return self._set(app_id=app_id)

    def store(self, url: str) -> Self:
        """The store, by URL."""
        return self._set(store=url)

    def memory(self) -> Self:
        """Keep everything in the memory of this process; for tests and for runners on threads."""
        return self.store("memory://")

    def sqlite(self, path: str | PathLike[str] | None = None) -> Self:
        """Keep everything in one file; without a path, the project's default file whatever configuration files say.

        A relative path starts at the folder of the project.
        """
        if path is not None:
            return self.store(sqlite_url(Path(fspath(path))))
        return self.store("sqlite://")

    def postgres(self, url: str) -> Self:
        """Keep everything in PostgreSQL: ``postgresql://user@host/db``."""
        return self.store(url)

    def redis(self, url: str) -> Self:
        """Keep everything in Redis or Valkey: ``redis://host:6379/0``."""
        return self.store(url)

    # -- runners ------------------------------------------------------------------------------------------------------
    def thread_runner(self, min_threads: int = 1, max_threads: int = 0) -> Self:
        """Run tasks on ``max_threads`` threads of one process; 0 takes the setting ``threads``, but at least ``min_threads``."""
        self._set_in("runner", {"min_threads": min_threads, "max_threads": max_threads})
        return self._set(runner_cls="ThreadRunner")

    def process_runner(self, processes: int = 0) -> Self:
        """Run each invocation in a process of its own; at most ``processes`` at once, 0 for one per CPU."""
        self._set_in("runner", {"processes": processes})
        return self._set(runner_cls="ProcessRunner")

    def multi_thread_runner(self, processes: int = 0, threads: int = 8) -> Self:
        """Run tasks on threads of several processes; ``processes=0`` for one per CPU."""
        self._set_in("runner", {"processes": processes, "threads": threads})
        return self._set(runner_cls="MultiThreadRunner")

    def persistent_process_runner(self, num_processes: int = 0) -> Self:
        """Run tasks one at a time in processes that stay; 0 for one per CPU."""
        self._set_in("runner", {"processes": num_processes})
        return self._set(runner_cls="PersistentProcessRunner")

    def runner_tuning(self, **settings: Unpack[RunnerTuning]) -> Self:
        """Set details of the runner by name, such as ``lease_seconds=30``."""
        return self._set_in("runner", dict(settings))

    def max_pending_seconds(self, seconds: Seconds) -> Self:
        """How long claimed work may wait to start before it is given back."""
        return self._set(max_pending_seconds=seconds)

    # -- behaviour ----------------------------------------------------------------------------------------------------
    def dev_mode(self, force_sync_tasks: bool = True) -> Self:  # noqa: FBT001, FBT002  # reads as a statement
        """Run calls in their caller when they are made; for development only."""
        return self._set(dev_mode_force_sync_tasks=force_sync_tasks)

    def concurrency_control(
        self,
        running_concurrency: ConcurrencyControlType | str | None = None,
        registration_concurrency: ConcurrencyControlType | str | None = None,
        *,
        running_limit: int | None = None,
        reroute_on_concurrency_control: bool | None = None,
    ) -> Self:
        """Set the concurrency control of tasks whose decorators do not."""
        return self._set_in(
            "task",
            {
                "running_concurrency": running_concurrency,
                "registration_concurrency": registration_concurrency,
                "running_limit": running_limit,
                "reroute_on_concurrency_control": reroute_on_concurrency_control,
            },
        )

    def trigger_task_modules(self, *modules: str | list[str] | tuple[str, ...] | set[str]) -> Self:
        """Modules whose triggers a runner declares."""
        named = [name for each in modules for name in ([each] if isinstance(each, str) else sorted(each))]
        return self._set(trigger_task_modules=tuple(named))

    # -- values -------------------------------------------------------------------------------------------------------
    def serializer_json(self) -> Self:
        """Encode values as JSON that keeps their types (the default)."""
        return self._set(serializer="json")

    def serializer_pickle(self, key: str | bytes) -> Self:
        """Encode values with pickle, signed with ``key``; every process of the app needs the same key."""
        return self._set(serializer="pickle", signing_keys=(key,))

    def client_data_store(
        self,
        *,
        min_size_to_cache: int | str | None = None,
        max_size_to_cache: int | str | None = None,
        local_cache_size: int | None = None,
    ) -> Self:
        """Keep large values once, by content; sizes in bytes or text such as ``"1MB"``."""
        return self._set_in(
            "client_data_store",
            {
                "disabled": False,
                "min_size_to_cache": min_size_to_cache,
                "max_size_to_cache": max_size_to_cache,
                "local_cache_size": local_cache_size,
            },
        )

    def disable_client_data_store(self) -> Self:
        """Keep every value inline."""
        return self._set_in("client_data_store", {"disabled": True})

    # -- log ----------------------------------------------------------------------------------------------------------
    def logging(
        self,
        level: str | int | None = None,
        *,
        stream: str | None = None,
        colors: bool | None = None,
        format: LogFormat | str | None = None,  # noqa: A002  # the word that people look for
    ) -> Self:
        """Several of the following at once; None leaves one alone."""
        given = {"logging_level": level, "log_stream": stream, "log_colors": colors, "log_format": format}
        return self._set(**{name: value for name, value in given.items() if value is not None})

    def logging_level(self, level: str | int) -> Self:
        """``debug``, ``info``, ``warning``, ``error`` or ``critical``."""
        return self._set(logging_level=level)

    def logging_stream(self, stream: Literal["stderr", "stdout"]) -> Self:
        """Where log lines go."""
        return self._set(log_stream=stream)

    def logging_colors(self, colors: bool | None = True) -> Self:  # noqa: FBT001, FBT002  # reads as a statement
        """Colour in the log; None for only when it goes to a terminal."""
        return self._set(log_colors="auto" if colors is None else colors)

    def logging_format(self, format: LogFormat | str) -> Self:  # noqa: A002  # the word that people look for
        """``text`` or ``json``."""
        return self._set(log_format=format)

    def argument_print_mode(self, mode: ArgumentPrintMode | str, truncate_length: int | None = None) -> Self:
        """How much of the arguments logs and pages show; ``truncate_length`` in characters per argument."""
        self._set(argument_print_mode=mode)
        return self if truncate_length is None else self._set(truncate_arguments_length=truncate_length)

    # -- the rest -----------------------------------------------------------------------------------------------------
    def custom_config(self, **settings: Any) -> Self:
        """Any setting by name, or by section as a dict: ``custom_config(redact=["token"], runner={"threads": 4})``."""
        for name, value in settings.items():
            if isinstance(value, dict):
                self._values.setdefault(name, {}).update(value)
            else:
                self._set(**{name: value})
        return self
