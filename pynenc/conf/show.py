"""The rows of ``pynenc config show``: every value and where it came from, secrets redacted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.config_task import ConfigTask
from pynenc.conf.legacy import PARTS
from pynenc.conf.location import redact_url
from pynenc.conf.resolver import Sources, environment_task
from pynenc.conf.section import Section
from pynenc.conf.values import suggestion

HIDDEN_UNLESS_SET = frozenset((*PARTS, "sqlite_db_path"))


class Row(NamedTuple):
    """One setting, as text."""

    section: str
    field: str
    value: str
    origin: str
    doc: str


def rows(conf: ConfigPynenc) -> list[Row]:
    """All settings of an app, section by section; older settings only when they are set. For those of single tasks see :func:`task_rows`."""
    return [row for section in conf.sections for row in _rows(section)]


def task_rows(conf: ConfigPynenc, tasks: Iterable[tuple[str, str, ConfigTask]]) -> Iterator[Row]:
    """What holds for single tasks (module, function, configuration) and not for all.

    What speaks of a task that is not among them has no effect, which its origin tells.
    """
    names = set()
    for module, func, own in tasks:
        names |= {f"{module}.{func}", environment_task(module, func)}
        for field, declared in own.settings.items():
            if own.origin(field) != conf.task.origin(field):
                value = _written(getattr(own, field))
                yield Row(f"task {module}.{func}", field, value, own.origin(field), declared.doc)
    if conf.sources:
        yield from _without_effect(conf.sources, names)


def _without_effect(sources: Sources, names: set[str]) -> Iterator[Row]:
    for tables in (sources.file, sources.code, sources.environment):
        for key, layer in tables.tasks.items():
            if key not in names:
                note = f" (no effect: there is no such task{suggestion(key, (name for name in names if '.' in name))})"
                for field, found in layer.items():
                    doc = ConfigTask.settings[field].doc
                    yield Row(f"task {key}", field, _written(found.value), found.origin + note, doc)


def _rows(section: Section) -> Iterator[Row]:
    for name, value in section.values().items():
        declared = section.settings[name]
        if declared.single or (name in HIDDEN_UNLESS_SET and not value):
            continue
        yield Row(section.section, name, show_value(section, name), section.origin(name), declared.doc)


def show_value(section: Section, name: str) -> str:
    """A value as people write it; secrets are replaced."""
    value = getattr(section, name)
    if name == "store":
        return redact_url(str(value))
    if section.settings[name].secret:
        return f"*** ({len(value)})" if value else ""
    return _written(value)


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, type):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(_written, value))
    return str(value)
