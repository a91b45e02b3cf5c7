"""Workflows and triggers in the books of a store after a storm: compared with what was written down, and with a run that nobody disturbs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from pynenc.core.outcome import SECOND
from pynenc.core.reaction import cause_of
from pynenc.core.records import HistoryEntry, Invocation
from pynenc.core.status import InvocationStatus, Place
from pynenc.testing.causes import (
    Decided,
    Misfire,
    check_causes,
    check_debounce,
    check_misfires,
    check_pairs,
    check_throttle,
)
from pynenc.testing.chaos import triggers
from pynenc.testing.chaos.tasks import TOLERANCE, app
from pynenc.testing.chaos.witness import Witnessed
from pynenc.testing.chaos.workflows import ENDINGS, Ending, vigil
from pynenc.testing.checker import FOREVER, Kind, Violation, entries_by_id
from pynenc.testing.passes import Passes
from pynenc.testing.report import Figure
from pynenc.trigger.trigger import Trigger

S = InvocationStatus
#: What a workflow that was compensated says of its end, beside the error that it failed with.
COMPENSATED, NO_ROOM = "compensated", b"no room"
#: What a firing says that came too late to count.
PAUSED = b"is paused"
_TASKS = (
    triggers.noted,
    triggers.measured,
    triggers.changed,
    *triggers.TICKING,
    triggers.paired,
    triggers.throttled,
    triggers.debounced,
)


class Books:
    """What is stored of workflows and firings.

    :param rows: in the order of their submission.
    """

    def __init__(self, rows: Sequence[Invocation], history: Sequence[HistoryEntry], seen: Witnessed) -> None:
        self._engine = app.scratch_engine()
        self._rows = rows
        self._history = history
        self._seen = seen
        self._trails = entries_by_id(history)
        self._tellings: dict[str, dict[str, Any]] = {}
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
        for row in self._by_task[vigil.task_id.key]:
            yield from self._check_cancelled(row)
        for trigger in _triggers():
            yield from self._check_firings(trigger)
            yield from _CALLS[trigger.task](self, trigger)

    def figures(self) -> dict[str, Figure]:
        """How much was checked."""
        return {
            "workflows": sum(len(self._by_task[task]) for task in (*ENDINGS, vigil.task_id.key)),
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

    def _check_cancelled(self, row: Invocation) -> Iterator[Violation]:
        """It ended by that; nothing was called then, and nothing that it had called began once the cancellation was acknowledged."""
        children = self._children[row.id]
        told = self._seen.cancelled.get(row.id, FOREVER)
        late = [child.id for child in children if any(begin > told > child.created for begin in self._begins(child))]
        late += [child.id for child in children if child.created > row.ended > 0]
        ends = {child.status for child in children} - {S.CANCELLED, S.SUCCESS}
        if row.status is not S.CANCELLED or late or ends:
            text = f"{row.id} ({row.task}) is {row.status}, its children ended {sorted(ends)}, and these began after it was cancelled: {late}"
            yield Violation(Kind.WRONG_WORKFLOW, text)

    # -- triggers --------------------------------------------------------------------------------------------------------
    def _check_firings(self, trigger: Trigger) -> Iterator[Violation]:
        """Each cause has its firing. An event that nobody was told about may have happened or not."""
        must, may = Counter(_cause(entry) for entry in self._changes(trigger)), Counter[str]()
        for nonce, is_certain in self._seen.events.items():
            if nonce.partition(":")[0] in trigger.events:
                (must if is_certain else may)[nonce] += 1
        found = Counter(self._cause_of(row) for row in self._firings(trigger, "event", "change"))
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

    def _check_ticks(self, trigger: Trigger) -> Iterator[Violation]:
        """Each tick has its call, from the first until the trigger was paused; and there is a next one."""
        ticks = self._ticks(trigger)
        yield from self._check_next_tick(trigger)
        paused = [at for at, row in ticks.items() if not row.status.is_final() or PAUSED in row.payload]
        begin, over = min(ticks, default=0), max(ticks, default=0)
        end = min(paused, default=over)
        step = round(triggers.TICK * SECOND)
        must, may = (Counter(map(str, range(*each, step))) for each in ((begin, end), (end, over + 1)))
        yield from check_causes(f"the call by {trigger.id}", must, may, self._called(trigger))

    def _check_next_tick(self, trigger: Trigger) -> Iterator[Violation]:
        if all(row.status.is_final() for row in self._by_task[trigger.key]):
            yield Violation(Kind.LOST_FIRING, f"{trigger.id} has no next tick")

    def _check_misfires(self, trigger: Trigger, step: float, tolerance: float = FOREVER) -> Iterator[Violation]:
        """Of the ticks that were missed the latest one has its call, unless it came later than is tolerated; and there is a next one."""
        yield from self._check_next_tick(trigger)
        ticks = {at: self._decided(row) for at, row in self._ticks(trigger).items()}
        paused = {at for at, row in self._ticks(trigger).items() if PAUSED in row.payload}
        called = Counter({int(cause): times for cause, times in self._called(trigger).items()})
        policy = Misfire(round(step * SECOND), round(tolerance * SECOND))
        yield from check_misfires(trigger.id, ticks, paused, called, policy)

    def _ticks(self, trigger: Trigger) -> dict[int, Invocation]:
        """The firings of a schedule, by their times."""
        return {int(self._told(row)["cause"].partition(":")[2]): row for row in self._by_task[trigger.key]}

    def _check_pairs(self, trigger: Trigger) -> Iterator[Violation]:
        firings = [self._decided(row) for row in self._firings(trigger, "event")]
        calls = [tuple(cause.split(" ")) for cause in self._called(trigger).elements()]
        yield from check_pairs(trigger.id, firings, calls, round(triggers.WINDOW * SECOND))

    def _check_throttled(self, trigger: Trigger) -> Iterator[Violation]:
        called = self._called(trigger)
        yield from check_causes(f"the call by {trigger.id}", Counter(), Counter(self._seen.events.keys()), called)
        firings = [self._decided(row) for row in self._firings(trigger, "event")]
        n, seconds = triggers.RATE
        yield from check_throttle(trigger.id, firings, called, n, round(seconds * SECOND))

    def _check_debounced(self, trigger: Trigger) -> Iterator[Violation]:
        told = {self._told(row)["cause"]: self._cause_of(row) for row in self._firings(trigger, "event")}
        settled = [
            self._decided(row, told.get(self._told(row)["cause"], "")) for row in self._firings(trigger, "settle")
        ]
        firings = [self._decided(row) for row in self._firings(trigger, "event")]
        called, quiet = self._called(trigger), round(triggers.QUIET * SECOND)
        yield from check_debounce(trigger.id, firings, settled, called, quiet)

    def _called(self, trigger: Trigger) -> Counter[str]:
        """The causes of its calls."""
        return Counter(self._arguments(row)["cause"] for row in self._by_task[trigger.task])

    def _firings(self, trigger: Trigger, *kinds: str) -> list[Invocation]:
        return [row for row in self._by_task[trigger.key] if self._told(row)["kind"] in kinds]

    def _told(self, firing: Invocation) -> dict[str, Any]:
        if firing.id not in self._tellings:
            self._tellings[firing.id] = self._arguments(firing)
        return self._tellings[firing.id]

    def _decided(self, firing: Invocation, cause: str = "") -> Decided:
        begins = tuple(self._begins(firing))
        return Decided(
            cause or self._cause_of(firing), firing.created, begins, firing.ended, firing.status is S.SUCCESS
        )

    def _begins(self, row: Invocation) -> list[int]:
        """When its attempts began."""
        return [entry.at for entry in self._trails[row.id] if entry.status is S.PENDING]

    def _cause_of(self, firing: Invocation) -> str:
        """Of a firing: the change of status, or the nonce of the event."""
        told = self._told(firing)
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


_CALLS: dict[str, Callable[[Books, Trigger], Iterator[Violation]]] = {
    triggers.noted.task_id.key: Books._check_calls,
    triggers.measured.task_id.key: Books._check_calls,
    triggers.changed.task_id.key: Books._check_calls,
    triggers.ticked.task_id.key: Books._check_ticks,
    triggers.struck.task_id.key: partial(Books._check_misfires, step=triggers.EVEN[1]),
    triggers.chimed.task_id.key: partial(Books._check_misfires, step=triggers.SECONDLY[1], tolerance=TOLERANCE),
    triggers.paired.task_id.key: Books._check_pairs,
    triggers.throttled.task_id.key: Books._check_throttled,
    triggers.debounced.task_id.key: Books._check_debounced,
}


def is_upcoming(row: Invocation) -> bool:
    """Whether it is the next tick of what always ticks."""
    return row.task in TICKS and row.place is Place.LATER


def is_firing(row: Invocation) -> bool:
    """Whether a trigger of ours decides in it. Its body has no witness, and its cause says whether it should be there."""
    return row.task in {trigger.key for trigger in _triggers()}


@cache
def _triggers() -> list[Trigger]:
    """All that the tasks of the chaos test declare."""
    return [builder.build(task.task_id) for task in _TASKS for builder in task.conf.triggers or ()]


def _cause(entry: HistoryEntry) -> str:
    return cause_of(entry.id, entry.status, entry.round, entry.attempt)


#: The internal tasks behind the triggers that tick.
TICKS = tuple(trigger.key for trigger in _triggers() if any(trigger.schedules))
