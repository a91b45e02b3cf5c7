"""Workflows and triggers in the books of a store after a storm: compared with what was written down, and with a run that nobody disturbs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pynenc.core.reaction import cause_of
from pynenc.core.records import HistoryEntry, Invocation
from pynenc.core.status import InvocationStatus
from pynenc.testing.causes import check_causes
from pynenc.testing.chaos import triggers
from pynenc.testing.chaos.tasks import app
from pynenc.testing.chaos.witness import Witnessed
from pynenc.testing.chaos.workflows import ENDINGS, Ending
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.passes import Passes
from pynenc.testing.report import Figure
from pynenc.trigger.trigger import Trigger

S = InvocationStatus
#: What a workflow that was compensated says of its end, beside the error that it failed with.
COMPENSATED, NO_ROOM = "compensated", b"no room"


class Books:
    """What is stored of workflows and firings.

    :param rows: in the order of their submission.
    """

    def __init__(self, rows: Sequence[Invocation], history: Sequence[HistoryEntry], seen: Witnessed) -> None:
        self._engine = app.scratch_engine()
        self._rows = rows
        self._history = history
        self._seen = seen
        self._passes = Passes(seen.passes)
        self._by_task: dict[str, list[Invocation]] = defaultdict(list)
        self._children: dict[str, list[Invocation]] = defaultdict(list)
        for row in rows:
            self._by_task[row.task].append(row)
            if row.parent is not None:
                self._children[row.parent].append(row)

    def close(self) -> None:
        """Leave nothing behind."""
        self._engine.store.close()

    def check(self) -> Iterator[Violation]:
        """Everything that is wrong."""
        yield from self._passes.violations
        for task in ENDINGS:
            for row in self._by_task[task]:
                yield from self._check_workflow(row) if row.status.is_final() else ()
        for trigger in _triggers():
            yield from self._check_firings(trigger)
            yield from self._check_calls(trigger)

    def figures(self) -> dict[str, Figure]:
        """How much was checked."""
        return {
            "workflows": sum(len(self._by_task[task]) for task in ENDINGS),
            "passes": self._passes.count,
            "firings": sum(len(self._by_task[trigger.key]) for trigger in _triggers()),
        }

    def _arguments(self, row: Invocation) -> dict[str, Any]:
        return self._engine.codec.decode(app.get_task(row.task).spec, row)

    # -- workflows -------------------------------------------------------------------------------------------------------
    def _check_workflow(self, row: Invocation) -> Iterator[Violation]:
        """It ended as one that nobody disturbed."""
        tokens = self._passes.of(row.id)
        ending = ENDINGS[row.task](self._arguments(row), tokens)
        for what in (*self._end_of(row, ending, tokens), *self._children_of(row, ending)):
            yield Violation(Kind.WRONG_WORKFLOW, f"{row.id} ({row.task}) {what}")

    def _end_of(self, row: Invocation, ending: Ending, tokens: dict[str, str]) -> Iterator[str]:
        if row.status is not ending.status:
            yield f"ended {row.status} ({row.reason}), not {ending.status}: {row.payload[:300]!r}"
        elif row.status is S.FAILED:
            if row.reason != COMPENSATED or NO_ROOM not in row.payload:
                yield f"failed with {row.payload[:300]!r} and is {row.reason}"
        else:
            yield from self._result_of(row, ending, tokens)
        if tokens.keys() != set(ending.points):
            yield f"got tokens at {sorted(tokens)}, not at {sorted(ending.points)}"
        if len(set(tokens.values())) < len(tokens):
            yield f"got one token twice: {tokens}"

    def _result_of(self, row: Invocation, ending: Ending, tokens: dict[str, str]) -> Iterator[str]:
        told = self._engine.codec.decode_result(app.get_task(row.task).spec, row)
        if told["value"] != ending.value:
            yield f"has the value {told['value']}, not {ending.value}"
        if not told["tokens"].items() <= tokens.items():
            yield f"has the tokens {told['tokens']}; its passes got {tokens}"

    def _children_of(self, row: Invocation, ending: Ending) -> Iterator[str]:
        """Each child is there once, in the books of this workflow, and did its work."""
        children = self._children[row.id]
        called = [(child.task.rpartition(".")[2], self._arguments(child)["number"]) for child in children]
        expected = list(ending.children)
        if called != expected and (ending.in_order or sorted(called) != sorted(expected)):
            yield f"has the children {called}, not {expected}"
        for child in children:
            if child.status is not S.SUCCESS or child.workflow is None or child.workflow.id != row.id:
                yield f"has a child {child.id} that is {child.status}, of {child.workflow}"

    # -- triggers --------------------------------------------------------------------------------------------------------
    def _check_firings(self, trigger: Trigger) -> Iterator[Violation]:
        """Each cause has its firing. An event that nobody was told about may have happened or not."""
        must, may = Counter(_cause(entry) for entry in self._changes(trigger)), Counter[str]()
        if triggers.NOTE in trigger.events:
            must.update(nonce for nonce, is_certain in self._seen.events.items() if is_certain)
            may.update(nonce for nonce, is_certain in self._seen.events.items() if not is_certain)
        found = Counter(self._cause_of(row) for row in self._by_task[trigger.key])
        yield from check_causes(f"the firing of {trigger.id}", must, may, found)

    def _check_calls(self, trigger: Trigger) -> Iterator[Violation]:
        """Each firing has its call, unless its cause is not wanted. One that was given up, crashed too often, may lack it."""
        wanted = {_cause(entry): triggers.of_change(entry.id, entry.status) for entry in self._wanted(trigger)}
        must, may = Counter[str](), Counter[str]()
        for row in self._by_task[trigger.key]:
            cause = self._cause_of(row)
            if cause in self._seen.events or cause in wanted:
                (must if row.status is S.SUCCESS else may)[wanted.get(cause, cause)] += 1
        found = Counter(self._arguments(row)["cause"] for row in self._by_task[trigger.task])
        yield from check_causes(f"the call by {trigger.id}", must, may, found)

    def _cause_of(self, firing: Invocation) -> str:
        """Of a firing: the change of status, or the nonce of the event."""
        told = self._arguments(firing)
        return str(told["data"]["payload"]["nonce"] if told["kind"] == "event" else told["cause"])

    def _changes(self, trigger: Trigger) -> Iterator[HistoryEntry]:
        """The changes of status that a trigger hears of, as the history tells them."""
        heard = {(row.id, status) for task, status in trigger.changes for row in self._by_task[task]}
        return (entry for entry in self._history if (entry.id, entry.status) in heard)

    def _wanted(self, trigger: Trigger) -> Iterator[HistoryEntry]:
        """Those that its conditions hold for."""
        measures = self._by_task[triggers.measure.task_id.key]
        unwanted = {row.id for row in measures if self._arguments(row)["number"] % 2 == 0}
        return (entry for entry in self._changes(trigger) if entry.id not in unwanted)


def is_firing(row: Invocation) -> bool:
    """Whether a trigger of ours decides in it. Its body has no witness, and its cause says whether it should be there."""
    return row.task in {trigger.key for trigger in _triggers()}


@cache
def _triggers() -> list[Trigger]:
    """All that the tasks of the chaos test declare."""
    tasks = (triggers.noted, triggers.measured, triggers.changed)
    return [builder.build(task.task_id) for task in tasks for builder in task.conf.triggers or ()]


def _cause(entry: HistoryEntry) -> str:
    return cause_of(entry.id, entry.status, entry.round, entry.attempt)
