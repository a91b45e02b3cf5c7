"""Payloads of arguments: fragments that compose."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynenc.exceptions import SerializationError
from pynenc.serializer import JsonSerializer, TypeGate
from pynenc.serializer.base import (
    join_after,
    join_fragments,
    join_prefix,
    reference,
    referred,
    referred_keys,
    split_fragments,
)
from tests.unit.serializer.models import Point

S = JsonSerializer()
GATE = TypeGate()
KEY = "0" * 40
plain = st.dictionaries(
    st.sampled_from("abcdé"), st.one_of(st.integers(), st.text(), st.tuples(st.floats(allow_nan=False)))
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain)
def test_fragments_make_the_same_payload(kwargs):
    fragments = {name: S.dumps(value) for name, value in kwargs.items()}
    assert join_fragments(fragments) == S.dumps_arguments(kwargs)
    assert split_fragments(join_fragments(fragments)) == fragments


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain, plain)
def test_common_and_own_arguments(common, own):
    own = {name: value for name, value in own.items() if name not in common}
    prefix = join_prefix({name: S.dumps(value) for name, value in common.items()})
    payload = join_after(prefix, S.dumps_arguments(own))
    assert payload == S.dumps_arguments({**common, **own})
    assert S.loads_arguments(payload, GATE) == {**common, **own}


def test_names_are_never_tags():
    assert S.loads_arguments(S.dumps_arguments({"x": "~", "only": {"~a": 1}}), GATE) == {"x": "~", "only": {"~a": 1}}


def test_references_are_resolved():
    fragment = S.dumps((1, "~"))
    payload = b'{"x":' + reference(KEY) + b',"y":[1,' + reference(KEY) + b"]}"
    found = S.loads_arguments(payload, GATE, {KEY: fragment})
    assert found == {"x": (1, "~"), "y": [1, (1, "~")]}
    assert S.loads(reference(KEY), GATE, {KEY: b"[1]"}) == [1]
    with pytest.raises(SerializationError, match=r"argument 'x' .* does not hold"):
        S.loads_arguments(payload, GATE)
    with pytest.raises(SerializationError, match="does not hold"):
        S.loads(reference(KEY), GATE, {KEY: reference(KEY)})


def test_references_are_told_from_values():
    assert referred(reference(KEY)) == KEY
    assert referred(S.dumps({"~blob": KEY})) is None
    assert referred_keys([b"1", reference(KEY), b'"x"']) == (KEY,)


def test_mutable_blobs_are_decoded_for_each():
    blobs = {KEY: b"[1]"}
    first = S.loads(reference(KEY), GATE, blobs)
    first.append(2)
    assert S.loads(reference(KEY), GATE, blobs) == [1]


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"{", b'{"a":1', b'{"a":}', b"null", b"\xff"])
def test_damaged_payloads(payload):
    with pytest.raises(SerializationError, match="damaged"):
        S.loads_arguments(payload, GATE)
    with pytest.raises(SerializationError, match="damaged"):
        split_fragments(payload)


def test_the_argument_is_named_on_both_sides():
    with pytest.raises(SerializationError, match=r"^point cannot be sent: "):
        S.dumps_arguments({"x": 1, "point": Point(1)}, GATE)
    with pytest.raises(SerializationError, match=r"^argument 'point' cannot be decoded: "):
        S.loads_arguments(S.dumps_arguments({"x": 1, "point": Point(1)}), GATE)


@pytest.mark.parametrize(
    "kwargs", [{}, {"x": 1, "y": "a", "z": None}, {"x": 0.5, "y": True}, {"x": [1], "y": {"a": [2.5]}}]
)
def test_plain_arguments_are_plain_json(kwargs):
    assert S.dumps_arguments(kwargs) == msgspec.json.encode(kwargs)


def test_huge_numbers_and_odd_text():
    kwargs = {"x": 10**5000, "y": "\ud800", "z": [float("nan")], "w": 1}
    payload = S.dumps_arguments(kwargs)
    found = S.loads_arguments(payload, GATE)
    assert (found["x"], found["y"], found["w"]) == (10**5000, "\ud800", 1)
    assert found["z"][0] != found["z"][0]
