"""Handlers for the types of the standard library."""

from __future__ import annotations

import pathlib
import sys
from binascii import a2b_base64
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec

from pynenc.exceptions import SerializationError
from pynenc.secret import Secret
from pynenc.serializer.walk import Build, Handler, Walk

_sort_key = msgspec.json.Encoder().encode
_SORTABLE = (frozenset({str}), frozenset({int}))
_WORD = range(-(2**63), 2**64)


# -- what the JSON encoder would refuse or lose --------------------------------------------------------------------------
def _encode_str(value: str, _walk: Walk, _depth: int) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"~str": value.encode("utf-8", "surrogatepass")}
    return value


def _decode_str(data: str, _build: Build, _depth: int) -> str:
    return unbase64(data).decode("utf-8", "surrogatepass")


def _encode_int(value: int, _walk: Walk, _depth: int) -> Any:
    return value if value in _WORD else {"~int": hex(value)}


def _decode_int(data: str, _build: Build, _depth: int) -> int:
    return int(data, 16)


def unbase64(data: str) -> bytes:
    """The bytes that the JSON encoder wrote as text."""
    return a2b_base64(data, strict_mode=True) if data else b""


def _as_is(value: Any, _walk: Walk, _depth: int) -> Any:
    return value


# -- containers ----------------------------------------------------------------------------------------------------------
def _encode_items(value: Iterable[Any], walk: Walk, depth: int) -> Any:
    return walk.items(value, depth)


def _encode_set(value: Iterable[Any], walk: Walk, depth: int) -> Any:
    """In an order that does not depend on the hash seed, so that equal sets make equal payloads."""
    if not walk.careful and any(kinds.issuperset(map(type, value)) for kinds in _SORTABLE):
        return sorted(value)
    return sorted(walk.items(value, depth), key=_sort_key)


def _decode_items(make: type[Any], data: list[Any], build: Build, depth: int) -> Any:
    return make(build.items(_list(data), depth))


def _decode_set(make: type[Any], data: list[Any], build: Build, depth: int) -> Any:
    made = make(build.items(_list(data), depth))
    if len(made) != len(data):
        raise SerializationError("it holds a set that names an item twice")
    return made


def _encode_pairs(value: dict[Any, Any], walk: Walk, depth: int) -> Any:
    return walk.pairs(value, depth)


def pairs(data: list[Any], build: Build, depth: int) -> list[tuple[Any, Any]]:
    """The items of a mapping."""
    return [(key, value) for key, value in (build.items(_list(pair), depth) for pair in _list(data))]


def _decode_pairs(make: type[Any], data: list[Any], build: Build, depth: int) -> Any:
    made = make()
    dict.update(made, pairs(data, build, depth))
    return made


def _decode_ordered(data: list[Any], build: Build, depth: int) -> OrderedDict[Any, Any]:
    return OrderedDict(pairs(data, build, depth))


_FACTORIES = {kind.__name__: kind for kind in (int, float, str, bytes, bool, list, tuple, dict, set, frozenset)}


def _encode_defaultdict(value: defaultdict[Any, Any], walk: Walk, depth: int) -> Any:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not factory:
        raise SerializationError(
            f"a defaultdict travels with one of {', '.join(_FACTORIES)} as its factory only: pass dict(...) of it"
        )
    return [name, walk.pairs(value, depth)]


def _decode_defaultdict(data: list[Any], build: Build, depth: int) -> defaultdict[Any, Any]:
    name, items = data
    return defaultdict(None if name is None else _FACTORIES[name], pairs(items, build, depth))


def _encode_deque(value: deque[Any], walk: Walk, depth: int) -> Any:
    return [value.maxlen, walk.items(value, depth)]


def _decode_deque(data: list[Any], build: Build, depth: int) -> deque[Any]:
    maxlen, items = data
    return deque(build.items(_list(items), depth), maxlen)


def _encode_namespace(value: SimpleNamespace, walk: Walk, depth: int) -> Any:
    return walk.pairs(vars(value), depth)


def _decode_namespace(data: list[Any], build: Build, depth: int) -> SimpleNamespace:
    return SimpleNamespace(**dict(pairs(data, build, depth)))


def _encode_secret(value: Secret[Any], walk: Walk, depth: int) -> Any:
    return walk.value(value.reveal(), depth)


def _decode_secret(data: Any, build: Build, depth: int) -> Secret[Any]:
    return Secret(build.value(data, depth))


# -- numbers and ranges --------------------------------------------------------------------------------------------------
def _encode_float(value: float, _walk: Walk, _depth: int) -> Any:
    return repr(value)


_FLOATS = frozenset({"nan", "inf", "-inf"})


def _decode_float(data: str, _build: Build, _depth: int) -> float:
    if data not in _FLOATS:
        raise SerializationError("it holds a number that is none")
    return float(data)  # a new object each: a set may hold several NaN


def _encode_complex(value: complex, walk: Walk, depth: int) -> Any:
    return [walk.value(value.real, depth), walk.value(value.imag, depth)]


def _decode_complex(data: list[Any], build: Build, depth: int) -> complex:
    real, imaginary = build.items(data, depth)
    return complex(float(real), float(imaginary))


def _encode_range(value: Any, walk: Walk, depth: int) -> Any:
    return walk.items((value.start, value.stop, value.step), depth)


def _decode_range(make: type[Any], data: list[Any], build: Build, depth: int) -> Any:
    start, stop, step = build.items(data, depth)
    return make(start, stop, step)


def _encode_text(value: Any, _walk: Walk, _depth: int) -> str:
    return str(value)


def _decode_text(make: type[Any], data: str, _build: Build, _depth: int) -> Any:
    return make(_str(data))


# -- time ----------------------------------------------------------------------------------------------------------------
def _encode_zone(value: tzinfo, _walk: Walk, _depth: int) -> Any:
    """A name of the time zone database, or ``[microseconds, name]`` of a fixed offset."""
    if late(type(value)) is not None and (key := getattr(value, "key", None)) is not None:
        return key
    if type(value) is timezone:
        offset = value.utcoffset(None)
        name = value.tzname(None)
        return [offset // timedelta(microseconds=1), None if name == timezone(offset).tzname(None) else name]
    raise SerializationError(
        f"its time zone is a {type(value).__module__}.{type(value).__qualname__}: use zoneinfo.ZoneInfo or datetime.UTC"
    )


def _decode_zone(data: Any, _build: Build, _depth: int) -> tzinfo:
    if isinstance(data, str):
        from zoneinfo import ZoneInfo

        return ZoneInfo(data)
    micros, name = data
    if name is not None:
        return timezone(timedelta(microseconds=micros), name)
    return timezone(timedelta(microseconds=micros)) if micros else UTC


def _encode_moment(value: datetime | time, walk: Walk, depth: int) -> Any:
    """ISO 8601 text while it says everything: no zone, or an offset without a name."""
    if value.tzinfo is None and not value.fold:
        return value.isoformat()
    zone = None if value.tzinfo is None else _encode_zone(value.tzinfo, walk, depth)
    if isinstance(zone, list) and zone[1] is None and not value.fold:
        return value.isoformat()
    return [value.replace(tzinfo=None).isoformat(), value.fold, zone]


def _decode_moment(make: type[Any], data: Any, build: Build, depth: int) -> Any:
    if isinstance(data, str):
        return make.fromisoformat(data)
    text, fold, zone = data
    return make.fromisoformat(text).replace(
        fold=fold, tzinfo=None if zone is None else _decode_zone(zone, build, depth)
    )


def _encode_date(value: date, _walk: Walk, _depth: int) -> str:
    return value.isoformat()


def _decode_date(data: str, _build: Build, _depth: int) -> date:
    return date.fromisoformat(data)


def _encode_timedelta(value: timedelta, _walk: Walk, _depth: int) -> Any:
    return [value.days, value.seconds, value.microseconds]


def _decode_timedelta(data: list[int], _build: Build, _depth: int) -> timedelta:
    days, seconds, micros = data
    return timedelta(days, seconds, micros)


# -- paths ---------------------------------------------------------------------------------------------------------------
_LOCAL_PATH = type(pathlib.Path())
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "Path": _LOCAL_PATH,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


def _encode_path(value: pathlib.PurePath, walk: Walk, depth: int) -> Any:
    """``Path`` is the local kind at both ends."""
    kind = "Path" if type(value) is _LOCAL_PATH else type(value).__name__
    return [kind, _encode_str(str(value), walk, depth)]


def _decode_path(data: list[Any], build: Build, depth: int) -> pathlib.PurePath:
    kind, text = data
    return _PATHS[kind](_str(build.value(text, depth)))


# -- the table -----------------------------------------------------------------------------------------------------------
def _list(data: Any) -> list[Any]:
    if type(data) is not list:
        raise SerializationError(f"it holds a {type(data).__name__} where a list belongs")
    return data


def _str(data: Any) -> str:
    if type(data) is not str:
        raise SerializationError(f"it holds a {type(data).__name__} where text belongs")
    return data


def _decode_bytes(make: type[Any], data: str, _build: Build, _depth: int) -> Any:
    return make(unbase64(data))


def _decode_blob(data: str, build: Build, depth: int) -> Any:
    return build.blob(_str(data), depth)


_path = Handler("~path", _encode_path, _decode_path)

#: Handlers by exact type.
HANDLERS: dict[type, Handler] = {
    str: Handler("", _encode_str, _decode_str),
    int: Handler("", _encode_int, _decode_int),
    float: Handler("~float", _encode_float, _decode_float),
    complex: Handler("~complex", _encode_complex, _decode_complex),
    bytes: Handler("~bytes", _as_is, partial(_decode_bytes, bytes)),
    bytearray: Handler("~bytearray", _as_is, partial(_decode_bytes, bytearray)),
    tuple: Handler("~tuple", _encode_items, partial(_decode_items, tuple)),
    set: Handler("~set", _encode_set, partial(_decode_set, set)),
    frozenset: Handler("~frozenset", _encode_set, partial(_decode_set, frozenset)),
    deque: Handler("~deque", _encode_deque, _decode_deque),
    OrderedDict: Handler("~ordered", _encode_pairs, _decode_ordered),
    defaultdict: Handler("~defaultdict", _encode_defaultdict, _decode_defaultdict),
    Counter: Handler("~counter", _encode_pairs, partial(_decode_pairs, Counter)),
    SimpleNamespace: Handler("~namespace", _encode_namespace, _decode_namespace),
    range: Handler("~range", _encode_range, partial(_decode_range, range)),
    slice: Handler("~slice", _encode_range, partial(_decode_range, slice)),
    datetime: Handler("~datetime", _encode_moment, partial(_decode_moment, datetime)),
    time: Handler("~time", _encode_moment, partial(_decode_moment, time)),
    date: Handler("~date", _encode_date, _decode_date),
    timedelta: Handler("~timedelta", _encode_timedelta, _decode_timedelta),
    timezone: Handler("~zone", _encode_zone, _decode_zone),
    Decimal: Handler("~decimal", _encode_text, partial(_decode_text, Decimal)),
    UUID: Handler("~uuid", _encode_text, partial(_decode_text, UUID)),
    _LOCAL_PATH: _path,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    Secret: Handler("~secret", _encode_secret, _decode_secret),
}


def late(kind: type) -> Handler | None:
    """The handler of a type that is not in the table: the module of time zones takes long to import, and not every program needs it."""
    return HANDLERS[timezone] if kind is getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None) else None


#: Handlers by tag.
DECODERS: dict[str, Handler] = {
    **{handler.tag: handler for handler in HANDLERS.values() if handler.tag},
    "~str": HANDLERS[str],
    "~int": HANDLERS[int],
    "~dict": Handler("~dict", _encode_pairs, partial(_decode_pairs, dict)),
    "~blob": Handler("~blob", _as_is, _decode_blob),
}
