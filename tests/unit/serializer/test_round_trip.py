"""What goes in comes out, of the same type."""

import math
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynenc.exceptions import SerializationError
from pynenc.secret import Secret
from pynenc.serializer import JsonSerializer, TypeGate

S = JsonSerializer()
GATE = TypeGate()


def trip(value):
    return S.loads(S.dumps(value), GATE)


def same(left, right):
    """Equal, of the same exact types, all the way down; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (left == right and math.copysign(1, left) == math.copysign(1, right)) or (
            math.isnan(left) and math.isnan(right)
        )
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, dict):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left.items(), right.items(), strict=True))
    if isinstance(left, (list, tuple, deque)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return sorted(map(shown, left)) == sorted(map(shown, right))
    if isinstance(left, Secret):
        return same(left.reveal(), right.reveal())
    if isinstance(left, datetime):
        return (
            left.isoformat() == right.isoformat()
            and left.fold == right.fold
            and repr(left.tzinfo) == repr(right.tzinfo)
        )
    return left == right


def shown(value):
    """Text that does not depend on the order of sets."""
    if isinstance(value, (tuple, frozenset)):
        parts = map(shown, value)
        return f"{type(value).__name__}{sorted(parts) if isinstance(value, frozenset) else list(parts)}"
    return repr(value)


MADRID = ZoneInfo("Europe/Madrid")
VALUES = [
    (1, "a", None, (2.5, [])),
    {1, 2, 3},
    {"b", 1, None, (1, 2)},
    frozenset({frozenset({1}), "x"}),
    b"",
    b"\x00\xff" * 10,
    bytearray(b"abc"),
    float("nan"),
    {float("nan"), float("nan")},
    [float("inf"), -float("inf"), -0.0, 1e308, 1e308],
    {"x": float("nan")},
    2**64,
    -(2**63) - 1,
    10**6000,
    [1, -(10**6000), "\ud800"],
    "\ud800\udfff",
    {"\udc00": [1, {"\udc00": (1,)}]},
    {0: "none", None: 0, (1, 2): [3], 2.5: 1, True: "yes"},
    {"~tuple": [1]},
    {"~": 1, "b": 2},
    {"~dict": [["~blob", "x"]]},
    [{"~blob": "0" * 40}],
    "~",
    ["~tuple", {"a~": 1}],
    datetime(2024, 2, 29, 12, 30, 59, 999999),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=7), "odd")),
    datetime(2024, 10, 27, 2, 30, tzinfo=MADRID, fold=1),
    datetime(2024, 10, 27, 2, 30, fold=1),
    datetime(2024, 1, 1, fold=1, tzinfo=UTC),
    date(1, 1, 1),
    time(23, 59, 59, 1),
    time(1, 2, tzinfo=UTC),
    time(1, 2, tzinfo=MADRID, fold=1),
    timedelta(days=-5, microseconds=3),
    timedelta.max,
    UTC,
    MADRID,
    timezone(timedelta(hours=1), "CET"),
    Decimal("1.100"),
    Decimal("sNaN12"),
    Decimal("-0"),
    Decimal("1E+999999"),
    UUID(int=5),
    Path("/srv/x"),
    Path("bad\udcff"),
    PurePosixPath("a/b"),
    PureWindowsPath("C:\\x"),
    complex(1, float("inf")),
    complex(-0.0, 2),
    range(0, 10**30, 7),
    slice(1, None, -1),
    slice("a", (1, 2)),
    deque([1, (2,)], maxlen=5),
    deque(),
    OrderedDict([("b", 1), ("a", (2,))]),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {1: 2}),
    Counter("hello"),
    SimpleNamespace(a=1, b=(2,)),
    Secret("hidden"),
    Secret((1, Secret(2))),
    [[[[(1,)]]], {"a": {"b": {"c": {1}}}}],
]


@pytest.mark.parametrize(
    "value",
    VALUES,
    ids=[f"{number}-{type(value).__name__}" for number, value in enumerate(VALUES)],  # the same in every process
)
def test_round_trip(value):
    assert same(trip(value), value)
    assert same(trip([value, {"k": value}])[1]["k"], value)
    assert same(S.loads_arguments(S.dumps_arguments({"x": value, "y": 1}), GATE), {"x": value, "y": 1})


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 2**63, "text", "é\U0001f600", 0.1, [], {}, [1, "a", None], {"a": {"b": [1.5]}}]
)
def test_plain_json_stands_for_itself(value):
    assert S.dumps(value) == msgspec.json.encode(value)
    assert same(trip(value), value)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**25), max_value=10**25),
    st.floats(),
    st.text(st.characters(), max_size=10),
    st.sampled_from(["~", "~tuple", "~dict", "~blob", "~float", "~x"]),
    st.binary(max_size=10),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.timezones())),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),  # signalling NaN cannot be hashed
    st.uuids(),
    st.complex_numbers(),
)
hashable = st.recursive(
    scalars, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=5
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(hashable, inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "~tuple", "~", "~dict", "~blob", "b"]), inner, max_size=3),
        st.sets(hashable, max_size=4),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 3, 9])),
        st.builds(Secret, inner),
        st.builds(lambda items: OrderedDict(items), st.dictionaries(hashable, inner, max_size=3)),
    ),
    max_leaves=15,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_value_round_trips(value):
    assert same(trip(value), value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), values, max_size=4))
def test_any_arguments_round_trip(kwargs):
    payload = S.dumps_arguments(kwargs)
    assert same(S.loads_arguments(payload, GATE), kwargs)
    assert S.dumps_arguments(kwargs) == payload


def test_every_decoding_makes_its_own_copy():
    fragment = S.dumps({"a": [1]})
    first, second = S.loads(fragment, GATE), S.loads(fragment, GATE)
    first["a"].append(2)
    assert second == {"a": [1]}


def test_encoding_changes_nothing():
    value = {"a": [1, (2, 3)], "b": {"~x": [(1,)]}}
    S.dumps(value)
    assert value == {"a": [1, (2, 3)], "b": {"~x": [(1,)]}}


def test_equal_sets_make_equal_fragments():
    assert S.dumps({"b", "a", "c"}) == S.dumps({"c", "b", "a"})
    assert S.dumps({1, (2,), "x", "\ud800"}) == S.dumps({"\ud800", "x", (2,), 1})


@pytest.mark.parametrize(
    "value", [lambda: 1, print, object(), int, math, (x for x in ()), memoryview(b"x"), {}.keys(), NotImplemented, ...]
)
def test_what_does_not_travel_says_so(value):
    with pytest.raises(
        SerializationError,
        match=r"^x\[3\]\['name'\]\[\(1, 2\)\] is of type .+, which cannot be sent: (pass|make|await)",
    ):
        S.dumps([0, 1, 2, {"name": {(1, 2): value}}], where="x")


def test_the_argument_is_named():
    with pytest.raises(SerializationError, match=r"^job\[0\] is of type function"):
        S.dumps_arguments({"a": 1, "job": (len.__class__, print) and (lambda: 1,)})


def test_a_factory_that_cannot_travel():
    with pytest.raises(SerializationError, match="factory"):
        S.dumps(defaultdict(lambda: 1))


def test_depth():
    deep, deeper = [], [[]]
    for _ in range(63):
        deep, deeper = [deep], [deeper]
    assert trip(deep) == deep
    tuples = ()
    for _ in range(63):
        tuples = (tuples,)
    assert trip(tuples) == tuples
    with pytest.raises(SerializationError, match="deeper than 64 levels"):
        S.dumps(deeper)
    with pytest.raises(SerializationError, match="deeper than 64 levels"):
        S.dumps((tuples,))


def test_pairs_at_full_depth_come_back():
    value = {}
    for _ in range(63):
        value = {1: value}
    assert trip(value) == value


def test_cycles_are_named():
    ring = {"a": [1]}
    ring["a"].append(ring)
    with pytest.raises(SerializationError, match=r"^x\['a'\]\[1\].*contains itself"):
        S.dumps(ring, where="x")


def test_other_time_zones_are_refused():
    from datetime import tzinfo

    class Own(tzinfo):
        def utcoffset(self, dt):
            return timedelta(0)

    with pytest.raises(SerializationError, match="zoneinfo"):
        S.dumps(datetime(2024, 1, 1, tzinfo=Own()))


def test_registered_classes():
    serializer = JsonSerializer()

    class Handle:
        def __init__(self, key):
            self.key = key

    class Special(Handle):
        pass

    serializer.register("handle", Handle, lambda handle: (handle.key, 1), lambda data: Handle(data[0]))
    found = serializer.loads(serializer.dumps([Special("k")]), GATE)[0]
    assert type(found) is Handle
    assert found.key == "k"
    with pytest.raises(ValueError, match="taken"):
        serializer.register("handle", Handle, str, str)
    with pytest.raises(SerializationError, match="unknown kind"):
        S.loads(serializer.dumps(Handle("k")), GATE)


def test_secret_shows_nothing():
    secret = Secret("token")
    assert (repr(secret), str(secret), f"{secret}") == ("Secret('***')",) * 3
    assert secret.reveal() == secret.get_secret_value() == "token"
    assert secret == Secret("token") != Secret("other")
    assert secret != "token"
    assert len({secret, Secret("token")}) == 1
