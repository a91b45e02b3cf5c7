"""Which classes stored data may bring back to life.

Data names a class as ``module:qualified.name``. The gate lets in the classes of the task's annotations, those of modules it
was told to trust, and, if they are loaded already, exceptions of the standard library and data classes of pynenc. A module is
imported only when it is trusted, and a name is followed through the namespaces of modules and classes only, never through
``getattr``: no lazy import, no re-exported stranger, no function. *How* a class is rebuilt is decided by what kind of data
class it is (:mod:`pynenc.serializer.classes`); nothing that data names is ever called.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from pynenc import exceptions
from pynenc.exceptions import SerializationError
from pynenc.serializer.annotations import classes_in


def class_name(cls: type) -> str:
    """The name by which data refers to a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


class TypeGate:
    """The classes that decoding may rebuild; everything it finds out is remembered.

    :param classes: classes that are let in as such, or a function that finds them when first asked.
    :param trusted: dotted names: ``pkg.mod`` trusts that module and everything below, ``pkg.mod:Class`` one class.
    :param modules: names of modules that are trusted without what is below them.
    """

    __slots__ = ("_classes", "_exact", "_known", "_modules", "_named", "_prefixes", "_seen")

    def __init__(
        self,
        classes: Iterable[type] | Callable[[], Iterable[type]] = (),
        trusted: Iterable[str] = (),
        modules: Iterable[str] = (),
    ) -> None:
        names = frozenset(trusted) - {"", "__main__"}
        self._classes = classes
        self._exact = frozenset(name for name in names if ":" in name)
        self._prefixes = tuple(name for name in names if ":" not in name)
        self._modules = frozenset(modules) - {"__main__"}
        self._named: dict[str, type] | None = None
        self._known: dict[str, type] = {}
        self._seen: set[type] = set()

    @classmethod
    def for_task(cls, func: Callable[..., Any], app_module: str, allowed: Iterable[str] = ()) -> TypeGate:
        """The gate of a task: its annotations, its own module, the app's top-level package or module, and ``allowed``."""
        return cls(lambda: classes_in(func), (app_module.partition(".")[0], *allowed), (func.__module__,))

    @classmethod
    def for_app(cls, app_module: str, allowed: Iterable[str] = ()) -> TypeGate:
        """The gate where no task is at hand: the app's top-level package or module, and ``allowed``."""
        return cls((), (app_module.partition(".")[0], *allowed))

    # -- decoding ------------------------------------------------------------------------------------------------------
    def resolve(self, name: str) -> type:
        """The class of a name.

        :raises SerializationError: it is not let in, or is not there.
        """
        return self._known.get(name) or self._resolve(name)

    def _resolve(self, name: str) -> type:
        module, _, qualname = name.partition(":")
        found = self._annotated().get(name)
        if found is None and self._trusts(module, name):
            found = _find(_import(module), qualname, module)
        elif found is None and module.partition(".")[0] == "pynenc":
            found = _find(sys.modules.get(module), qualname, module)
        elif found is None:
            raise SerializationError(_refusal(name))
        if found is None:
            raise SerializationError(
                f"{name} is not there: it was renamed or removed after the value was encoded, or this process runs another version"
            )
        self._known[name] = found
        return found

    def resolve_exception(self, name: str) -> type[Exception] | None:
        """The exception class of a name, or None when it is not let in, is not there or is no :class:`Exception`."""
        try:
            found = self._known.get(name) or _loaded_exception(name) or self.resolve(name)
        except SerializationError:
            return None
        if not issubclass(found, Exception):
            return None
        self._known[name] = found
        return found

    # -- encoding ------------------------------------------------------------------------------------------------------
    def check(self, cls: type) -> None:
        """Make sure that :meth:`resolve` will find a class by its name.

        :raises SerializationError: it will not.
        """
        if cls in self._seen:
            return
        if issubclass(cls, Exception):
            if self.resolve_exception(class_name(cls)) is not cls:
                raise SerializationError(_refusal(class_name(cls)))
        elif self.resolve(class_name(cls)) is not cls:
            raise SerializationError(
                f"{class_name(cls)} names another class now: its module was reloaded, or it was defined twice"
            )
        self._seen.add(cls)

    # -- trust ---------------------------------------------------------------------------------------------------------
    def _annotated(self) -> dict[str, type]:
        if self._named is None:
            classes = self._classes() if callable(self._classes) else self._classes
            self._named = {class_name(cls): cls for cls in classes}
        return self._named

    def _trusts(self, module: str, name: str) -> bool:
        if module in self._modules or name in self._exact:
            return True
        if "__main__" in module.split("."):  # importing it would run it
            return False
        return any(module == prefix or module.startswith(f"{prefix}.") for prefix in self._prefixes)


def _import(module: str) -> object:
    loaded = sys.modules.get(module)
    if loaded is not None:
        return loaded
    try:
        return import_module(module)
    except Exception as error:
        raise SerializationError(f"module {module!r} cannot be imported here: {error!r}") from error


def _find(module: object, qualname: str, module_name: str) -> type | None:
    """The class that the namespaces of a module hold under a dotted name, if it is defined there."""
    found = module
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) and found.__module__ == module_name else None


def _loaded_exception(name: str) -> type | None:
    """Exceptions that every process may raise: builtins, those of pynenc, and of loaded modules of the standard library."""
    module, _, qualname = name.partition(":")
    if module == "builtins":
        return _find(builtins, qualname, module)
    if module == exceptions.__name__:
        return _find(exceptions, qualname, module)
    found = (
        _find(sys.modules.get(module), qualname, module)
        if module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}
        else None
    )
    return found if found is not None and issubclass(found, Exception) else None


def _refusal(name: str) -> str:
    module, _, qualname = name.partition(":")
    return (
        f"{module}.{qualname} is a class that this task may not rebuild: annotate the parameter or the result with it, "
        f"define it in the app's own package, or add {module!r} to the setting allowed_types"
    )
