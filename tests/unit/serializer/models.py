"""Classes of every kind that travels, for the tests beside it."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic

T = TypeVar("T")
ran: list[str] = []


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    tags: tuple[str, ...] = ()


@dataclass
class Computed:
    width: int
    area: int = field(init=False)
    children: list[Any] = field(default_factory=list)

    def __post_init__(self):
        ran.append("Computed")
        self.area = self.width**2


@dataclass
class Box(Generic[T]):
    item: T


class Pair(NamedTuple):
    left: Any
    right: Any = None


Old = namedtuple("Old", "a b")  # noqa: PYI024  # the older kind travels too


@attrs.define
class Attrs:
    a: Any
    b: list[Any] = attrs.field(factory=list)

    def __attrs_post_init__(self):
        ran.append("Attrs")


@attrs.frozen(cache_hash=True)
class Hashed:
    a: int


class Struct(msgspec.Struct):
    a: Any
    b: tuple[Any, ...] = ()


class FrozenStruct(msgspec.Struct, frozen=True):
    a: int


class Model(pydantic.BaseModel):
    a: int
    b: list[Any] = []
    _hidden: int = pydantic.PrivateAttr(default=7)


class Open(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    a: int = 1


class Colour(enum.Enum):
    RED = (1, "r")
    BLUE = (2, "b")


class Size(enum.IntEnum):
    S = 1
    L = 2


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class UserId(str):  # noqa: SLOT000
    pass


class Metres(float):
    pass


class Count(int):
    pass


class Names(list):
    def append(self, item):
        ran.append("append")
        super().append(item)


class Registry(dict):
    pass


class Marked(str):  # noqa: SLOT000
    note = ""


class Raw(bytes):
    pass


class Slotted(str):
    __slots__ = ()


class Money:
    def __init__(self, cents):
        self.cents = cents

    def to_json(self):
        return (self.cents, "EUR")

    @classmethod
    def from_json(cls, data):
        return cls(data[0])

    def __eq__(self, other):
        return type(other) is Money and other.cents == self.cents


class Liar(Money):
    @classmethod
    def from_json(cls, data):
        return "not a Liar"


class Plain:
    pass


class ShopError(Exception):
    def __init__(self, code, *, item):
        ran.append("ShopError")
        super().__init__(f"code {code}")
        self.code = code
        self.item = item


class Outer:
    @dataclass
    class Inner:
        x: int


class NotAnError(BaseException):
    pass


class PlainError(Exception):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise SystemExit("no")

    def __repr__(self):
        raise ValueError("no")
