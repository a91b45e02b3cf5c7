"""Clauses *atomic*, *idempotent* and *opaque* of submission."""

from __future__ import annotations

import pytest

from pynenc.core.records import Filter, HistoryEntry, New, Rate, Submitted, WorkflowRef
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import MissingBlobsError, QueueFullError, StoreError
from pynenc.testing.store_suite.base import SECOND, TASK, Clause, new

S = InvocationStatus

PAYLOADS = (b"", b"\x00", b"a\x00b", "snow ☃ and 𝄞".encode(), bytes(range(256)), b"x" * 1_048_576)
TEXTS = (
    "plain",
    "snow ☃ 𝄞",
    "it's; DROP TABLE x --",
    'quotes " and \\ and %',
    "tab\tnewline\n",
    "{a}:*[b]?",
    " spaces ",
)


class Submitting(Clause):
    """What is accepted, and what it becomes."""

    def test_submit_answers_in_order_with_the_ids(self) -> None:
        answers = self.put("c", "a", "b")
        assert [(answer.id, answer.status, answer.existing) for answer in answers] == [
            (name, S.REGISTERED, False) for name in "cab"
        ]

    def test_submit_nothing(self) -> None:
        assert self.store.submit([]) == []
        assert self.store.find(Filter()).invocations == ()

    def test_submit_makes_a_ready_row(self) -> None:
        self.put("a")
        row = self.row("a")
        assert (row.status, row.place, row.attempt, row.round, row.retries, row.crashes) == (
            S.REGISTERED,
            Place.READY,
            0,
            0,
            0,
            0,
        )
        assert (row.created, row.claimed, row.started, row.ended) == (self.clock.now(), 0, 0, 0)
        assert (row.runner, row.payload, row.progress, row.waiting_for, row.cancel_requested, row.alone) == (
            None,
            b"",
            None,
            (),
            False,
            False,
        )

    def test_submit_is_in_the_history(self) -> None:
        self.put("a")
        (entry,) = self.store.history(["a"])
        assert isinstance(entry, HistoryEntry)
        assert (entry.id, entry.status, entry.at, entry.attempt, entry.round) == (
            "a",
            S.REGISTERED,
            self.clock.now(),
            0,
            0,
        )

    def test_submit_keeps_every_field(self) -> None:
        self.put("mother")
        row = new(
            "a",
            args_digest="d",
            queue="mail",
            priority=2.5,
            due=self.clock.now() + 5 * SECOND,
            expires=self.clock.now() + 50 * SECOND,
            registration_key="reg",
            running_key="run",
            running_limit=3,
            rate=Rate("rate", 7, 60 * SECOND),
            max_crashes=5,
            result_ttl=99 * SECOND,
            parent="mother",
            workflow=WorkflowRef("wf", "suite.flow", "outer"),
            tags=("t1", "t2"),
        )
        self.store.submit([row])
        kept = self.row("a")
        names = [name for name in New.__struct_fields__ if name not in ("drop_blocked", "cache_key", "timeout")]
        assert {name: getattr(kept, name) for name in names} == {name: getattr(row, name) for name in names}
        assert kept.rank == row.priority

    def test_submit_is_claimed_complete(self) -> None:
        workflow = WorkflowRef("wf", "suite.flow")
        self.put(
            "a", timeout=3 * SECOND, max_crashes=2, tags=("x",), parent="p", workflow=workflow, queue="q", priority=1.5
        )
        self.beat()
        self.clock.advance(1)
        created = self.row("a").created
        (claimed,) = self.claim()
        assert (claimed.id, claimed.task, claimed.args, claimed.attempt) == ("a", TASK, b"args of a", 1)
        assert (claimed.queue, claimed.priority, claimed.tags, claimed.parent, claimed.workflow) == (
            "q",
            1.5,
            ("x",),
            "p",
            workflow,
        )
        assert (claimed.timeout, claimed.max_crashes, claimed.retries, claimed.crashes, claimed.round) == (
            3 * SECOND,
            2,
            0,
            0,
            0,
        )
        assert (claimed.created, claimed.claimed, claimed.alone) == (created, self.clock.now(), False)

    def test_submit_payloads_come_back_byte_for_byte(self) -> None:
        self.store.submit([new(f"p{i}", args=payload) for i, payload in enumerate(PAYLOADS)])
        self.beat()
        for claimed in self.claim():
            index = int(claimed.id[1:])
            assert claimed.args == PAYLOADS[index]
            self.end(claimed, payload=PAYLOADS[index])
        rows = self.store.get([f"p{i}" for i in range(len(PAYLOADS))])
        assert [(row.args, row.payload) for row in rows] == [(payload, payload) for payload in PAYLOADS]
        finals = self.store.finals([f"p{i}" for i in range(len(PAYLOADS))])
        assert [final.payload for final in finals] == list(PAYLOADS)

    def test_submit_texts_come_back_unchanged(self) -> None:
        for text in TEXTS:
            self.put(
                f"id {text}",
                task=f"suite.{text}",
                queue=text,
                tags=(text,),
                registration_key=text,
                running_key=text,
                args_digest=text,
            )
            row = self.row(f"id {text}")
            assert (row.id, row.task, row.queue, row.tags) == (f"id {text}", f"suite.{text}", text, (text,))
            assert (row.registration_key, row.running_key, row.args_digest) == (text, text, text)

    def test_submit_same_id_again_changes_nothing(self) -> None:
        self.put("a", args_digest="one")
        before = self.row("a")
        self.clock.advance(1)
        (answer,) = self.store.submit([new("a", args=b"other", args_digest="two", priority=9.0)])
        assert answer == Submitted("a", S.REGISTERED, existing=True, args_digest="one")
        assert self.row("a") == before
        assert self.trail("a") == [S.REGISTERED]

    def test_submit_same_id_answers_its_status_now(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.take("a")
        assert self.put("a")[0].status is S.PENDING
        self.end(claimed, S.FAILED, payload=b"error")
        (answer,) = self.put("a")
        assert (answer.id, answer.status, answer.existing) == ("a", S.FAILED, True)

    def test_submit_same_id_twice_in_one_batch(self) -> None:
        answers = self.put("a", "b", "a")
        assert [(answer.id, answer.existing) for answer in answers] == [("a", False), ("b", False), ("a", True)]
        self.beat()
        assert self.names(self.claim()) == ["a", "b"]

    def test_submit_answers_with_the_digest(self) -> None:
        assert self.put("a", args_digest="d")[0].args_digest == "d"

    def test_submit_batch_with_missing_blob_leaves_nothing(self) -> None:
        with pytest.raises(MissingBlobsError) as raised:
            self.store.submit([new("a"), new("b", blobs=("nowhere",))])
        assert raised.value.keys == ("nowhere",)
        assert self.store.get(["a", "b"]) == []

    def test_submit_to_a_full_queue_is_refused(self) -> None:
        self.store.submit([new("a"), new("b")], max_queue_length=2)
        with pytest.raises(QueueFullError):
            self.store.submit([new("c")], max_queue_length=2)
        assert self.store.get(["c"]) == []

    def test_submit_batch_beyond_the_limit_leaves_nothing(self) -> None:
        with pytest.raises(QueueFullError):
            self.store.submit([new("a"), new("b"), new("c")], max_queue_length=2)
        assert self.store.get(["a", "b", "c"]) == []

    def test_submit_limit_counts_each_queue_for_itself(self) -> None:
        self.store.submit([new("a", queue="x"), new("b", queue="y")], max_queue_length=1)
        assert len(self.store.get(["a", "b"])) == 2

    def test_submit_limit_counts_what_is_later_or_parked(self) -> None:
        self.put("later", due=self.clock.now() + SECOND)
        self.put("holder", "parked", running_key="k")
        with pytest.raises(QueueFullError):
            self.store.submit([new("a")], max_queue_length=3)

    def test_submit_limit_does_not_count_what_is_claimed_or_final(self) -> None:
        self.put("a", "b")
        self.beat()
        self.take("a")
        self.end(self.take("b"))
        self.store.submit([new("c")], max_queue_length=1)
        assert self.status("c") is S.REGISTERED

    def test_submit_existing_id_passes_a_full_queue(self) -> None:
        self.store.submit([new("a")], max_queue_length=1)
        (answer,) = self.store.submit([new("a")], max_queue_length=1)
        assert answer.existing

    def test_submit_ten_thousand_at_once(self) -> None:
        ids = [f"n{i:05}" for i in range(10_000)]
        answers = self.store.submit([new(name) for name in ids])
        assert [answer.id for answer in answers] == ids
        self.beat()
        batch = self.claim(20_000)
        assert [claimed.id for claimed in batch] == ids

    def test_submit_child_before_its_parent_is_known(self) -> None:
        self.put("child", parent="nobody")
        assert self.row("child").parent == "nobody"

    def test_submit_refuses_a_connection_that_leads_elsewhere(self) -> None:
        with pytest.raises(StoreError):
            self.store.submit([new("a")], connection=object())
        assert self.store.get(["a"]) == []
