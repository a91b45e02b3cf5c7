"""The search for waits that never end: what it finds, and what it costs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

import pytest

from pynenc.core.waiting import find_cycle

Graph = Mapping[str, tuple[str, ...]]


def search(waiter: str, awaited: str, waits: Graph, keys: Graph | None = None) -> tuple[str, ...]:
    return find_cycle(waiter, awaited, lambda node: waits.get(node, ()), lambda node: (keys or {}).get(node, ()))


def test_what_waits_for_nothing_can_end() -> None:
    assert search("a", "b", {}) == ()
    assert search("a", "b", {"a": ("b",)}) == (), "the same wait once more"


def test_a_circle_is_named_from_the_waiter_on() -> None:
    assert search("a", "b", {"b": ("c",), "c": ("a",)}) == ("a", "b", "c")
    assert search("a", "a", {}) == ("a",)


def test_all_that_is_waited_for_must_end() -> None:
    assert search("a", "b", {"b": ("free", "c"), "c": ("b",)}) != ()


def test_one_free_holder_of_a_key_is_enough() -> None:
    assert search("a", "b", {}, {"b": ("a",)}) == ("a", "b")
    assert search("a", "b", {}, {"b": ("a", "free")}) == ()


def test_the_waiter_is_reported_whoever_closed_the_circle() -> None:
    assert search("a", "b", {"a": ("stuck",), "stuck": ("stuck",)})[0] == "a"


@pytest.mark.parametrize("seed", range(200))
def test_it_finds_what_a_plain_search_finds(seed: int) -> None:
    chance = random.Random(seed)
    names = "abcdefg"
    waits = {name: tuple(chance.sample(names, chance.choice((0, 0, 1, 1, 2)))) for name in names}
    keys = {name: tuple(chance.sample(names, chance.choice((0, 0, 0, 1, 2)))) for name in names}
    found = search("a", "b", waits, keys)
    assert bool(found) is not can_end("a", {**waits, "a": (*waits["a"], "b")}, keys)
    assert found[:1] in {(), ("a",)}


def can_end(waiter: str, waits: Graph, keys: Graph) -> bool:
    """The definition, as it is written down."""
    ending: set[str] = set()
    for _ in waits:
        for node in waits:
            if ending.issuperset(waits[node]) and (not keys[node] or ending.intersection(keys[node])):
                ending.add(node)
    return waiter in ending


class Counted(str):
    """An id that counts how often it is looked up."""

    looks = 0
    __slots__ = ()

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()


@pytest.mark.parametrize("kind", ["waits", "keys", "circle"])
def test_the_cost_grows_with_the_length_of_the_chain(kind: str) -> None:
    costs = []
    for length in (100, 1000):
        ids = [Counted(number) for number in range(length)]
        chain: dict[str, tuple[str, ...]] = {node: (after,) for node, after in pairwise(ids)}
        chain |= {ids[-1]: (ids[0],)} if kind == "circle" else {}
        graphs: tuple[Graph, Graph] = ({}, chain) if kind == "keys" else (chain, {})
        Counted.looks = 0
        assert bool(search(ids[0], ids[1], *graphs)) is (kind == "circle")
        costs.append(Counted.looks)
    assert costs[1] < 11 * costs[0], costs
