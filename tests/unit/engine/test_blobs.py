"""The client data store: once encoded, once sent, once loaded; bounded; own copies."""

import gc
import os
import threading

import pytest

from pynenc.core.records import Blob
from pynenc.engine.blobs import Cache, ClientDataStore, blob_key
from pynenc.exceptions import SerializationError
from pynenc.serializer import JsonSerializer, PickleSerializer, TypeGate
from pynenc.serializer.base import reference
from pynenc.serializer.payload import compress

GATE = TypeGate()
S = JsonSerializer()
KB = 1024


class Shelf:
    """A place for blobs that counts; ``gate`` holds readers up."""

    def __init__(self):
        self.blobs = {}
        self.reads = []
        self.gate = threading.Event()
        self.gate.set()

    def put_blobs(self, blobs):
        self.blobs.update({blob.key: blob.data for blob in blobs})

    def get_blobs(self, keys):
        self.reads.append(list(keys))
        assert self.gate.wait(10)
        return {key: self.blobs[key] for key in keys if key in self.blobs}


class Counting(JsonSerializer):
    """Counts what it encodes."""

    def __init__(self):
        super().__init__()
        self.dumped = 0

    def dumps(self, value, gate=None, *, where="value"):
        self.dumped += 1
        return super().dumps(value, gate, where=where)


def make(shelf=None, **options):
    return ClientDataStore(shelf or Shelf(), **{"min_size": KB, **options})


def send(blobs, shelf, keys):
    """What a submission does."""
    sent = blobs.pending(keys)
    shelf.put_blobs(sent)
    blobs.mark_stored(keys)
    return [blob.key for blob in sent]


def test_small_arguments_stay_inline():
    assert make().encode_arguments(S, {"x": 1, "y": "a" * 100}) == (S.dumps_arguments({"x": 1, "y": "a" * 100}), ())


@pytest.mark.parametrize("value", ["a" * KB, b"b" * KB, list(range(KB)), {"k": ("v" * KB,)}])
@pytest.mark.parametrize("serializer", [S, PickleSerializer([b"k"])], ids=["json", "pickle"])
def test_large_arguments_travel_as_blobs(value, serializer):
    shelf = Shelf()
    sender, reader = make(shelf), make(shelf)
    payload, keys = sender.encode_arguments(serializer, {"x": 1, "large": value, "y": "~"})
    assert len(payload) < KB
    assert len(keys) == 1
    assert send(sender, shelf, keys) == list(keys)
    found = serializer.loads_arguments(payload, GATE, reader.fetch(keys))
    assert found == {"x": 1, "large": value, "y": "~"}


def test_a_blob_is_compressed_and_named_by_its_content():
    blobs = make()
    fragment = S.dumps("a" * 100_000)
    made, key = blobs.offload(fragment)
    assert made == reference(key)
    assert key == blob_key(fragment)
    assert len(key) == 40
    (blob,) = blobs.pending([key, key])
    assert isinstance(blob, Blob)
    assert (blob.key, blob.size) == (key, len(fragment))
    assert len(blob.data) < 1000


def test_arguments_that_must_stay_inline():
    blobs = make()
    for value in ("a" * KB, [1] * KB):
        payload, keys = blobs.encode_arguments(S, {"x": value, "y": value}, inline=frozenset({"x"}))
        assert len(keys) == 1
        assert S.loads_arguments(payload, GATE, blobs.fetch(keys)) == {"x": value, "y": value}
        assert len(payload) > KB


def test_switched_off_and_too_large():
    value = "a" * 4 * KB
    for blobs in (make(enabled=False), make(max_size=2 * KB)):
        assert blobs.encode_arguments(S, {"x": value}) == (S.dumps_arguments({"x": value}), ())


def test_the_same_object_is_encoded_once():
    shelf, serializer, value = Shelf(), Counting(), "a" * KB
    blobs = make(shelf)
    keys = {blobs.encode_arguments(serializer, {"x": value, "n": n})[1] for n in range(1000)}
    assert len(keys) == 1
    assert serializer.dumped == 1 + 1000  # the large one once, the small ones each time
    assert send(blobs, shelf, next(iter(keys))) != []
    assert send(blobs, shelf, next(iter(keys))) == []


def test_equal_content_is_sent_once_and_changes_are_seen():
    shelf, blobs = Shelf(), make()
    value = [1] * KB
    _, first = blobs.encode_arguments(S, {"x": value})
    send(blobs, shelf, first)
    _, second = blobs.encode_arguments(S, {"x": list(value)})
    assert second == first
    assert send(blobs, shelf, second) == []
    value[0] = 2
    _, third = blobs.encode_arguments(S, {"x": value})
    assert third != first
    assert send(blobs, shelf, third) == list(third)


@pytest.mark.parametrize("value", ["a" * 3 * KB, [1] * 3 * KB])
def test_blobs_that_got_lost_are_sent_again(value):
    shelf = Shelf()
    blobs = make(shelf)
    payload, keys = blobs.encode_arguments(S, {"x": value})
    send(blobs, shelf, keys)
    shelf.blobs.clear()
    blobs.forget(keys)
    assert send(blobs, shelf, keys) == list(keys)
    assert S.loads_arguments(payload, GATE, make(shelf).fetch(keys)) == {"x": value}


def test_a_remembered_object_is_encoded_again_when_its_fragment_is_gone():
    shelf = Shelf()
    blobs = make(shelf, cache_entries=1)
    value = "a" * KB
    _, keys = blobs.encode_arguments(S, {"x": value})
    send(blobs, shelf, keys)
    blobs.offload(S.dumps([1] * KB))  # takes the only place in the cache
    blobs.forget(keys)
    assert [blob.key for blob in blobs.pending(keys)] == list(keys)


def test_what_nobody_remembers_is_encoded_again_at_the_next_call():
    blobs = make(cache_entries=0)
    value = "a" * KB
    _, keys = blobs.encode_arguments(S, {"x": value})
    blobs.mark_stored(keys)
    blobs.forget(keys)
    assert blobs.pending(keys) == []
    blobs.encode_arguments(S, {"x": value})
    assert [blob.key for blob in blobs.pending(keys)] == list(keys)


def test_unsent_blobs_are_uploaded_rather_than_lost():
    shelf = Shelf()
    blobs = make(shelf, cache_bytes=10 * KB)
    texts = [os.urandom(KB).hex() for _ in range(20)]
    keys = [blobs.encode_arguments(S, {"x": text})[1][0] for text in texts]
    assert 0 < len(shelf.blobs) < 20
    assert blobs._unsent_bytes <= 10 * KB
    assert set(send(blobs, shelf, keys)) < set(keys)
    assert set(shelf.blobs) == set(keys)
    assert blobs._unsent_bytes == 0


def test_reading_uses_the_cache():
    shelf = Shelf()
    fragments = [S.dumps([n] * KB) for n in range(3)]
    shelf.put_blobs([Blob(blob_key(fragment), compress(fragment), len(fragment)) for fragment in fragments])
    keys = [blob_key(fragment) for fragment in fragments]
    blobs = make(shelf)
    assert blobs.fetch(keys[:2]) == dict(zip(keys[:2], fragments, strict=False))
    blobs.fetch(keys)
    assert shelf.reads == [keys[:2], keys[2:]]
    assert blobs.fetch([]) == {}


def test_decoded_text_is_shared_and_lists_are_not():
    shelf = Shelf()
    for value, is_shared in (("a" * KB, True), (b"b" * KB, True), ([1] * KB, False)):
        payload, keys = make(shelf).encode_arguments(S, {"x": value})
        writer = make(shelf)
        writer.encode_arguments(S, {"x": value})
        send(writer, shelf, keys)
        reader = make(shelf)
        first = S.loads_arguments(payload, GATE, reader.fetch(keys))["x"]
        second = S.loads_arguments(payload, GATE, reader.fetch(keys))["x"]
        assert first == second == value
        assert (first is second) == is_shared


def test_one_load_however_many_threads_ask():
    shelf = Shelf()
    fragment = S.dumps([1] * KB)
    key = blob_key(fragment)
    shelf.put_blobs([Blob(key, compress(fragment), len(fragment))])
    blobs = make(shelf)
    shelf.gate.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(blobs.fetch([key])[key])) for _ in range(8)]
    for thread in threads:
        thread.start()
    shelf.gate.set()
    for thread in threads:
        thread.join(10)
    assert found == [fragment] * 8
    assert shelf.reads == [[key]]


def test_a_failed_load_can_be_tried_again():
    shelf = Shelf()
    fragment = S.dumps([1] * KB)
    key = blob_key(fragment)
    blobs = make(shelf)
    with pytest.raises(SerializationError, match="purged"):
        blobs.fetch([key])
    shelf.put_blobs([Blob(key, compress(fragment), len(fragment))])
    assert blobs.fetch([key, key])[key] == fragment


def test_what_was_read_is_checked():
    shelf = Shelf()
    shelf.blobs = {"0" * 40: compress(b"[1]"), "1" * 40: b"junk", "2" * 40: compress(bytes(20_000_000))}
    blobs = make(shelf, max_blob=1_000_000)
    for key, text in (("0", "another digest"), ("1", "damaged"), ("2", "limit is 1000000")):
        with pytest.raises(SerializationError, match=text):
            blobs.fetch([key * 40])


def test_the_cache_stays_within_its_budget():
    cache = Cache(entries=3, budget=100)
    for number in range(10):
        cache[str(number)] = b"x" * 40
    assert [key for key in map(str, range(10)) if cache.get(key)] == ["8", "9"]
    cache["large"] = b"x" * 1000
    assert cache.get("large") is not None
    assert cache.get("9") is None
    cache["small"] = b"x"
    assert cache.get("large") is None
    for number in range(5):
        cache[str(number)] = b""
    assert len(cache._values) == 3
    nothing = Cache(entries=0, budget=100)
    nothing["a"] = b"x"
    assert nothing.get("a") is None


def test_remembered_objects_stay_within_the_budget():
    blobs = make(cache_bytes=10 * KB)
    for number in range(30):
        blobs.encode_arguments(S, {"x": f"{number}" + "a" * 2 * KB})
    assert sum(len(seen.value) for seen in blobs._seen.values()) <= 10 * KB


def test_subclasses_of_text_are_not_taken_for_text():
    from tests.unit.serializer.models import Marked

    blobs = make()
    value = Marked("a" * KB)
    payload, keys = blobs.encode_arguments(S, {"x": value})
    value.note = "changed"
    assert blobs.encode_arguments(S, {"x": value})[1] != keys
    gate = TypeGate.for_app("tests.unit")
    assert type(S.loads_arguments(payload, gate, blobs.fetch(keys))["x"]) is Marked


def test_after_fork_nothing_is_stuck():
    shelf = Shelf()
    blobs = make(shelf)
    fragment = S.dumps([1] * KB)
    key = blob_key(fragment)
    shelf.put_blobs([Blob(key, compress(fragment), len(fragment))])
    gc.collect()
    with blobs._lock, blobs._cache._lock:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if blobs.fetch([key])[key] == fragment else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
