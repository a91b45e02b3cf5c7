"""Classes of users: taken apart into fields, put together without running their code."""

import collections
import dataclasses
import sys

import msgspec
import pydantic
import pytest

from pynenc.core.ids import InvocationId
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ResultTimeoutError, SerializationError
from pynenc.serializer import JsonSerializable, JsonSerializer, TypeGate
from tests.unit.serializer import models
from tests.unit.serializer.models import (
    Access,
    Attrs,
    Box,
    Colour,
    Computed,
    Count,
    Frozen,
    FrozenStruct,
    Hashed,
    Liar,
    Marked,
    Metres,
    Model,
    Money,
    Names,
    Old,
    Open,
    Outer,
    Pair,
    Plain,
    Point,
    Raw,
    Registry,
    ShopError,
    Size,
    Slotted,
    Struct,
    UserId,
    Word,
)

S = JsonSerializer()
GATE = TypeGate.for_app(models.__name__)


def trip(value):
    return S.loads(S.dumps(value, GATE), GATE)


@pytest.mark.parametrize(
    "value",
    [
        Point(1, (2, Point({3}, None))),
        Frozen("a", ("b",)),
        Box(Box(1)),
        Box[int](1),
        Outer.Inner(1),
        Pair(1, (2,)),
        Old([1], {2: 3}),
        Attrs(1, [(2,)]),
        Hashed(5),
        Struct((1,), (2,)),
        FrozenStruct(3),
        Model(a=1, b=[(2,)]),
        Open(a=2, other=(1,)),
        Colour.BLUE,
        Size.L,
        Word.YES,
        Access.READ,
        Access.READ | Access.WRITE,
        Access(0),
        UserId("u"),
        UserId("\ud800"),
        Metres(1.5),
        Metres("inf"),
        Count(2**70),
        Names([1, (2,)]),
        Registry({1: 2}),
        Raw(b"x"),
        Slotted("s"),
        Money(5),
        InvocationId("abc"),
        InvocationStatus.SUCCESS,
    ],
    ids=lambda value: type(value).__name__,
)
def test_round_trip(value):
    found = trip([value, 1])[0]
    assert type(found) is type(value)
    assert found == value
    if type(value).__hash__ and not isinstance(value, (Pair, Old, Struct, Point)):
        assert hash(found) == hash(value)


def test_keys_of_dicts_too():
    value = {Frozen("a"): 1, Size.S: 2, Word.YES: 3, Pair(1): 4, UserId("x"): 5}
    found = trip(value)
    assert found == value
    assert [type(key) for key in found] == [type(key) for key in value]


def test_nothing_is_run_again():
    value = Computed(3)
    value.area = 10
    attribute, names = Attrs(1), Names([1])
    models.ran.clear()
    found = trip([value, attribute, names])
    assert models.ran == []
    assert found[0].area == 10


def test_attributes_of_subclasses_of_builtins():
    value = Marked("text")
    value.note = ("kept",)
    assert trip(value).note == ("kept",)


def test_parts_of_pydantic_models():
    value = Model(a=1)
    value._hidden = 9
    found = trip(value)
    assert (found._hidden, found.model_fields_set) == (9, {"a"})
    assert trip(Open(a=1, x=2)).model_extra == {"x": 2}


def test_exceptions_are_values():
    error = ShopError(5, item=("a",))
    models.ran.clear()
    found = trip(
        [
            error,
            ResultTimeoutError("late", "id-1"),
            OSError(2, "no", "file"),
            ImportError("x", name="mod"),
            KeyError((1, 2)),
        ]
    )
    assert models.ran == []
    assert (type(found[0]), found[0].args, found[0].code, found[0].item) == (ShopError, ("code 5",), 5, ("a",))
    assert (str(found[1]), found[1].invocation_id) == ("late", "id-1")
    assert (type(found[2]), found[2].filename, found[2].errno) == (FileNotFoundError, "file", 2)
    assert found[3].name == "mod"
    assert found[4].args == ((1, 2),)


def test_the_protocol():
    assert isinstance(Money(1), JsonSerializable)
    with pytest.raises(SerializationError, match=r"from_json.. made a str"):
        trip(Liar(1))


def test_paths_go_through_fields():
    with pytest.raises(SerializationError, match=r"^x\[0\]\.y\.a\.right is of type function"):
        S.dumps([Point(1, Struct(Pair(1, lambda: 1)))], where="x")


def test_classes_that_do_not_travel():
    @dataclasses.dataclass
    class Local:
        x: int

    for value, text in (
        (Local(1), "inside a function|may not"),
        (Plain(), "dataclass"),
        (collections.UserDict(), "dataclass"),
        (type("Hidden", (collections.OrderedDict,), {})(), "dataclass"),
    ):
        with pytest.raises(SerializationError, match=text):
            S.dumps(value)
        with pytest.raises(SerializationError):
            S.dumps(value, GATE)


def test_a_class_that_cannot_be_found_again_is_refused_at_the_call():
    made = dataclasses.make_dataclass("Nowhere", ["x"])
    made.__module__ = models.__name__
    with pytest.raises(SerializationError, match="is not there"):
        S.dumps(made(1), GATE)


def test_classes_of_the_program_are_refused(monkeypatch):
    made = dataclasses.make_dataclass("Main", ["x"])
    made.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "Main", made, raising=False)
    with pytest.raises(SerializationError, match="move the class to a module"):
        S.dumps(made(1))


NAME = f"{models.__name__}:"


@pytest.mark.parametrize(
    ("tagged", "text"),
    [
        ({"~dataclass": [NAME + "Point", {}]}, "needs the field 'x'"),
        ({"~dataclass": [NAME + "Point", {"x": 1, "z": 2}]}, "has no field 'z'"),
        ({"~attrs": [NAME + "Attrs", {"q": 1}]}, "has no field 'q'"),
        ({"~namedtuple": [NAME + "Pair", {}]}, "needs the field 'left'"),
        ({"~model": [NAME + "Model", {}, None, [], None]}, "needs the field 'a'"),
        ({"~struct": [NAME + "Struct", {}]}, "damaged"),
        ({"~enum": [NAME + "Colour", "GREEN"]}, "no member 'GREEN'"),
    ],
)
def test_versions_that_differ_are_named(tagged, text):
    with pytest.raises(SerializationError, match=text):
        S.loads(msgspec.json.encode(tagged), GATE)


@pytest.mark.parametrize(
    ("tagged", "value"),
    [
        ({"~dataclass": [NAME + "Point", {"x": 1}]}, Point(1)),
        ({"~attrs": [NAME + "Attrs", {"a": 1}]}, Attrs(1)),
        ({"~namedtuple": [NAME + "Pair", {"left": 1}]}, Pair(1)),
        ({"~struct": [NAME + "Struct", {"a": 1}]}, Struct(1)),
        ({"~model": [NAME + "Model", {"a": 1}, None, ["a"], [["_hidden", 7]]]}, Model(a=1)),
    ],
)
def test_missing_fields_get_their_defaults(tagged, value):
    assert S.loads(msgspec.json.encode(tagged), GATE) == value


def test_pydantic_dataclasses():
    made = pydantic.dataclasses.dataclass(
        type("Pyd", (), {"__annotations__": {"x": int}, "__module__": models.__name__})
    )
    models.Pyd = made
    try:
        assert trip(made(x=3)) == made(x=3)
    finally:
        del models.Pyd
