"""The workflows of the chaos test, and how each of them ends if nobody disturbs it.

Each pass of a body writes down what its durable operations brought (:class:`~pynenc.testing.chaos.witness.Pass`). Whatever is killed, the end is a function of
the arguments and of the tokens that were remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pynenc.core.options import TaskOptions
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import StoreError
from pynenc.testing.chaos.tasks import app
from pynenc.testing.chaos.witness import CLIENTS, make, make_for, passing, running, witnessed, write

#: More crashes than there can be, so that none of these is given up.
CRASHES = 1000
#: Nor does an outage end it: it has to end by itself.
PATIENT: TaskOptions = {
    "max_crashes": CRASHES,
    "max_retries": 1000,
    "retry_for": (StoreError,),
    "retry_delay": 0.2,
    "retry_max_delay": 1.0,
}
#: Runs of one ``relay``.
ROUNDS = 3
#: The signal that whoever submitted an ``order`` sends to it, and what a ``review`` is told when it is resumed.
PAID, APPROVED = "paid", "approved"

Told = dict[str, Any]


class NoRoomError(ValueError):
    """What a ``trip`` fails with."""


def send(workflow: str, name: str) -> None:
    """Send a signal with a token of its own.

    :raises StoreError: it may have arrived or not.
    """
    app.get_invocation(workflow).signal(name, make_for(workflow, name))
    write(CLIENTS, "D", workflow)


def pay(workflow: str) -> bool:
    """Send an ``order`` its signal."""
    send(workflow, PAID)
    return True


def approve(workflow: str) -> bool:
    """Resume a ``review``; whether it was paused, or needs it no more."""
    review = app.get_invocation(workflow)
    if not review.resume(make_for(workflow, APPROVED)):
        return review.status.is_final()
    write(CLIENTS, "D", workflow)
    return True


def call_off(workflow: str) -> bool:
    """Cancel a ``vigil``, once it has begun; whether that was so."""
    found = app.get_invocation(workflow)
    if found.status in (InvocationStatus.REGISTERED, InvocationStatus.PENDING):
        return False
    found.cancel()
    write(CLIENTS, "C", workflow, time.time_ns() // 1000)
    return True


def refuse() -> None:
    """A step that fails."""
    raise NoRoomError("no room")


# -- children ----------------------------------------------------------------------------------------------------------------
@app.task(**PATIENT)
def part(nonce: str, number: int) -> tuple[str, int]:
    """Some of the work; no sum of the values is the same without one of them, or with one twice."""
    with witnessed(nonce) as result:
        return result, 3**number


@app.task(**PATIENT)
def undo(nonce: str, number: int) -> tuple[str, int]:
    """A compensation."""
    with witnessed(nonce) as result:
        return result, number


@app.task(**PATIENT)
def post(nonce: str, number: int, workflow: str) -> tuple[str, int]:
    """Send a signal to a workflow; more than one if it is killed in between."""
    with witnessed(nonce) as result:
        send(workflow, "baton")
        return result, number


@app.task(**PATIENT)
def watch(nonce: str, number: int) -> tuple[str, int]:
    """Begins after ``number`` seconds and takes its time, unless it is called off."""
    with witnessed(nonce) as result:
        time.sleep(0.3)
        return result, number


# -- workflows ---------------------------------------------------------------------------------------------------------------
@app.workflow(**PATIENT)
def order(nonce: str, count: int) -> Told:
    """Steps, children, a sleep, and a signal from whoever submitted it."""
    wf = order.wf
    with passing(nonce) as own:
        own.got("reserve", wf.step(make, "reserve"))
        parts = part.parallelize([(nonce, number) for number in range(count)])
        wf.sleep(0.3)
        own.got(PAID, wf.wait_signal(PAID))
        total = sum(value for _, value in parts.results)
        own.got("ship", wf.step(make, "ship"))
        return own.told(total)


@app.workflow(**PATIENT)
def trip(nonce: str, count: int) -> Told:
    """Fails after some steps, each of which is made up for in reverse order."""
    wf = trip.wf
    with passing(nonce) as own:
        for number in range(count):
            own.got(f"book{number}", wf.step(make, f"book{number}"))
            wf.compensate(undo, nonce, number)
        wf.sleep(0.2)
        wf.step(refuse)
        return own.told(None)


@app.workflow(**PATIENT)
def relay(nonce: str, left: int, batons: list[str]) -> Told:
    """Continues as new with each signal; each is taken once, however many come. Counts the runs in its state."""
    wf = relay.wf
    with passing(nonce) as own:
        post(nonce, left, running().id)
        batons = [*batons, own.got(f"baton{left}", wf.wait_signal("baton"))]
        runs = wf.get_state(0) + 1
        wf.save_state(runs)
        if left > 1:
            wf.continue_as_new(nonce, left - 1, batons)
        return own.told([batons, runs])


@app.workflow(**PATIENT)
async def fork(nonce: str, count: int) -> Told:
    """Branches that go on side by side."""
    wf = fork.wf

    async def branch(number: int) -> int:
        own.got(f"branch{number}", await wf.async_step(make, f"branch{number}"))
        await wf.async_sleep(0.1 * number)
        _, value = await part(nonce, number).async_result()
        return value

    with passing(nonce) as own:
        return own.told(sum(await asyncio.gather(*map(branch, range(count)))))


@app.workflow(**PATIENT)
def review(nonce: str) -> Told:
    """Pauses for a person."""
    wf = review.wf
    with passing(nonce) as own:
        own.got("draft", wf.step(make, "draft"))
        own.got(APPROVED, wf.pause("approve"))
        own.got("publish", wf.step(make, "publish"))
        return own.told(None)


@app.workflow(**PATIENT)
def vigil(nonce: str, count: int) -> Told:
    """Waits for what never comes, until it is called off with its children."""
    wf = vigil.wf
    with passing(nonce) as own:
        for number in range(count):
            watch.options(delay=number)(nonce, number)
        return own.told(wf.wait_signal("never"))


#: What somebody has to do for a workflow: whether it is done.
ERRANDS: dict[str, Callable[[str], bool]] = {
    order.task_id.key: pay,
    review.task_id.key: approve,
    vigil.task_id.key: call_off,
}


# -- how they end --------------------------------------------------------------------------------------------------------------
class Ending(NamedTuple):
    """The end of a workflow that nobody disturbed.

    :ivar points: where it gets a token. :ivar children: the tasks that it calls and their ``number``, in this order or ``in_order`` is false.
    """

    points: tuple[str, ...]
    children: tuple[tuple[str, int], ...]
    value: Any = None
    status: InvocationStatus = InvocationStatus.SUCCESS
    in_order: bool = True


Arguments = Mapping[str, Any]
Tokens = Mapping[str, str]


def _order(arguments: Arguments, _: Tokens) -> Ending:
    numbers = range(arguments["count"])
    value = sum(3**number for number in numbers)
    return Ending(("reserve", PAID, "ship"), tuple(("part", number) for number in numbers), value)


def _trip(arguments: Arguments, _: Tokens) -> Ending:
    numbers = range(arguments["count"])
    points = tuple(f"book{number}" for number in numbers)
    undone = tuple(("undo", number) for number in reversed(numbers))
    return Ending(points, undone, status=InvocationStatus.FAILED)


def _relay(_: Arguments, tokens: Tokens) -> Ending:
    rounds = range(ROUNDS, 0, -1)
    points = tuple(f"baton{left}" for left in rounds)
    batons = [tokens.get(point) for point in points]
    return Ending(points, tuple(("post", left) for left in rounds), [batons, ROUNDS])


def _fork(arguments: Arguments, _: Tokens) -> Ending:
    numbers = range(arguments["count"])
    points = tuple(f"branch{number}" for number in numbers)
    value = sum(3**number for number in numbers)
    return Ending(points, tuple(("part", number) for number in numbers), value, in_order=False)


def _review(_: Arguments, __: Tokens) -> Ending:
    return Ending(("draft", APPROVED, "publish"), ())


#: By task: the end that follows from the arguments and the tokens that were got.
ENDINGS: dict[str, Callable[[Arguments, Tokens], Ending]] = {
    order.task_id.key: _order,
    trip.task_id.key: _trip,
    relay.task_id.key: _relay,
    fork.task_id.key: _fork,
    review.task_id.key: _review,
}
