"""A section: a class whose settings are declared once, with default, parser and one line of documentation.

A live section is an ordinary object: reading a setting is reading an attribute. Writing one parses and checks it, remembers that it was
assigned, and tells who watches. Sections are built by :mod:`pynenc.conf.resolver`, or bare (all defaults) by calling the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, cast

from pynenc.conf.values import Parser, suggestion
from pynenc.exceptions import ConfigError

T = TypeVar("T")


class Level(IntEnum):
    """Where a value came from; higher wins."""

    DEFAULT = 0
    FILE = 1
    CODE = 2
    FILE_TASK = 3
    ENVIRONMENT = 4
    ASSIGNED = 5


class Found(NamedTuple):
    """A parsed value and where it came from; ``base`` is the folder of the file that holds it."""

    value: object
    origin: str
    level: Level
    base: str = ""


class Setting(NamedTuple):
    """The declaration of one field.

    :ivar aliases: other names that mean the same, for who comes from an older version.
    :ivar flat: whether ``PYNENC__<FIELD>`` and the top of a file may set it without naming the section.
    :ivar single: whether it only makes sense for one task and not as a default for all.
    """

    default: object
    parse: Parser[object]
    doc: str
    aliases: tuple[str, ...] = ()
    flat: bool = True
    single: bool = False
    secret: bool = False


def setting(
    default: T,
    parse: Parser[T],
    doc: str,
    *,
    aliases: tuple[str, ...] = (),
    flat: bool = True,
    single: bool = False,
    secret: bool = False,
) -> T:
    """Declare a field; typed as its value, so that type checkers see an ordinary attribute."""
    return cast("T", Setting(default, parse, doc, aliases, flat, single, secret))


class UnknownSettingError(ConfigError, AttributeError):
    """There is no setting of this name."""


class Section:
    """Base of the configuration classes."""

    #: Name of the section in files and in the environment.
    section: ClassVar[str]
    #: The declared fields, in order.
    settings: ClassVar[Mapping[str, Setting]]
    #: Every accepted name → the field it means.
    names: ClassVar[Mapping[str, str]]
    _defaults: ClassVar[dict[str, object]]
    # of each object
    _origins: dict[str, str]
    _assigned: tuple[str, ...]
    _watchers: tuple[Callable[[str], None], ...]
    _frozen: str
    #: Grows with every assignment.
    version: int

    def __init_subclass__(cls, section: str) -> None:
        settings = {name: found for name, found in vars(cls).items() if isinstance(found, Setting)}
        for name in settings:
            delattr(cls, name)
        cls.section = section
        cls.settings = settings
        cls.names = {other: name for name, found in settings.items() for other in (name, *found.aliases)}
        cls._defaults = {name: found.default for name, found in settings.items()}

    def __init__(self) -> None:
        self.__dict__.update(self._defaults, _origins={}, _assigned=(), _watchers=(), _frozen="", version=0)

    @classmethod
    def of(cls, found: Mapping[str, Found]) -> Self:
        """A section with these values, defaults for the rest.

        :raises ConfigError: two of the values contradict each other.
        """
        self = cls()
        values = self.__dict__
        for name, each in found.items():
            values[name] = each.value
        values["_origins"] = {name: each.origin for name, each in found.items()}
        if found:
            self.check()
        return self

    @classmethod
    def field(cls, name: str, where: str) -> str:
        """The field that ``name`` means, in any case.

        :raises UnknownSettingError: there is none; names the source and the nearest.
        """
        found = cls.names.get(name) or cls.names.get(name.strip().lower())
        if found is None:
            raise UnknownSettingError(f"unknown setting {name!r} ({where}){suggestion(name, cls.settings)}")
        return found

    @classmethod
    def parse(cls, name: str, value: object, where: str) -> object:
        """The canonical form of a value of the field ``name``.

        :raises ConfigError: the value is bad; names key, source and what is wanted.
        """
        declared = cls.settings[name]
        try:
            return declared.parse(value)
        except ValueError as error:
            shown = "" if declared.secret else f": {shorten(value)}"
            raise ConfigError(f"bad value for {name!r} ({where}){shown}; it must be {error}") from None

    def check(self) -> None:
        """Refuse values that contradict each other; overridden by sections that have such. :raises ConfigError: they do."""

    # -- living -------------------------------------------------------------------------------------------------------
    if not TYPE_CHECKING:  # type checkers know the fields

        def __getattr__(self, name: str) -> object:
            if not name.startswith("_") and name in self.names:
                return self.__dict__[self.names[name]]
            if name.startswith("_"):
                raise AttributeError(name)
            raise UnknownSettingError(f"{type(self).__name__} has no setting {name!r}{suggestion(name, self.settings)}")

    def __setattr__(self, name: str, value: object) -> None:
        """Assign a setting of the live object.

        :raises ConfigError: unknown name, bad value, or one that contradicts another setting; nothing has changed then.
        """
        self.assign({name: value})

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"{name!r} cannot be deleted: assign another value")

    def _refuse_frozen(self, field: str) -> None:
        if self._frozen:
            raise ConfigError(f"{field!r} cannot be assigned here: {self._frozen}")

    def _keep(self, field: str, value: object) -> None:
        """Make a checked value live: readers see the old or the new one, never a half."""
        self.__dict__[field] = value
        self._origins[field] = "assigned"
        self.__dict__["_assigned"] = (*(other for other in self._assigned if other != field), field)
        self.__dict__["version"] = self.version + 1
        for watcher in self._watchers:
            watcher(field)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher(field)`` after every assignment."""
        self.__dict__["_watchers"] = (*self._watchers, watcher)

    def freeze(self, why: str) -> None:
        """Refuse assignments from now on, saying why."""
        self.__dict__["_frozen"] = why

    # -- travelling ---------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Everything that :meth:`from_dict` needs in another process: values by field, and where they came from."""
        return {**self.__dict__, "_watchers": ()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The section that ``to_dict`` was asked of."""
        self = cls.__new__(cls)
        self.__dict__.update(state)
        return self

    def update(self, state: Mapping[str, Any]) -> None:
        """Become like the section that gave ``state`` by :meth:`to_dict`; who watches this one is told nothing."""
        self.__dict__.update(state, _watchers=self._watchers, version=self.version + 1)

    def __getstate__(self) -> dict[str, Any]:
        return self.to_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # -- asking -------------------------------------------------------------------------------------------------------
    def origin(self, name: str) -> str:
        """Where a value came from: ``default``, ``constructor``, ``assigned``, ``file …``, ``environment …``.

        :raises UnknownSettingError: there is no such setting.
        """
        return self._origins.get(self.field(name, "asked for its origin"), "default")

    def values(self) -> dict[str, Any]:
        """All values by field."""
        return {name: self.__dict__[name] for name in self.settings}

    def assigned(self) -> dict[str, Any]:
        """What was assigned to the live object, in order of assignment; :meth:`assign` repeats it elsewhere."""
        return {name: self.__dict__[name] for name in self._assigned}

    def assign(self, values: Mapping[str, Any]) -> None:
        """Assign several settings, checked together.

        :raises ConfigError: one of them cannot be; nothing has changed then.
        """
        where = f"assigned to {type(self).__name__}"
        fields = {self.field(name, where): value for name, value in values.items()}
        trial = type(self)()
        trial.__dict__.update(self.values(), _origins=self._origins | dict.fromkeys(fields, "assigned"))
        for field, value in fields.items():
            self._refuse_frozen(field)
            trial.__dict__[field] = self.parse(field, value, where)
        trial.check()
        for field in fields:
            self._keep(field, trial.__dict__[field])

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and type(other) is type(self) and other.values() == self.values()

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'***' if self.settings[name].secret else shorten(self.__dict__[name])}" for name in self._origins
        )
        return f"{type(self).__name__}({shown})"


def shorten(value: object, limit: int = 80) -> str:
    """A value as an error message shows it."""
    try:
        shown = repr(value)
    except Exception:  # a hostile repr must not hide the real error
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
