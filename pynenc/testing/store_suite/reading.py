"""Queues, and everything that is only read."""

from __future__ import annotations

import pytest

from pynenc.core.ids import InvocationId
from pynenc.core.records import Change, ChangeKind, Filter, Page, QueueInfo, QueueState, WorkflowRef
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import TaskRoutingError
from pynenc.testing.store_suite.base import SECOND, Clause, new

S = InvocationStatus


class Queueing(Clause):
    """Pause, drain and resume."""

    def info(self, name: str = "default") -> QueueInfo:
        (found,) = (queue for queue in self.store.queues() if queue.name == name)
        return found

    def test_queue_counts(self) -> None:
        self.put("a", "b")
        self.put("later", due=self.clock.now() + 50 * SECOND)
        self.put("h", "p1", "p2", running_key="k")
        self.beat()
        since = self.clock.now()
        self.take("a")
        self.clock.advance(5)
        assert self.info() == QueueInfo(
            "default", QueueState.ACTIVE, ready=2, later=1, parked=2, claimed=1, oldest=since
        )

    def test_queues_are_listed_by_name(self) -> None:
        self.put("a", queue="y")
        self.put("b", queue="x")
        self.store.set_queue("w", QueueState.PAUSED)
        assert [queue.name for queue in self.store.queues()] == ["w", "x", "y"]
        assert self.info("w") == QueueInfo("w", QueueState.PAUSED)

    def test_queue_without_anything_claimable_has_no_oldest(self) -> None:
        self.put("later", due=self.clock.now() + 50 * SECOND)
        assert self.info().oldest == 0

    def test_paused_queue_gives_nothing(self) -> None:
        self.store.set_queue("x", QueueState.PAUSED)
        self.put("a", queue="x")
        self.put("b", queue="y")
        self.beat()
        assert self.info("x").state is QueueState.PAUSED
        assert self.names(self.claim()) == ["b"]
        assert self.claim(9, shares=(("x", 9),)) == ()
        assert self.claim(9, ids=("a",)) == ()
        self.store.set_queue("x", QueueState.ACTIVE)
        assert self.names(self.claim()) == ["a"]

    def test_paused_queue_lets_running_work_end(self) -> None:
        self.put("a")
        self.beat()
        claimed = self.run("a")
        self.store.set_queue("default", QueueState.PAUSED)
        self.end(claimed)
        assert self.status("a") is S.SUCCESS

    def test_paused_queue_gives_nothing_with_the_end_of_other_work(self) -> None:
        self.put("a", "b", running_key="k")
        self.beat()
        claimed = self.run("a")
        self.store.set_queue("default", QueueState.PAUSED)
        self.end(claimed)
        assert self.claim() == ()
        self.store.set_queue("default", QueueState.ACTIVE)
        assert self.names(self.claim()) == ["b"]

    def test_draining_queue_refuses_new_calls(self) -> None:
        self.put("a", queue="x")
        self.store.set_queue("x", QueueState.DRAINING)
        with pytest.raises(TaskRoutingError):
            self.store.submit([new("b"), new("c", queue="x")])
        assert self.store.get(["b", "c"]) == []
        self.beat()
        assert self.names(self.claim()) == ["a"]

    def test_draining_queue_accepts_children_of_running_work(self) -> None:
        self.put("parent", "bystander")
        self.beat()
        self.run("parent")
        self.store.set_queue("default", QueueState.DRAINING)
        self.put("child", parent="parent")
        assert self.names(self.claim()) == ["bystander", "child"]
        with pytest.raises(TaskRoutingError):
            self.put("orphan", parent="unknown")

    def test_draining_queue_answers_for_what_exists(self) -> None:
        self.put("a")
        self.store.set_queue("default", QueueState.DRAINING)
        assert self.put("a")[0].existing

    def test_drained_queue_opens_again(self) -> None:
        self.store.set_queue("default", QueueState.DRAINING)
        self.store.set_queue("default", QueueState.ACTIVE)
        self.put("a")
        assert self.info().state is QueueState.ACTIVE


class Reading(Clause):
    """Filters, pages, counts and history."""

    def found(self, **fields: object) -> list[str]:
        """What a filter finds, oldest first."""
        return [row.id for row in self.store.find(Filter(**fields), Page(100, "", oldest_first=True)).invocations]  # type: ignore[arg-type]

    def test_get_in_the_asked_order(self) -> None:
        self.put("a", "b", "c")
        assert [row.id for row in self.store.get(["c", "unknown", "a"])] == ["c", "a"]
        assert self.store.get([]) == []

    def test_ids_may_be_of_a_type_of_their_own(self) -> None:
        self.put("a")
        self.beat()
        (name,) = (InvocationId(claimed.id) for claimed in self.claim())
        assert [found.id for found in self.store.get([name])] == ["a"]
        assert self.store.finals([name]) == []
        assert [entry.id for entry in self.store.history([name])] == ["a", "a"]
        assert self.store.amend([name], Change(ChangeKind.CANCEL))[0].accepted
        self.store.watch([name], lambda: None).close()

    def test_get_of_ten_thousand(self) -> None:
        ids = [f"n{index:05}" for index in range(10_000)]
        self.put(*ids)
        assert [row.id for row in self.store.get(ids)] == ids
        assert len(self.store.history(ids)) == 10_000

    def test_find_is_equal_to_get(self) -> None:
        self.put("a")
        self.beat()
        self.run("a")
        assert list(self.store.find(Filter()).invocations) == self.store.get(["a"])

    def test_find_newest_first(self) -> None:
        self.put("c", "a", "b")
        assert [row.id for row in self.store.find(Filter()).invocations] == ["b", "a", "c"]
        assert self.found() == ["c", "a", "b"]

    def test_find_by_each_field(self) -> None:
        self.store.submit(
            [
                new(
                    "a",
                    task="m.one",
                    queue="x",
                    tags=("t1", "t2"),
                    parent="p",
                    workflow=WorkflowRef("w1", "m.flow"),
                    running_key="k",
                ),
                new("b", task="m.two", queue="y", tags=("t2",), workflow=WorkflowRef("w2", "m.flow")),
                new("c", task="n.three", queue="x"),
            ]
        )
        self.beat()
        self.take("b")
        assert self.found(ids=("c", "a")) == ["a", "c"]
        assert self.found(tasks=("m.one", "n.three")) == ["a", "c"]
        assert self.found(queues=("x",)) == ["a", "c"]
        assert self.found(tags=("t2",)) == ["a", "b"]
        assert self.found(tags=("t1",)) == ["a"]
        assert self.found(tags=("t1", "t2")) == ["a"]
        assert self.found(parent="p") == ["a"]
        assert self.found(workflow="w2") == ["b"]
        assert self.found(running_key="k") == ["a"]
        assert self.found(runner="r1") == ["b"]
        assert self.found(statuses=(S.PENDING,)) == ["b"]
        assert self.found(statuses=(S.PENDING, S.REGISTERED)) == ["a", "b", "c"]
        assert self.found(text="m.") == ["a", "b"]
        assert self.found(text="three") == ["c"]
        assert self.found(text="unheard") == []

    def test_find_by_workflow_finds_its_root(self) -> None:
        """Who starts a workflow need not say so; who starts one inside another does."""
        outer, inner = WorkflowRef("root", "m.flow"), WorkflowRef("inner", "m.flow", "root")
        self.put("root")
        self.put("member", workflow=outer)
        self.put("inner", "member of inner", workflow=inner)
        self.put("another")
        assert self.found(workflow="root") == ["root", "member"]
        assert self.found(workflow="inner") == ["inner", "member of inner"]
        assert self.found(workflow="member") == []
        assert self.store.count(Filter(workflow="root")) == {"registered": 2}

    def test_find_joins_its_fields(self) -> None:
        self.store.submit([new("a", queue="x", tags=("t",)), new("b", queue="x"), new("c", queue="y", tags=("t",))])
        assert self.found(queues=("x",), tags=("t",)) == ["a"]

    def test_find_by_start_of_the_id(self) -> None:
        self.put("abc", "abd", "xab")
        assert self.found(text="ab") == ["abc", "abd"]

    def test_find_takes_signs_as_they_are(self) -> None:
        self.store.submit(
            [
                new("a", task="m.per%cent", tags=("100%",)),
                new("b", task="m.perXcent", tags=("100_",)),
                new("c", task="m.q'uote"),
            ]
        )
        assert self.found(text="per%c") == ["a"]
        assert self.found(text="q'u") == ["c"]
        assert self.found(text="_") == []
        assert self.found(tags=("100%",)) == ["a"]
        assert self.found(tags=("100",)) == []

    def test_find_by_time_of_creation(self) -> None:
        for name in ("a", "b", "c"):
            self.put(name)
            self.clock.advance(10)
        start = self.row("a").created
        assert self.found(created_from=start + 5 * SECOND) == ["b", "c"]
        assert self.found(created_until=start + 15 * SECOND) == ["a", "b"]
        assert self.found(created_from=start + 5 * SECOND, created_until=start + 15 * SECOND) == ["b"]

    def test_pages_cover_everything_once(self) -> None:
        ids = [f"n{index:02}" for index in range(23)]
        self.put(*ids)
        for oldest_first in (True, False):
            seen, cursor, sizes = [], "", []
            while True:
                found = self.store.find(Filter(), Page(5, cursor, oldest_first=oldest_first))
                seen += [row.id for row in found.invocations]
                sizes.append(len(found.invocations))
                cursor = found.cursor
                if not cursor:
                    break
            assert seen == (ids if oldest_first else ids[::-1])
            assert sizes[:4] == [5, 5, 5, 5]

    def test_pages_are_stable_while_rows_are_added(self) -> None:
        self.put("a", "b", "c", "d")
        first = self.store.find(Filter(), Page(2))
        self.put("e", "f")
        second = self.store.find(Filter(), Page(2, first.cursor))
        assert [row.id for row in (*first.invocations, *second.invocations)] == ["d", "c", "b", "a"]

    def test_pages_of_a_filter(self) -> None:
        self.store.submit([new(f"n{index:02}", queue="x" if index % 3 else "y") for index in range(20)])
        first = self.store.find(Filter(queues=("y",)), Page(3, "", oldest_first=True))
        second = self.store.find(Filter(queues=("y",)), Page(9, first.cursor, oldest_first=True))
        assert [row.id for row in first.invocations] == ["n00", "n03", "n06"]
        assert [row.id for row in second.invocations] == ["n09", "n12", "n15", "n18"]
        assert second.cursor == ""

    def test_count_by(self) -> None:
        self.store.submit(
            [new("a", task="m.one", queue="x"), new("b", task="m.two", queue="x"), new("c", task="m.two", queue="y")]
        )
        self.beat()
        self.end(self.take("a"))
        assert self.store.count(Filter()) == {"success": 1, "registered": 2}
        assert self.store.count(Filter(), by="task") == {"m.one": 1, "m.two": 2}
        assert self.store.count(Filter(), by="queue") == {"x": 2, "y": 1}
        assert self.store.count(Filter(queues=("x",)), by="task") == {"m.one": 1, "m.two": 1}
        assert self.store.count(Filter(tasks=("unheard",))) == {}

    def test_history_in_the_asked_order(self) -> None:
        self.put("a", "b")
        self.beat()
        self.end(self.take("a"))
        entries = self.store.history(["b", "unknown", "a"])
        assert [(entry.id, entry.status) for entry in entries] == [
            ("b", S.REGISTERED),
            ("a", S.REGISTERED),
            ("a", S.PENDING),
            ("a", S.SUCCESS),
        ]

    def test_history_says_who_and_when(self) -> None:
        self.put("a")
        times = [self.clock.now()]
        self.beat()
        self.clock.advance(1)
        claimed = self.run("a")
        times += [self.clock.now()] * 2
        self.clock.advance(1)
        self.end(claimed)
        times.append(self.clock.now())
        entries = self.store.history(["a"])
        assert [entry.at for entry in entries] == times
        assert [(entry.runner, entry.attempt) for entry in entries] == [(None, 0), ("r1", 1), ("r1", 1), ("r1", 1)]

    def test_check_is_empty(self) -> None:
        assert self.store.check() == []
