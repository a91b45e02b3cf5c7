"""Those who do not run anything: clients that submit, persons that amend, and the nemesis that harms."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from random import Random
from typing import Any, Protocol

from pynenc.core.records import Change, ChangeKind, Filter, New, Page, Purge, QueueState, Rate
from pynenc.core.status import FINAL, InvocationStatus
from pynenc.exceptions import PynencError, StoreError
from pynenc.testing.clock import SECOND, VirtualClock
from pynenc.testing.passes import Act, Line
from pynenc.testing.simulation.network import LONGEST
from pynenc.testing.simulation.runner import LEASE, Runner
from pynenc.testing.simulation.schedule import Process, Request, Scheduler, Sleep, Steps, call
from pynenc.testing.simulation.script import KINDS, WEIGHTS

QUEUES = ("default", "other")
#: Running keys and how many may hold each.
LIMITS = {"key 1": 1, "key 2": 2, "key 3": 3}
#: Times that a client sends the same batch before it gives up.
PATIENCE = 5


class Stage(Protocol):
    """What people know of the world."""

    scheduler: Scheduler
    clock: VirtualClock
    random: Random
    intended: dict[str, New]
    acknowledged: set[str]
    runners: list[Runner]
    passes: list[Line]
    clients: int
    reacts: bool
    is_healed: bool
    jumped: float

    def intend(self, new: Sequence[New]) -> None: ...

    def add_runner(self) -> None: ...


# -- clients ---------------------------------------------------------------------------------------------------------------
def client(stage: Stage, name: str, rounds: int) -> Steps:
    """Submit batches; send a batch again while nobody knows whether it arrived."""
    for number in range(rounds):
        batch = list(_batch(stage, f"{name}-{number}"))
        stage.intend(batch)
        yield from _submit(stage, batch)
        yield Sleep(stage.random.random() * 1.5)
    yield Sleep(2 * LONGEST)  # what it gave up may still arrive
    stage.clients -= 1


def _submit(stage: Stage, batch: list[New]) -> Generator[Request, Any, None]:
    for _ in range(PATIENCE):
        try:
            answers = yield from call("submit", batch)
        except StoreError:
            yield Sleep(0.1)
        except PynencError:  # refused as a whole
            return
        else:
            stage.acknowledged.update(answer.id for answer in answers)
            return


def _batch(stage: Stage, name: str) -> Iterator[New]:
    draw = stage.random
    for number in range(draw.choice((1, 1, 2, 5))):
        (kind,) = draw.choices(KINDS, WEIGHTS)
        fields: dict[str, Any] = {"id": f"{name}.{number}", "task": f"t.{kind}", "args": b"", "result_ttl": 0}
        if kind != "parent":
            fields |= _control(draw)
        if draw.random() < 0.1:
            fields["due"] = stage.clock.now() + int(draw.random() * 3 * SECOND)
        if draw.random() < 0.05:
            fields["expires"] = stage.clock.now() + 2 * SECOND
        yield New(**fields, queue=draw.choice(QUEUES), priority=draw.choice((0.0, 0.0, 1.0)))


def _control(draw: Random) -> dict[str, Any]:
    """One way, or none, in which invocations get into each other's way."""
    way = draw.random()
    key = draw.choice(list(LIMITS))
    if way < 0.35:
        return {"running_key": key, "running_limit": LIMITS[key]}
    if way < 0.42:
        return {"registration_key": draw.choice("ab")}
    if way < 0.50:
        return {"registration_key": "c", "running_key": key, "running_limit": LIMITS[key]}
    if way < 0.55:
        return {"running_key": f"drop {key}", "running_limit": LIMITS[key], "drop_blocked": True}
    if way < 0.62:
        return {"rate": Rate("rate", 2, SECOND)}
    return {}


# -- persons ---------------------------------------------------------------------------------------------------------------
def person(stage: Stage) -> Steps:
    """Do now and then what people do: cancel, requeue, put first, let go on, stop queues, tidy up."""
    while not stage.is_healed:
        if stage.intended:
            yield from _quietly(*_errand(stage))
        yield Sleep(stage.random.random())


def _errand(stage: Stage) -> tuple[str, Any, Any]:
    draw = stage.random
    ids = draw.choices(list(stage.intended), k=draw.choice((1, 2)))
    act = draw.random()
    if act < 0.75:
        kind = draw.choice(
            (ChangeKind.CANCEL, ChangeKind.CANCEL, ChangeKind.REQUEUE, ChangeKind.REPRIORITISE, ChangeKind.RESUME)
        )
        return "amend", list(dict.fromkeys(ids)), Change(kind, priority=draw.random())
    if act < 0.9 or stage.reacts:  # causes that are gone cannot be compared
        return (
            "set_queue",
            draw.choice(QUEUES),
            draw.choice((QueueState.ACTIVE, QueueState.PAUSED, QueueState.DRAINING)),
        )
    return "purge", Purge(ended_before=stage.clock.now() - 5 * SECOND, limit=5), None


def _quietly(operation: str, *arguments: Any) -> Generator[Request, Any, None]:
    try:
        yield from call(operation, *(argument for argument in arguments if argument is not None))
    except PynencError:
        pass


def poster(stage: Stage) -> Steps:
    """Send signals to workflows, also to those that have not begun, or have ended."""
    while not stage.is_healed:
        if flows := [name for name, new in stage.intended.items() if new.task == "t.flow"]:
            yield from _post(stage, stage.random.choice(flows))
        yield Sleep(stage.random.random())


def _post(stage: Stage, flow: str) -> Generator[Request, Any, None]:
    token = f"s{len(stage.passes)}"
    stage.passes.append(Line(Act.MADE, flow, 0, "signal", token))
    yield from _quietly("amend", [flow], Change(ChangeKind.SIGNAL, value=token.encode()))


def janitor(stage: Stage, done: Callable[[], None]) -> Steps:
    """After the storm: keep one runner alive, open the queues, let the suspended go on, and see when everything has ended."""
    while True:
        if not any(runner.is_staying for runner in stage.runners):
            stage.add_runner()
        for queue in QUEUES:  # again and again, since a late call may come after this one
            yield from call("set_queue", queue, QueueState.ACTIVE)
        counts = yield from call("count", Filter())
        if not stage.clients and not any(
            number for status, number in counts.items() if InvocationStatus(status) not in FINAL
        ):
            done()
            return
        if counts.get(InvocationStatus.PAUSED):
            found = yield from call("find", Filter(statuses=(InvocationStatus.PAUSED,)), Page(500))
            for row in found.invocations:
                if row.task == "t.flow":
                    yield from _post(stage, row.id)
            others = [row.id for row in found.invocations if row.task != "t.flow"]
            yield from call("amend", others, Change(ChangeKind.RESUME))
        yield Sleep(1.0)


# -- the nemesis -----------------------------------------------------------------------------------------------------------
def nemesis(stage: Stage, *, may_jump: bool) -> Steps:
    """Kill, freeze, stop and replace runners; set the wall clock."""
    while not stage.is_healed:
        _HARM[stage.random.randrange(len(_HARM) - (not may_jump))](stage)
        yield Sleep(stage.random.random() * 2.5)


def _kill(stage: Stage) -> None:
    for runner, process in _victim(stage):
        runner.kill(process, is_certain=stage.random.random() < 0.6)


def _freeze(stage: Stage) -> None:
    """For half a lease up to three."""
    for _, process in _victim(stage):
        process.frozen_until = stage.clock.lease() + int((0.5 + 2.5 * stage.random.random()) * LEASE)


def _stop(stage: Stage) -> None:
    for runner, _ in _victim(stage):
        runner.stop()


def _join(stage: Stage) -> None:
    if sum(bool(runner.processes()) for runner in stage.runners) < 4:
        stage.add_runner()


def _jump(stage: Stage) -> None:
    seconds = stage.random.choice((-20.0, -2.0, 2.0, 20.0))
    stage.jumped += seconds
    stage.clock.jump(seconds)


def _victim(stage: Stage) -> Iterator[tuple[Runner, Process]]:
    """One process that lives, if there is one."""
    living = [(runner, process) for runner in stage.runners for process in runner.processes()]
    if living:
        yield stage.random.choice(living)


_HARM = (_kill, _freeze, _kill, _freeze, _stop, _join, _join, _join, _jump)
