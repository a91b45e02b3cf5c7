"""Values as people get to see them in logs, on the command line and in the monitor: short, safe and without secrets.

Three promises hold for every value. **Bounded**: work and text are limited by a budget of characters, so a container of a million
items is looked at only as far as it is shown (a class whose own ``__repr__`` is wasteful cannot be helped). **Harmless**: a ``__repr__``
that raises costs nothing but its own place, and no control character survives. **Discreet**: what sits under a name that speaks of a secret is
replaced by ``***``, in dicts and objects inside of values too, and so is a :class:`~pynenc.secret.Secret` wherever it is.

How a value is written depends on whose ``__repr__`` its class uses: containers and text that use the built-in one are walked here;
so are the classes whose ``__repr__`` is generated from fields. Whatever else writes itself is searched for ``name=value`` of secret names afterwards.
"""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

#: What stands in the place of a secret.
HIDDEN: Final = "***"
#: A name that contains one of these, whatever its case and separators, is that of a secret.
SECRET_NAMES: Final = (
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "privatekey",
    "authorization",
    "credential",
)
#: Most characters of one argument in mode FULL.
FULL_LENGTH: Final = 16 * 1024
MODES: Final = ("full", "keys", "truncated", "hidden")

_DEPTH = 8
_LONGEST_NAME = 64


# -- arguments -----------------------------------------------------------------------------------------------------------
def render_arguments(
    kwargs: Mapping[str, object], *, mode: str = "truncated", length: int = 32, redact: Iterable[str] = ()
) -> str:
    """The arguments of a call on one line, as ``x=1, y='two'``.

    :param mode: ``full`` (up to 16 KiB each), ``keys`` (names only), ``truncated`` or ``hidden``; case does not matter.
    :param length: most characters of each value in mode ``truncated``.
    :param redact: further names of secrets, at any depth; whole names, whatever their case and separators.
    :raises ValueError: an unknown mode.
    """
    chosen = _mode(mode)
    if chosen == "hidden":
        return f"<{len(kwargs)} hidden>" if kwargs else ""
    if chosen == "keys":
        return ", ".join(_short_name(name) for name in kwargs)
    return ", ".join(
        f"{name}={value}" for name, value in render_fields(kwargs, mode=mode, length=length, redact=redact).items()
    )


def render_fields(
    kwargs: Mapping[str, object], *, mode: str = "truncated", length: int = 32, redact: Iterable[str] = ()
) -> dict[str, str]:
    """The text of each argument by its name; see :func:`render_arguments`. Empty texts for ``keys``, ``***`` for ``hidden``."""
    chosen = _mode(mode)
    if chosen in ("keys", "hidden"):
        return {_short_name(name): "" if chosen == "keys" else HIDDEN for name in kwargs}
    budget = FULL_LENGTH if chosen == "full" else length
    secrets = _normal_names(redact)
    return {
        _short_name(name): HIDDEN if _is_secret(name, secrets) else _render(value, budget, secrets)
        for name, value in kwargs.items()
    }


def render_value(value: object, *, length: int = FULL_LENGTH, redact: Iterable[str] = ()) -> str:
    """One value in at most ``length`` characters; never raises an ``Exception``."""
    return _render(value, length, _normal_names(redact))


def is_secret_name(name: object, redact: Iterable[str] = ()) -> bool:
    """Whether what goes by this name must not be shown."""
    return _is_secret(name, _normal_names(redact))


def is_one_of(name: str, names: Iterable[str]) -> bool:
    """Whether ``redact`` of this name hides one of ``names``: case and punctuation do not count."""
    return _normal(name) in _normal_names(names)


def _mode(mode: str) -> str:
    chosen = str(mode).lower()
    if chosen not in MODES:
        raise ValueError(f"no way to print arguments is called {mode!r}: use one of {', '.join(MODES)}")
    return chosen


def _short_name(name: str) -> str:
    return escape_control(_cut(name, _LONGEST_NAME))


def _cut(text: str, length: int) -> str:
    """At most ``length`` characters; the last three are dots where something is left out."""
    if len(text) <= length:
        return text
    return text[: length - 3] + "..." if length > 3 else text[: max(0, length)]


# -- names of secrets ----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def _normal(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _normal_names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_normal, names)) if names else frozenset()


def _is_secret(name: object, redact: frozenset[str]) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        return False
    normal = _normal(name) if len(name) <= 256 else "".join(filter(str.isalnum, name[:256].casefold()))
    return normal in redact or any(part in normal for part in SECRET_NAMES)


# -- text ------------------------------------------------------------------------------------------------------------------
# C0, DEL and C1; marks and overrides of direction; separators of lines; the byte order mark; surrogates, which no encoding takes.
# Patterns are compiled when they are needed: many programs never do, and each takes a part of a millisecond.
CONTROL = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_control(text: str) -> str:
    """``text`` with control characters, marks of direction and lone surrogates written as Python escapes: one harmless line."""
    return text if text.isprintable() else re.sub(CONTROL, _escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT_ESCAPES.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


# How far behind the end of what is shown a secret may reach that begins before it.
_LOGIN_LENGTH = 1300
_URL_LOGIN = r"(?<=://)([^\s/?#@:'\"]{0,256}):[^\s/?#'\"]{1,1024}@"
_NAME_END = r"[\w-]{0,64}[\"']{0,2}\s{0,4}(?:=>|[=:])\s{0,4}"
# A quoted text also ends where the text was cut off.
_VALUE = r"""(?:[bru]?"(?:\\.|[^"\\])*(?:"|\\?\Z)|[bru]?'(?:\\.|[^'\\])*(?:'|\\?\Z)|(?:(?:bearer|basic|digest)\s+)?[^\s,;&)\]}"']+)"""
_BEARER = r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}"


def redact_urls(text: str) -> str:
    """``text`` without the passwords in its URLs."""
    return re.sub(_URL_LOGIN, r"\1:***@", text) if "://" in text else text


def redact_text(text: str, redact: Iterable[str] = ()) -> str:
    """Free text without what looks like secrets: values of ``name=value`` and ``name: value`` for secret names, logins in URLs and
    HTTP headers. A best effort; data is shown by :func:`render_value`, which knows names from values.
    """
    text = _assignments(_normal_names(redact)).sub(rf"\1{HIDDEN}", text)
    return re.sub(_BEARER, rf"\1 {HIDDEN}", redact_urls(text))


@lru_cache(maxsize=64)
def _assignments(redact: frozenset[str]) -> re.Pattern[str]:
    """What assigns to a secret name; between the letters of a name may be separators."""
    known = "|".join(map(_spelled, SECRET_NAMES))
    own = "|".join(map(_spelled, sorted(redact - {""}, key=len, reverse=True)))
    names = f"(?:{known}){_NAME_END}" + (
        rf"|(?<![^\W_])(?:{own})[\"']{{0,2}}\s{{0,4}}(?:=>|[=:])\s{{0,4}}" if own else ""
    )
    return re.compile(rf"(?is)({names}){_VALUE}")


def _spelled(name: str) -> str:
    return "[_-]?".join(map(re.escape, name))


# -- values ----------------------------------------------------------------------------------------------------------------
def _render(value: object, length: int, redact: frozenset[str]) -> str:
    writer = _Writer(length, redact)
    writer.write(value)
    return _cut(escape_control("".join(writer.parts)), length)


class _Writer:
    """Writes one value; ``left`` is how many characters may follow."""

    __slots__ = ("depth", "left", "parts", "redact")

    def __init__(self, length: int, redact: frozenset[str]) -> None:
        self.parts: list[str] = []
        # A few more than fit, so that what is cut off is seen to be.
        self.left = max(0, length) + 4
        self.redact = redact
        self.depth = 0

    def put(self, text: str) -> None:
        self.parts.append(text[: max(0, self.left)])
        self.left -= len(text)

    def write(self, value: object) -> None:
        """Write a value; one that cannot be written is named."""
        if self.left <= 0:
            return
        kind, depth = type(value), self.depth
        try:
            if getattr(kind, "__pynenc_secret__", False) is True:
                self.put(HIDDEN)
            elif depth >= _DEPTH:
                self.put("...")
            else:
                self.depth = depth + 1
                _WRITERS.get(kind.__repr__, _write_object)(self, value)
        except Exception:
            self.put(f"<unprintable {_cut(kind.__name__, _LONGEST_NAME)}>")
        self.depth = depth

    def items(self, opening: str, values: Iterable[object], closing: str) -> None:
        self.put(opening)
        for place, value in enumerate(self._while_there_is_room(values)):
            if place:
                self.put(", ")
            self.write(value)
        self.put(closing)

    def pairs(self, opening: str, pairs: Iterable[tuple[object, object]], closing: str) -> None:
        self.put(opening)
        for place, (key, value) in enumerate(self._while_there_is_room(pairs)):
            if place:
                self.put(", ")
            self.write(key)
            self.put(": ")
            self.write_named(key, value)
        self.put(closing)

    def fields(self, name: str, names: Iterable[str], value: object) -> None:
        self.put(f"{name}(")
        for place, field in enumerate(self._while_there_is_room(names)):
            self.put(f"{', ' if place else ''}{field}=")
            self.write_named(field, getattr(value, field))
        self.put(")")

    def write_named(self, name: object, value: object) -> None:
        if _is_secret(name, self.redact):
            self.put(HIDDEN)
        else:
            self.write(value)

    def _while_there_is_room(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            if self.left <= 0:
                return
            yield value


def _write_text(writer: _Writer, value: Any) -> None:
    writer.put(redact_urls(repr(value[: writer.left + _LOGIN_LENGTH])))


def _write_int(writer: _Writer, value: Any) -> None:
    writer.put(int.__repr__(value) if value.bit_length() <= 2048 else f"<int of {value.bit_length()} bits>")


def _write_list(writer: _Writer, value: Any) -> None:
    writer.items("[", value, "]")


def _write_tuple(writer: _Writer, value: Any) -> None:
    if (
        len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], str | bytes)
        and _is_secret(value[0], writer.redact)
    ):
        writer.put(f"({_cut(value[0], _LONGEST_NAME)!r}, {HIDDEN})")  # such as one of a list of headers
    else:
        writer.items("(", value, ",)" if len(value) == 1 else ")")


def _write_set(writer: _Writer, value: Any) -> None:
    name = type(value).__name__
    if not value:
        writer.put(f"{name}()")
    elif type(value) is set:
        writer.items("{", value, "}")
    else:
        writer.items(f"{name}({{", value, "})")


def _write_deque(writer: _Writer, value: Any) -> None:
    writer.items(f"{type(value).__name__}([", value, "])")


def _write_dict(writer: _Writer, value: Any) -> None:
    writer.pairs("{", value.items(), "}")


def _write_mapping(writer: _Writer, value: Any) -> None:
    writer.pairs(f"{type(value).__name__}({{", value.items(), "})")


def _write_namespace(writer: _Writer, value: Any) -> None:
    name = "namespace" if type(value) is SimpleNamespace else type(value).__name__
    writer.fields(name, vars(value), value)


def _write_object(writer: _Writer, value: object) -> None:
    """Of its fields where its ``__repr__`` is made from them, else what it says of itself."""
    names = _generated_fields(type(value))
    if names is not None:
        writer.fields(type(value).__qualname__, names, value)
        return
    writer.put(redact_text(repr(value)[: writer.left + _LOGIN_LENGTH], writer.redact))


def _generated_fields(kind: type) -> tuple[str, ...] | None:
    """The fields that a generated ``__repr__`` of the class shows; None when somebody wrote it, or nobody."""
    own = kind.__repr__
    inner = getattr(own, "__wrapped__", own)
    origin = getattr(getattr(inner, "__code__", None), "co_filename", "")
    if dataclasses.is_dataclass(kind) and origin == "<string>":
        return tuple(each.name for each in dataclasses.fields(kind) if each.repr)
    if issubclass(kind, tuple) and getattr(inner, "__module__", "") == "collections":
        return tuple(getattr(kind, "_fields", ()))
    if not origin:  # written in C: the name of the fields tells whose it is
        return getattr(kind, "__struct_fields__", None)
    return None


#: Who writes a value, by the ``__repr__`` of its class: sub-classes that do not override it are written like their base.
_WRITERS: dict[object, Callable[[_Writer, Any], None]] = {
    str.__repr__: _write_text,
    bytes.__repr__: _write_text,
    bytearray.__repr__: _write_text,
    int.__repr__: _write_int,
    list.__repr__: _write_list,
    tuple.__repr__: _write_tuple,
    set.__repr__: _write_set,
    frozenset.__repr__: _write_set,
    deque.__repr__: _write_deque,
    dict.__repr__: _write_dict,
    OrderedDict.__repr__: _write_mapping,
    defaultdict.__repr__: _write_mapping,
    MappingProxyType.__repr__: _write_mapping,
    SimpleNamespace.__repr__: _write_namespace,
}
