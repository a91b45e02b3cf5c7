"""Calls as a part of the caller's own transaction. A store that offers it adds this clause to its suite, and says how to connect."""

from __future__ import annotations

from typing import Any

import pytest

from pynenc.core.records import Blob, New, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import MissingBlobsError, TaskRoutingError
from pynenc.testing.store_suite.base import Clause, Waker, new

S = InvocationStatus


class Joining(Clause):
    """Rolled back, they never were; committed, they are as all others."""

    def connect(self) -> Any:
        """A new connection of the driver to the database of the store, in no transaction."""
        raise NotImplementedError("return a connection of the driver")

    def setup_method(self) -> None:
        super().setup_method()
        self.connection = self.connect()

    def teardown_method(self) -> None:
        self.connection.close()
        super().teardown_method()

    def join(self, *rows: New, **options: Any) -> list[str]:
        """Submit within the transaction of the connection; the ids that answered."""
        return [each.id for each in self.store.submit(rows, connection=self.connection, **options)]

    def claim_ids(self) -> list[str]:
        """The ids of all that can be claimed, in order."""
        return [claimed.id for claimed in self.claim()]

    def test_what_is_rolled_back_never_was(self) -> None:
        assert self.join(new("a"), new("b", running_key="k", tags=("t",)), new("c", registration_key="r")) == [*"abc"]
        self.connection.rollback()
        assert self.store.get([*"abc"]) == []
        assert self.store.submit([new("d", registration_key="r")])[0].id == "d"
        self.beat()
        assert self.claim_ids() == ["d"]

    def test_what_is_committed_is_as_all_others(self) -> None:
        self.join(new("a"), new("b", running_key="k"), new("c", running_key="k"), new("d", priority=5.0))
        self.connection.commit()
        self.beat()
        assert self.claim_ids() == ["d", "a", "b"]
        assert [each.status for each in self.store.get([*"abcd"])] == [
            S.PENDING,
            S.PENDING,
            S.CONCURRENCY_CONTROLLED,
            S.PENDING,
        ]

    def test_nothing_is_seen_before_the_commit(self) -> None:
        self.beat()
        self.join(new("a"))
        assert self.store.get(["a"]) == []
        self.connection.commit()
        assert self.claim_ids() == ["a"]

    def test_several_calls_are_one_transaction(self) -> None:
        self.join(new("a", registration_key="r"))
        assert self.join(new("b", registration_key="r")) == ["a"]
        self.join(new("c", blobs=("k1",)), blobs=[Blob("k1", b"data", 4)])
        self.connection.rollback()
        assert self.store.get([*"abc"]) == []
        assert self.store.get_blobs(["k1"]) == {}

    def test_what_is_refused_leaves_the_rest_as_it_was(self) -> None:
        self.store.set_queue("full", QueueState.DRAINING)
        self.join(new("a"))
        with pytest.raises(TaskRoutingError):
            self.join(new("b"), new("c", queue="full"))
        with pytest.raises(MissingBlobsError):
            self.join(new("d", blobs=("unknown",)))
        self.join(new("e"))
        self.connection.commit()
        assert [each.id for each in self.store.get([*"abcde"])] == ["a", "e"]

    def test_an_idle_runner_finds_what_was_committed(self) -> None:
        self.beat()
        wake = Waker()
        listener = self.store.listen((), wake)
        listener.idle(True)
        self.join(new("a"))
        self.connection.commit()
        assert wake.came()
        assert self.claim_ids() == ["a"]
        listener.close()
