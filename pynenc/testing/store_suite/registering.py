"""The registration key and the cache key: who answers for a submission."""

from __future__ import annotations

from pynenc.core.status import InvocationStatus
from pynenc.testing.store_suite.base import SECOND, Clause, new

S = InvocationStatus


class Registering(Clause):
    """Held from submission until the first claim or the final status, whichever comes first; never taken again."""

    def test_registration_key_answers_with_its_holder(self) -> None:
        self.put("a", registration_key="k", args_digest="one")
        (answer,) = self.put("b", registration_key="k", args_digest="two")
        assert (answer.id, answer.status, answer.args_digest) == ("a", S.REGISTERED, "one")
        assert self.store.get(["b"]) == []

    def test_registration_key_within_one_batch(self) -> None:
        answers = self.store.submit(
            [
                new("a", registration_key="k"),
                new("b"),
                new("c", registration_key="k"),
                new("d", registration_key="other"),
            ]
        )
        assert [answer.id for answer in answers] == ["a", "b", "a", "d"]

    def test_registration_key_is_free_after_the_claim(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.take("a")
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_is_not_taken_again_by_a_retry(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.end(self.take("a"), S.RETRY, retries=1)
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_is_not_taken_again_by_a_release(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.release(self.take("a"))
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_is_free_after_a_cancellation(self) -> None:
        self.put("a", registration_key="k")
        self.cancel("a")
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_is_free_after_expiry(self) -> None:
        self.put("a", registration_key="k", expires=self.clock.now() + SECOND)
        self.clock.advance(2)
        self.beat()
        assert self.claim() == ()
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_is_held_while_later(self) -> None:
        self.put("a", registration_key="k", due=self.clock.now() + SECOND)
        assert self.put("b", registration_key="k")[0].id == "a"

    def test_registration_key_is_held_while_parked(self) -> None:
        self.put("holder", running_key="run")
        self.put("a", registration_key="k", running_key="run")
        (answer,) = self.put("b", registration_key="k", running_key="run")
        assert (answer.id, answer.status) == ("a", S.CONCURRENCY_CONTROLLED)

    def test_registration_key_is_not_taken_again_by_a_requeue(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.end(self.take("a"))
        self.requeue("a")
        assert self.put("b", registration_key="k")[0].id == "b"

    def test_registration_key_passes_to_the_next(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.take("a")
        self.put("b", registration_key="k")
        assert self.put("c", registration_key="k")[0].id == "b"

    def test_own_id_comes_before_the_registration_key(self) -> None:
        self.put("a", registration_key="k")
        self.beat()
        self.take("a")
        self.put("b", registration_key="k")
        (answer,) = self.put("a", registration_key="k")
        assert (answer.id, answer.existing) == ("a", True)

    def test_cache_key_answers_with_a_success(self) -> None:
        self.put("a", cache_key="c", args_digest="d")
        self.beat()
        self.end(self.take("a"), payload=b"1")
        (answer,) = self.put("b", cache_key="c")
        assert (answer.id, answer.status, answer.args_digest) == ("a", S.SUCCESS, "d")
        assert self.store.get(["b"]) == []

    def test_cache_key_answers_with_the_latest_success(self) -> None:
        self.put("a", "b", cache_key="c")
        self.beat()
        for name in ("a", "b"):
            self.clock.advance(1)
            self.end(self.take(name))
        assert self.put("c", cache_key="c")[0].id == "b"

    def test_cache_key_without_a_success_is_no_answer(self) -> None:
        self.put("a", cache_key="c")
        assert self.put("b", cache_key="c")[0].id == "b"
        self.beat()
        self.end(self.take("a"), S.FAILED)
        assert self.put("c", cache_key="c")[0].id == "c"

    def test_cache_key_of_another_call_is_no_answer(self) -> None:
        self.put("a", cache_key="one")
        self.beat()
        self.end(self.take("a"))
        assert self.put("b", cache_key="two")[0].id == "b"
        assert self.put("c")[0].id == "c"

    def test_cache_key_of_a_requeued_success_is_no_answer(self) -> None:
        self.put("a", cache_key="c")
        self.beat()
        self.end(self.take("a"))
        self.requeue("a")
        assert self.put("b", cache_key="c")[0].id == "b"
