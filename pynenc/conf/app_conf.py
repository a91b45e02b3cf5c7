"""Composition: the sections of this library, and how an app and its tasks get theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pynenc.conf.config_client_data_store import ConfigClientDataStore
from pynenc.conf.config_pynenc import RUNNERS, ConfigPynenc
from pynenc.conf.config_runner import ConfigRunner
from pynenc.conf.config_sqlite import ConfigSqlite
from pynenc.conf.config_task import ConfigTask
from pynenc.conf.files import find_file
from pynenc.conf.legacy import choose_store, legacy_store
from pynenc.conf.location import anchored, default_store_url, project_folder
from pynenc.conf.resolver import PREFIX, Layer, Schema, Sources, Tables, fold, read_environment, read_table
from pynenc.conf.section import Found, Level, Section

SCHEMA = Schema(
    (ConfigPynenc, ConfigTask, ConfigRunner, ConfigClientDataStore, ConfigSqlite), dict.fromkeys(RUNNERS, ConfigRunner)
)


def resolve_app_conf(
    values: Mapping[str, object] | None = None,
    filepath: str | None = None,
    app_module_file: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> ConfigPynenc:
    """The configuration of an app.

    :param values: what code says, by setting, or by section and setting.
    :param filepath: a configuration file, unless ``PYNENC__FILEPATH`` names another.
    :param app_module_file: ``__file__`` of the module that builds the app; None in a REPL.
    :param environ: the environment; that of the process by default.
    :raises ConfigError: an unknown name or bad value, with key, source and the nearest name.
    """
    environ = os.environ if environ is None else environ
    sources = Sources(
        _file_tables(_environment_filepath(environ) or filepath, app_module_file),
        read_table(SCHEMA, _without_none(values or {}), _constructor, Level.CODE),
        read_environment(SCHEMA, environ),
    )
    found = sources.found(ConfigPynenc)
    found["store"] = _store(found, sources, app_module_file)
    conf = ConfigPynenc.of(found)
    conf.attach(
        sources.section(ConfigTask),
        sources.section(ConfigRunner, conf.runner_cls.rpartition(".")[2]),
        sources.section(ConfigClientDataStore),
        sources.section(ConfigSqlite),
        sources,
    )
    return conf


def resolve_task_conf(
    module: str, func: str, options: Mapping[str, object], sources: Sources | None = None
) -> ConfigTask:
    """The configuration of one task, from its decorator's options and the sources of its app (``app.conf.sources``).

    :raises ConfigError: a bad value, or two that contradict each other. Unknown options: see
        :func:`~pynenc.conf.config_task.check_options`, which lists all of them.
    """
    if sources is None:
        empty = Tables(SCHEMA, Level.CODE)
        sources = Sources(empty, empty, empty)
    return sources.task(ConfigTask, module, func, options)


def _without_none(values: Mapping[str, object]) -> dict[str, object]:
    """Arguments left at None say nothing."""
    return {name: value for name, value in values.items() if value is not None}


def _constructor(*keys: str) -> str:
    return "constructor" + (f" [{'.'.join(keys)}]" if keys else "")


def _environment_filepath(environ: Mapping[str, str]) -> str | None:
    wanted = f"{PREFIX}FILEPATH"
    return next((value for name, value in environ.items() if name.upper() == wanted and value), None)


def _file_tables(filepath: str | None, app_module_file: str | None) -> Tables:
    file = find_file(filepath, app_module_file)
    if file is None:
        return Tables(SCHEMA, Level.FILE)
    return read_table(SCHEMA, file.table, file.where, Level.FILE, str(file.path.parent.resolve()))


def _store(found: Layer, sources: Sources, app_module_file: str | None) -> Found:
    """The store that is asked for, in either way; else the default one."""
    app_id = cast("str", found["app_id"].value if "app_id" in found else ConfigPynenc.settings["app_id"].default)
    project = project_folder(app_module_file)
    default = default_store_url(app_id, app_module_file)
    path = sources.found(ConfigSqlite).get("sqlite_db_path")
    chosen = choose_store(found.get("store"), legacy_store(found, path, default, project))
    if chosen is None:
        return Found(default, "default", Level.DEFAULT)
    url = str(chosen.value)
    if url in ("sqlite://", "sqlite:///"):
        return chosen._replace(value=default)
    return chosen._replace(value=anchored(url, Path(chosen.base or project)))


def section_class(name: str) -> type[Section] | None:
    """The class of a section or runner, by any spelling of its name."""
    return SCHEMA.by_name.get(fold(name)) or SCHEMA.by_class.get(fold(name))
