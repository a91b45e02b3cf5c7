"""Classes and modules that settings name."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from pynenc.exceptions import ConfigError


def load_class(name: str, base: type, setting: str) -> Any:
    """The class of a dotted name.

    :param base: what it must be derived from. :param setting: where the name stands, for messages.
    :raises ConfigError: it cannot be imported, or is something else.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting} {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{setting} {name!r} is no {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    return found


def load_module(name: str, setting: str) -> ModuleType:
    """The module of a dotted name, imported.

    :raises ConfigError: it cannot be, for whatever reason.
    """
    try:
        return import_module(name)
    except Exception as error:
        raise ConfigError(f"{name!r} of the setting {setting} cannot be imported: {error!r}") from error
