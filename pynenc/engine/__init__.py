"""What happens to an invocation, in order: submit, execute, results. One :class:`Engine` holds the parts of one app over one store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pynenc import context
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.core.records import Change, ChangeKind, Claimed, ClaimRequest, Filter, Invocation, Outcome, Page, Submitted
from pynenc.core.status import InvocationStatus
from pynenc.engine.codec import Codec, Encoded
from pynenc.engine.execute import Executor, Hooks
from pynenc.engine.results import Results
from pynenc.engine.spec import TaskSpec
from pynenc.engine.submit import Submitter
from pynenc.engine.suspension import DIFFERS
from pynenc.engine.transaction import refuse_inside
from pynenc.exceptions import InvocationNotFoundError, StoreError
from pynenc.store.base import Store

if TYPE_CHECKING:
    from pynenc.engine.triggers import Known, Triggers

logger = logging.getLogger("pynenc")

__all__ = ["Engine", "Hooks"]

UNFINISHED = tuple(status for status in InvocationStatus if not status.is_final())
#: Under what the value of a resume is sealed: by whom it is taken is not known before.
RESUME_KEY = "resume"
encode_signal = msgspec.msgpack.encode
decode_signal = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def signal_key(name: str) -> str:
    """Under what the value of a signal is sealed."""
    return f"signal {name}"


class Routable(Protocol):
    """What the engine needs of a call."""

    @property
    def spec(self) -> TaskSpec: ...
    def encoded(self) -> Encoded: ...
    def accepted(self, answer: Submitted, /) -> Any:
        """The invocation of the call, from the answer of the store."""


class Engine:
    """The parts that move invocations through one store; ``app.orchestrator`` is one of these.

    :ivar submitter: words submissions. :ivar executor: runs bodies. :ivar results: waits and decodes.
    :ivar known_triggers: the triggers of the tasks that were imported, by the name of their internal task.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        *,
        conf: ConfigPynenc,
        resolve: Callable[[str], TaskSpec | None],
        handle: Callable[[Claimed], Any],
        hooks: Hooks,
        make_flow: Callable[[context.Running, TaskSpec], Any],
        triggers: Mapping[str, Known] = MappingProxyType({}),
    ) -> None:
        self.store = store
        self.conf = conf
        self.codec = codec
        self.hooks = hooks
        self.app_id = conf.app_id
        self.submitter = Submitter(store, codec, conf)
        self.results = Results(store, codec, self._hint, self._run_inline)
        self.known_triggers = triggers
        #: Whether this process has imported a task.
        self.owns: Callable[[str], bool] = bool
        #: Whether a suspended run waits for a person.
        self.is_asking: Callable[[Store, Invocation], bool] = lambda _store, _row: True
        #: Development mode: runs an invocation at once.
        self.inline: Callable[[str], None] | None = None
        self.executor = Executor(codec, store.clock, resolve, handle, hooks, self, make_flow)
        self.trace(is_on=conf.otel)

    def trace(self, *, is_on: bool) -> None:
        """Make OpenTelemetry spans and metrics from now on, or none.

        :raises ConfigError: the extra ``otel`` is not installed.
        """
        tracing = None
        if is_on:
            from pynenc.engine.tracing import Tracing  # nothing of it is imported unless it is on

            tracing = Tracing()
        self.submitter.tracing = self.executor.tracing = tracing

    def flush_telemetry(self) -> None:
        """Export spans and metrics now, if any are made."""
        if self.executor.tracing:
            self.executor.tracing.flush()

    @cached_property
    def triggers(self) -> Triggers:
        """``app.trigger``; made when it is first asked for, as few programs need it."""
        from pynenc.engine.triggers import Triggers

        found = Triggers(self.store, self.codec, self.submitter, self.conf, self.known_triggers, self.owns)
        found.run_inline = self.inline
        return found

    # -- submitting ----------------------------------------------------------------------------------------------------
    def route_call(self, call: Routable) -> Any:
        """Submit a call (:class:`~pynenc.call.Call`); returns its invocation."""
        return self.route_calls([call])[0]

    def route_calls(self, calls: Iterable[Routable]) -> list[Any]:
        """Submit calls, all that follow one another of the same task at once; returns their invocations."""
        invocations: list[Any] = []
        for spec, group in groupby(calls, attrgetter("spec")):
            batch = list(group)
            answers = self.submitter.submit_encoded(spec, [call.encoded() for call in batch])
            invocations += [call.accepted(answer) for call, answer in zip(batch, answers, strict=True)]
        return invocations

    # -- reading, by the names that people of the field use ------------------------------------------------------------
    def get(self, invocation_id: str) -> Invocation:
        """The row of an invocation.

        :raises InvocationNotFoundError: there is none.
        """
        found = self.store.get([invocation_id])
        if not found:
            raise InvocationNotFoundError(
                f"no invocation {invocation_id} in {self.store.display_url}: it was purged, or belongs to another app",
                invocation_id,
            )
        return found[0]

    def get_invocation_status(self, invocation_id: str) -> InvocationStatus:
        """Its status now."""
        return self.get(invocation_id).status

    def count_invocations(self, task_id: object = None, statuses: Sequence[InvocationStatus] = ()) -> int:
        """How many invocations there are, of a task and in some statuses if given."""
        tasks = (getattr(task_id, "key", str(task_id)),) if task_id is not None else ()
        return sum(self.store.count(Filter(tasks=tasks, statuses=tuple(statuses))).values())

    def cancel(self, invocation_ids: Sequence[str], reason: str = "on request") -> list[bool]:
        """Ask invocations to stop, workflows with all their members; for each id whether it was accepted. Whoever asks again asks the members again,
        which the first one may not have lived to do.
        """
        accepted = self.amend(invocation_ids, ChangeKind.CANCEL, reason)
        done = dict(zip(invocation_ids, accepted, strict=True))
        for row in self.store.get(invocation_ids):
            if not (done[row.id] or row.status is InvocationStatus.CANCELLED):
                continue
            spec = self.executor.resolve(row.task)
            if spec is not None and spec.is_workflow:
                self.cancel_members(row.id, reason)
        return accepted

    def cancel_members(self, workflow: str, reason: str) -> None:
        """Ask all that belongs to a workflow to stop, the workflows that it started included, until nothing new is found."""
        asked = {workflow}
        workflows = [workflow]
        for root in workflows:
            for where in (Filter(workflow=root, statuses=UNFINISHED), Filter(parent=root, statuses=UNFINISHED)):
                while found := [row for row in self._all(where) if row.id not in asked]:
                    asked.update(row.id for row in found)
                    workflows += [row.id for row in found if row.workflow and row.workflow.id == row.id]
                    self.amend([row.id for row in found], ChangeKind.CANCEL, reason)

    def _all(self, where: Filter) -> list[Invocation]:
        page = self.store.find(where, Page(1000))
        rows = list(page.invocations)
        while page.cursor:
            page = self.store.find(where, Page(1000, page.cursor))
            rows += page.invocations
        return rows

    def resume(self, invocation_id: str, value: Any = None, reason: str = "resumed") -> bool:
        """Let a paused workflow go on; ``value`` is what its ``pause`` returns. Whether that was accepted, which is when a pause is there to take it; without
        a value also when code and record differ.
        """
        refuse_inside(self.store, "resume")
        rows = [row for row in self.store.get([invocation_id]) if row.status is InvocationStatus.PAUSED]
        if not rows or not (
            value is None if rows[0].reason.startswith(DIFFERS) else self.is_asking(self.store, rows[0])
        ):
            return False
        change = Change(
            ChangeKind.RESUME,
            reason,
            value=self.codec.encode_value(value, invocation_id, RESUME_KEY),
            attempt=rows[0].attempt,
        )
        (answer,) = self.store.amend([invocation_id], change)
        return self._let_go_on([answer.accepted], invocation_id)

    def signal(self, invocation_id: str, name: str, value: Any = None) -> bool:
        """Send a signal to a workflow; whether it was accepted, which is until it ends."""
        payload = self.codec.encode_value(value, invocation_id, signal_key(name))
        change = self.amend([invocation_id], ChangeKind.SIGNAL, f"signal {name}", value=encode_signal((name, payload)))
        return self._let_go_on(change, invocation_id)

    def _let_go_on(self, accepted: Sequence[bool], invocation_id: str) -> bool:
        """In development mode it goes on now."""
        if accepted[0] and context.current() is None:
            self.results.drive([invocation_id])
        return accepted[0]

    def amend(
        self,
        invocation_ids: Sequence[str],
        kind: ChangeKind,
        reason: str = "",
        priority: float = 0.0,
        value: bytes = b"",
    ) -> list[bool]:
        """Carry out a person's change; for each id whether it was accepted.

        :raises StoreError: inside of ``app.transaction``.
        """
        refuse_inside(self.store, kind.value)
        return [answer.accepted for answer in self.store.amend(invocation_ids, Change(kind, reason, priority, value))]

    # -- what waiting asks ---------------------------------------------------------------------------------------------
    def _hint(self, ids: Sequence[str]) -> None:
        """Say once why a result may take for ever: nobody serves its queue."""
        waiting = [row for row in self.store.get(ids[:10]) if row.status.is_available_for_run()]
        if not waiting:
            return
        alive = [info.beat for info in self.store.runners() if info.alive]
        row = waiting[0]
        if not any(not beat.queues or row.queue in beat.queues for beat in alive):
            logger.warning(
                "invocation %s of %s waits, but no live runner serves queue %r of %s: start one with `pynenc runner start%s`",
                row.id,
                row.task,
                row.queue,
                self.store.display_url,
                "" if row.queue == "default" else f" --queues {row.queue}",
            )

    def _run_inline(self, invocation_id: str) -> bool:
        """Run an awaited invocation on the waiting thread, if nobody has claimed it."""
        running = context.current()
        if running is None:
            return False
        claim = self.store.claim(ClaimRequest(running.runner, 1, ids=(invocation_id,)))
        for claimed in claim.batch:
            ended = self.executor.run(claimed, self.executor.running(claimed, running.runner, running.slot))
            self._finish(running.runner, ended)
        return bool(claim.batch)

    def _finish(self, runner: str, ended: Outcome) -> None:
        """Write an outcome, also to a store that does not answer at first."""
        pause = 0.05
        while True:
            try:
                self.store.finish(runner, [ended])
                return
            except StoreError as error:
                if not error.retryable:
                    raise
                logger.warning("the store did not answer (%s); trying again", error)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
