"""Recorded histories against today's code: whether the body of a workflow still does what it did.

A *history* is all that one run needs to be repeated without its store: task, arguments, records, and what became of its children. The body runs to where the
record ends; nothing is written, no step and no call is carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from pynenc import context
from pynenc.core.records import Blob, Claimed, Final, Invocation, WorkflowRef
from pynenc.engine.suspension import Departure, Differs
from pynenc.exceptions import WorkflowError
from pynenc.workflow.flow import Flow, ids_of
from pynenc.workflow.replay import (
    BEGUN,
    CALL,
    COMPENSATION,
    DIFFERENCE,
    TURNS,
    Cursor,
    History,
    Record,
    decode_record,
)

if TYPE_CHECKING:
    from pynenc.engine import Engine

VERSION = 1
#: Statuses that a body which raised may have led to, or lead to yet.
_FAILED = ("failed", "retry", "cancelled", "paused")


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """One run as a file holds it (JSON)."""

    version: int = VERSION
    id: str
    task: str
    round: int
    status: str
    args: bytes
    blobs: dict[str, bytes]
    workflow: WorkflowRef | None
    created: int
    retries: int = 0
    parent: str | None = None
    records: dict[str, Record]
    finals: dict[str, Final]


class Verdict(msgspec.Struct, frozen=True):
    """What a check found. ``problem`` is empty when the body does what it did; ``operations`` is how many it repeated."""

    id: str
    task: str
    operations: int
    problem: str = ""
    ended: bool = False


def tell(engine: Engine, invocation_id: str) -> Story:
    """The history of the latest run of an invocation.

    :raises InvocationNotFoundError: there is no such invocation.
    """
    row = engine.get(invocation_id)
    stored = engine.store.recall(f"{row.id}/{row.round}")
    records = {position: decode_record(value) for position, value in stored.items()}
    flow = _flow(engine, _claimed(row, attempt=2), History(records, {}))
    finals = {final.id: final for final in flow.finals_of(records)}
    return Story(
        id=row.id,
        task=row.task,
        round=row.round,
        status=row.status.value,
        args=row.args,
        blobs=engine.store.get_blobs(row.blobs),
        workflow=row.workflow,
        created=row.created,
        retries=row.retries,
        parent=row.parent,
        records=records,
        finals=finals,
    )


def calls(engine: Engine, story: Story) -> dict[str, list[str]]:
    """The ids of the invocations of each recorded call, by position."""
    derive = Cursor((engine.app_id, story.id, str(story.round)), {}).child_ids
    return {
        position: ids_of(derive, position, record) for position, record in story.records.items() if record.kind == CALL
    }


def write_story(story: Story) -> bytes:
    """A history as a file holds it."""
    return msgspec.json.format(msgspec.json.encode(story))


def read_story(data: bytes) -> Story:
    """The inverse.

    :raises WorkflowError: it is none.
    """
    try:
        story = msgspec.json.decode(data, type=Story)
    except msgspec.DecodeError as error:
        raise WorkflowError(
            f"this is no history of a workflow ({error}): write one with `pynenc workflows replay ID --save FILE`"
        ) from error
    if story.version != VERSION:
        raise WorkflowError(f"the history has version {story.version}, and this version of pynenc reads {VERSION}")
    return story


def check(engine: Engine, story: Story, call: Callable[..., Any] | None = None) -> Verdict:
    """Repeat a run with today's code.

    :param engine: of the app over an empty store (``app.scratch_engine()``), which is closed in the end.
    :param call: calls the body, given it and its arguments; for debuggers.
    """
    engine.store.put_blobs([Blob(key, data, 0) for key, data in story.blobs.items()])
    spec = engine.executor.resolve(story.task)
    if spec is None:
        return Verdict(story.id, story.task, 0, f"no task {story.task} in this app")
    claimed = Claimed(
        story.id,
        story.task,
        2,
        story.args,
        tuple(story.blobs),
        round=story.round,
        created=story.created,
        retries=story.retries,
        parent=story.parent,
        workflow=story.workflow,
    )
    flow = _flow(engine, claimed, History(story.records, story.finals))
    try:
        problem, ended = copy_context().run(_repeat, flow, claimed, story.status, call or _call)
    finally:
        engine.store.close()
    if not problem and ended:
        problem = _left_over(flow)
    operations = sum(flow.cursor.records[position].kind != BEGUN for position in flow.cursor.met)
    return Verdict(story.id, story.task, operations, problem, ended)


def _repeat(flow: Flow, claimed: Claimed, status: str, call: Callable[..., Any]) -> tuple[str, bool]:
    """Run the body; what is wrong, and whether it came to its end."""
    spec = flow.engine.executor.resolve(claimed.task)
    context.set_running(flow.running)
    bound = flow.engine.codec.decode(spec, claimed)
    try:
        if spec.is_async:
            _on_a_loop(flow, lambda: call(spec.binder.call, spec.func, bound))
        else:
            call(spec.binder.call, spec.func, bound)
    except BaseException as error:
        if flow.running.departure is not None or isinstance(error, Departure):
            return _difference(flow), False
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        if status not in _FAILED and not flow.is_failing:
            return f"the workflow raises {type(error).__name__}: {error}, which it did not", True
        return "", True
    if flow.running.departure is None and status == "failed":
        return "the workflow returns, but it failed", True
    return _difference(flow), flow.running.departure is None


def _difference(flow: Flow) -> str:
    """Where the body was left since it does something else than recorded."""
    way = flow.running.departure
    return str(way.error) if isinstance(way, Differs) else ""


def _on_a_loop(flow: Flow, begin: Callable[[], Any]) -> None:
    import asyncio

    async def main() -> None:
        flow.running.main = asyncio.current_task()
        flow.follow_branches()
        await begin()

    asyncio.run(main())


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _left_over(flow: Flow) -> str:
    """What is recorded, and the body did not come to before its end. A branch that is cancelled may come farther or less far each time."""
    cut = () if flow.branches is None else flow.branches.cut
    ours = (COMPENSATION, DIFFERENCE, TURNS, *cut)
    left = [position for position in flow.cursor.not_met() if not position.startswith(ours)]
    if not left:
        return ""
    told = f"recorded at position {left[0]} is {flow.cursor.told(left[0])!r}"
    return f"the workflow ends, but {told}, and {len(left)} operation(s) in all are not made any more"


def _flow(engine: Engine, claimed: Claimed, history: History) -> Flow:
    running = context.Running(claimed, "replay", None, engine, engine.executor.handle)
    spec = engine.executor.resolve(claimed.task)
    if spec is None:
        raise WorkflowError(f"no task {claimed.task} in this app")
    running.flow = Flow(running, spec, history, follow=False)
    flow: Flow = running.flow
    return flow


def _claimed(row: Invocation, attempt: int) -> Claimed:
    return Claimed(row.id, row.task, attempt, row.args, row.blobs, round=row.round, workflow=row.workflow)
