"""A small storm of real processes, and what the verdict says when its evidence is spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pynenc.core.records import HistoryEntry, Invocation
from pynenc.core.status import InvocationStatus
from pynenc.store import open_store
from pynenc.store.base import Store
from pynenc.testing.chaos import ChaosPlan, books, run_chaos, triggers, verdict, witness, workflows
from pynenc.testing.chaos.books import Books
from pynenc.testing.chaos.witness import Witnessed
from pynenc.testing.checker import FOREVER, Kind
from pynenc.testing.report import Report, silent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storm")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    plan = ChaosPlan(seed=3, invocations=600, runners=2, clients=2, harm_every=0.4, folder=folder)
    return run_chaos(plan, silent)


def test_the_promises_hold(report: Report) -> None:
    assert report.violations == []
    assert int(report.figures["invocations"]) >= 600
    assert any(name.startswith("harm") for name in report.figures)
    assert int(report.figures["bodies"]) + int(report.figures["firings"]) >= int(report.figures["invocations"])
    assert int(report.figures["workflows"]) > 20
    assert int(report.figures["passes"]) > int(report.figures["workflows"])
    assert int(report.figures["firings"]) > 50


def without_intentions(seen: Witnessed) -> Witnessed:
    return seen._replace(intended={})


def with_larger_batch(seen: Witnessed) -> Witnessed:
    large = {name: count + 1 if count > 10 else count for name, count in seen.intended.items()}
    return seen._replace(intended=large)


def with_another_token(seen: Witnessed) -> Witnessed:
    return seen._replace(passes=[*seen.passes, seen.passes[-1]._replace(token="another")])


SPOILT: dict[Kind, Callable[[Witnessed], Witnessed]] = {
    Kind.LOST: lambda seen: seen._replace(acknowledged={*seen.acknowledged, "somebody"}),
    Kind.PHANTOM: without_intentions,
    Kind.ZOMBIE: lambda seen: seen._replace(bodies=[]),
    Kind.UNSOUND: with_larger_batch,
    Kind.WRONG_WORKFLOW: with_another_token,
    Kind.LOST_FIRING: lambda seen: seen._replace(events={**seen.events, f"{triggers.NOTE}:unheard of": True}),
}


@pytest.fixture(scope="module")
def store(folder: Path, report: Report) -> Iterator[Store]:
    store = open_store(f"sqlite:///{folder / 'chaos.db'}", "chaos")
    store.open()
    yield store
    store.close()


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_evidence_is_noticed(kind: Kind, folder: Path, store: Store) -> None:
    spoilt = Report("chaos", "-")
    verdict.judge(spoilt, store, SPOILT[kind](witness.read(folder)), [])
    assert kind in {violation.kind for violation in spoilt.violations}


# -- spoilt books ------------------------------------------------------------------------------------------------------------
Rows = list[Invocation]
Spoil = Callable[[Rows], Iterator[Rows]]
S = InvocationStatus


def one_by_one(task: str, into: Callable[[Invocation], Rows]) -> Spoil:
    """Each row of a task in turn is another one, or none: a few fell in moments of which the evidence cannot tell."""

    def spoil(rows: Rows) -> Iterator[Rows]:
        for row in reversed(rows):
            if row.task == task:
                yield [new for each in rows for new in (into(row) if each is row else [each])]

    return spoil


def changed(task: str, **fields: object) -> Spoil:
    return one_by_one(task, lambda row: [msgspec.structs.replace(row, **fields)])


def without(task: str) -> Spoil:
    return one_by_one(task, lambda row: [])


def twice(task: str) -> Spoil:
    return one_by_one(task, lambda row: [row, msgspec.structs.replace(row, id="once more")])


def without_upcoming(rows: Rows) -> Iterator[Rows]:
    yield [row for row in rows if not books.is_upcoming(row)]


def undone_in_another_order(rows: Rows) -> Iterator[Rows]:
    undo = workflows.undo.task_id.key
    yield [*(row for row in rows if row.task != undo), *reversed([row for row in rows if row.task == undo])]


ORDER, TRIP, PART, UNDO = (
    task.task_id.key for task in (workflows.order, workflows.trip, workflows.part, workflows.undo)
)
NOTED, MEASURED, CHANGED = (task.task_id.key for task in (triggers.noted, triggers.measured, triggers.changed))
EVENT, RESULT, STATUS, TICK, STRIKE, CHIME, PAIR, BURST, RUSH = (trigger.key for trigger in books._triggers())
TICKED, STRUCK, CHIMED = (task.task_id.key for task in triggers.TICKING)
PAIRED, THROTTLED, DEBOUNCED = (task.task_id.key for task in (triggers.paired, triggers.throttled, triggers.debounced))
VIGIL, WATCH = (task.task_id.key for task in (workflows.vigil, workflows.watch))

BOOKS: dict[str, tuple[Kind, Spoil]] = {
    "a child is missing": (Kind.WRONG_WORKFLOW, without(PART)),
    "a child is there twice": (Kind.WRONG_WORKFLOW, twice(PART)),
    "a child has failed": (Kind.WRONG_WORKFLOW, changed(PART, status=S.FAILED)),
    "a child is of no workflow": (Kind.WRONG_WORKFLOW, changed(PART, workflow=None)),
    "a compensation is missing": (Kind.WRONG_WORKFLOW, without(UNDO)),
    "compensations run in another order": (Kind.WRONG_WORKFLOW, undone_in_another_order),
    "a workflow failed": (Kind.WRONG_WORKFLOW, changed(ORDER, status=S.FAILED)),
    "a workflow did not fail": (Kind.WRONG_WORKFLOW, changed(TRIP, status=S.SUCCESS, payload=b"null")),
    "a workflow failed otherwise": (Kind.WRONG_WORKFLOW, changed(TRIP, payload=b"worker lost")),
    "a workflow was not compensated": (Kind.WRONG_WORKFLOW, changed(TRIP, reason="")),
    "a workflow has another result": (
        Kind.WRONG_WORKFLOW,
        changed(ORDER, payload=b'{"by":"x","tokens":{},"value":7}'),
    ),
    "a workflow that was cancelled is not": (Kind.WRONG_WORKFLOW, changed(VIGIL, status=S.SUCCESS)),
    "a child of what was cancelled failed": (Kind.WRONG_WORKFLOW, changed(WATCH, status=S.FAILED)),
    "a child was called when all was cancelled": (Kind.WRONG_WORKFLOW, changed(WATCH, created=FOREVER)),
    "a firing of a throttle is missing": (Kind.LOST_FIRING, without(THROTTLED)),
    "a tick is missing": (Kind.LOST_FIRING, without(TICKED)),
    "a tick that was made up for is missing": (Kind.LOST_FIRING, without(STRUCK)),
    "what follows a tick is missing": (Kind.LOST_FIRING, without(STRIKE)),
    "there is no next tick": (Kind.LOST_FIRING, without_upcoming),
    **{f"{name} is missing": (Kind.LOST_FIRING, without(name)) for name in (PAIR, BURST, RUSH, DEBOUNCED)},
    **{
        f"{name} is there twice": (Kind.DOUBLE_FIRING, twice(name))
        for name in (TICKED, STRUCK, CHIMED, PAIRED, THROTTLED, DEBOUNCED)
    },
    **{f"{name} is missing": (Kind.LOST_FIRING, without(name)) for name in (EVENT, RESULT, STATUS)},
    **{f"{name} is there twice": (Kind.DOUBLE_FIRING, twice(name)) for name in (EVENT, RESULT, STATUS)},
    **{f"{name} is missing": (Kind.LOST_FIRING, without(name)) for name in (NOTED, MEASURED, CHANGED)},
    **{f"{name} is there twice": (Kind.DOUBLE_FIRING, twice(name)) for name in (NOTED, MEASURED, CHANGED)},
}


@pytest.mark.parametrize("case", BOOKS)
def test_spoilt_books_are_noticed(case: str, folder: Path, store: Store) -> None:
    kind, spoil = BOOKS[case]
    rows = list(verdict._rows(store))
    history = list(verdict._history(store, rows))
    assert any(kind in found(spoilt, history, folder) for spoilt in spoil(rows))


def found(rows: Rows, history: list[HistoryEntry], folder: Path) -> set[Kind]:
    with closing(Books(rows, history, witness.read(folder))) as spoilt:
        return {violation.kind for violation in spoilt.check()}
