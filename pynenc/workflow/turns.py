"""The order in which what an async body waits for reaches its branches: one after the other, and in a replay as it was recorded.

Theory of operation
-------------------
Between two durable operations a body does the same each time. What may differ is which of several events comes first: the result of a child, the end of a
step or of a sleep, a timer of asyncio. So each of them takes a *turn*: it is let in when the body has done all that it does without one (nothing of it is
about to run on the loop), and the next one waits until that is so again. Which turns there were is written with the next durable operation, in the same
transaction; hundreds of them get a record of their own. A turn that nothing durable follows may come in another place when the body runs again, since nothing
depends on it. But a failure is written before a branch gets it: it may end the body, and what other branches have registered by then decides what is
compensated.

In a replay all that is known asks for its turn at once, and is let in by its recorded number. What has none comes after that: values, then failures, since a
failure that came first would have been recorded; then, in a run that has failed, the error that ends the branches which had got no farther.

A body takes no turns before it has a second branch or sets a timer of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from enum import IntEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

    from pynenc.workflow.replay import Branch

T = TypeVar("T")

#: Looks at the loop after which a turn is given although the body still has something to run: one that polls never has nothing.
MOST_LOOKS = 1000


#: Whether a timer that is set in this context belongs to a wait that survives a suspension.
of_ours: ContextVar[bool | None] = ContextVar("pynenc_timer_of_ours", default=None)


async def ours(wait: Awaitable[T]) -> T:
    """Wait; the timers that are set for that are not those of a body."""
    token = of_ours.set(True)
    try:
        return await wait
    finally:
        of_ours.reset(token)


class Grade(IntEnum):
    """What comes first among turns that are not recorded."""

    VALUE, FAILURE, END = range(3)


class Turns:
    """Who is let in next.

    :param recorded: the number of each turn that was recorded, by its label. :param is_quiet: whether nothing of the body is about to run.
    :ivar new: the labels of turns that are not recorded yet; the first one has the number ``count``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, recorded: Callable[[], Mapping[str, int]], is_quiet: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._recorded = recorded
        self._is_quiet = is_quiet
        self._waiting: list[tuple[float, Grade, int, str, Callable[[], bool]]] = []
        self._arrivals = 0
        self._looks = 0
        self._is_due = False
        self.are_taken = False
        self.new: list[str] = []

    def __bool__(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._waiting)

    def is_recorded(self, label: str) -> bool:
        """Whether there was such a turn in an earlier life."""
        return label in self._recorded()

    async def take(self, label: str, grade: Grade, is_there: Callable[[], bool] = lambda: True) -> bool:
        """Wait for a turn. It is none, and the answer false, if what it is for is not there any more."""
        turn: asyncio.Future[bool] = self._loop.create_future()

        def let_in() -> bool:
            if turn.done():
                return False
            turn.set_result(is_there())
            return turn.result()

        self.arrive(label, grade, let_in)
        return await turn

    def arrive(self, label: str, grade: Grade, let_in: Callable[[], bool]) -> None:
        """Somebody waits for a turn; ``let_in`` is false if he waits no more then."""
        self._arrivals += 1
        number = self._recorded().get(label, float("inf"))
        heappush(self._waiting, (number, grade, self._arrivals, label, let_in))
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._look, context=Context())  # none of the body's

    def _look(self) -> None:
        self._is_due = False
        self._looks += 1
        if self._looks > MOST_LOOKS or self._is_quiet():
            self._looks = 0
            while self._waiting and not self._give():
                pass
        if self._waiting:
            self._look_soon()

    def _give(self) -> bool:
        """Let the next one in; false if it waits no more."""
        number, _, _, label, let_in = heappop(self._waiting)
        if not let_in():
            return False
        if number == float("inf") and label:
            self.new.append(label)
        return True


def label_of_timer(path: str, number: int) -> str:
    """The label of the turn of a timer that a branch has set."""
    return f"{path}@{number}"


def label_of_wait(branch: Branch, ids: Sequence[str]) -> str:
    """The label of the turn that a branch takes when another invocation has ended; to be asked for when the wait begins, since it may be cut short. A branch
    may wait for the same one again. It is counted by invocation, so that one more wait in changed code moves no other.
    """
    number = branch.awaited[ids[0]] = branch.awaited.get(ids[0], 0) + 1
    return f"{branch.path}={ids[0][-12:]}" + (f".{number}" if number > 1 else "")
