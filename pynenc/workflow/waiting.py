"""Waiting for other invocations, as a durable operation.

What is final stays final, so waiting for one needs no record. It needs one where the body can tell how the wait ended: a limit of time, or a race.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pynenc import context
from pynenc.core.records import Final
from pynenc.core.status import InvocationStatus
from pynenc.engine.suspension import EndOfRecord, Suspended
from pynenc.workflow.replay import Record
from pynenc.workflow.turns import label_of_wait, ours

if TYPE_CHECKING:
    from pynenc.workflow.flow import Flow

WAIT = "wait"
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
        finals = await _wait_async(flow, ids, 0, look)
        await flow.take_turn(label_of_wait(flow.branch.path, ids), has_failed=_has_failed(finals))
        return finals
    await flow.come()
    wait = begin_wait(flow, timeout)
    finals = await _wait_async(flow, ids, wait.due, look) if wait.chosen is None else chosen(flow, wait.chosen)
    await flow.take_turn(wait.position, has_failed=_has_failed(finals))
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
    flow.mark_reached()
    raise flow.suspend(waiting_for(ids), due=due, awaits=tuple(map(str, ids)))


async def _wait_async(flow: Flow, ids: Sequence[str], due: int, look: AsyncLook) -> list[Final]:
    if known := begin_look(flow, ids):
        return known
    if flow.is_checked:
        await flow.end_branch()
    async with flow.branches.busy(flow.branch):
        finals = await ours(look(patience(flow, due)))
    if finals or flow.is_over(due):
        return flow.keep(finals)
    flow.mark_reached()

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
