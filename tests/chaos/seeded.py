"""Bugs for the chaos test: every process of a storm imports this module, and gets the bugs that ``SEEDED_BUGS`` names, separated by spaces."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from pynenc.core.reaction import Reaction
from pynenc.core.records import Amended, Change, ChangeKind, New
from pynenc.core.status import InvocationStatus
from pynenc.engine import Engine, firing, triggers
from pynenc.engine.firing import Decision
from pynenc.engine.firing_state import State
from pynenc.engine.triggers import Triggers
from pynenc.store.sqlite import SqliteStore
from pynenc.trigger.schedule import Schedule
from pynenc.workflow.flow import STEP, Flow
from pynenc.workflow.replay import decode_record

NAMES = "SEEDED_BUGS"
numbers: defaultdict[Callable[[], None], Iterator[int]] = defaultdict(count)


def is_unlucky(bug: Callable[[], None]) -> bool:
    """The first time that a bug asks in a process, and every third time from then on."""
    return next(numbers[bug]) % 3 == 0


def loses_a_reaction() -> None:
    """A change of status that triggers should hear of is not noted."""
    subscribe = SqliteStore.subscribe

    def lossy(self: SqliteStore, owner: str, reactions: Sequence[Reaction]) -> None:
        subscribe(self, owner, [each for each in reactions if each.status is not InvocationStatus.RETRY])

    SqliteStore.subscribe = lossy


def loses_an_event() -> None:
    """An event is acknowledged and not stored."""
    emit = Triggers.emit_event

    def lossy(self: Triggers, code: str, payload: Any = None) -> str:
        return "lost" if is_unlucky(loses_an_event) else emit(self, code, payload)

    Triggers.emit_event = lossy


def loses_a_call() -> None:
    """A firing decides, and its call is not stored."""
    carry_out = Decision._carry_out

    def lossy(self: Decision) -> dict[str, Any]:
        if is_unlucky(loses_a_call):
            self._rows = [row for row in self._rows if row.id not in self._targets]
        return carry_out(self)

    Decision._carry_out = lossy


def fires_twice() -> None:
    """The call of a firing is made a second time, under an id that is not derived from its cause."""
    carry_out = Decision._carry_out

    def twice(self: Decision) -> dict[str, Any]:
        self._rows += [
            msgspec.structs.replace(row, id=f"{row.id}-again") for row in self._rows if row.id in self._targets
        ]
        return carry_out(self)

    Decision._carry_out = twice


def forgets_a_step() -> None:
    """What a step made is acknowledged and not stored, so that the next pass carries it out again."""
    remember = SqliteStore.remember

    def lossy(self: SqliteStore, scope: str, items: Mapping[str, bytes], **options: Any) -> dict[str, bytes]:
        if options.get("by") is None or scope.startswith("pynenc."):
            return remember(self, scope, items, **options)
        kept = {position: value for position, value in items.items() if decode_record(value).kind != STEP}
        return {**items, **(remember(self, scope, kept, **options) if kept else {})}

    SqliteStore.remember = lossy


def repeats_a_child() -> None:
    """A call of a workflow is made twice."""
    call = Flow.call_at

    def twice(self: Flow, position: str, record: Any, name: str, count: int, submit: Any) -> list[str]:
        if record is None:
            submit([f"{self.id}-{position}-{number}" for number in range(count)])
        return call(self, position, record, name, count, submit)

    Flow.call_at = twice


def loses_a_signal() -> None:
    """A signal is acknowledged and not stored."""
    amend = SqliteStore.amend

    def lossy(self: SqliteStore, ids: Sequence[str], change: Change) -> list[Amended]:
        if change.kind is ChangeKind.SIGNAL and is_unlucky(loses_a_signal):
            return [Amended(name, accepted=True, status=None) for name in ids]
        return amend(self, ids, change)

    SqliteStore.amend = lossy


def loses_a_tick() -> None:
    """A tick is noted and not fired."""
    fire = Decision._fire_ticks
    Decision._fire_ticks = lambda self, leaf, due: None if is_unlucky(loses_a_tick) else fire(self, leaf, due)


def fires_what_is_late() -> None:
    """Ticks come late, and those are fired that should be skipped."""
    row, due = firing.tick_row, firing.due_ticks

    def late(*of: Any) -> New:
        return msgspec.structs.replace(found := row(*of), due=found.due + 700_000)

    def lenient(schedule: Schedule, at: int, now: int, misfire: str, *limits: int) -> list[int]:
        return due(schedule, at, now, "once" if misfire == "skip" else misfire, *limits)

    firing.tick_row = triggers.tick_row = late
    firing.due_ticks = lenient


def forgets_a_cause() -> None:
    """Two of three causes that wait for others are forgotten: two that belong together among them."""
    join = Decision._join
    Decision._join = lambda self, *of: join(self, *of) if is_unlucky(forgets_a_cause) else None


def joins_twice() -> None:
    """Causes that came together wait for more."""
    fire = Decision._fire_joined

    def again(self: Decision, kept: list[Any], *more: Any) -> None:
        fire(self, kept, *more)
        self._state.leaves |= {str(leaf): noted for leaf, *noted in kept}

    Decision._fire_joined = again


def forgets_the_throttle() -> None:
    """All pass."""
    State.may_pass = lambda *_: True


def holds_all_back() -> None:
    """A throttle holds one of three back that has room."""
    may_pass = State.may_pass
    State.may_pass = lambda *of: may_pass(*of) and not is_unlucky(holds_all_back)


def knows_no_quiet() -> None:
    """A debounce fires for all."""
    settle = Decision._settle

    def hasty(self: Decision, cause: str, data: dict[str, Any]) -> None:
        self._state.latest[data["key"]] = cause
        settle(self, cause, data)

    Decision._settle = hasty


def loses_the_last() -> None:
    """A debounce never fires."""
    Decision._settle = lambda *_: None


def loses_a_resume() -> None:
    """That a workflow goes on is acknowledged and not stored."""
    amend = SqliteStore.amend

    def lossy(self: SqliteStore, ids: Sequence[str], change: Change) -> list[Amended]:
        if change.kind is ChangeKind.RESUME and is_unlucky(loses_a_resume):
            return [Amended(name, accepted=True, status=None) for name in ids]
        return amend(self, ids, change)

    SqliteStore.amend = lossy


def spares_the_children() -> None:
    """A workflow is cancelled, and what belongs to it is not."""
    Engine.cancel_members = lambda *_: None


BUGS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        loses_a_reaction,
        loses_an_event,
        loses_a_call,
        fires_twice,
        forgets_a_step,
        repeats_a_child,
        loses_a_signal,
        loses_a_tick,
        fires_what_is_late,
        forgets_a_cause,
        joins_twice,
        forgets_the_throttle,
        holds_all_back,
        knows_no_quiet,
        loses_the_last,
        loses_a_resume,
        spares_the_children,
    )
}
for name in os.environ.get(NAMES, "").split():
    BUGS[name]()
