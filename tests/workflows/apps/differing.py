"""Workflows whose code the tests change: whether it is changed stands in ``changed``, and what they do in ``done``."""

from __future__ import annotations

import asyncio
from typing import Any

from pynenc import Pynenc, RetryError

app = Pynenc(app_id="differing", store="memory://differing")
changed: list[int] = []
done: list[str] = []


@app.task
def undo(word: str) -> None:
    done.append(f"undo {word}")


@app.task
def one() -> int:
    return 1


def act(word: str) -> str:
    done.append(word)
    return word


@app.workflow
def books() -> str:
    wf = books.wf
    wf.compensate(undo, "flight")
    if changed:
        try:
            wf.step(len, "something else")
        except Exception:
            done.append("caught")
    wf.step(act, "flight")
    wf.sleep(10)
    return wf.step(act, "hotel")


@app.workflow
def early() -> None:
    early.wf.step(act, "flight")
    if not changed:
        early.wf.sleep(10)


@app.workflow
def early_at_a_pause() -> None:
    early_at_a_pause.wf.step(act, "flight")
    if not changed:
        early_at_a_pause.wf.pause("sure?")


@app.workflow
def asks() -> list[Any]:
    wf = asks.wf
    if changed:
        wf.step(act, "something else")
    return [wf.pause("first"), wf.pause("second")]


@app.workflow
async def asks_and_sleeps() -> list[Any]:
    wf = asks_and_sleeps.wf

    async def branch() -> None:
        await (wf.async_step(act, "something else") if changed else wf.async_sleep(10))

    return list(await asyncio.gather(wf.async_pause("ok?"), branch()))


@app.workflow
def waits() -> list[Any]:
    wf, child = waits.wf, one.options(delay=30)()
    if changed:
        wf.step(act, "something else")
    return [wf.wait_signal("paid"), child.result]


@app.workflow
def outer() -> str:
    outer.wf.compensate(undo, "outer")
    return f"outer {books().result}"


@app.workflow
async def forgets_a_branch() -> Any:
    wf = forgets_a_branch.wf

    async def branch() -> None:
        await (wf.async_step(act, "something else") if changed else wf.async_sleep(10))

    own = asyncio.create_task(branch())
    value = await wf.async_wait_signal("go")
    await own
    return value


@app.task(max_retries=1)
def undo_slowly(word: str) -> None:
    if undo_slowly.invocation.num_retries == 0:
        raise RetryError(delay=10)
    done.append(f"undo {word}")


@app.workflow
def fails() -> None:
    wf = fails.wf
    for word in ("flight", "hotel"):
        wf.step(act, word)
        if not changed:
            wf.compensate(undo_slowly, word)
    raise ValueError("no money")


@app.workflow
async def fails_in_branches() -> None:
    wf, is_second_done = fails_in_branches.wf, asyncio.Event()

    async def waits_in_step() -> None:
        await is_second_done.wait()

    async def first() -> None:
        await wf.async_step(waits_in_step)
        wf.compensate(undo_slowly, "first")

    async def second() -> None:
        await wf.async_step(act, "second")
        wf.compensate(undo_slowly, "second")
        is_second_done.set()

    await asyncio.gather(first(), second())
    raise ValueError("no money")


@app.workflow
def unsteady() -> None:
    changed.append(1)
    if len(changed) > 1:
        unsteady.wf.step(act, "something else")
    unsteady.wf.sleep(1)


@app.task
def waits_for_unsteady() -> None:
    return unsteady().result


@app.workflow
def bare() -> str:
    done.append("bare")
    return "whole"


@app.workflow
def books_early() -> str:
    wf = books_early.wf
    wf.compensate(undo, "flight")
    return wf.step(act, "flight")


@app.workflow
def misspelt() -> str:
    wf = misspelt.wf
    if 1 in changed:
        raise NameError("name 'flihgt' is not defined")
    wf.compensate(undo, wf.step(act, "flight"))
    if 2 in changed:
        raise NameError("name 'hotle' is not defined")
    wf.sleep(10)
    if 3 in changed:
        raise NameError("name 'car' is not defined")
    return wf.step(act, "hotel")


@app.workflow
async def misspelt_in_a_branch() -> str:
    wf = misspelt_in_a_branch.wf

    async def books(word: str) -> str:
        if changed:
            raise NameError(f"name '{word}' is not defined")
        return await wf.async_step(act, word)

    wf.compensate(undo, await asyncio.create_task(books("flight")))
    await wf.async_sleep(10)
    return await wf.async_step(act, "hotel")


@app.task
def sinks() -> None:
    raise ValueError("the ship has sunk")


@app.workflow
async def ships() -> None:
    """A branch fails while the root does more, which a replay comes to only after that failure."""
    wf = ships.wf
    wf.compensate(undo, await wf.async_step(act, "flight"))

    async def ship() -> None:
        await sinks.options(delay=5)().async_result()

    async with asyncio.TaskGroup() as group:
        group.create_task(ship())
        await asyncio.gather(wf.async_step(act, "hotel"), wf.async_step(act, "car"))
        await wf.async_step(act, "tour")
        await wf.async_sleep(100)
