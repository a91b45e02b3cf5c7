"""The branches of an async body: which asyncio task is which, and when the body as a whole can only wait.

A task factory gives each asyncio task that is created in a workflow's body a branch of its own, numbered in the order of creation. A branch that cannot go on
without an event (a time, another invocation, a signal, a person) is *blocked*. A branch with living branches below it is taken to wait for them, and one that
waits for a lock, a semaphore, an event or a queue of asyncio for another branch. When all others are blocked, none is about to run, no step runs, and no timer
of the body's own is set (``asyncio.sleep``, ``asyncio.timeout``, ``wait_for``), the body is cancelled, and the run is suspended until one of these
events comes. So what else a branch does beside durable operations keeps the run in memory while it lasts; in a step it is even done only once.
"""

from __future__ import annotations

import asyncio
import asyncio.locks
import asyncio.queues
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from functools import partial
from types import MethodType
from typing import Any

from pynenc.engine.suspension import GivenUp, Suspended, union
from pynenc.workflow.flow import Flow, branch_here, in_step, running_flow
from pynenc.workflow.replay import Branch
from pynenc.workflow.turns import Grade, Turns, label_of_timer, of_ours, ours
from pynenc.workflow.waiting import bound_turns

logger = logging.getLogger("pynenc.workflow")

#: Seconds that a body gets to go on otherwise when its last branch is blocked; and between two looks at a branch that does something else.
SETTLE, RECHECK = 0.005, 0.5
#: The code in which a branch waits for another one.
BETWEEN_BRANCHES = frozenset({asyncio.locks.__file__, asyncio.queues.__file__})


class Live:
    """A living branch. ``blocked``: what it waits for; ``busy``: how many steps or short waits it is in."""

    __slots__ = ("blocked", "busy", "children", "parent", "task")

    def __init__(self, parent: Live | None) -> None:
        self.task: asyncio.Future[Any] | None = None
        self.parent = parent
        self.children = 0
        self.blocked: list[Suspended] = []
        self.busy = 0


class Branches:
    """The living branches of one async body."""

    def __init__(self, flow: Flow, root: Branch) -> None:
        self._running = flow.running
        self._flow = flow
        self._loop = asyncio.get_running_loop()
        self._next_look: asyncio.TimerHandle | None = None
        self._live: dict[str, Live] = {root.path: Live(None)}
        self._is_due = False
        self.turns = Turns(self._loop, lambda: flow.cursor.turns, lambda: not any(self._own("_ready")))
        #: The branches that were cancelled: what they would have done, nobody knows.
        self.cut: tuple[str, ...] = ()
        branch_here.set(root)
        running_flow.set(flow)
        install(self._loop)

    def begin(self, parent: Branch, branch: Branch) -> None:
        """A branch was created."""
        self.turns.are_taken = True
        above = self._live.get(parent.path)
        if above is not None:
            above.children += 1
        self._live[branch.path] = Live(above)

    def end(self, path: str, task: asyncio.Future[Any]) -> None:
        """A branch has ended, or was cancelled; its parent may be the one that is waited for now."""
        if task.cancelled():
            self.cut += (path,)
        elif self._running.departure is not None:
            task.exception()  # how the body was left need not be asked for
        self._flow.survive(path)
        live = self._live.pop(path, None)
        if live is not None and live.parent is not None:
            live.parent.children -= 1
        self._look_soon()

    def here(self, branch: Branch) -> Live:
        return self.at(branch.path)

    def at(self, path: str) -> Live:
        """The living branch of a path."""
        return self._live.setdefault(path, Live(None))

    @asynccontextmanager
    async def busy(self, branch: Branch) -> AsyncIterator[None]:
        """Something is in progress that must not be cut off."""
        live = self.here(branch)
        live.busy += 1
        try:
            yield
        finally:
            live.busy -= 1
            self._look_soon()

    async def take_turn(
        self, branch: Branch, label: str, grade: Grade, is_there: Callable[[], bool] = lambda: True
    ) -> bool:
        """Wait until it is the turn of something that a branch waited for; false if it is not there any more."""
        async with self.busy(branch):
            return await self.turns.take(label, grade, is_there)

    async def block(self, branch: Branch, way: Suspended, until: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for ``until`` as long as the body stays in memory."""
        live = self.here(branch)
        live.blocked.append(way)
        self._look_soon()
        try:
            return await ours(until())
        finally:
            live.blocked.remove(way)

    def set_timer(self, call_at: Any, when: float, run: Callable[[], object], at: Any) -> asyncio.TimerHandle:
        """The body has set a timer. One that was over in an earlier life is over, and waits for its turn."""
        self.turns.are_taken = True
        bound_turns(self._flow)
        branch: Branch = at.get(branch_here) or self._flow.root
        branch.timers += 1
        label = label_of_timer(branch.path, branch.timers)
        timer: asyncio.TimerHandle

        def let_in() -> bool:
            if timer.cancelled():
                return False
            asyncio.Handle(run, (), self._loop, at)._run()
            return True

        if self.turns.is_recorded(label):
            timer = asyncio.TimerHandle(when, run, (), self._loop, at)
            self.turns.arrive(label, Grade.VALUE, let_in)
        else:
            timer = call_at(when, lambda: self.turns.arrive(label, Grade.VALUE, let_in), context=at)
        return timer

    def leave(self) -> None:
        """The body was left in one of its branches; the others need not wait for that one."""
        main = self._running.main
        if main is not None and not main.done() and asyncio.current_task(self._loop) is not main:
            self._loop.call_soon_threadsafe(main.cancel)

    def close(self, *, is_end: bool) -> None:
        """The body is over: what its branches would still do does not count."""
        left = [live.task for live in self._live.values() if live.task is not None and not live.task.done()]
        if not left:
            return
        if is_end:
            logger.warning(
                "workflow %s %s has ended, but %d branch(es) of it had not, which are cancelled; the first is at %s. Await them, or use asyncio.TaskGroup",
                self._running.task,
                self._running.id,
                len(left),
                _line_of(left[0]),
            )
        self._running.departure = self._running.departure or GivenUp()
        for task in left:
            task.cancel()

    def _look_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._look_at(self._loop.time() + SETTLE)

    def _look_at(self, when: float) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        here = copy_context()
        here.run(of_ours.set, True)
        self._next_look = self._loop.call_at(when, self._look, context=here)

    def _next_timer(self) -> float | None:
        """When the next timer ends that the body itself has set, on the loop's clock."""
        return min((timer.when() for timer, at in self._own("_scheduled") if not at.get(of_ours)), default=None)

    def _own(self, which: str) -> Iterator[tuple[Any, Context]]:
        """What of the body the loop keeps to run, with its context. How loops keep it has been the same in all versions of asyncio."""
        for handle in _copy(getattr(self._loop, which, ())):
            at = getattr(handle, "_context", None)
            if at and at.get(running_flow) is self._flow and not handle.cancelled():
                yield handle, at

    def _look(self) -> None:
        """Suspend the body if it can only wait."""
        self._is_due = False
        running = self._running
        ways = [way for live in self._live.values() for way in live.blocked]
        if not ways or running.departure is not None or running.main is None or running.main.done():
            return
        if any(live.busy for live in self._live.values()):
            return
        if (
            any(self._own("_ready")) or self.turns
        ):  # a branch, or a timer that is over: the loop may have been held up for longer than a body gets to go on
            self._look_soon()
            return
        leaves = [live for live in self._live.values() if not (live.children or live.blocked)]
        if not all(_waits_for_a_branch(live.task or running.main) for live in leaves):
            self._look_at(self._loop.time() + RECHECK)  # it may come to wait for a branch, which nobody tells
            return
        if (timer := self._next_timer()) is not None:
            self._look_at(timer + SETTLE)
            return
        running.departure = union(ways)
        running.main.cancel()


def _copy(handles: Iterable[Any]) -> tuple[Any, ...]:
    """What the loop keeps, to which other threads add meanwhile. Without a global lock that may break the copy off."""
    while True:
        with suppress(RuntimeError):
            return tuple(handles)


def _waits_for_a_branch(task: Any) -> bool:
    """Whether what a task is in the midst of is a wait for something that another branch will do."""
    frame: Any = task.get_coro()
    while (inner := getattr(frame, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        frame = inner
    return getattr(getattr(frame, "cr_code", None), "co_filename", "") in BETWEEN_BRANCHES


def _line_of(task: Any) -> str:
    """The line of the function of a branch that it has come to."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else repr(task)


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop give each task of a workflow a branch, and each timer that it sets a turn; what else made its tasks goes on doing so."""
    before = loop.get_task_factory()
    if getattr(before, "is_pynenc", False):
        return
    _install_timers(loop)

    def factory(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Future[Any]:
        chosen = copy_context() if context is None else context
        fork = chosen.run(_fork)
        make: Any = before or (lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))
        task: asyncio.Future[Any] = make(loop, coro, context=chosen, **options)
        if fork is not None:
            flow, path = fork
            flow.branches.at(path).task = task
            task.add_done_callback(lambda task: flow.branches.end(path, task))
        return task

    factory.is_pynenc = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)  # type: ignore[arg-type]


def _install_timers(loop: Any) -> None:
    call_at, call_soon = loop.call_at, loop.call_soon

    def call_in_turn(
        when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        chosen = copy_context() if context is None else context
        flow = _flow_of_timer(chosen)
        if flow is None:
            timer: asyncio.TimerHandle = call_at(when, callback, *args, context=context)
            return timer
        branches: Branches = flow.branches
        return branches.set_timer(call_at, when, partial(callback, *args), chosen)

    def call_soon_or_in_turn(callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """A limit of time that is over when it is set, since the process stood still, is a timer all the same."""
        if type(callback) is MethodType and type(callback.__self__) is asyncio.Timeout:
            return call_in_turn(loop.time(), callback, *args, context=context)
        handle: asyncio.Handle = call_soon(callback, *args, context=context)
        return handle

    with suppress(AttributeError):  # a loop that is not written in Python: its timers take no turns
        loop.call_at, loop.call_soon = call_in_turn, call_soon_or_in_turn


def _flow_of_timer(at: Any) -> Flow | None:
    """The flow of which a body sets a timer in a context."""
    flow: Flow | None = at.get(running_flow)
    if flow is None or flow.branches is None or at.get(of_ours) or at.get(in_step) is flow:
        return None
    return flow


def _fork() -> tuple[Flow, str] | None:
    """In the context of a new task: give it a branch, if it belongs to a workflow. What a step does is no branch: a replay does not do it."""
    branch, flow = branch_here.get(), running_flow.get()
    if branch is None or flow is None or flow.branches is None or in_step.get() is flow:
        return None
    own = branch.fork()
    branch_here.set(own)
    flow.branches.begin(branch, own)
    return flow, own.path
