"""The invariants: every row against the indices that must name it, every index against the rows that it names.

Each block of rows and each part of an index is looked at in a unit of its own, so that a large store is not stopped, and what is found is true also
while others work. The counts, which need all rows, are only compared when nothing has changed in the meantime.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from pynenc.core.status import STATUSES_OF_PLACE, can_transition
from pynenc.store.redis.codec import PLACES, STATUSES, Head, history_of, state_of
from pynenc.store.redis.link import Link
from pynenc.store.redis.reading import state_of_queue

CHUNK = 500
#: Indices of sets and of sorted sets, by the beginning of their names.
_SETS = frozenset({"own", "orders", "use", "hold", "unknown", "awaits", "waiters", "sleepers"})
_SORTED = frozenset({"q", "s", "t", "later", "asleep", "park", "turn", "gone", "cache", "expiring"})
PARTS_OF_REACTION = 5
_reactions = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_COUNTED = ("tally", "parked", "refs")


def check(link: Link) -> list[str]:
    """Everything that is not as it must be."""
    with link.watching(*(link.prefix + name.encode() for name in _COUNTED)) as is_untouched:
        kept = _counts(link)
        found: tuple[Counter[bytes], Counter[bytes], Counter[bytes]] = (Counter(), Counter(), Counter())
        problems = list(_definitions(link))
        for block in link.ask("ZRANGE", link.prefix + b"blocks", 0, -1):
            texts, *counts, ids = link.run("check", link.time(), "rows", block)
            problems += [text.decode() for text in texts]
            for total, part in zip(found, counts, strict=True):
                total.update(dict(zip(part[::2], part[1::2], strict=True)))
            problems += _histories(link, ids)
        problems += [problem for name in _names(link) for problem in _index(link, name)]
        miscounts = [
            f"{name}: counts {dict(each)}, found {dict(seen)}"
            for name, each, seen in zip(_COUNTED, kept, found, strict=True)
            if each != seen
        ]
        return problems + (miscounts if miscounts and is_untouched() else [])


def _definitions(link: Link) -> Iterator[str]:
    """What scripts would pass by."""
    queues, reactions = link.ask_all([("HGETALL", link.prefix + name) for name in (b"queues", b"reactions")])
    for name, state in zip(queues[::2], queues[1::2], strict=True):
        if state_of_queue(state) is None:
            yield f"queue {name.decode()} has a state that cannot be read, and is taken for active: set it again"
    for field, text in zip(reactions[::2], reactions[1::2], strict=True):
        if not _is_list_of_reactions(text):
            yield f"the reactions to {field[1:].decode() or 'any task'} cannot be read: declare its triggers again, which a runner does at its start"


def _is_list_of_reactions(text: bytes) -> bool:
    try:
        return all(len(each) == PARTS_OF_REACTION for each in _reactions(text))
    except msgspec.DecodeError:
        return False


def _counts(link: Link) -> list[Counter[bytes]]:
    """What the counters say; zeros say nothing."""
    answers = link.ask_all([("HGETALL", link.prefix + name.encode()) for name in _COUNTED])
    return [
        Counter({name: int(n) for name, n in zip(values[::2], values[1::2], strict=True) if int(n)})
        for values in answers
    ]


def _histories(link: Link, ids: Sequence[bytes]) -> Iterator[str]:
    """The status fits the place, and the history leads to it by legal steps."""
    for at in range(0, len(ids), CHUNK):
        for found in link.run("history", link.time(), *ids[at : at + CHUNK]):
            yield from _history(found)


def _history(found: Sequence[Any]) -> Iterator[str]:
    name, state = found[0].decode(), found[2]
    trail = [entry.status for entry in history_of(found)]
    yield from (f"{name}: {a} → {b} is no legal step" for a, b in pairwise(trail) if not can_transition(a, b))
    if state:
        own, _ = state_of(state, Head(state).end)
        status, place = STATUSES[own.status], PLACES[own.place]
        if status not in STATUSES_OF_PLACE[place]:
            yield f"{name} is {status} in place {place.name}"
        if trail[-1] is not status:
            yield f"{name} is {status}, but its history ends with {trail[-1]}"


def _names(link: Link) -> Iterable[str]:
    """The names of all keys of the app, without their beginning; a key may be named twice."""
    cursor, pattern = b"0", re.sub(rb"([\\*?\[])", rb"\\\1", link.prefix) + b"*"
    while True:
        cursor, keys = link.ask("SCAN", cursor, "MATCH", pattern, "COUNT", CHUNK)
        yield from {key[len(link.prefix) :].decode() for key in keys}
        if cursor == b"0":
            return


def _index(link: Link, name: str) -> Iterator[str]:
    """Whether an index names only what belongs there."""
    kind = name.partition(":")[0]
    if name == "unknown":  # the tasks, not what waits for them
        return
    key = link.prefix + name.encode()
    if kind in _SORTED:
        size = link.ask("ZCARD", key)
        parts = (link.ask("ZRANGE", key, at, at + CHUNK - 1) for at in range(0, size, CHUNK))
    elif kind in _SETS:
        members = list(link.ask("SMEMBERS", key))
        parts = (members[at : at + CHUNK] for at in range(0, len(members), CHUNK))
    else:
        return
    for part in parts:
        yield from (text.decode() for text in link.run("check", link.time(), "index", name, *part)[0])
