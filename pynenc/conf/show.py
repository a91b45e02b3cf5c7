"""The rows of ``pynenc config show``: every value and where it came from, secrets redacted."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.legacy import PARTS
from pynenc.conf.location import redact_url
from pynenc.conf.section import Section

HIDDEN_UNLESS_SET = frozenset((*PARTS, "sqlite_db_path"))


class Row(NamedTuple):
    """One setting, as text."""

    section: str
    field: str
    value: str
    origin: str
    doc: str


def rows(conf: ConfigPynenc) -> list[Row]:
    """All settings of an app, section by section; older settings only when they are set, those of single tasks not at all."""
    return [row for section in conf.sections for row in _rows(section)]


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
