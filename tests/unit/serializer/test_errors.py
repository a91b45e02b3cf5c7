"""Errors survive the trip: class, arguments, attributes, causes and the text of the traceback."""

import json
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynenc.exceptions import (
    CycleDetectedError,
    InvocationConcurrencyWithDifferentArgumentsError,
    MissingBlobsError,
    PynencError,
    ResultTimeoutError,
    RetryError,
    StoreError,
    TaskFailedError,
)
from pynenc.serializer import TypeGate
from pynenc.serializer.errors import decode_error, encode_error, read_error
from tests.unit.serializer import models
from tests.unit.serializer.models import NotAnError, PlainError, Point, ShopError, Unprintable

OPEN = TypeGate.for_app(models.__name__)
CLOSED = TypeGate()


def caught(error, cause=None):
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def trip(error, gate=OPEN, **options):
    return decode_error(encode_error(caught(error), **options), gate, "shop.buy")


def test_the_original_class_without_its_init():
    error = ShopError(7, item=Point(1))
    models.ran.clear()
    found = trip(error)
    assert models.ran == []
    assert (type(found), found.args, found.code, found.item) == (ShopError, ("code 7",), 7, Point(1))
    assert "in caught" in found.remote_traceback
    assert found.__notes__ == [f"Remote traceback:\n{found.remote_traceback.rstrip()}"]


def test_a_class_that_is_not_let_in():
    found = trip(PlainError("no stock"), CLOSED)
    assert type(found) is TaskFailedError
    assert str(found) == f"{models.__name__}.PlainError: no stock"
    assert (found.task_id, found.error_type) == ("shop.buy", f"{models.__name__}.PlainError")
    assert "PlainError: no stock" in found.remote_traceback


@pytest.mark.parametrize(
    "error",
    [
        KeyError(("a", 1)),
        ValueError("x", 1, b"y", {1: 2}),
        OSError(2, "no", "file.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ImportError("no", name="mod", path="p"),
        ModuleNotFoundError("no", name="mod"),
        StopIteration(5),
        SyntaxError("bad", ("f.py", 1, 2, "text")),
        AttributeError("a"),
        ZeroDivisionError(),
        ResultTimeoutError("late", "inv-1"),
        CycleDetectedError("round", "inv-1", ["a", "b"]),
        RetryError("again", 2.5),
        StoreError("busy", retryable=True),
        MissingBlobsError(["k1", "k2"]),
        TaskFailedError("m", "t", "E", "tb"),
        InvocationConcurrencyWithDifferentArgumentsError("m", "t", "i", {"a": ("1", "2")}),
        subprocess.CalledProcessError(3, ["ls"], b"out"),
        json.JSONDecodeError("bad", "doc", 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_known_exceptions(error):
    found = trip(error, CLOSED)
    assert type(found) is type(error)
    assert str(found) == str(error)
    ours = {name: value for name, value in vars(error).items() if name != "remote_traceback"}
    assert {name: value for name, value in vars(found).items() if name not in ("__notes__", "remote_traceback")} == ours
    assert found.args == error.args


def test_slots_of_builtin_exceptions():
    assert trip(OSError(2, "no", "f", None, "g")).filename2 == "g"
    found = trip(ImportError("no", name="mod", path="p"))
    assert (found.name, found.path, str(found)) == ("mod", "p", "no")
    assert trip(StopIteration(5)).value == 5
    assert trip(SyntaxError("bad", ("f.py", 1, 2, "text"))).lineno == 1


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        NotAnError("x"),
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
    ],
)
def test_what_must_not_be_raised_again(error):
    found = trip(error)
    assert type(found) is TaskFailedError
    assert found.error_type.endswith(type(error).__name__)


def test_exceptions_that_cannot_be_printed():
    found = trip(Unprintable("a", Unprintable()))
    assert type(found) is Unprintable
    assert found.args[0] == "a"
    assert type(found.args[1]) is Unprintable
    assert trip(Unprintable(Unprintable(len))).args[0].startswith("<Unprintable that cannot")
    assert "cannot be printed" in read_error(encode_error(Unprintable())).message


def test_arguments_that_do_not_travel_become_text():
    found = trip(ValueError(len, 5, "\ud800"))
    assert found.args == ("<built-in function len>", 5, "\\ud800")
    stranger = decode_error(encode_error(ValueError(Point(1)), gate=CLOSED), CLOSED)
    assert (type(stranger), stranger.args) == (ValueError, ("Point(x=1, y=0)",))


def test_causes():
    try:
        try:
            raise KeyError("root")
        except KeyError as root:
            raise ShopError(1, item=None) from root
    except ShopError:
        try:
            raise ValueError("last")
        except ValueError as error:
            data = encode_error(error)
    found = decode_error(data, OPEN)
    assert found.__cause__ is None
    assert type(found.__context__) is ShopError
    assert type(found.__context__.__cause__) is KeyError
    info = read_error(data)
    assert (info.type, info.message) == ("ValueError", "last")
    assert [cause.type for cause in info.causes] == [f"{models.__name__}.ShopError", "KeyError"]
    assert info.traceback.index("root") < info.traceback.index("direct cause") < info.traceback.index("During handling")


def test_suppressed_contexts_stay_so():
    try:
        raise KeyError("hidden")
    except KeyError:
        data = encode_error(caught(ValueError("shown")))
    assert decode_error(data, OPEN).__context__ is None


def test_chains_and_circles_are_bounded():
    error = ValueError(0)
    for number in range(1, 50):
        error = caught(ValueError(number), error)
    found, length = decode_error(encode_error(error), OPEN), 0
    while found is not None:
        found, length = found.__cause__, length + 1
    assert length == 9
    ring, other = ValueError("ring"), ValueError("other")
    ring.__context__, other.__context__ = other, ring
    assert "ring" in str(decode_error(encode_error(ring), OPEN))


def test_groups():
    group = ExceptionGroup("both", [ShopError(1, item=2), ExceptionGroup("inner", [KeyError("k")])])
    found = trip(group)
    assert type(found) is ExceptionGroup
    assert found.message == "both"
    assert found.exceptions[0].code == 1
    assert type(found.exceptions[1].exceptions[0]) is KeyError
    mixed = trip(ExceptionGroup("g", [ShopError(1, item=2)]), CLOSED)
    assert type(mixed.exceptions[0]) is TaskFailedError


def test_groups_of_great_depth():
    group = ExceptionGroup("g", [ValueError()])
    for _ in range(2000):
        group = ExceptionGroup("g", [group])
    assert isinstance(decode_error(encode_error(group), OPEN), Exception)


def test_sizes_are_bounded():
    data = encode_error(caught(ValueError("x" * 10_000_000, list(range(100_000)))), max_traceback=2000)
    assert len(data) < 400_000
    found = decode_error(data, OPEN)
    assert len(found.remote_traceback) < 2100
    assert "bytes left out" in found.remote_traceback
    assert len(read_error(data).message) < 20_000


def test_long_tracebacks_keep_both_ends():
    def deep(n):
        return deep(n - 1) if n else 1 / n

    try:
        deep(200)
    except ZeroDivisionError as error:
        text = read_error(encode_error(error, max_traceback=600)).traceback
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("division by zero")


def test_redaction_reaches_every_text():
    error = ShopError("hunter2", item={"password": "hunter2"})
    error.add_note("note hunter2")
    data = encode_error(caught(error, KeyError("hunter2")), redact=lambda text: text.replace("hunter2", "***"))
    assert b"hunter2" not in data
    found = decode_error(data, OPEN)
    assert found.args == ("code ***",)
    assert not hasattr(found, "item")


def test_notes_and_what_travels_twice():
    error = ValueError("x")
    error.add_note("look here")
    first = trip(error)
    assert first.__notes__[0] == "look here"
    second = trip(first)
    assert [note[:9] for note in second.__notes__] == ["look here", "Remote tr"]
    assert second.remote_traceback.count("Remote traceback") == 1


def test_frames_of_the_library_are_left_out():
    scope = {"__name__": "pynenc.engine.execute"}
    exec("def run(body): body()", scope)

    def body():
        raise ValueError("here")

    try:
        scope["run"](body)
    except ValueError as error:
        trimmed = error.with_traceback(error.__traceback__.tb_next)
        text = read_error(encode_error(trimmed)).traceback
    assert "in body" in text
    assert "in run" not in text


FIELDS = st.sampled_from(["type", "message", "args", "state", "traceback", "before", "group"])
NAMES = st.sampled_from(["type", "args", "__class__", "__dict__", "with_traceback", "__notes__"])
TYPES = st.sampled_from(["builtins:KeyError", "os:system", "builtins:OSError", "builtins:ExceptionGroup"])
JUNK = st.recursive(
    st.one_of(st.none(), st.text(max_size=9), TYPES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
WELL_FORMED = st.fixed_dictionaries(
    {"type": TYPES}, optional={"args": st.lists(JUNK, max_size=3), "state": st.dictionaries(NAMES, JUNK)}
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=100), st.one_of(st.dictionaries(FIELDS, JUNK), WELL_FORMED).map(json.dumps).map(str.encode)
    )
)
def test_any_data_is_an_exception(data):
    assert isinstance(decode_error(data, OPEN), Exception)
    assert isinstance(read_error(data).message, str)


def test_attributes_cannot_replace_what_python_keeps():
    data = b'{"type":"builtins:ValueError","args":[1],"state":{"__class__":"x","__dict__":{},"with_traceback":1,"__notes__":5}}'
    found = decode_error(data, CLOSED)
    assert isinstance(found, (ValueError, TaskFailedError))
    assert callable(found.with_traceback)


def test_all_of_our_own_errors_come_back():
    def below(cls):
        return [cls, *[part for sub in cls.__subclasses__() for part in below(sub)]]

    ours = [cls for cls in below(PynencError) if cls.__module__ == "pynenc.exceptions"]
    assert len(ours) > 25
    for cls in ours:
        made = cls.__new__(cls, "text")
        assert type(trip(made, CLOSED)) is cls
