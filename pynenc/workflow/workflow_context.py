"""``task.wf``: durable operations, for use in the body of a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pynenc import context
from pynenc.core.duration import LONGEST
from pynenc.core.records import WorkflowRef
from pynenc.core.storable import check_storable
from pynenc.engine.execute import call_user
from pynenc.engine.loops import is_on_loop
from pynenc.workflow import events, waiting
from pynenc.workflow.flow import Flow, flow_here
from pynenc.workflow.replay import PATCH, Record
from pynenc.workflow.workflow_identity import WorkflowIdentity

if TYPE_CHECKING:
    from pynenc.invocation.base_invocation import BaseInvocation

R = TypeVar("R")
SECOND = 1_000_000


class WorkflowContext:
    """Workflow functions of the invocation that runs here; ``RuntimeError`` outside of one."""

    __slots__ = ()

    @property
    def root(self) -> WorkflowContext:
        """The same object."""
        return self

    @property
    def identity(self) -> WorkflowIdentity:
        """The workflow of the running invocation."""
        ref = _ref(flow_here().running)
        return WorkflowIdentity(ref.id, ref.type, ref.parent)

    # -- what would differ between runs ----------------------------------------------------------------------------------
    def random(self) -> float:
        """A random number in [0, 1), the same whenever the body runs again."""
        flow = flow_here()
        flow.check()
        return flow.source.random(flow.branch)

    def uuid(self) -> str:
        """A random UUID, the same whenever the body runs again."""
        flow = flow_here()
        flow.check()
        return flow.source.uuid(flow.branch)

    def utc_now(self) -> datetime:
        """The time, in UTC, when the body came here first."""
        flow = flow_here()
        now: int = flow.value("utc_now", "", flow.engine.store.clock.now)
        return datetime.fromtimestamp(now / SECOND, UTC)

    def patched(self, change_id: str) -> bool:
        """Whether the body takes the path that a change brought: true for runs that come here for the first time, false for those that went on the old way."""
        flow = flow_here()
        flow.check()
        position, is_new = flow.cursor.is_patched(flow.branch, change_id)
        if position:
            flow.write(position, Record(PATCH, change_id))
        return is_new

    # -- work ------------------------------------------------------------------------------------------------------------
    def step(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
        """Call a function and remember what it returned: it is not called again when the body runs again.

        It may run twice if the process dies before its value is written. What it raises is remembered only if the body goes on all the same.

        :raises TypeError: it is async: use :meth:`async_step`.
        """
        if iscoroutinefunction(fn):
            raise TypeError(f"{_name(fn)} is async: use `await wf.async_step(...)`")
        flow, name = flow_here(), _name(fn)
        position, record = flow.begin_step(name)
        if record is not None:
            return cast("R", flow.step_value(position, record))
        try:
            with flow.step_context():
                value = call_user(_plain(fn), args, kwargs)
        except Exception as error:
            flow.fail_step(position, name, error)
            raise
        return cast("R", flow.end_step(position, name, value))

    async def async_step(self, fn: Callable[..., Awaitable[R] | R], /, *args: Any, **kwargs: Any) -> R:
        """The same for ``async def`` bodies; a function that is not async runs in a thread."""
        from asyncio import to_thread

        flow, name = flow_here(), _name(fn)
        await waiting.come(flow)
        position, record = flow.begin_step(name)
        if record is not None:
            await waiting.take_turn(flow, position, has_failed=record.failed)
            return cast("R", flow.step_value(position, record))
        if flow.is_checked:
            await waiting.end_branch(flow)
        plain = _plain(fn)
        call: Callable[[], Any] = (
            partial(plain, *args, **kwargs)
            if iscoroutinefunction(plain)
            else partial(to_thread, plain, *args, **kwargs)
        )
        try:
            async with flow.branches.busy(flow.branch):
                with flow.step_context():
                    value = await call()
        except Exception as error:
            await waiting.end_in_turn(flow, position, partial(flow.fail_step, position, name, error), has_failed=True)
            raise
        return cast("R", await waiting.end_in_turn(flow, position, partial(flow.end_step, position, name, value)))

    def execute_task(self, task: Any, /, *args: Any, **kwargs: Any) -> BaseInvocation[Any, Any]:
        """Call a task as a part of this run: when the body runs again it finds the same invocation. Each call is another one."""
        invocation: BaseInvocation[Any, Any] = task._submit_in(flow_here(), args, kwargs)
        return invocation

    def compensate(self, task: Any, /, *args: Any, **kwargs: Any) -> None:
        """Have a task called if this run fails for the last time: what was registered last is called first, each after the one before has ended.

        The next run after :meth:`continue_as_new` begins with none: register there again what it must be able to undo.
        """
        flow = flow_here()
        flow.check()
        if not flow.is_first:
            _ = flow.cursor
        flow.register(task._undo(args, kwargs))

    def continue_as_new(self, /, *args: Any, **kwargs: Any) -> None:
        """End this run and begin the next one of the same invocation, with other arguments and an empty history, and nothing to undo. Does not return."""
        flow = flow_here()
        flow.check()
        raise events.continue_as_new(flow, args, kwargs)

    # -- waiting ---------------------------------------------------------------------------------------------------------
    def sleep(self, seconds: float | timedelta) -> None:
        """Wait for some time, 1000 years at most, without a thread, a process or a connection."""
        flow = _sync()
        events.sleep(flow, lambda: flow.engine.store.clock.now() + _microseconds(seconds))

    def sleep_until(self, when: datetime) -> None:
        """Wait until a point in time, which knows its time zone."""
        events.sleep(_sync(), lambda: _instant(when))

    def pause(self, reason: str = "") -> Any:
        """Wait until somebody resumes the run; the value given then."""
        return events.pause(_sync(), reason)

    def wait_signal(self, name: str, timeout: float | timedelta | None = None) -> Any:
        """The value of the next signal of a name. Signals queue up until they are taken, also before the run begins.

        :raises ResultTimeoutError: none came within ``timeout`` seconds.
        """
        return events.wait_signal(_sync(), name, None if timeout is None else _microseconds(timeout))

    async def async_sleep(self, seconds: float | timedelta) -> None:
        """:meth:`sleep` for ``async def`` bodies."""
        flow = flow_here()
        await events.async_sleep(flow, lambda: flow.engine.store.clock.now() + _microseconds(seconds))

    async def async_sleep_until(self, when: datetime) -> None:
        """:meth:`sleep_until` for ``async def`` bodies."""
        await events.async_sleep(flow_here(), lambda: _instant(when))

    async def async_pause(self, reason: str = "") -> Any:
        """:meth:`pause` for ``async def`` bodies."""
        return await events.async_pause(flow_here(), reason)

    async def async_wait_signal(self, name: str, timeout: float | timedelta | None = None) -> Any:
        """:meth:`wait_signal` for ``async def`` bodies."""
        limit = None if timeout is None else _microseconds(timeout)
        return await events.async_wait_signal(flow_here(), name, limit)

    # -- values ----------------------------------------------------------------------------------------------------------
    def get_state(self, default: Any = None) -> Any:
        """The state that this run saved last; an own copy. When the body runs again it gets what it got before."""
        flow = flow_here()
        return _read(flow, "get_state", "", f"{flow.id}/state", "state", default)

    def save_state(self, state: Any) -> None:
        """Save the state of this run; durable when it returns.

        :raises SerializationError: it cannot be encoded.
        """
        flow = flow_here()
        _write(flow, "save_state", "", f"{flow.id}/state", "state", state)

    def get_data(self, key: str, default: Any = None) -> Any:
        """The value that a member of the workflow stored last under ``key``; an own copy. The root of the workflow gets what it got before when its body
        runs again.

        :raises TypeError: the key is no text.
        """
        _check_key(key)
        flow = flow_here()
        return _read(flow, "get_data", key, f"{_ref(flow.running).id}/data", key, default)

    def set_data(self, key: str, value: Any) -> None:
        """Store a value for all members of the workflow; durable when it returns.

        :raises TypeError: the key is no text. :raises SerializationError: the value cannot be encoded.
        """
        _check_key(key)
        flow = flow_here()
        _write(flow, "set_data", key, f"{_ref(flow.running).id}/data", key, value)


def _check_key(key: object) -> None:
    """Stores know texts only, and would treat others differently."""
    if not isinstance(key, str):
        raise TypeError(f"the key of workflow data is text, not {type(key).__name__}: {key!r:.80}")
    check_storable(key, "the key of workflow data")


def _read(flow: Flow, kind: str, name: str, scope: str, key: str, default: Any) -> Any:
    def read() -> Any:
        stored = flow.engine.store.recall(scope, [key])
        return flow.engine.codec.decode_value(stored[key], scope, key) if key in stored else default

    return flow.value(kind, name, read) if _is_root(flow) else read()


def _write(flow: Flow, kind: str, name: str, scope: str, key: str, value: Any) -> None:
    def write() -> None:
        flow.remember(scope, {key: flow.engine.codec.encode_value(value, scope, key)})

    flow.mark(kind, name, write) if _is_root(flow) else write()


def _is_root(flow: Flow) -> bool:
    """Whether the run is the root of its workflow; other members see what is stored now, also when they are retried."""
    return flow.is_workflow or _ref(flow.running).id == flow.id


def _ref(running: context.Running) -> WorkflowRef:
    ref: WorkflowRef | None = running.workflow
    return ref or WorkflowRef(running.id, running.task)


def _sync() -> Flow:
    """The flow of a body that may be suspended here.

    :raises RuntimeError: on an event loop, where only a branch waits.
    """
    flow = flow_here()
    if is_on_loop():
        raise RuntimeError("in an async workflow use `await wf.async_sleep(...)`, `async_pause`, `async_wait_signal`")
    return flow


def _plain(fn: Any) -> Callable[..., Any]:
    """The function itself: of a task, what it runs."""
    return cast("Callable[..., Any]", getattr(fn, "func", fn) if hasattr(fn, "task_id") else fn)


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None) or type(fn).__name__)


def _microseconds(seconds: float | timedelta) -> int:
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    return max(0, round(min(value, LONGEST) * SECOND))


def _instant(when: datetime) -> int:
    if when.tzinfo is None:
        raise ValueError("sleep_until needs a time zone: datetime(..., tzinfo=UTC), or wf.utc_now() + timedelta(...)")
    return round(when.timestamp() * SECOND)
