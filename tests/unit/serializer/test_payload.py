"""Compression and signatures of payloads."""

import os

import pytest
import zstandard

from pynenc.exceptions import ConfigError, SerializationError
from pynenc.serializer import PickleSerializer, TypeGate
from pynenc.serializer.base import reference
from pynenc.serializer.payload import COMPRESS_FROM, Sealer, Signer, compress, decompress
from tests.unit.serializer.models import Plain

SMALL = b'{"x":1}'
LARGE = b'{"x":"' + b"abc" * 20_000 + b'"}'
NOISE = os.urandom(50_000)


def test_small_payloads_are_themselves():
    sealer = Sealer()
    assert sealer.seal(SMALL, b"t|1") is SMALL
    assert sealer.unseal(SMALL, b"t|1") is SMALL
    assert sealer.unseal(b"") == b""


def test_large_payloads_are_compressed_when_that_helps():
    sealer = Sealer()
    assert sealer.seal(LARGE)[0] == 1
    assert len(sealer.seal(LARGE)) < len(LARGE) / 10
    assert sealer.unseal(sealer.seal(LARGE)) == LARGE
    assert sealer.seal(NOISE) is NOISE
    assert sealer.seal(b"x" * (COMPRESS_FROM - 1))[0] != 1


@pytest.mark.parametrize("payload", [SMALL, LARGE, b""])
def test_signatures_bind_payload_and_context(payload):
    sealer = Sealer([b"first", b"second"])
    data = sealer.seal(payload, b"task|1")
    assert sealer.unseal(data, b"task|1") == payload
    for wrong, context in (
        (data, b"task|2"),
        (data[:-1] + bytes([data[-1] ^ 1]), b"task|1"),
        (payload, b"task|1"),
        (data[:20], b"task|1"),
        (b"", b""),
    ):
        with pytest.raises(SerializationError, match=r"sign"):
            sealer.unseal(wrong, context)


def test_context_and_payload_do_not_run_together():
    sealer = Sealer([b"k"])
    data = sealer.seal(b"[1]", b"ab")
    with pytest.raises(SerializationError):
        sealer.unseal(data[:37] + b"b[1]", b"a")


def test_keys_rotate():
    old, both, new = Sealer([b"old"]), Sealer([b"new", b"old"]), Sealer([b"new"])
    assert both.unseal(old.seal(SMALL)) == SMALL
    assert new.unseal(both.seal(SMALL)) == SMALL
    with pytest.raises(SerializationError, match="not in signing_keys"):
        new.unseal(old.seal(SMALL))
    with pytest.raises(SerializationError, match="no signing_keys"):
        Sealer().unseal(old.seal(SMALL))
    with pytest.raises(ValueError, match="empty"):
        Signer([b"a", b""])


def test_decompression_is_bounded():
    bomb = compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(SerializationError, match="the limit is 1000000"):
        Sealer(max_decompressed=1_000_000).unseal(b"\x01" + bomb)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5_000_000))
    with pytest.raises(SerializationError, match="unknown number"):
        decompress(unsized, 10_000_000)
    writer = zstandard.ZstdCompressor().compressobj(size=10)
    for damaged in (bomb[:-5], bomb[:6], b"", b"\x00" * 50, writer.compress(b"0123456789")[:5]):
        with pytest.raises(SerializationError):
            decompress(damaged, 100_000_000)


GATE = TypeGate()


def test_pickle_round_trip():
    serializer = PickleSerializer([b"k"])
    assert type(serializer.loads(serializer.dumps(Plain()), GATE)) is Plain
    payload = serializer.dumps_arguments({"x": {1, 2}, "y": reference})
    assert serializer.loads_arguments(payload, GATE) == {"x": {1, 2}, "y": reference}
    assert serializer.loads(reference("k1"), GATE, {"k1": serializer.dumps((1,))}) == (1,)


def test_pickle_refuses_what_is_not_signed():
    serializer = PickleSerializer([b"k"])
    fragment = serializer.dumps("x")
    for wrong in (
        b'{"~pickle":"gASVBQAAAAAAAACMAXiULg=="}',
        b"1",
        b"{}",
        b'{"~pickle":"@"}',
        b"",
        fragment[:-6] + b'AA=="}',
    ):
        with pytest.raises(SerializationError):
            serializer.loads(wrong, GATE)
    with pytest.raises(SerializationError, match="not in signing_keys"):
        PickleSerializer([b"other"]).loads(fragment, GATE)
    assert PickleSerializer([b"other", b"k"]).loads(fragment, GATE) == "x"


def test_pickle_needs_keys_and_names_what_fails():
    for keys in ([], [b""]):
        with pytest.raises(ConfigError, match="signing_keys"):
            PickleSerializer(keys)
    with pytest.raises(SerializationError, match=r"^job of type function cannot be pickled"):
        PickleSerializer([b"k"]).dumps_arguments({"job": lambda: 1})


def test_pickle_is_not_run_before_it_is_verified(monkeypatch):
    monkeypatch.setattr("pickle.loads", lambda data: pytest.fail("unpickled"))
    with pytest.raises(SerializationError):
        PickleSerializer([b"k"]).loads(PickleSerializer([b"x"]).dumps(1), GATE)
