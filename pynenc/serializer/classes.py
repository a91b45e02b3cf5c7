"""Handlers for classes that users define: by what kind of data class they are.

An object is taken apart into its fields and put together without running ``__init__`` or ``__post_init__``: the fields are
set as they were, those with ``init=False`` too, so nothing is validated, computed or sent twice. (``msgspec.Struct`` cannot be
made without its ``__post_init__``.) A field that the data lack gets its default; one that the class lacks is an error. User code
that decoding runs is limited to default factories, ``from_json`` and ``_missing_`` of enums, of classes that the gate lets in.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pynenc.exceptions import SerializationError
from pynenc.serializer import faults
from pynenc.serializer.base import JsonSerializable
from pynenc.serializer.standard import pairs
from pynenc.serializer.walk import Build, Handler, Trouble, Walk

Missing = Callable[[str], Any]


def _parts(data: Any, size: int) -> list[Any]:
    if type(data) is not list or len(data) != size or type(data[0]) is not str:
        raise SerializationError("it holds an object without a class name")
    return data


def _resolve(name: str, build: Build, fits: Callable[[type], bool], kind: str) -> Any:
    """The class of a name, if it is of the kind that the data claim."""
    found = build.gate.resolve(name)
    if not fits(found):
        raise SerializationError(f"{name} is not {kind} here")
    return found


def _field_values(names: Any, value: Any) -> dict[str, Any]:
    """The fields that are set."""
    unset = object()
    read = ((name, getattr(value, name, unset)) for name in names)
    return {name: item for name, item in read if item is not unset}


def _complete(cls: type, values: dict[str, Any], names: Any, default: Missing) -> dict[str, Any]:
    """All fields: those of the data, else their defaults."""
    strangers = sorted(values.keys() - set(names))
    if strangers:
        raise SerializationError(
            f"{cls.__qualname__} has no field {strangers[0]!r} here: do both sides run the same version of it?"
        )
    return {name: values[name] if name in values else default(name) for name in names}


_UNSET = object()


def _make(cls: type, values: Mapping[str, Any]) -> Any:
    made: Any = object.__new__(cls)
    for name, value in values.items():
        if value is not _UNSET:
            object.__setattr__(made, name, value)
    return made


def _lacking(cls: type, name: str) -> SerializationError:
    return SerializationError(
        f"{cls.__qualname__} needs the field {name!r}, which was not sent: do both sides run the same version of it?"
    )


# -- dataclasses ---------------------------------------------------------------------------------------------------------
def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) and not _builtin_base(cls)


def _encode_dataclass(value: Any, walk: Walk, depth: int) -> Any:
    names = [field.name for field in dataclasses.fields(value)]
    return [walk.name_of(type(value)), walk.fields(_field_values(names, value), depth, owner=value)]


def _decode_dataclass(data: Any, build: Build, depth: int) -> Any:
    name, values = _parts(data, 2)
    cls = _resolve(name, build, _is_dataclass, "a dataclass")
    fields = {field.name: field for field in dataclasses.fields(cls)}

    def default(name: str) -> Any:
        field = fields[name]
        if field.default is not dataclasses.MISSING:
            return field.default
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        if field.init:
            raise _lacking(cls, name)
        return _UNSET

    return _make(cls, _complete(cls, build.fields(values, depth), fields, default))


# -- attrs ---------------------------------------------------------------------------------------------------------------
def _is_attrs(cls: type) -> bool:
    return "__attrs_attrs__" in cls.__dict__ and not _builtin_base(cls)


def _encode_attrs(value: Any, walk: Walk, depth: int) -> Any:
    names = [attribute.name for attribute in type(value).__attrs_attrs__]
    return [walk.name_of(type(value)), walk.fields(_field_values(names, value), depth, owner=value)]


def _decode_attrs(data: Any, build: Build, depth: int) -> Any:
    name, values = _parts(data, 2)
    cls = _resolve(name, build, _is_attrs, "an attrs class")
    attributes = {attribute.name: attribute for attribute in cls.__attrs_attrs__}
    nothing = sys.modules["attr"].NOTHING

    def default(name: str) -> Any:
        standard = attributes[name].default
        if standard is nothing:
            if attributes[name].init:
                raise _lacking(cls, name)
            return _UNSET
        if hasattr(standard, "factory"):
            if standard.takes_self:
                raise _lacking(cls, name)
            return standard.factory()
        return standard

    made = _make(cls, _complete(cls, build.fields(values, depth), attributes, default))
    if "_attrs_cached_hash" in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, "_attrs_cached_hash", None)
    return made


# -- msgspec -------------------------------------------------------------------------------------------------------------
def _is_struct(cls: type) -> bool:
    return issubclass(cls, msgspec.Struct)


def _encode_struct(value: Any, walk: Walk, depth: int) -> Any:
    return [
        walk.name_of(type(value)),
        walk.fields(_field_values(type(value).__struct_fields__, value), depth, owner=value),
    ]


def _decode_struct(data: Any, build: Build, depth: int) -> Any:
    name, values = _parts(data, 2)
    cls = _resolve(name, build, _is_struct, "a msgspec.Struct")
    values = build.fields(values, depth)
    _complete(cls, values, cls.__struct_fields__, lambda _: None)
    return cls(**values)


# -- pydantic ------------------------------------------------------------------------------------------------------------
_MODEL_STATE = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")


def _is_model(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def _encode_model(value: Any, walk: Walk, depth: int) -> Any:
    names = type(value).model_fields
    own = {name: item for name, item in vars(value).items() if name in names}
    extra = value.__pydantic_extra__
    private = value.__pydantic_private__
    return [
        walk.name_of(type(value)),
        walk.fields(own, depth, owner=value),
        None if extra is None else walk.pairs(extra, depth),
        sorted(value.__pydantic_fields_set__),
        None
        if private is None
        else walk.pairs({key: item for key, item in private.items() if not _is_undefined(item)}, depth),
    ]


def _is_undefined(value: Any) -> bool:
    return type(value).__name__ == "PydanticUndefinedType"


def _decode_model(data: Any, build: Build, depth: int) -> Any:
    name, values, extra, fields_set, private = _parts(data, 5)
    cls = _resolve(name, build, _is_model, "a pydantic model")
    fields = cls.model_fields

    def default(name: str) -> Any:
        if fields[name].is_required():
            raise _lacking(cls, name)
        return fields[name].get_default(call_default_factory=True, validated_data={})

    values = _complete(cls, build.fields(values, depth), fields, default)
    made = object.__new__(cls)
    parts = (values, _mapping(extra, build, depth), set(fields_set), _mapping(private, build, depth))
    for key, part in zip(_MODEL_STATE, parts, strict=True):
        object.__setattr__(made, key, part)
    return made


def _mapping(data: Any, build: Build, depth: int) -> dict[str, Any] | None:
    return None if data is None else dict(pairs(data, build, depth))


# -- named tuples --------------------------------------------------------------------------------------------------------
def _is_namedtuple(cls: type) -> bool:
    return (
        issubclass(cls, tuple)
        and isinstance(getattr(cls, "_fields", None), tuple)
        and isinstance(getattr(cls, "_field_defaults", None), dict)
    )


def _encode_namedtuple(value: Any, walk: Walk, depth: int) -> Any:
    return [
        walk.name_of(type(value)),
        walk.fields(dict(zip(type(value)._fields, value, strict=True)), depth, owner=value),
    ]


def _decode_namedtuple(data: Any, build: Build, depth: int) -> Any:
    name, values = _parts(data, 2)
    cls = _resolve(name, build, _is_namedtuple, "a NamedTuple")

    def default(name: str) -> Any:
        if name not in cls._field_defaults:
            raise _lacking(cls, name)
        return cls._field_defaults[name]

    return tuple.__new__(cls, _complete(cls, build.fields(values, depth), cls._fields, default).values())


# -- enums ---------------------------------------------------------------------------------------------------------------
def _is_enum(cls: type) -> bool:
    return issubclass(cls, enum.Enum)


def _encode_enum(value: enum.Enum, walk: Walk, depth: int) -> Any:
    """Members by name; flags, which combine, by value."""
    if isinstance(value, enum.Flag):
        return [walk.name_of(type(value)), walk.value(value.value, depth)]
    return [walk.name_of(type(value)), value.name]


def _decode_enum(data: Any, build: Build, depth: int) -> Any:
    name, member = _parts(data, 2)
    cls = _resolve(name, build, _is_enum, "an Enum")
    if issubclass(cls, enum.Flag):
        return cls(build.value(member, depth))
    if type(member) is not str or member not in cls.__members__:
        raise SerializationError(
            f"{cls.__qualname__} has no member {member!r} here: do both sides run the same version of it?"
        )
    return cls.__members__[member]


# -- classes that say themselves how they travel -------------------------------------------------------------------------
def _is_json(cls: type) -> bool:
    return issubclass(cls, JsonSerializable) and hasattr(cls.from_json, "__func__")


def _encode_json(value: Any, walk: Walk, depth: int) -> Any:
    return [walk.name_of(type(value)), walk.value(value.to_json(), depth)]


def _decode_json(data: Any, build: Build, depth: int) -> Any:
    name, inside = _parts(data, 2)
    cls = _resolve(name, build, _is_json, "a class with to_json() and from_json()")
    made = cls.from_json(build.value(inside, depth))
    if not isinstance(made, cls):
        raise SerializationError(f"{cls.__qualname__}.from_json() made a {type(made).__qualname__}")
    return made


# -- subclasses of builtin types -----------------------------------------------------------------------------------------
_BASES: tuple[type, ...] = (str, int, float, complex, bytes, bytearray, list, tuple, dict, set, frozenset)
_COPIED: dict[Any, Callable[..., None]] = {
    list: list.extend,
    dict: dict.update,
    set: set.update,
    bytearray: bytearray.extend,
}
_TOO_SPECIAL = (OrderedDict, defaultdict, Counter, deque, enum.Enum)


def _builtin_base(cls: type) -> type | None:
    """The builtin data type that a class is built on."""
    return next((base for base in _BASES if issubclass(cls, base)), None)


def _is_sub(cls: type) -> bool:
    if cls in _BASES or issubclass(cls, _TOO_SPECIAL):
        return False
    return _builtin_base(cls) is not None and not any(_slots(part) for part in cls.__mro__)


def _slots(cls: type) -> Any:
    return cls.__dict__.get("__slots__") or ()


def _encode_sub(value: Any, walk: Walk, depth: int) -> Any:
    """The content as the builtin type sees it, and the attributes."""
    base: Any = _builtin_base(type(value))
    content = (
        base.__pos__(value)
        if base in (int, float)
        else complex(value.real, value.imag)
        if base is complex
        else _plain_content(base, value)
    )
    state = getattr(value, "__dict__", {})
    return [walk.name_of(type(value)), walk.value(content, depth), walk.pairs(state, depth) if state else None]


def _plain_content(base: Any, value: Any) -> Any:
    """A copy of exactly the builtin type, whatever the subclass overrides."""
    if base is dict:
        return dict(dict.items(value))
    if base is str:
        return str.__str__(value)
    if base in (bytes, bytearray):
        return base(memoryview(value))
    return base(base.__iter__(value))


def _decode_sub(data: Any, build: Build, depth: int) -> Any:
    name, content, state = _parts(data, 3)
    cls: Any = _resolve(name, build, _is_sub, "a subclass of a builtin type")
    base: Any = _builtin_base(cls)
    content = build.value(content, depth)
    if type(content) is not base:
        raise SerializationError(f"{name} is not built on {type(content).__name__} here")
    fill = _COPIED.get(base)
    new: Any = base.__new__
    made = new(cls, content) if fill is None else new(cls)
    if fill is not None:
        fill(made, content)
    if state is not None:
        made.__dict__.update(_mapping(state, build, depth))
    return made


# -- exceptions ----------------------------------------------------------------------------------------------------------
def _is_exception(cls: type) -> bool:
    return issubclass(cls, Exception)


def _encode_exception(value: Exception, walk: Walk, depth: int) -> Any:
    args, state = faults.take_apart(value)
    return [walk.name_of(type(value)), walk.items(args, depth), walk.pairs(state, depth)]


def _decode_exception(data: Any, build: Build, depth: int) -> Exception:
    name, args, state = _parts(data, 3)
    found = build.gate.resolve_exception(name)
    if found is None:
        build.gate.resolve(name)  # says why
        raise SerializationError(f"{name} is not an exception class")
    return faults.put_together(found, build.items(args, depth), _mapping(state, build, depth) or {})


# -- choosing ------------------------------------------------------------------------------------------------------------
_KINDS: tuple[tuple[Callable[[type], bool], Handler], ...] = (
    (_is_enum, Handler("~enum", _encode_enum, _decode_enum)),
    (_is_json, Handler("~json", _encode_json, _decode_json)),
    (_is_exception, Handler("~exception", _encode_exception, _decode_exception)),
    (_is_model, Handler("~model", _encode_model, _decode_model)),
    (_is_struct, Handler("~struct", _encode_struct, _decode_struct)),
    (_is_namedtuple, Handler("~namedtuple", _encode_namedtuple, _decode_namedtuple)),
    (_is_dataclass, Handler("~dataclass", _encode_dataclass, _decode_dataclass)),
    (_is_attrs, Handler("~attrs", _encode_attrs, _decode_attrs)),
    (_is_sub, Handler("~sub", _encode_sub, _decode_sub)),
)

#: Handlers by tag.
DECODERS: dict[str, Handler] = {handler.tag: handler for _, handler in _KINDS}


def classify(cls: type) -> Handler | None:
    """The handler of a class that is no type of a known library; None when it is no data class.

    :raises Trouble: it would be one, but workers cannot find it.
    """
    handler = next((handler for fits, handler in _KINDS if fits(cls)), None)
    if handler is not None and cls.__module__ == "__main__":
        raise Trouble(
            f"is a {cls.__qualname__} of the program that was started, which workers cannot import: move the class to a module"
        )
    return handler
