"""Waiting for other invocations, as a durable operation.

What is final stays final, so waiting for one needs no record. It needs one where the body can tell how the wait ended: a limit of time, or a race.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from pynenc import context
from pynenc.core.records import Final
from pynenc.core.status import InvocationStatus
from pynenc.engine.suspension import EndOfRecord, Suspended
from pynenc.workflow.replay import TURNS, Record, position_of
from pynenc.workflow.turns import Grade, label_of_wait, ours

if TYPE_CHECKING:
    from pynenc.workflow.flow import Flow

T = TypeVar("T")
WAIT = "wait"
#: Turns that are written with one record, about.
MOST_NEW = 500
#: Looks for finals in the usual way, at most so many seconds.
Look = Callable[[float], list[Final]]
AsyncLook = Callable[[float | None], Awaitable[list[Final]]]
encode = msgspec.msgpack.encode
_names = msgspec.msgpack.Decoder(tuple[str, ...]).decode


class Wait(NamedTuple):
    """A wait whose outcome is remembered: until ``due`` (0: without a limit); ``chosen`` came first (none: nothing in time)."""

    position: str
    due: int
    chosen: tuple[str, ...] | None


def wait(flow: Flow, ids: Sequence[str], timeout: float | None, look: Look, *, is_race: bool = False) -> list[Final]:
    """Those of ``ids`` that are final, once there is one, or none after ``timeout`` seconds. What takes long suspends the body.

    :param look: waits in the usual way, at most so many seconds. :param is_race: the body goes on differently with whatever comes first.
    """
    flow.check()
    if timeout is None and not is_race:
        return _wait(flow, ids, 0, look)
    wait = begin_wait(flow, timeout)
    if wait.chosen is not None:
        return chosen(flow, wait.chosen)
    return end_wait(flow, wait, flow.keep(_wait(flow, ids, wait.due, look)))


async def wait_async(flow: Flow, ids: Sequence[str], timeout: float | None, look: AsyncLook) -> list[Final]:
    """:meth:`wait` for async bodies: what takes long blocks the branch."""
    flow.check()
    if timeout is None:
        flow.follow_branches()
        label = label_of_wait(flow.branch, ids)
        finals = await _wait_async(flow, ids, 0, look)
        await take_turn(flow, label, has_failed=_has_failed(finals))
        return finals
    await come(flow)
    wait = begin_wait(flow, timeout)
    finals = await _wait_async(flow, ids, wait.due, look) if wait.chosen is None else chosen(flow, wait.chosen)
    await take_turn(flow, wait.position, has_failed=_has_failed(finals))
    return finals if wait.chosen is not None else end_wait(flow, wait, finals)


def _has_failed(finals: Sequence[Final]) -> bool:
    return any(final.status is not InvocationStatus.SUCCESS for final in finals)


def begin_wait(flow: Flow, timeout: float | None) -> Wait:
    """A wait whose outcome is remembered: it ends at a time, or what comes first counts."""
    position, record = flow.meet(WAIT)
    if record is not None:
        return Wait(position, 0, _names(record.payload))
    return Wait(position, 0 if timeout is None else flow.deadline(position, WAIT, int(timeout * 1_000_000)), None)


def end_wait(flow: Flow, wait: Wait, finals: list[Final]) -> list[Final]:
    """Remember what came first; nothing when the time was over."""
    record = flow.write(wait.position, Record(WAIT, "", encode([str(final.id) for final in finals])))
    return chosen(flow, _names(record.payload))


def chosen(flow: Flow, ids: Sequence[str]) -> list[Final]:
    """The finals that came first."""
    known = flow.known(ids)
    return known if len(known) == len(ids) else flow.engine.store.finals(ids)


def _wait(flow: Flow, ids: Sequence[str], due: int, look: Look) -> list[Final]:
    """Wait until ``due`` (0: without a limit); nothing when that is over."""
    if known := begin_look(flow, ids):
        return known
    if finals := look(patience(flow, due)):
        return flow.keep(finals)
    if flow.is_over(due):
        return []
    mark_reached(flow)
    raise flow.suspend(waiting_for(ids), due=due, awaits=tuple(map(str, ids)))


async def _wait_async(flow: Flow, ids: Sequence[str], due: int, look: AsyncLook) -> list[Final]:
    if known := begin_look(flow, ids):
        return known
    if flow.is_checked:
        await end_branch(flow)
    async with flow.branches.busy(flow.branch):
        finals = await ours(look(patience(flow, due)))
    if finals or flow.is_over(due):
        return flow.keep(finals)
    mark_reached(flow)

    async def wait() -> list[Final]:
        left = max(0.0, (due - flow.engine.store.clock.now()) / 1_000_000) if due else None
        return await look(left)

    way = Suspended(waiting_for(ids), due=due, awaits=tuple(map(str, ids)))
    return flow.keep(await flow.branches.block(flow.branch, way, wait))


def begin_look(flow: Flow, ids: Sequence[str]) -> list[Final]:
    """The body has come to a wait; what is known already."""
    flow.branch.waits += 1
    known = flow.known(ids)
    if not known and flow.is_checked and not flow.is_async:
        raise flow.leave(EndOfRecord())
    return known


def patience(flow: Flow, due: int) -> float:
    """Seconds to wait before the body is suspended."""
    slot = flow.running.slot
    most = slot.patience if slot is not None else context.PATIENCE
    return max(0.0, min(most, (due - flow.engine.store.clock.now()) / 1_000_000)) if due else most


def waiting_for(ids: Sequence[str]) -> str:
    """What is said of a run that waits for others."""
    return f"waits for {ids[0]}" if len(ids) == 1 else f"waits for {len(ids)} invocations"


def mark_reached(flow: Flow) -> None:
    """Note how far the body got, before it is suspended where nothing is recorded."""
    if not flow.is_checked and (mark := flow.cursor.mark(flow.branch)) is not None:
        flow.write(*mark, once=False)


# -- branches of async bodies ------------------------------------------------------------------------------------------------
async def come(flow: Flow) -> None:
    """A branch comes to an operation. In a run that has failed it got no farther than to what is recorded: what the others did then comes first, and the error
    that ended them. An operation that was cancelled when the branch was here before does not begin again: what cancels it comes first.
    """
    from asyncio import CancelledError

    flow.follow_branches()
    cursor, branch = flow.cursor, flow.branch
    if (
        not flow.branches.turns.are_taken
        or cursor.is_recorded(branch)
        or not (flow.has_failed or cursor.is_cut(branch))
    ):
        return
    try:
        await flow.branches.take_turn(branch, "", Grade.END)
    except CancelledError:
        cursor.pass_by(branch)
        raise


async def take_turn(flow: Flow, label: str, *, has_failed: bool = False) -> None:
    """Something that a branch waited for is there: let it in when it is its turn."""
    if flow.branches is None or not (turns := flow.branches.turns).are_taken:
        return
    await flow.branches.take_turn(flow.branch, label, Grade.FAILURE if has_failed else Grade.VALUE)
    if has_failed and label in turns.new:
        write_turns(flow)
    else:
        bound_turns(flow)


async def use_in_turn(flow: Flow, label: str, is_there: Callable[[], bool]) -> bool:
    """Wait until a branch may use what has come; false if another one has used it meanwhile."""
    if flow.branches is None or not flow.branches.turns.are_taken:
        return True
    return bool(await flow.branches.take_turn(flow.branch, label, Grade.VALUE, is_there))


async def end_in_turn(flow: Flow, position: str, end: Callable[[], T], *, has_failed: bool = False) -> T:
    """Record how a step has ended when it is its turn, and also if its branch is cancelled before that: it is not done twice."""
    from asyncio import CancelledError

    try:
        await take_turn(flow, position, has_failed=has_failed)
    except CancelledError:
        end()
        raise
    return end()


def bound_turns(flow: Flow) -> None:
    """Write the turns that were taken if they are many, so that no record grows without limit: a body may take any number of them between two operations."""
    if len(flow.branches.turns.new) >= MOST_NEW and flow.running.departure is None and context.transaction() is None:
        write_turns(flow)


def write_turns(flow: Flow) -> None:
    """Write the turns that were taken since the last operation, in a record of their own."""
    if not flow.is_checked:
        flow.write(position_of(TURNS, flow.cursor.next_turn), Record("turns"))


async def end_branch(flow: Flow) -> None:
    """The history of a branch that is only checked ends here; others may go on."""

    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    import asyncio

    flow.follow_branches()
    await flow.branches.block(flow.branch, Suspended("end of the record"), for_ever)
