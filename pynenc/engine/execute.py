"""A claimed invocation runs: decode, call, encode, and say how it ended.

A short pipeline over one record; the way an attempt ended is data (:mod:`pynenc.core.outcome`), written by somebody
else later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from pynenc import context
from pynenc.core import outcome
from pynenc.core.records import UNKNOWN_TASK, Claimed, Outcome
from pynenc.engine.codec import Codec
from pynenc.engine.loops import is_cancelled, is_on_loop
from pynenc.engine.spec import TaskSpec
from pynenc.engine.suspension import Continued, GivenUp, Suspended
from pynenc.exceptions import InvocationCancelledError, NonDeterminismError, RetryError, StoreError, TaskTimeoutError
from pynenc.serializer.errors import ErrorInfo
from pynenc.store.base import Clock

if TYPE_CHECKING:
    import asyncio

    from pynenc.engine.tracing import Tracing

logger = logging.getLogger("pynenc.runner")
#: Why an attempt ends that owns its invocation no more. No store takes it.
GIVEN_UP = "another attempt owns it"


class Interruption(BaseException):
    """Raised inside a body by its runner; no ``Exception``, so that a body does not swallow it by accident."""


class HandBack(Interruption):
    """Its runner stops: the invocation goes back for a new attempt."""


class TimeUp(Interruption):
    """It ran longer than its timeout."""


class Hooks:
    """Functions that users attach to the life of tasks and workers."""

    NAMES = ("before_task", "after_task", "on_failure", "worker_start", "worker_stop")

    def __init__(self) -> None:
        self._hooks: dict[str, list[Callable[..., object]]] = {name: [] for name in self.NAMES}
        self.around_tasks = False

    def add(self, name: str, hook: Callable[..., object]) -> None:
        """Attach ``hook``; raises ``ValueError`` for an unknown event."""
        if name not in self._hooks:
            raise ValueError(f"no such event {name!r}: use one of {', '.join(self.NAMES)}")
        self._hooks[name].append(hook)
        self.around_tasks = any(self._hooks[n] for n in ("before_task", "after_task", "on_failure"))

    def fire(self, name: str, *args: object) -> None:
        """Call the hooks of an event; one that fails is logged and harms nobody."""
        for hook in self._hooks[name]:
            try:
                hook(*args)
            except Exception:
                logger.exception("hook %s of %s failed", getattr(hook, "__qualname__", hook), name)


class Executor:
    """Runs claimed invocations of one app.

    :param resolve: the spec of a task key, or None when no module that was imported defines it.
    :param handle: builds what users see as the current invocation.
    """

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        resolve: Callable[[str], TaskSpec | None],
        handle: Callable[[Claimed], Any],
        hooks: Hooks,
        engine: Any,
        make_flow: Callable[[context.Running, TaskSpec], Any],
    ) -> None:
        self._codec = codec
        self._now = clock.now
        self.resolve = resolve
        self._hooks = hooks
        self.tracing: Tracing | None = None
        self.handle = handle
        self._make_flow = make_flow
        #: The context of an attempt, from what was claimed, the id of the runner, and the slot.
        self.running: Callable[[Claimed, str, context.Slot | None], context.Running] = partial(
            context.Running, engine=engine, handle=handle
        )

    def flow(self, running: context.Running) -> Any:
        """The durable operations of a body."""
        if running.flow is None:
            spec = self.resolve(running.task)
            assert spec is not None
            running.flow = self._make_flow(running, spec)
        return running.flow

    # -- the body ----------------------------------------------------------------------------------------------------------
    def run(self, claimed: Claimed, running: context.Running) -> Outcome:
        """Run a body to its end, in a context of its own. Async bodies get an event loop for themselves."""
        spec = self.resolve(claimed.task)
        if spec is None:
            logger.warning("%s %s goes back, unknown here: %s", claimed.task, claimed.id, UNKNOWN_TASK)
            return outcome.released(claimed, UNKNOWN_TASK)
        run = self._run_on_a_loop if spec.is_async else self._run
        return copy_context().run(run, spec, claimed, running)

    def _run(self, spec: TaskSpec, claimed: Claimed, running: context.Running) -> Outcome:
        started = self._now()
        try:
            value = self._body(spec, claimed, running)
            if running.flow is not None:
                self._check_left(running)
            payload = self._codec.encode_result(spec, claimed, value)
            if self._hooks.around_tasks:
                self._hooks.fire("after_task", running.invocation)
            ended = outcome.succeeded(running.claimed, payload, started, self._now())
        except BaseException as error:
            ended = self._ended(spec, claimed, running, error, started)
        if running.span is not None:
            running.span.end(ended)
        return ended

    @staticmethod
    def _check_left(running: context.Running) -> None:
        """A body that was left before and returned all the same has not ended."""
        if running.departure is not None:
            raise running.departure
        running.flow.check_all_met()

    def _body(self, spec: TaskSpec, claimed: Claimed, running: context.Running) -> Any:
        context.set_running(running)
        if self.tracing is not None:
            self.tracing.begin(claimed, running)
        if spec.is_workflow:
            running.flow = self._make_flow(running, spec)
        bound = self._codec.decode(spec, claimed)
        if self._hooks.around_tasks:
            self._hooks.fire("before_task", running.invocation)
        return spec.binder.call(spec.func, bound)

    def _run_on_a_loop(self, spec: TaskSpec, claimed: Claimed, running: context.Running) -> Outcome:
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        async def main() -> Outcome:
            task = asyncio.current_task()
            loop = asyncio.get_running_loop()
            assert task is not None
            running.wakes.append(lambda: _from_any_thread(loop, task.cancel))
            return await self.run_async(spec, claimed, running)

        if not is_on_loop():
            return asyncio.run(main())
        with ThreadPoolExecutor(1) as pool:  # called from an event loop, which cannot run a second one on its thread
            return pool.submit(copy_context().run, asyncio.run, main()).result()

    async def run_async(self, spec: TaskSpec, claimed: Claimed, running: context.Running) -> Outcome:
        """Run an async body on the running loop; the caller gives it a context of its own."""
        import asyncio

        started = self._now()
        running.main = asyncio.current_task()
        try:
            value = await self._in_time(claimed, lambda: self._body(spec, claimed, running))
            if running.flow is not None:
                self._check_left(running)
            payload = self._codec.encode_result(spec, claimed, value)
            if self._hooks.around_tasks:
                self._hooks.fire("after_task", running.invocation)
            ended = outcome.succeeded(running.claimed, payload, started, self._now())
        except BaseException as error:
            ended = self._ended(spec, claimed, running, error, started)
        if running.flow is not None and running.flow.branches is not None:
            running.flow.branches.close(is_end=ended.status.is_final() and not running.cancel_requested)
        if running.span is not None:
            running.span.end(ended)
        return ended

    @staticmethod
    async def _in_time(claimed: Claimed, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Await a body, at most as long as its timeout; a ``TimeoutError`` of its own stays one. The timer is set first: it is none of the body's own."""
        if not claimed.timeout:
            return await begin()
        import asyncio

        limit = asyncio.timeout(claimed.timeout / outcome.SECOND)
        try:
            async with limit:
                return await begin()
        except TimeoutError:
            if limit.expired():
                raise TimeUp from None
            raise

    # -- how it ended ------------------------------------------------------------------------------------------------------
    def _ended(
        self, spec: TaskSpec, claimed: Claimed, running: context.Running, error: BaseException, started: int
    ) -> Outcome:
        """One clause for each way to end without a value."""
        if isinstance(error, TimeUp) or (running.interrupt is TimeUp and is_cancelled(error)):
            error = timeout_error(claimed).with_traceback(error.__traceback__)
        try:
            ended = self._fate(spec, claimed, running, error, started)
        except Exception as failure:
            logger.exception("how %s %s ended could not be told", claimed.task, claimed.id)
            payload = self._codec.encode_error(spec, claimed, failure)
            ended = outcome.failed(running.claimed, payload, started, self._now(), "how it ended could not be told")
        if self._hooks.around_tasks:
            self._hooks.fire("after_task", running.invocation)
            if ended.status == "failed":
                self._hooks.fire("on_failure", running.invocation, error)
        return ended

    def _fate(
        self, spec: TaskSpec, claimed: Claimed, running: context.Running, error: BaseException, started: int
    ) -> Outcome:
        now = self._now()
        claimed = running.claimed  # progress forgives crashes
        if isinstance(error, HandBack) or running.interrupt is HandBack:
            return outcome.released(claimed, "runner stopped", started=started)
        left = running.departure or error
        if isinstance(left, Suspended):
            return outcome.paused(
                claimed, left.reason, started, now, due=left.due, awaits=left.awaits, signals=left.signals
            )
        if isinstance(left, Continued):
            return outcome.continued(claimed, left.arguments, left.blobs, left.signals, started)
        if isinstance(left, GivenUp):
            return outcome.released(claimed, GIVEN_UP, started=started)
        if running.cancel_requested and (isinstance(error, InvocationCancelledError) or is_cancelled(error)):
            if spec.is_workflow:
                _cancel_members(running)
            return outcome.cancelled(claimed, started, now)
        if running.flow is not None and running.flow.is_failing:
            return self._undo(spec, claimed, running, b"", started)
        payload = self._codec.encode_error(spec, claimed, error)
        if isinstance(error, spec.retriable) and not isinstance(error, NonDeterminismError):
            delay = error.delay if isinstance(error, RetryError) else None
            ended = outcome.to_retry(claimed, payload, spec.retry, started, now, _uniform(), delay)
        else:
            ended = outcome.failed(claimed, payload, started, now)
        info = self._codec.read_error(claimed, payload)
        if running.span is not None:
            running.span.fail(info)
        if ended.status == "failed" and spec.is_workflow:
            stopped = self._stopped(claimed, running, error, info, started)
            if stopped is not None:
                return stopped
        _log_end(claimed, info, ended, now)
        if ended.status == "failed" and running.flow is not None:
            return self._undo(spec, claimed, running, payload, started)
        return ended

    def _stopped(
        self, claimed: Claimed, running: context.Running, error: BaseException, info: ErrorInfo, started: int
    ) -> Outcome | None:
        """A workflow raised before it came to all that it did: its code has changed, and a person is asked. None if it did not."""
        if running.flow is None:  # it raised before it began
            return None
        told = f"{info.type.rpartition('.')[2]}: {info.message:.300}"
        try:
            reason = running.flow.stop_early(error, told)
        except GivenUp:
            return outcome.released(claimed, GIVEN_UP, started=started)
        except StoreError as failure:
            return _sent_back(claimed, failure, started)
        return outcome.paused(claimed, reason, started, self._now()) if reason else None

    def _undo(self, spec: TaskSpec, claimed: Claimed, running: context.Running, error: bytes, started: int) -> Outcome:
        """A workflow has failed for the last time: compensate what it did, then end it."""
        try:
            payload, reason = running.flow.compensate(error)
        except Suspended as left:
            return outcome.paused(claimed, left.reason, started, self._now(), awaits=left.awaits)
        except GivenUp:
            return outcome.released(claimed, GIVEN_UP, started=started)
        except Exception as failure:
            if isinstance(failure, StoreError) and failure.retryable:
                return _sent_back(claimed, failure, started)
            logger.exception("%s %s could not be compensated", claimed.task, claimed.id)
            payload, reason = self._codec.encode_error(spec, claimed, failure), "its compensation failed"
        return outcome.failed(claimed, payload, started, self._now(), reason)

    def timed_out(self, claimed: Claimed, started: int) -> Outcome:
        """The outcome of a body that is given up because it does not react to its timeout."""
        spec = self.resolve(claimed.task)
        error = timeout_error(claimed)
        payload = self._codec.encode_error(spec, claimed, error)
        if spec is not None and isinstance(error, spec.retriable):
            return outcome.to_retry(claimed, payload, spec.retry, started, self._now(), _uniform(), None)
        return outcome.failed(claimed, payload, started, self._now(), reason="timeout")


def _uniform() -> float:
    """A random number from 0 to 1."""
    from random import random

    return random()


def call_user(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function of the user's in the midst of a body of ours."""
    return function(*args, **kwargs)


#: The code that calls the user's: what runs directly above it may be interrupted.
USER_CODE = frozenset({Executor._body.__code__, call_user.__code__})


def _cancel_members(running: context.Running) -> None:
    """What the body called after it was asked to stop, stops with it."""
    try:
        running.engine.cancel_members(running.id, "its workflow was cancelled")
    except StoreError as error:
        logger.warning("the members of workflow %s could not be cancelled (%s)", running.id, error)


def _sent_back(claimed: Claimed, error: StoreError, started: int) -> Outcome:
    """The store did not answer when a workflow ended, and nobody waits for it any more, mostly as the runner stops: another attempt replays to where this
    one was. One that somebody cancelled meanwhile is cancelled by the store.
    """
    logger.warning("workflow %s %s could not be ended (%s); it goes back", claimed.task, claimed.id, error)
    return outcome.released(claimed, "its end could not be written", started=started)


def timeout_error(claimed: Claimed) -> TaskTimeoutError:
    """The error of an attempt that took too long."""
    return TaskTimeoutError(
        f"{claimed.task} ran longer than its timeout of {claimed.timeout / outcome.SECOND:g} s", claimed.task
    )


def _log_end(claimed: Claimed, error: ErrorInfo, ended: Outcome, now: int) -> None:
    """One line for a retry, the traceback for a failure, both as they are stored: without secrets."""
    name = error.type.rpartition(".")[2]
    if ended.status == "retry":
        wait = max(0, ended.due - now) / outcome.SECOND
        logger.warning(
            "%s %s: retry %d in %.3f s: %s: %s", claimed.task, claimed.id, ended.retries, wait, name, error.message
        )
        return
    if logger.isEnabledFor(logging.ERROR):
        values = (claimed.task, claimed.id, name, error.message)
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 0, "%s %s failed: %s: %s", values, None, "_log_end"
        )
        # Every formatter prints this text below the message, as it does for an exception of this process.
        record.exc_text = error.traceback.rstrip()
        logger.handle(record)


def _from_any_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Run ``call`` on a loop that may be gone already."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        if not loop.is_closed():
            raise
