"""The codec: round trips, limits that name the culprit, signatures that bind to a place, identity of calls, and what is shown."""

import logging
import sys
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest

from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.config_task import ConfigTask
from pynenc.core.records import Claimed, Final, Invocation
from pynenc.core.status import InvocationStatus, Place
from pynenc.engine.blobs import ClientDataStore
from pynenc.engine.codec import Codec, make_blobs, make_serializer
from pynenc.engine.spec import TaskSpec
from pynenc.exceptions import ConfigError, SerializationError, WorkerLostError
from pynenc.secret import Secret
from pynenc.serializer import JsonSerializer, PickleSerializer, TypeGate
from pynenc.serializer.errors import encode_error

KB = 1024
GATE = TypeGate.for_app("tests")


class Shelf:
    """A place for blobs."""

    def __init__(self):
        self.blobs = {}

    def put_blobs(self, blobs):
        self.blobs.update({blob.key: blob.data for blob in blobs})

    def get_blobs(self, keys):
        return {key: self.blobs[key] for key in keys if key in self.blobs}


def f(x=0, y=0, *rest, token="", **more):
    return x


def add(x, y):
    return x + y


def make_spec(func=f, **options):
    conf = ConfigTask()
    conf.assign(options)
    return TaskSpec(f"shop.{func.__name__}", func, conf, TypeGate.for_task(func, "tests"), ())


def make_codec(shelf=None, resolve=lambda key: None, **settings):
    conf = ConfigPynenc()
    inner = settings.pop("client_data_store", {})
    conf.assign(settings)
    conf.client_data_store.assign(inner)
    return Codec.from_conf(conf, shelf or Shelf(), GATE, resolve)


def claimed(call, spec, **more):
    return Claimed(id="i-1", task=spec.key, attempt=1, args=call.payload, blobs=call.blobs, **more)


def bound(spec, *args, **kwargs):
    return spec.binder.bind(args, kwargs)


def final(payload, spec, status=InvocationStatus.SUCCESS, invocation_id="i-1"):
    return Final(invocation_id, status, spec.key, payload)


def send(codec, shelf, call):
    shelf.put_blobs(codec.blobs.pending(call.blobs))
    codec.blobs.mark_stored(call.blobs)


# -- arguments -----------------------------------------------------------------------------------------------------------------
def test_small_arguments_are_stored_as_plain_json():
    codec, spec = make_codec(), make_spec()
    call = codec.encode(spec, {"x": 1, "y": "two"})
    assert call.payload == call.plain == b'{"x":1,"y":"two"}'
    assert call.blobs == ()
    assert codec.decode(spec, claimed(call, spec)) == {"x": 1, "y": "two"}


@pytest.mark.parametrize("settings", [{}, {"signing_keys": ["k"]}, {"signing_keys": ["k"], "serializer": "pickle"}])
@pytest.mark.parametrize("size", [1, 20 * KB, 300 * KB])
def test_arguments_of_any_size_come_back(settings, size):
    shelf = Shelf()
    codec, reader, spec = make_codec(shelf, **settings), make_codec(shelf, **settings), make_spec()
    values = bound(spec, "a" * size, [1, {2: (3,)}], 4, token=b"t" * size, extra={5, 6})
    call = codec.encode(spec, values)
    send(codec, shelf, call)
    assert bool(call.blobs) is (size > 256 * KB)
    assert len(call.payload) < 60 * KB
    assert reader.decode(spec, claimed(call, spec)) == values


def test_encoding_and_decoding_scalars_costs_few_calls():
    codec, spec = make_codec(), make_spec(add)
    values = bound(spec, 1, "two")
    work = claimed(codec.encode(spec, values), spec)
    done = final(codec.encode_result(spec, work, 3), spec)
    assert count_calls(lambda: codec.encode(spec, values)) <= 4
    assert count_calls(lambda: codec.decode(spec, work)) <= 2
    assert count_calls(lambda: codec.encode_result(spec, work, 3)) <= 2
    assert count_calls(lambda: codec.decode_result(spec, done)) <= 2


def count_calls(function):
    """Python functions of the package that are entered."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call" and str(frame.f_globals.get("__name__")).startswith("pynenc.")

    function()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_what_cannot_be_encoded_names_the_argument():
    with pytest.raises(SerializationError, match=r"^y\['log'\] is of type logging\.RootLogger, which cannot be sent"):
        make_codec().encode(make_spec(), {"x": 1, "y": {"log": logging.getLogger()}})


@pytest.mark.parametrize(
    ("settings", "options", "advice"),
    [
        ({"client_data_store": {"disabled": True}}, {}, "switch the client data store on"),
        ({}, {"disable_cache_args": ("y",)}, "take it out of disable_cache_args"),
        ({}, {"disable_cache_args": ("*",)}, "take it out of disable_cache_args"),
        ({"max_inline_argument": "1MB"}, {}, "let the client data store keep it"),
    ],
)
def test_too_large_arguments_name_the_largest_and_what_to_do(settings, options, advice):
    settings = {"client_data_store": {"min_size_to_cache": "1MB"}, **settings}
    codec, spec = make_codec(max_arguments=500, **settings), make_spec(**options)
    with pytest.raises(
        SerializationError, match=rf"shop\.f have 1215 bytes.*\(500\); the largest is 'y' with 902 .*{advice}"
    ):
        codec.encode(spec, {"x": "a" * 300, "y": "b" * 900})


def test_a_limit_that_is_assigned_holds_at_once():
    codec, spec = make_codec(), make_spec()
    codec.encode(spec, {"x": "a" * 100})
    codec._conf.max_arguments = 50
    with pytest.raises(SerializationError, match="'x'"):
        codec.encode(spec, {"x": "a" * 100})


def test_values_in_the_data_store_do_not_count_as_inline():
    call = make_codec(max_arguments=KB).encode(make_spec(), {"x": "a" * 300 * KB})
    assert len(call.blobs) == 1


def test_arguments_named_by_disable_cache_args_stay_inline():
    codec = make_codec()
    values = {"x": "a" * 300 * KB, "y": "b" * 300 * KB}
    assert len(codec.encode(make_spec(disable_cache_args=("x",)), values).blobs) == 1
    assert codec.encode(make_spec(disable_cache_args=("*",)), values).blobs == ()
    assert codec.encode_common(make_spec(disable_cache_args=("*",)), values).blobs == ()


def test_with_the_data_store_disabled_everything_is_inline():
    codec, spec = make_codec(client_data_store={"disabled": True}), make_spec()
    call = codec.encode(spec, {"x": "a" * 300 * KB})
    assert call.blobs == ()
    assert codec.decode(spec, claimed(call, spec)) == {"x": "a" * 300 * KB}


@pytest.mark.parametrize(
    ("settings", "data", "size"),
    [
        ({}, {}, 256 * KB),
        ({"max_inline_argument": KB}, {}, KB),
        ({}, {"min_size_to_cache": "1MB"}, KB * KB),
        ({"max_inline_argument": "2KB"}, {"min_size_to_cache": "1MB"}, 2 * KB),
    ],
)
def test_which_arguments_go_to_the_data_store(settings, data, size):
    conf = ConfigPynenc()
    conf._origins.update(dict.fromkeys(settings, "constructor"))
    conf.assign(settings)
    conf.client_data_store.assign(data)
    assert make_blobs(conf, Shelf()).min_size == size


def test_a_fragment_that_could_not_be_read_back_is_no_blob():
    blobs = ClientDataStore(Shelf(), min_size=10, max_blob=100)
    assert [blobs.is_large(b"x" * size) for size in (9, 10, 100, 101)] == [False, True, True, False]


# -- arguments in common -----------------------------------------------------------------------------------------------------
def test_common_arguments_are_encoded_once_and_calls_look_as_if_they_were_not():
    shelf = Shelf()
    codec, spec = make_codec(shelf), make_spec()
    common = codec.encode_common(spec, {"x": "a" * 300 * KB, "token": "t"})
    calls = [codec.encode_with_common(spec, common, {"y": y, "rest": (), "more": {}}) for y in range(3)]
    whole = codec.encode(spec, {"x": "a" * 300 * KB, "y": 2, "rest": (), "token": "t", "more": {}})
    send(codec, shelf, calls[0])
    assert len(shelf.blobs) == 1
    assert codec.digest(calls[2]) == codec.digest(whole)
    assert codec.decode(spec, claimed(calls[1], spec)) == {
        "x": "a" * 300 * KB, "token": "t", "y": 1, "rest": (), "more": {}
    }  # fmt: skip


def test_own_arguments_win_over_common_ones():
    codec, spec = make_codec(), make_spec()
    common = codec.encode_common(spec, {"x": "a" * 300 * KB, "y": 1})
    call = codec.encode_with_common(spec, common, {"x": 5})
    assert codec.decode(spec, claimed(call, spec)) == {"x": 5, "y": 1}
    assert call.blobs == ()


def test_common_arguments_that_are_no_parameters_are_left_to_the_calls():
    codec = make_codec()
    assert set(codec.encode_common(make_spec(), {"x": 1, "unknown": 2})) == {"x"}

    def strict(x):
        return x

    with pytest.raises(TypeError, match="unknown"):
        codec.encode_common(make_spec(strict), {"unknown": 2})


# -- identity --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
        ({"x": {"a": 1, "b": [{"c": 1, "d": 2}]}}, {"x": {"b": [{"d": 2, "c": 1}], "a": 1}}),
        ({"x": {1: "a", (2, 3): {4: 5, 6: 7}}}, {"x": {(2, 3): {6: 7, 4: 5}, 1: "a"}}),
        ({"x": {"b", "a"}}, {"x": {"a", "b"}}),
    ],
)
def test_equal_arguments_have_equal_digests(one, other):
    codec, spec = make_codec(), make_spec()
    assert codec.digest(codec.encode(spec, one)) == codec.digest(codec.encode(spec, other))
    assert codec.canonical(codec.encode(spec, one), "x") == codec.canonical(codec.encode(spec, other), "x")


@pytest.mark.parametrize(
    ("one", "other"),
    [({"x": 1}, {"x": "1"}), ({"x": 1}, {"y": 1}), ({"x": [1, 2]}, {"x": [2, 1]}), ({"x": (1,)}, {"x": [1]})],
)
def test_different_arguments_have_different_digests(one, other):
    codec, spec = make_codec(), make_spec()
    assert codec.digest(codec.encode(spec, one)) != codec.digest(codec.encode(spec, other))


def test_the_canonical_form_of_an_argument_that_is_not_there_is_empty():
    codec, spec = make_codec(), make_spec()
    assert codec.canonical(codec.encode(spec, {"x": None}), "y") == b""
    assert codec.canonical(codec.encode(spec, {"x": None}), "x") == b"null"


# -- results ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("settings", [{}, {"signing_keys": ["k"]}])
@pytest.mark.parametrize("value", [None, 0, "", "a" * 20 * KB, [(1, b"2")]])
def test_results_come_back(settings, value):
    codec, spec = make_codec(**settings), make_spec()
    payload = codec.encode_result(spec, claimed(codec.encode(spec, {}), spec), value)
    assert codec.decode_result(spec, final(payload, spec)) == value


def test_results_have_a_limit():
    codec, spec = make_codec(max_result=10), make_spec()
    with pytest.raises(SerializationError, match=r"the result of shop\.f has 12 bytes.*'max_result' allows \(10\)"):
        codec.encode_result(spec, claimed(codec.encode(spec, {}), spec), "a" * 10)


def test_a_result_that_cannot_be_encoded_says_so():
    codec, spec = make_codec(), make_spec()
    with pytest.raises(SerializationError, match="the result is of type function"):
        codec.encode_result(spec, claimed(codec.encode(spec, {}), spec), f)


def test_what_is_signed_cannot_be_moved():
    codec, spec = make_codec(signing_keys=["k"]), make_spec()
    other = make_spec(bound)
    call = codec.encode(spec, {"x": 1})
    with pytest.raises(SerializationError, match="belongs to another"):
        codec.decode(other, claimed(call, other))
    payload = codec.encode_result(spec, claimed(call, spec), 1)
    with pytest.raises(SerializationError, match="belongs to another"):
        codec.decode_result(spec, final(payload, spec, invocation_id="i-2"))
    value = codec.encode_value(1, "workflow:a", "key")
    assert codec.decode_value(value, "workflow:a", "key") == 1
    with pytest.raises(SerializationError, match="belongs to another"):
        codec.decode_value(value, "workflow:b", "key")


# -- errors ----------------------------------------------------------------------------------------------------------------------
def failed(codec, spec, error, **values):
    work = claimed(codec.encode(spec, bound(spec, **values)), spec)
    return final(codec.encode_error(spec, work, error), spec, InvocationStatus.FAILED)


def test_errors_come_back_in_their_class():
    codec, spec = make_codec(), make_spec()
    error = codec.decode_error(spec, failed(codec, spec, KeyError("gone")))
    assert (type(error), error.args) == (KeyError, ("gone",))


def test_values_of_secret_arguments_are_not_in_errors():
    codec, spec = make_codec(redact=["pin"]), make_spec(redact=["x"])
    text = "hunter22 and abcd1234 and s3cret! and visible; pin=4711"
    work = claimed(codec.encode(spec, bound(spec, token="hunter22")), spec)
    assert codec.read_error(work, codec.encode_error(spec, work, ValueError("hunter22"))).message == "***"
    stored = failed(codec, spec, ValueError(text), x="abcd1234", token="hunter22", y=[Secret("s3cret!"), "visible"])
    assert codec.decode_error(spec, stored).args == ("*** and *** and *** and visible; pin=***",)
    assert all(secret not in stored.payload for secret in (b"hunter22", b"abcd1234", b"s3cret!", b"4711"))


def test_values_below_redacted_names_and_numbers_are_not_in_errors():
    codec, spec = make_codec(redact=["pin"]), make_spec()
    stored = failed(codec, spec, ValueError("4711, abcd1234, True"), x={"Pin": 4711}, y=[{"pin": ["abcd1234", True]}])
    assert codec.decode_error(spec, stored).args == ("***, ***, True",)


class Pair(NamedTuple):
    user: str
    password: str


class Struct(msgspec.Struct):
    user: str
    password: str


def test_fields_of_named_tuples_and_structs_are_not_in_errors():
    codec, spec = make_codec(), make_spec()
    stored = failed(
        codec, spec, ValueError("ana, abcd1234, s3cret!"), x=Pair("ana", "abcd1234"), y=Struct("ana", "s3cret!")
    )
    assert codec.decode_error(spec, stored).args == ("ana, ***, ***",)


@pytest.mark.parametrize(
    "value",
    ["s3\\'cr\"et", b"abc\x00123", "\xe4\xf6\xfc\xdf".encode(), 47.11, Decimal("47.110"), UUID(int=4711)],
    ids=repr,
)
def test_secrets_are_not_in_errors_however_they_are_written(value):
    codec, spec = make_codec(), make_spec()
    text = value.decode() if isinstance(value, bytes) else str(value)
    for secret in (value, Secret([value])):
        stored = failed(codec, spec, ValueError(f"<{text}> {value!r}", value, {"within": [value]}), token=secret)
        told, *others = codec.decode_error(spec, stored).args
        assert told.startswith("<***> ")
        assert repr(value) not in f"{told} {others}"
        assert all("***" in each for each in others)


def test_a_secret_number_that_is_too_long_for_a_text_keeps_no_error():
    codec, spec = make_codec(), make_spec()
    stored = failed(codec, spec, ValueError("too long"), token=10**5000)
    assert codec.decode_error(spec, stored).args == ("too long",)


def test_errors_without_secrets_keep_their_words():
    codec, spec = make_codec(), make_spec()
    assert codec.decode_error(spec, failed(codec, spec, ValueError("bad token: ')'"), x=1)).args == ("bad token: ')'",)


def test_tracebacks_have_a_limit():
    codec, spec = make_codec(max_traceback=2000), make_spec()
    try:
        raise ValueError("x" * 5000)
    except ValueError as error:
        stored = failed(codec, spec, error)
    assert len(codec.decode_error(spec, stored).remote_traceback) < 2100


def test_with_keys_only_the_report_of_a_dead_process_may_be_unsigned():
    codec, spec = make_codec(signing_keys=["k"]), make_spec()
    lost = codec.decode_error(spec, final(encode_error(WorkerLostError("died")), spec, InvocationStatus.FAILED))
    forged = codec.decode_error(spec, final(encode_error(ValueError("forged")), spec, InvocationStatus.FAILED))
    assert (type(lost), str(lost)) == (WorkerLostError, "died")
    assert type(forged) is SerializationError
    assert codec.decode_error(spec, failed(codec, spec, ValueError("true"))).args == ("true",)


# -- showing ---------------------------------------------------------------------------------------------------------------------
ROW = {
    "args_digest": "", "place": Place.FINAL, "queue": "default", "priority": 0.0, "rank": 0.0, "due": 0, "expires": 0,
    "registration_key": None, "running_key": None, "running_limit": 1, "rate": None, "parent": None, "workflow": None,
    "tags": (), "attempt": 1, "retries": 0, "crashes": 0, "max_crashes": 3, "round": 0, "runner": None, "created": 1,
    "claimed": 2, "started": 3, "ended": 4, "result_ttl": 0, "cancel_requested": False, "alone": False, "reason": "",
    "progress": None,
}  # fmt: skip


def row(call, spec, status, payload):
    return Invocation(
        id="i-1", task=spec.key, status=status, args=call.payload, blobs=call.blobs, payload=payload, **ROW
    )


def test_an_invocation_is_shown_without_its_secrets():
    spec = make_spec(redact=["y"])
    codec = make_codec(resolve={spec.key: spec}.get)
    call = codec.encode(spec, {"x": "a" * 100, "y": "hidden", "token": "hidden"})
    work = claimed(call, spec)
    success = codec.describe_row(row(call, spec, InvocationStatus.SUCCESS, codec.encode_result(spec, work, [1, 2])))
    assert success == {"arguments": {"x": "'" + "a" * 28 + "...", "y": "***", "token": "***"}, "result": "[1, 2]"}
    error = codec.encode_error(spec, work, ValueError("no"))
    failure = codec.describe_row(row(call, spec, InvocationStatus.FAILED, error))
    assert (failure["error"], failure["traceback"]) == ("ValueError: no", "ValueError: no\n")


@pytest.mark.parametrize("mode", ["full", "keys", "hidden"])
def test_the_print_mode_holds_for_what_is_shown(mode):
    spec = make_spec()
    codec = make_codec(argument_print_mode=mode, resolve={spec.key: spec}.get)
    call = codec.encode(spec, {"x": "a" * 100})
    payload = codec.encode_result(spec, claimed(call, spec), 1)
    shown = codec.describe_row(row(call, spec, InvocationStatus.SUCCESS, payload))
    assert shown["arguments"] == {"x": {"full": repr("a" * 100), "keys": "", "hidden": "***"}[mode]}
    assert shown["result"] == ("***" if mode == "hidden" else "1")


def test_what_cannot_be_decoded_says_why_instead():
    spec = make_spec()
    codec = make_codec()
    call = msgspec.structs.replace(codec.encode(spec, {}), payload=b"broken")
    shown = codec.describe_row(row(call, spec, InvocationStatus.SUCCESS, b"broken"))
    assert "damaged" in shown["arguments"]["unreadable"]
    assert "damaged" in shown["unreadable"]


def test_invocations_of_unknown_tasks_can_be_shown():
    codec, spec = make_codec(), make_spec()
    call = codec.encode(spec, {"x": 1})
    assert codec.describe_row(row(call, spec, InvocationStatus.SUCCESS, b"2")) == {
        "arguments": {"x": "1"},
        "result": "2",
    }


# -- serializers -----------------------------------------------------------------------------------------------------------------
class Own(JsonSerializer):
    """A serializer of a user."""


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, JsonSerializer),
        ({"serializer": "pickle", "signing_keys": ["k"]}, PickleSerializer),
        ({"serializer": f"{__name__}.Own"}, Own),
    ],
)
def test_the_settings_choose_the_serializer(settings, kind):
    conf = ConfigPynenc()
    conf.assign(settings)
    assert type(make_serializer(conf)) is kind


@pytest.mark.parametrize(
    ("name", "message"), [("no.such.Module", "cannot be imported"), ("pynenc.app.Pynenc", "is no BaseSerializer")]
)
def test_a_wrong_serializer_is_a_clear_error(name, message):
    conf = ConfigPynenc()
    conf.serializer = name
    with pytest.raises(ConfigError, match=message):
        make_serializer(conf)


@pytest.mark.parametrize("depth", [10, 64, 120])
def test_the_depth_of_values_is_a_setting(depth):
    codec, spec = make_codec(max_depth=depth), make_spec()
    value = ()
    for _ in range(depth - 1):
        value = (value,)
    call = codec.encode(spec, {"x": value})
    assert codec.decode(spec, claimed(call, spec)) == {"x": value}
    with pytest.raises(SerializationError, match=f"deeper than {depth} levels"):
        codec.encode(spec, {"x": (value,)})
