"""A workflow whose branches race; what is undone stands in ``done``, and what each of its attempts saw in ``seen``."""

from __future__ import annotations

import asyncio
from typing import Any

from pynenc import Pynenc, context

app = Pynenc(app_id="turns", store="memory://turns")
done: list[str] = []
seen: list[list[str]] = []
changed_since: list[int] = []


@app.task
def undo(word: str) -> None:
    done.append(word)


@app.task
def child(word: str) -> str:
    if word.startswith("bad"):
        raise ValueError(word)
    return word


@app.task(registration_concurrency="ARGUMENTS")
def shared(word: str) -> str:
    return word


def act(word: str) -> str:
    if word.startswith("bad"):
        raise ValueError(word)
    return word


def see(word: str) -> None:
    """Note what a body that was not cut off has seen."""
    running = context.current()
    if running is None or running.interrupt is None:
        seen[-1].append(word)


class Body:
    """Carries out a program: a list of words, and of lists (``[way, *programs]``: branches). Each word is an operation with the seconds it takes."""

    def __init__(self, wf: Any) -> None:
        self.wf = wf

    async def run(self, program: list[Any], name: str) -> None:
        for number, part in enumerate(program):
            at = f"{name}.{number}"
            if isinstance(part, list):
                await self.branches(part[0], [self.run(each, f"{at}.{i}") for i, each in enumerate(part[1:])])
            else:
                await self.do(*part.split(), at)
            self.wf.compensate(undo, at)
            see(at)

    async def branches(self, way: str, parts: list[Any]) -> None:
        if way == "group":
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        elif way == "first":
            tasks = [asyncio.create_task(part) for part in parts]
            ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            await asyncio.wait(tasks)
            see(f"first {[number for number, task in enumerate(tasks) if task in ended]}")
        elif way == "survive":
            for result in await asyncio.gather(*parts, return_exceptions=True):
                see(type(result).__name__)
        else:
            await asyncio.gather(*parts)

    async def do(self, what: str, seconds: str, at: str) -> None:
        wf, word = self.wf, f"{'bad ' * what.startswith('bad_')}{at}"
        what = what.removeprefix("bad_")
        if what == "child":
            await child.options(delay=float(seconds))(word).async_result()
        elif what == "again":
            for _ in range(3):  # each handle waits for itself
                await app.get_invocation(shared(word).invocation_id).async_result()
        elif what == "step":
            await wf.async_step(act, word)
        elif what == "sleep":
            await wf.async_sleep(float(seconds))
        elif what == "limit":
            try:
                # In every second life the loop stood still until it was over.
                async with asyncio.timeout(0.002 if len(seen) % 2 else -1):
                    await wf.async_sleep(float(seconds))
            except TimeoutError:
                see(f"too late {at}")
        else:
            await asyncio.sleep(0.001)


@app.workflow
async def races(program: list[Any]) -> str:
    seen.append([])
    await Body(races.wf).run(program, "")
    return "done"


@app.workflow
async def forgets(seconds: float) -> str:
    async def branch() -> None:
        await forgets.wf.async_sleep(1000)

    kept = [asyncio.create_task(branch()) for _ in range(2)]
    await forgets.wf.async_sleep(seconds)
    return f"{len(kept)} left"


@app.workflow
async def forks_in_a_step() -> list[int]:
    wf = forks_in_a_step.wf

    async def one() -> int:
        await asyncio.sleep(0.001)
        return 1

    async def forks() -> int:
        return sum(await asyncio.gather(one(), one(), one()))

    def count(number: int) -> int:
        done.append(f"step {number}")
        return number

    async def branch(number: int) -> int:
        return await wf.async_step(count, number)

    first = await wf.async_step(forks)
    others = await asyncio.gather(branch(1), branch(2))
    await wf.async_sleep(10)
    return [first, *others]


async def note(word: str) -> None:
    done.append(word)


async def fail(word: str) -> None:
    done.append(word)
    raise ValueError(word)


@app.workflow
async def drops(fails: bool) -> str:
    """Goes on with the step that has ended first, while the other one waits for its turn."""
    wf = drops.wf
    others = [wf.async_step(fail if fails else note, f"step {number}") for number in range(2)]
    tasks = [asyncio.create_task(each) for each in others]
    ended, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in rest:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await wf.async_sleep(10)
    return f"{len(ended)} ended"


@app.workflow
async def cuts_off(what: str) -> str:
    """Goes on after an operation that took too long."""
    wf = cuts_off.wf

    async def slow() -> None:
        done.append("slow")
        await asyncio.sleep(60)

    try:
        async with asyncio.timeout(0.01):
            if what == "step":
                await wf.async_step(slow)
            elif what == "signal":
                await wf.async_wait_signal("none")
            else:
                await child.options(delay=100)("a").async_result(timeout=50)
    except TimeoutError:
        done.append("too late")
    await wf.async_sleep(1)
    await wf.async_step(act, "good")
    await wf.async_sleep(1)
    return what


async def ask(wf: Any, what: str) -> int:
    return int(await (wf.async_pause("?") if what == "pause" else wf.async_wait_signal("a")))


@app.workflow
async def asks_again(what: str) -> int:
    """Gives up a question that nobody has answered in time, and asks another one."""
    wf = asks_again.wf
    first, limit = asyncio.create_task(ask(wf, what)), asyncio.create_task(wf.async_sleep(5))
    await asyncio.wait([first, limit], return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    await asyncio.wait([first])
    return await ask(wf, what)


@app.workflow
async def asks_twice(what: str) -> list[int]:
    """Asks the same in two branches."""
    return await asyncio.gather(*(ask(asks_twice.wf, what) for _ in range(2)))


@app.workflow
async def takes_the_first(times: int) -> list[int]:
    """Goes on with the signal that comes first, and waits for no other one then."""
    got: list[int] = []
    while len(got) < times:
        tasks = [asyncio.create_task(takes_the_first.wf.async_wait_signal(name)) for name in "aab"]
        ended, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        got += [each.result() for each in tasks if each in ended]
        for each in rest:
            each.cancel()
        await asyncio.wait(tasks)
    return got


@app.workflow
async def talks() -> None:
    """Tells what it does before it creates branches, which it did not do yet when it was changed."""
    wf = talks.wf
    for number in range(2):
        if changed_since and wf.patched(f"ask {number}"):
            done.append(f"new {number}")
        talks.logger.warning("branches %d", number)
        await asyncio.gather(wf.async_sleep(10), wf.async_sleep(20))


@app.workflow
async def polls(times: int) -> int:
    calls = child.parallelize([(f"{number}",) for number in range(times)])
    for _ in range(times):
        await asyncio.sleep(1e-9)
    await asyncio.gather(*(each.async_result() for each in calls.invocations))
    await polls.wf.async_step(act, "good")
    await polls.wf.async_sleep(10)
    return times


@app.workflow
async def waits_again() -> str:
    """One branch waits three times for one invocation, and another branch comes in between."""
    seen.append([])
    calls, other = [shared("a") for _ in range(3)], child("b")
    await waits_again.wf.async_sleep(1)

    async def wait(name: str, invocations: list[Any]) -> None:
        for each in invocations:
            await each.async_result()
            see(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(wait("a", calls))
        group.create_task(wait("b", [other]))
    await waits_again.wf.async_step(act, "good")
    await waits_again.wf.async_sleep(1)
    return "".join(seen[-1])


@app.workflow
async def begins_anew(round_: int) -> None:
    wf = begins_anew.wf
    wf.compensate(undo, f"round {round_}")
    await wf.async_step(act, "good")
    if round_ == 0:
        wf.continue_as_new(1)
    await wf.async_step(act, "bad")
