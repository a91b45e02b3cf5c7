"""From environment, file and code to live sections.

Theory of operation
-------------------
Settings come in *sections*, the classes ``Config…`` (:mod:`pynenc.conf.section`). What is said about them comes from *sources*: code
(constructor, builder), one file, the environment. Each source is read once, when the app is built, into :class:`Tables`: every key checked,
every value parsed, and remembered with its origin. So a wrong name in a section that nobody uses is found at start, and what is left is merging
dictionaries, low to high::

    default
    file          top of the file < [section] < [class of the runner]
    code          constructor, builder: flat < section
    decorator                                               (tasks only)
    code          "module.func" tables of the constructor   (tasks only)
    file          "module.func" tables                      (tasks only)
    environment   PYNENC__FIELD < PYNENC__SECTION__FIELD < PYNENC__CONFIGTASK__MODULE#FUNC__FIELD
    assignment    on the live object, which is all that counts afterwards

A *flat* name (without a section) is given to every section that knows it. The sections of an app hang together as ``app.conf``
(:class:`~pynenc.conf.config_pynenc.ConfigPynenc`), with ``conf.task``, ``conf.runner``, ``conf.client_data_store`` and ``conf.sqlite`` inside,
and ``conf.sources`` to resolve each task with two dictionary look-ups. All of it can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from pynenc.conf.section import Found, Level, Section, UnknownSettingError, shorten
from pynenc.conf.values import suggestion
from pynenc.exceptions import ConfigError

S = TypeVar("S", bound=Section)
Layer = dict[str, Found]
Where = Callable[..., str]

PREFIX = "PYNENC__"
#: Names of the environment without the double underscore, from the first documentation.
SPECIAL = {
    "PYNENC_DEV_MODE_FORCE_SYNC_TASK": "DEV_MODE_FORCE_SYNC_TASKS",
    "PYNENC_DEV_MODE_FORCE_SYNC_TASKS": "DEV_MODE_FORCE_SYNC_TASKS",
}
#: Variables that start like settings but are read elsewhere.
NOT_SETTINGS = frozenset({"FILEPATH"})


def fold(name: str) -> str:
    """A section or class name as it is compared: ``ConfigClientDataStore`` → ``clientdatastore``."""
    return name.replace("_", "").lower().removeprefix("config")


def environment_task(module: str, func: str) -> str:
    """How the environment spells a task, whichever of its spellings was used."""
    return f"{module}#{func}".replace("#", "__").replace(".", "_").lower()


class Schema:
    """The section classes, and the names under which a source may speak of them."""

    def __init__(self, sections: Iterable[type[Section]], class_sections: Mapping[str, type[Section]]) -> None:
        self.by_name: dict[str, type[Section]] = {fold(each.section): each for each in sections}
        self.by_class = {fold(name): section for name, section in class_sections.items()}
        self.flat: dict[str, list[type[Section]]] = {}
        for section in self.by_name.values():
            for name, field in section.names.items():
                if section.settings[field].flat and not section.settings[field].single:
                    self.flat.setdefault(name, []).append(section)
        self._shown = [section.section for section in self.by_name.values()]

    def section(self, name: str) -> tuple[str, type[Section]] | None:
        """The folded name and the class of a section."""
        folded = fold(name)
        found = self.by_name.get(folded) or self.by_class.get(folded)
        return (folded, found) if found else None

    def unknown(self, name: str, where: str) -> UnknownSettingError:
        """The error for a name that is neither a section nor a flat setting."""
        return UnknownSettingError(f"unknown setting {name!r} ({where}){suggestion(name, [*self.flat, *self._shown])}")

    def unknown_section(self, name: str, where: str) -> UnknownSettingError:
        """The error for a name that stands where a section must."""
        return UnknownSettingError(f"unknown section {name!r} ({where}){suggestion(name, self._shown)}")


class Tables:
    """What one source says: flat settings by section, tables by folded section name, tables by task."""

    def __init__(self, schema: Schema, level: Level, base: str = "") -> None:
        self._schema = schema
        self._level = level
        self._base = base
        self.flat: dict[str, Layer] = {}
        self.sections: dict[str, Layer] = {}
        self.tasks: dict[str, Layer] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_schema": None}

    def add_flat(self, name: str, value: object, where: str) -> None:
        """A setting without a section goes to every section that knows it."""
        known = self._schema.flat.get(name) or self._schema.flat.get(name.lower())
        if known is None:
            raise self._schema.unknown(name, where)
        for section in known:
            self._add(self.flat.setdefault(fold(section.section), {}), section, name, value, where)

    def add(self, folded: str, section: type[Section], name: str, value: object, where: str) -> None:
        """A setting of a section."""
        field = section.field(name, where)
        if section.settings[field].single:
            raise ConfigError(
                f"{field!r} ({where}) belongs to one task, it cannot be the default of all: use a 'module.func' table"
            )
        self._add(self.sections.setdefault(folded, {}), section, name, value, where)

    def add_task(self, task: str, section: type[Section], name: str, value: object, where: str) -> None:
        """A setting of one task."""
        self._add(self.tasks.setdefault(task, {}), section, name, value, where, level=Level.FILE_TASK)

    def _add(
        self, layer: Layer, section: type[Section], name: str, value: object, where: str, *, level: Level | None = None
    ) -> None:
        field = section.field(name, where)
        if field in layer and layer[field].origin == where:
            raise ConfigError(f"{field!r} is given twice ({where}), once as {name!r}: keep one")
        try:
            parsed = section.parse(field, value, where)
        except ConfigError:
            if value == "" and self._level is Level.ENVIRONMENT:
                return  # an empty variable says nothing where nothing is no value
            raise
        layer[field] = Found(parsed, where, level or self._level, self._base)

    def layers(self, section: type[Section], also: str = "") -> Iterator[Layer]:
        """Low to high: flat, the section's table, the table of a class."""
        own = fold(section.section)
        for tables, name in ((self.flat, own), (self.sections, own), (self.sections, fold(also))):
            if found := tables.get(name):
                yield found


def read_table(schema: Schema, table: Mapping[str, object], where: Where, level: Level, base: str = "") -> Tables:
    """Read a file's or constructor's nested table.

    :param where: origin of a table from the keys that lead to it.
    :raises ConfigError: a key is unknown or a value bad.
    """
    found = Tables(schema, level, base)
    for key, value in table.items():
        if not isinstance(key, str):
            raise ConfigError(f"names of settings are texts, not {shorten(key)} ({where()})")
        section = schema.section(key) if isinstance(value, Mapping) or key not in schema.flat else None
        if isinstance(value, Mapping) and section:
            _read_section(found, *section, value, where, key)
        elif isinstance(value, Mapping):
            raise schema.unknown_section(key, where())
        elif section:
            raise ConfigError(f"{key!r} ({where()}) is a section: it must be a table, not {shorten(value)}")
        else:
            found.add_flat(key, value, where())
    return found


def _read_section(
    found: Tables, folded: str, section: type[Section], table: Mapping[str, object], where: Where, key: str
) -> None:
    for name, value in table.items():
        if isinstance(value, Mapping) and section.section == "task":
            _read_task(found, section, (str(name),), value, where, key)
        else:
            found.add(folded, section, str(name), value, where(key))


def _read_task(
    found: Tables, section: type[Section], path: tuple[str, ...], table: Mapping[str, object], where: Where, key: str
) -> None:
    """The table of one task; TOML without quotes nests ``[task.module.func]``, which means the same."""
    if len(path) > 100:
        raise ConfigError(f"tables nest too deeply ({where(key)})")
    task = ".".join(path).replace("#", ".")
    for name, value in table.items():
        if isinstance(value, Mapping):
            _read_task(found, section, (*path, str(name)), value, where, key)
        elif "." not in task:
            raise UnknownSettingError(
                f"unknown setting {task!r} ({where(key)}){suggestion(task, section.settings)}"
                "; the table of a task is named module.function"
            )
        else:
            found.add_task(task, section, str(name), value, where(key, task))


def read_environment(schema: Schema, environ: Mapping[str, str]) -> Tables:
    """Read the variables that start with ``PYNENC__``, in any case.

    :raises ConfigError: a name is unknown or a value bad.
    """
    found = Tables(schema, Level.ENVIRONMENT)
    for variable, value in environ.items():
        upper = variable.upper()
        if upper in SPECIAL:
            found.flat.setdefault("pynenc", {})  # the documented spelling below wins over these
            _add_special(found, SPECIAL[upper], value, variable, environ)
        elif upper.startswith(PREFIX) and upper.removeprefix(PREFIX) not in NOT_SETTINGS:
            _read_variable(found, schema, variable[len(PREFIX) :], value, f"environment {variable}")
    return found


def _add_special(found: Tables, name: str, value: str, variable: str, environ: Mapping[str, str]) -> None:
    """An old spelling counts unless the new one is there too."""
    if not any(other.upper() == PREFIX + name for other in environ) and name.lower() not in found.flat["pynenc"]:
        found.add_flat(name, value, f"environment {variable}")


def _read_variable(found: Tables, schema: Schema, name: str, value: str, where: str) -> None:
    head, _, rest = name.partition("__")
    section = schema.section(head)
    if not rest:
        found.add_flat(name, value, where)
    elif section is None:
        raise schema.unknown_section(head, where)
    elif section[1].section == "task" and ("__" in rest or "#" in rest):
        task, _, field = rest.rpartition("__")
        if not task:
            raise ConfigError(f"{where} names no setting: PYNENC__CONFIGTASK__MODULE#FUNC__FIELD")
        found.add_task(environment_task(*_split_task(task)), section[1], field, value, where)
    else:
        found.add(*section, rest, value, where)


def _split_task(task: str) -> tuple[str, str]:
    module, _, func = task.partition("#") if "#" in task else task.rpartition("__")
    return module, func


class Sources:
    """All that is said about one app, read once. Answers for a section, and for a task, by merging."""

    def __init__(self, file: Tables, code: Tables, environment: Tables) -> None:
        self.file = file
        self.code = code
        self.environment = environment
        self._task_base: Layer | None = None
        self._task_above: Layer = {}

    def found(self, section: type[Section], also: str = "") -> Layer:
        """What is said about a section; ``also`` names a class whose table counts too."""
        merged: Layer = {}
        for tables in (self.file, self.code, self.environment):
            for layer in tables.layers(section, also):
                merged.update(layer)
        return merged

    def section(self, section: type[S], also: str = "") -> S:
        """The section, resolved. :raises ConfigError: its values contradict each other."""
        return section.of(self.found(section, also))

    def task(self, section: type[S], module: str, func: str, options: Mapping[str, object]) -> S:
        """The section of one task with the options of its decorator.

        :raises ConfigError: an option is unknown, a value bad, or two contradict each other.
        """
        if self._task_base is None:
            self._prepare(section)
        merged = dict(self._task_base or {})
        where = f"decorator of {module}.{func}"
        for name, value in options.items():
            field = section.field(name, where)
            merged[field] = Found(section.parse(field, value, where), where, Level.CODE)
        for tables in (self.code, self.file):
            merged.update(tables.tasks.get(f"{module}.{func}", {}))
        merged.update(self._task_above)
        if self.environment.tasks:
            merged.update(self.environment.tasks.get(environment_task(module, func), {}))
        return section.of(merged)

    def _prepare(self, section: type[Section]) -> None:
        """Merge once what is the same for all tasks: below the decorator and above it."""
        above: Layer = {}
        for layer in self.environment.layers(section):
            above.update(layer)
        base: Layer = {}
        for tables in (self.file, self.code):
            for layer in tables.layers(section):
                base.update(layer)
        self._task_above, self._task_base = above, base
