"""Clauses about rates."""

from __future__ import annotations

from typing import Any

from pynenc.core.records import Purge, Rate
from pynenc.testing.store_suite.base import SECOND, Clause


class Rating(Clause):
    """At most ``n`` claims of a rate's key in any window of its period."""

    def rated(self, *ids: str, n: int = 2, seconds: int = 10, key: str = "r") -> None:
        self.put(*ids, rate=Rate(key, n, seconds * SECOND))

    def claimable(self) -> list[str]:
        """Everything that can be claimed now."""
        found: list[str] = []
        while batch := self.claim():
            found += self.names(batch)
        return found

    def test_rate_lets_so_many_through(self) -> None:
        self.rated("a", "b", "c", "d")
        self.beat()
        assert self.claimable() == ["a", "b"]

    def test_rate_opens_with_its_window(self) -> None:
        self.rated("a", "b", "c", "d", "e")
        self.beat()
        start = self.clock.now()
        assert self.names(self.claim(1)) == ["a"]
        self.clock.advance(4)
        assert self.claimable() == ["b"]
        assert self.ask().next_due == start + 10 * SECOND
        self.clock.advance(5.9)
        assert self.claimable() == []
        self.clock.advance(0.2)
        assert self.claimable() == ["c"]
        self.clock.advance(3.9)
        assert self.claimable() == ["d"]

    def test_rate_counts_claims_not_ends(self) -> None:
        self.rated("a", "b", "c")
        self.beat()
        for name in ("a", "b"):
            self.end(self.take(name))
        assert self.claimable() == []

    def test_rate_counts_a_second_claim_of_the_same(self) -> None:
        self.rated("a", "b", n=1)
        self.beat()
        self.release(self.run("a"))
        assert self.claimable() == []
        self.clock.advance(10.1)
        assert len(self.claimable()) == 1

    def test_what_was_not_used_does_not_count_in_its_rate(self) -> None:
        self.rated("a", "b", "c", n=1)
        self.beat()
        for _ in range(3):
            self.release(self.take("a"))
        assert self.store.check() == []
        assert self.claimable() == ["a"], "it has kept its turn"
        self.clock.advance(10.1)
        self.renew()
        assert self.claimable() == ["b"]

    def test_it_counts_again_if_a_body_may_have_begun(self) -> None:
        begun: tuple[dict[str, Any], ...] = ({"started": 1}, {"alone": True, "crashes": 1})
        for number, fields in enumerate(begun):
            first, second = f"a{number}", f"b{number}"
            self.rated(first, second, n=1, key=first)
            self.beat()
            self.release(self.take(first), **fields)
            assert self.claimable() == []
        self.rated("a", "b", n=1)
        self.beat("r2")
        self.take("a", "r2")
        self.store.retire(["r2"])
        assert self.claimable() == []

    def test_what_was_not_used_lets_the_head_go(self) -> None:
        self.rated("a", n=1)
        self.beat()
        claimed = self.take("a")
        self.rated("b", "c", n=1)
        self.release(claimed, unknown_task=True)
        assert self.store.check() == []
        assert self.claimable() == ["b"], "the rate is free, and the other one waits for its task"

    def test_what_was_not_used_goes_back_to_a_rate_with_places(self) -> None:
        self.rated("a", "b", "c", "d", n=2)
        self.beat()
        first, second = self.take("a"), self.take("b")
        self.release(second)
        assert self.store.check() == []
        assert self.claimable() == ["b"]
        self.end(first)
        assert self.claimable() == []

    def test_what_was_not_used_may_have_to_wait_for_its_key(self) -> None:
        self.rated("a", n=1)
        self.put("x", "y", running_key="k", rate=Rate("r", 1, 10 * SECOND))
        self.beat()
        self.end(self.take("a"))
        self.clock.advance(10.1)
        self.renew()
        self.release(self.take("x"))
        assert self.store.check() == []
        assert len(self.claimable()) == 1

    def test_what_was_not_used_comes_back_after_its_rate_was_forgotten(self) -> None:
        for name in ("a", "b"):
            self.rated(name, n=1, key=name)
        self.beat()
        first, second = self.take("a"), self.take("b")
        for _ in range(3):
            self.clock.advance(10)
            self.renew()
        while self.store.purge(Purge()).more:
            pass
        self.release(first)
        self.release(second, unknown_task=True)
        assert self.store.check() == []
        assert self.claimable() == ["a"]

    def test_rates_are_apart(self) -> None:
        self.rated("a", "b", n=1)
        self.rated("c", "d", n=1, key="other")
        self.put("e")
        self.beat()
        assert sorted(self.claimable()) == ["a", "c", "e"]

    def test_rate_waits_in_order(self) -> None:
        self.rated(*"abcdef", n=1)
        self.beat()
        found = []
        for _ in range(6):
            found += self.claimable()
            self.clock.advance(10.1)
        assert found == list("abcdef")

    def test_rate_goes_on_when_its_head_is_cancelled(self) -> None:
        self.rated("a", "b", "c", n=1)
        self.beat()
        assert self.claimable() == ["a"]
        assert self.cancel("b").accepted
        self.clock.advance(10.1)
        assert self.claimable() == ["c"]

    def test_rate_with_a_running_key(self) -> None:
        self.put("a", "b", "c", running_key="k", rate=Rate("r", 1, 10 * SECOND))
        self.beat()
        (claimed,) = self.claim()
        self.end(claimed)
        assert self.claimable() == []
        self.clock.advance(10.1)
        (claimed,) = self.claim()
        assert claimed.id == "b"
        self.clock.advance(10.1)
        assert self.claimable() == []
        self.renew()
        self.end(claimed)
        assert self.claimable() == ["c"]

    def test_rate_of_many_calls_is_never_exceeded(self) -> None:
        self.rated(*(f"n{index:02}" for index in range(40)), n=3, seconds=1)
        self.beat()
        claims: list[int] = []
        while len(claims) < 40:
            claims += [self.clock.now()] * len(self.claimable())
            self.clock.advance(0.07)
            self.renew()
        for index, at in enumerate(claims[3:], 3):
            assert at - claims[index - 3] >= SECOND
