"""Which classes data may bring back, and that data cannot do anything else."""

import subprocess
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, NewType, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynenc.exceptions import ResultTimeoutError, SerializationError
from pynenc.serializer import JsonSerializer, TypeGate
from pynenc.serializer.annotations import classes_in
from tests.unit.serializer import models
from tests.unit.serializer.models import Colour, Frozen, Pair, Point, Struct, UserId

if TYPE_CHECKING:
    from nowhere import Unknown

S = JsonSerializer()
NAME = f"{models.__name__}:"
OPEN = TypeGate.for_app(models.__name__)
CLOSED = TypeGate()
Bound = TypeVar("Bound", bound=Struct)
Alias = NewType("Alias", UserId)


class Holder(msgspec.Struct):
    frozen: dict[str, list[Frozen]]


def annotated(
    a: Point | None, b: list[Pair] | None, c: Annotated[Bound, 1], d: Literal[Colour.RED], *e: Alias, **f: "Holder"
) -> "Decimal | Unknown":
    raise NotImplementedError


def bare(a, b=1):
    raise NotImplementedError


def test_annotations_are_followed():
    assert classes_in(annotated) >= {Point, Pair, Struct, Colour, UserId, Holder, Frozen, Decimal}
    assert classes_in(bare) == set()
    assert classes_in(print) == set()


def test_annotated_classes_are_let_in():
    gate = TypeGate.for_task(annotated, "elsewhere.app")
    for value in (Point(1), Pair(1), Struct(1), Colour.RED, UserId("x"), Frozen("x")):
        assert S.loads(S.dumps(value, gate), gate) == value
    with pytest.raises(SerializationError, match=r"models.UserId is a class .* allowed_types"):
        TypeGate.for_task(bare, "elsewhere.app").resolve(NAME + "UserId")


def test_trusted_names():
    assert TypeGate(trusted=[models.__name__]).resolve(NAME + "Point") is Point
    assert TypeGate(trusted=["tests.unit"]).resolve(NAME + "Outer.Inner") is models.Outer.Inner
    assert TypeGate(trusted=[NAME + "Point"]).resolve(NAME + "Point") is Point
    assert TypeGate(modules=[models.__name__]).resolve(NAME + "Point") is Point
    assert TypeGate.for_app("tests").resolve(NAME + "Point") is Point
    assert TypeGate.for_task(bare, "elsewhere").resolve(f"{__name__}:Holder") is Holder
    for gate in (
        TypeGate(trusted=[NAME + "Pair"]),
        TypeGate(trusted=["tests.unit.serial"]),
        TypeGate(trusted=["", "test"]),
        CLOSED,
    ):
        with pytest.raises(SerializationError, match="may not rebuild"):
            gate.resolve(NAME + "Point")


def test_encoding_asks_the_gate_first():
    with pytest.raises(
        SerializationError, match=r"^p\[0\] cannot be sent: .*models.Point is a class that this task may not rebuild"
    ):
        S.dumps([Point(1)], CLOSED, where="p")


def test_pynencs_own_loaded_classes():
    assert CLOSED.resolve("pynenc.core.ids:InvocationId").__name__ == "InvocationId"


def test_modules_are_imported_only_when_trusted(tmp_path, monkeypatch):
    (tmp_path / "trap_a.py").write_text("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SerializationError):
        CLOSED.resolve("trap_a:A")
    assert "trap_a" not in sys.modules
    try:
        assert TypeGate.for_app("trap_a").resolve("trap_a:A").__name__ == "A"
    finally:
        sys.modules.pop("trap_a", None)


def test_trusted_modules_that_are_not_there():
    with pytest.raises(SerializationError, match="cannot be imported here"):
        OPEN.resolve("tests.unit.serializer.absent:X")
    with pytest.raises(SerializationError, match="is not there"):
        OPEN.resolve(NAME + "Absent")
    with pytest.raises(SerializationError, match="may not rebuild"):
        OPEN.resolve("tests.__main__:X")


STRANGERS = [
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:type",
    "builtins:object",
    "builtins:str",
    "functools:partial",
    "collections:OrderedDict",
    "pynenc.secret:Secret",
    "pynenc.serializer.gate:TypeGate",
    "__main__:X",
    NAME + "Plain",
    NAME + "ran",
    NAME + "NotAnError",
    NAME + "Point.__init__",
    NAME + "msgspec",
    NAME + "Any",
    NAME + "NamedTuple",
    NAME + "dataclass",
    NAME,
    ":",
    "",
    "..:x",
    "os.path:join",
]
SHAPES = [
    ("~dataclass", [{}]),
    ("~dataclass", [{"args": "id"}]),
    ("~attrs", [{}]),
    ("~struct", [{}]),
    ("~model", [{}, None, [], None]),
    ("~namedtuple", [{}]),
    ("~enum", ["x"]),
    ("~json", ["x"]),
    ("~sub", ["x", None]),
    ("~sub", [{"~dict": []}, [["x", 1]]]),
    ("~exception", [["x"], []]),
]


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[0])
def test_strangers_are_refused(name, shape, monkeypatch):
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *a, **k: pytest.fail("called"))
    tag, rest = shape
    for gate in (CLOSED, OPEN, TypeGate(classes=[subprocess.Popen, models.Plain, models.NotAnError])):
        with pytest.raises(SerializationError):
            S.loads(msgspec.json.encode({tag: [name, *rest]}), gate)


def test_a_reexported_class_is_not_its_holders():
    models.Popen = subprocess.Popen
    try:
        with pytest.raises(SerializationError):
            OPEN.resolve(NAME + "Popen")
    finally:
        del models.Popen


def test_exceptions_by_allow_list():
    assert CLOSED.resolve_exception("builtins:KeyError") is KeyError
    assert CLOSED.resolve_exception("pynenc.exceptions:ResultTimeoutError") is ResultTimeoutError
    assert CLOSED.resolve_exception("subprocess:CalledProcessError") is subprocess.CalledProcessError
    assert OPEN.resolve_exception(NAME + "ShopError") is models.ShopError
    refused = [
        "builtins:SystemExit",
        "builtins:KeyboardInterrupt",
        "builtins:str",
        "subprocess:Popen",
        "xdrlib:Error",
        "os:error",
        NAME + "ShopError",
        "pynenc.secret:Secret",
        "x",
    ]
    assert [CLOSED.resolve_exception(name) for name in refused] == [None] * len(refused)
    assert OPEN.resolve_exception(NAME + "NotAnError") is None
    assert OPEN.resolve_exception(NAME + "Point") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1]]",
        b"\xff",
        b'"\xff"',
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"~tuple":[' * 100_000,
        b'{"~tuple":[' * 400 + b"]}" * 400,
        b"[" * 500 + b'{"~set":[]}' + b"]" * 500,
        b'{"~tuple":1}',
        b'{"~tuple":{"a":1}}',
        b'{"~unknown":1}',
        b'{"~tuple":[],"b":1}',
        b'{"~int":5}',
        b'{"~int":"zz"}',
        b'{"~float":"5"}',
        b'{"~str":"7aC"}',
        b'{"~bytes":"@@@@"}',
        b'{"~bytes":5}',
        b'{"~dict":[[1]]}',
        b'{"~dict":[[[],1]]}',
        b'{"~dict":{"a":1}}',
        b'{"~set":[1,1]}',
        b'{"~set":[{}]}',
        b'{"~defaultdict":["eval",[]]}',
        b'{"~datetime":"yesterday"}',
        b'{"~datetime":["2024-01-01T00:00:00",0,"../../etc/passwd"]}',
        b'{"~datetime":["2024-01-01T00:00:00",7,null]}',
        b'{"~zone":"Nowhere/Land"}',
        b'{"~timedelta":[1e308,0,0]}',
        b'{"~decimal":"x"}',
        b'{"~decimal":[1,2]}',
        b'{"~path":["eval","x"]}',
        b'{"~range":[0,1,0]}',
        b'{"~range":[0,"a",1]}',
        b'{"~blob":"0000"}',
        b'{"~blob":5}',
        b'{"~ndarray":["O",[2],"C",[1]]}',
        b'{"~ndarray":["<i8",[1000000000000],"C","AAAA"]}',
        b'{"~ndarray":["|O",[1],"C","AAAAAAAAAAA="]}',
        b'{"~ndarray":[[["a","|O"]],[1],"C","AAAAAAAAAAA="]}',
        b'{"~npscalar":["|O","AAAAAAAAAAA="]}',
        b'{"~frame":[1,2,3,4]}',
        b'{"~table":"AAAA"}',
        b"9" * 100_000,
    ],
    ids=lambda data: data[:40].decode(errors="replace"),
)
def test_damaged_data(data):
    start = time.perf_counter()
    with pytest.raises(SerializationError):
        S.loads(data, OPEN)
    with pytest.raises(SerializationError):
        S.loads_arguments(b'{"x":' + data + b"}", OPEN)
    assert time.perf_counter() - start < 20


TAGS = sorted(S._decoders)
junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from([NAME + "Point", "os:system", NAME + "Colour", "<i8", "M8[D]", "C", "F", "O", "text", "numpy"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.text(max_size=3), st.sampled_from(TAGS)), inner, max_size=2),
        st.builds(lambda tag, data: {tag: data}, st.sampled_from(TAGS), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(junk)
def test_any_json_is_a_value_or_an_error(data):
    try:
        S.loads(msgspec.json.encode(data), OPEN)
    except SerializationError:
        pass


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data):
    for decode in (S.loads, S.loads_arguments):
        try:
            decode(data, OPEN)
        except SerializationError:
            pass
