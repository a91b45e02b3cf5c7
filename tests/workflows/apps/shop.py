"""Workflows for the tests. What their steps do is written to the file that ``WITNESS`` names, once for each time that it is done."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from pynenc import Pynenc, RetryError
from pynenc.exceptions import ResultTimeoutError

DAY = 24 * 3600

app = Pynenc(app_id="workflows", store="memory://")


def witness(word: str) -> None:
    """Note that something was done."""
    path = os.environ.get("WITNESS")
    if path:
        with open(path, "a") as file:
            file.write(word + "\n")


# -- the example of the founding page ---------------------------------------------------------------------------------------
def needs_human_approval(data: dict[str, Any]) -> bool:
    return bool(data["approval"])


@app.task
def main_wf_task(data: dict) -> str:
    # Save workflow state
    state = main_wf_task.wf.get_state({"step": 0})

    # Use deterministic random
    if main_wf_task.wf.random() > 0.5:
        state["path"] = "A"
    else:
        state["path"] = "B"

    # Save updated state
    main_wf_task.wf.save_state(state)

    # Conditionally pause workflow
    if needs_human_approval(data):
        main_wf_task.wf.pause("Waiting for approval")

    return f"Completed via path {state['path']}"


# -- steps ------------------------------------------------------------------------------------------------------------------
def double(number: int) -> int:
    witness(f"double {number}")
    return 2 * number


def refuse(word: str) -> None:
    witness(f"refuse {word}")
    raise ValueError(word)


@app.workflow
def steps(count: int) -> list[int]:
    return [steps.wf.step(double, number) for number in range(count)]


@app.workflow
def survivor() -> list[str]:
    wf, seen = survivor.wf, []
    for word in ("one", "two"):
        try:
            wf.step(refuse, word)
        except ValueError as error:
            seen.append(str(error))
    seen.append(str(wf.step(double, 21)))
    wf.sleep(1)
    return seen


@app.workflow(max_retries=3)
def stubborn() -> int:
    stubborn.wf.step(double, 1)
    return int(stubborn.wf.step(fail_twice, stubborn.invocation.num_retries))


def fail_twice(retries: int) -> int:
    witness(f"try {retries}")
    if retries < 2:
        raise RetryError
    return retries


# -- children ---------------------------------------------------------------------------------------------------------------
@app.task
def add(x: int, y: int) -> int:
    witness(f"add {x} {y}")
    return x + y


@app.task
def fails(word: str) -> None:
    witness(f"fails {word}")
    raise ValueError(word)


@app.task(max_retries=2)
def flaky(number: int) -> int:
    if flaky.invocation.num_retries < 2:
        raise RetryError
    return number


@app.workflow
def calls(delay: float = 3600) -> list[int]:
    first, second = add(1, 2), add(1, 2)
    assert first != second
    group = add.parallelize([(n, n) for n in range(5)])
    late = add.options(delay=delay)(20, 2)
    return [first.result, second.result, *group.results, flaky(7).result, late.result]


@app.workflow
def catches() -> str:
    try:
        _ = fails("no").result
    except ValueError as error:
        catches.wf.sleep(10)
        return f"caught {error}"
    return "nothing"


@app.workflow
def races() -> list[int]:
    group = add.parallelize([(n, 0) for n in range(3)])
    return [races.wf.step(double, invocation.result) for invocation in group.as_completed()]


@app.workflow
def impatient() -> str:
    child = add.options(delay=3600)(1, 1)
    try:
        child.get_result(timeout=60)
    except ResultTimeoutError:
        impatient.wf.step(double, 1)
    impatient.wf.sleep(7200)
    return f"then {child.result}"


@app.workflow
def parent() -> tuple[str, str | None, int]:
    inner = child_flow()
    return (*inner.result, len({inner.invocation_id, parent.wf.identity.workflow_id}))


@app.workflow
def child_flow() -> tuple[str, str | None]:
    child_flow.wf.sleep(5)
    identity = child_flow.wf.identity
    return identity.workflow_type, identity.parent_workflow_id


# -- waiting ----------------------------------------------------------------------------------------------------------------
@app.workflow
def naps(days: int) -> float:
    before = naps.wf.utc_now()
    naps.wf.sleep(timedelta(days=days))
    return (naps.wf.utc_now() - before).total_seconds()


@app.workflow
def naps_for(seconds: int) -> int:
    """When it goes on."""
    naps_for.wf.sleep(seconds)
    return naps_for.app.store.clock.now()


@app.workflow
def asks() -> list[Any]:
    return [asks.wf.pause("first?"), asks.wf.pause("second?")]


@app.workflow
def listens(timeout: float | None) -> list[Any]:
    wf = listens.wf
    try:
        return [wf.wait_signal("a", timeout), wf.wait_signal("b", timeout), wf.wait_signal("a", timeout)]
    except ResultTimeoutError:
        return ["too late"]


@app.workflow
def hears(names: list[str]) -> list[Any]:
    return [hears.wf.wait_signal(name) for name in names]


@app.workflow
async def hears_itself() -> list[Any]:
    """One branch waits for what the other one causes before it waits, too."""
    wf, own = hears_itself.wf, hears_itself.invocation

    async def other() -> Any:
        await wf.async_step(own.signal, "a", 1)
        return await wf.async_wait_signal("b")

    return list(await asyncio.gather(wf.async_wait_signal("a"), other()))


@app.workflow
def counts(total: int, left: int) -> int:
    wf = counts.wf
    value = wf.wait_signal("add")
    state = wf.get_state({"seen": 0})
    wf.save_state({"seen": state["seen"] + 1})
    if left > 1:
        wf.continue_as_new(total + value, left - 1)
    assert state["seen"] + 1 == wf.get_state()["seen"]
    return total + value


#: What happens while a body of ``rounds`` stands still.
MEANWHILE: Callable[[], object] = bool


@app.workflow
def rounds(left: int) -> int:
    wf = rounds.wf
    MEANWHILE()
    runs = wf.get_state(0) + 1
    wf.save_state(runs)
    if left > 1:
        wf.continue_as_new(left - 1)
    return runs


# -- compensation -----------------------------------------------------------------------------------------------------------
@app.task
def undo(word: str) -> None:
    witness(f"undo {word}")
    if word == "broken":
        raise ValueError(word)


@app.workflow
def saga(words: list[str]) -> None:
    for word in words:
        saga.wf.step(double, len(word))
        saga.wf.compensate(undo, word)
    saga.wf.step(refuse, "payment")


def die(word: str) -> None:
    """Kill the process."""
    witness(f"die {word}")
    os.kill(os.getpid(), 9)


@app.workflow(max_crashes=2)
def dies(word: str) -> None:
    wf = dies.wf
    wf.step(double, 1)
    wf.compensate(undo, word)
    if word == "always":
        die(word)
    wf.step(die, word)


#: What a body that is stuck waits for: no exception reaches it meanwhile.
FREED = Lock()


def stick() -> None:
    with FREED:
        pass


@app.workflow(timeout=0.2)
def sticks(word: str) -> None:
    wf = sticks.wf
    wf.compensate(undo, word)
    if word == "always":
        stick()
    wf.step(stick)


# -- async ------------------------------------------------------------------------------------------------------------------
@app.workflow
async def gathers(seconds: float = 100) -> list[Any]:
    wf = gathers.wf

    async def branch(number: int) -> int:
        value = await wf.async_step(double, number)
        await wf.async_sleep(seconds * number)
        return value + await add(number, 1).async_result()

    return list(await asyncio.gather(*(branch(n) for n in range(3)), wf.async_wait_signal("go"), wf.async_pause("ok?")))


@app.workflow
async def taking_turns(way: str) -> list[Any]:
    """Branches that wait for one another by means of asyncio, while the first of them waits for a day."""
    wf = taking_turns.wf
    turn, begun, lock = asyncio.Semaphore(2), asyncio.Event(), asyncio.Lock()
    told: asyncio.Queue[int] = asyncio.Queue()

    async def by_semaphore(number: int) -> int:
        async with turn:
            await wf.async_sleep(DAY)
            return number

    async def by_lock(number: int) -> int:
        async with lock:
            await wf.async_sleep(DAY)
            return number

    async def by_event(number: int) -> int:
        if number == 0:
            await asyncio.sleep(0.02)  # the others wait already when this begins to
            await wf.async_sleep(DAY)
            begun.set()
        await begun.wait()
        return number

    async def by_queue(number: int) -> int:
        if number == 0:
            await wf.async_sleep(DAY)
            told.put_nowait(1)
            told.put_nowait(2)
            return 0
        return await told.get()

    ways = {"semaphore": by_semaphore, "lock": by_lock, "event": by_event, "queue": by_queue}
    return list(await asyncio.gather(*map(ways[way], range(3))))


@app.workflow
async def keeps_listening(port: int) -> str:
    """A branch that waits for a day, and one for a socket and then for the other branch."""
    first = asyncio.Event()

    async def rests() -> None:
        await keeps_listening.wf.async_sleep(DAY)
        first.set()

    async def reads() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = (await reader.readline()).decode().strip()
        writer.close()
        witness(f"read {line}")
        await first.wait()
        return line

    return (await asyncio.gather(rests(), reads()))[1]


@app.workflow
async def cuts_a_branch() -> str:
    wf = cuts_a_branch.wf

    async def branch() -> None:
        await wf.async_step(double if MODE == "old" else len, MODE == "old" or "x")
        await wf.async_sleep(100)

    async def nothing() -> None:
        pass

    own = asyncio.create_task(nothing() if MODE == "none" else branch())
    await wf.async_sleep(10)
    if MODE == "old":
        own.cancel()
    else:
        await own
    return "cut"


@app.workflow(max_retries=1)
def second_try() -> int:
    if second_try.invocation.num_retries == 0:
        raise RetryError
    return int(second_try.wf.step(double, 4))


@app.workflow
async def dozes() -> float:
    before = dozes.wf.utc_now()
    await dozes.wf.async_sleep(timedelta(days=30))
    return (dozes.wf.utc_now() - before).total_seconds()


@app.task
def waits_for_asks() -> list[Any]:
    return asks().result


@app.workflow
def flow_waits_for_asks() -> list[Any]:
    return asks().result


# -- code that changes ------------------------------------------------------------------------------------------------------
#: What the tests change while a workflow sleeps.
MODE = "old"


@app.workflow
def changing() -> str:
    wf = changing.wf
    wf.step(double, 1)
    if MODE == "other":
        wf.step(refuse, "unheard of")
    if MODE == "patched" and wf.patched("ask first"):
        wf.step(double, 2)
    wf.sleep(10)
    wf.step(double, 3)
    return MODE


@app.workflow
def talks() -> None:
    wf, log = talks.wf, talks.logger
    log.warning("begin")
    wf.step(double, 1)
    app.logger.warning("after the step")
    wf.sleep(10)
    log.warning("after the sleep")
    child = add.options(delay=50)(1, 1)
    log.warning("before the result")
    _ = child.result
    log.warning("end")


@app.workflow
def draws() -> list[Any]:
    wf = draws.wf
    first = [wf.random(), wf.uuid(), wf.root.uuid(), wf.random()]
    wf.sleep(10)
    return [*first, wf.random(), str(wf.utc_now())]


@app.workflow
def shares() -> list[Any]:
    wf = shares.wf
    before = wf.get_data("note", "nothing")
    wf.set_data("note", "root")
    noted = note("child").result
    wf.sleep(1)
    return [before, noted, wf.get_data("note")]


@app.task
def note(word: str) -> str:
    before = note.wf.get_data("note")
    note.wf.set_data("note", word)
    return str(before)


@app.workflow
def swallower() -> str:
    try:
        swallower.wf.sleep(5)
    except BaseException:
        witness("swallowed")
        return "too early"
    return "slept"


@app.workflow
def long_flow(count: int) -> int:
    wf = long_flow.wf
    total = sum(wf.step(double, number) for number in range(count))
    children = [add(number, 1) for number in range(count)]
    total += sum(child.result for child in children)
    wf.sleep(10)
    return total


@app.workflow
def only_calls(count: int) -> None:
    for number in range(count):
        add(number, number)


@app.workflow
def only_draws(count: int) -> float:
    return sum(only_draws.wf.random() for _ in range(count))


@app.workflow
def fan_out(count: int) -> int:
    return sum(add.parallelize([(number, 1) for number in range(count)]).results)


@app.workflow
def steps_then_sleep(count: int) -> int:
    wf = steps_then_sleep.wf
    total = sum(wf.step(double, number) for number in range(count))
    wf.sleep(10)
    return total


def die_once(number: int) -> int:
    """Kill the process the first time."""
    path = Path(os.environ["WITNESS"])
    words = path.read_text().split("\n") if path.exists() else []
    witness(f"step {number}")
    if f"step {number}" not in words:
        os.kill(os.getpid(), 9)
    return number


@app.workflow
def deadly(count: int) -> int:
    total = sum(deadly.wf.step(die_once, number) for number in range(count))
    deadly.wf.sleep(0.05)
    return total + add(total, 1).result


@app.workflow
async def async_deadly(count: int) -> int:
    total = 0
    for number in range(count):
        total += await async_deadly.wf.async_step(die_once, number)
    await async_deadly.wf.async_sleep(0.05)
    return total + await add(total, 1).async_result()


@app.workflow
def waits_long(folder: str) -> None:
    children = [slow(folder, number) for number in range(2)]
    try:
        _ = [child.result for child in children]
    finally:
        witness("finally")


@app.task
def slow(folder: str, number: int) -> None:
    witness(f"begun {number}")
    while not slow.invocation.cancel_requested:
        time.sleep(0.01)
    witness(f"stopped {number}")
    raise RuntimeError("stopped")


@app.workflow
def naps_briefly(seconds: float) -> bool:
    before = naps_briefly.wf.utc_now()
    naps_briefly.wf.sleep(seconds)
    late = (naps_briefly.wf.utc_now() - before).total_seconds() - seconds
    return late >= 0


@app.workflow
async def held_up() -> str:
    """Its loop stands still just when one of its branches fails, for longer than a body gets to go on."""
    wf = held_up.wf

    async def fails() -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        raise ValueError("no room")

    try:
        await asyncio.gather(wf.async_wait_signal("never"), fails())
    except ValueError as error:
        return str(error)
    return "nothing failed"


@app.task
def sleeps_and_adds(seconds: float) -> int:
    sleeps_and_adds.wf.sleep(seconds)
    return add(20, 1).result


@app.workflow
async def waits_for_one_that_waits() -> int:
    return await sleeps_and_adds(3600).async_result()


@app.workflow
def steps_that_wait() -> int:
    """Its step waits for a workflow."""
    return int(steps_that_wait.wf.step(lambda: naps(1).result) > 0) + steps_that_wait.wf.step(double, 2)


# -- branches of which one fails ---------------------------------------------------------------------------------------------
def has_seen(words: list[str]) -> bool:
    """Whether all of this was done."""
    path = Path(os.environ["WITNESS"])
    return path.exists() and set(words) <= set(path.read_text().split("\n"))


@app.task(max_retries=10_000, max_crashes=10_000)
def fail_after(words: list[str]) -> None:
    """Fail when others have got far enough, however often the process died meanwhile: that it was at work then, every time, is chance."""
    if not has_seen(words):
        raise RetryError(delay=0.02)
    raise ValueError("failed last")


async def in_depth(depth: int, wait: Callable[[], Any]) -> Any:
    """Wait below so many tasks of asyncio: each of them takes the loop some rounds."""
    return await (asyncio.create_task(in_depth(depth - 1, wait)) if depth else wait())


@app.workflow
async def falls(shape: str, failing: int) -> None:
    """Two branches register what undoes their work, one deep below others; the third fails when they have."""
    wf = falls.wf

    async def books(number: int) -> None:
        await in_depth(4 * number + 2, lambda: add(number, 1).async_result())
        wf.compensate(undo, f"{number} add")
        await in_depth(2, lambda: wf.async_step(double, number))
        wf.compensate(undo, f"{number} double")
        witness(f"registered {number}")
        await wf.async_sleep(1000)

    async def fails() -> None:
        await fail_after([f"registered {number}" for number in range(2)]).async_result()

    parts: list[Callable[[], Any]] = [lambda: books(0), lambda: books(1)]
    parts.insert(failing, fails)
    if shape == "group":
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part())
    elif shape == "nested":
        await asyncio.gather(parts[0](), asyncio.gather(parts[1](), parts[2]()))
    else:
        await asyncio.gather(*(part() for part in parts))
