"""Calls become invocations: bind, encode, key, submit. One transaction a call, one a batch.

The store decides atomically whether a call is new or answered by an invocation that is there already; this module only words the
question and reads the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pynenc import context
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.core.concurrency import control_key
from pynenc.core.duration import microseconds
from pynenc.core.ids import derived_id
from pynenc.core.options import ConcurrencyControlType
from pynenc.core.outcome import SECOND
from pynenc.core.records import Blob, New, Rate, Submitted, WorkflowRef
from pynenc.engine.call_options import NO_OPTIONS, CallOptions
from pynenc.engine.codec import Codec, Encoded
from pynenc.engine.loops import is_on_loop
from pynenc.engine.newid import new_id, new_ids
from pynenc.engine.spec import TaskSpec
from pynenc.engine.transaction import connection_for
from pynenc.exceptions import (
    IdempotencyKeyError,
    InvocationConcurrencyWithDifferentArgumentsError,
    InvocationNotFoundError,
    MissingBlobsError,
    QueueFullError,
)
from pynenc.store.base import Store

if TYPE_CHECKING:
    from pynenc.engine.tracing import Tracing


#: Seconds between two attempts to submit to a full queue; each is twice as long as the one before.
FIRST_PAUSE, LAST_PAUSE = 0.001, 0.05


class Submitter:
    """Words submissions for the store of one app."""

    def __init__(self, store: Store, codec: Codec, conf: ConfigPynenc) -> None:
        self._store = store
        self._codec = codec
        self._conf = conf
        self.tracing: Tracing | None = None

    def submit(self, spec: TaskSpec, bound: dict[str, Any], options: CallOptions = NO_OPTIONS) -> Submitted:
        """Submit one call; durable when it returns.

        :raises SerializationError: an argument cannot be encoded or is too large.
        :raises TaskRoutingError: the store refuses it.
        """
        call = self._codec.encode(spec, bound)
        is_special = call.blobs or spec.needs_digest or options is not NO_OPTIONS
        if is_special or self.tracing or context.transaction() is not None:
            return self.submit_encoded(spec, [call], options)[0]
        rows = self._rows(spec, (call,), options)
        try:
            answer = self._store.submit(rows, max_queue_length=self._conf.max_queue_length)[0]
        except QueueFullError as full:
            answer = self._wait_for_room(rows, (), full)[0]
        return _own(rows[0], answer) if answer.existing else answer

    def submit_encoded(
        self,
        spec: TaskSpec,
        calls: Sequence[Encoded],
        options: CallOptions = NO_OPTIONS,
        ids: Sequence[str] | None = None,
    ) -> list[Submitted]:
        """Submit calls whose arguments are encoded already, all or none; ``existing`` of an answer says that it stands for another call.

        :param ids: the ids of the invocations, where they are derived from something; else they are new.
        """
        rows = self._rows(spec, calls, options, ids)
        are_new = ids is None and options.key is None
        if self.tracing and rows:
            return self.tracing.send(rows, lambda rows: self._answers(spec, rows, options, are_new=are_new))
        return self._answers(spec, rows, options, are_new=are_new)

    def _answers(self, spec: TaskSpec, rows: Sequence[New], options: CallOptions, *, are_new: bool) -> list[Submitted]:
        answers = self.send(rows)
        if are_new and any(answer.existing for answer in answers):
            answers = [_own(row, answer) for row, answer in zip(rows, answers, strict=True)]
        if spec.needs_digest or options.key is not None:
            return [self._checked(spec, *pair, options) for pair in zip(rows, answers, strict=True)]
        return answers

    def word(self, spec: TaskSpec, bound: dict[str, Any], invocation_id: str) -> New:
        """The record of a call that has an id already and belongs to no workflow; for :meth:`send`."""
        (row,) = self._rows(spec, (self._codec.encode(spec, bound),), NO_OPTIONS)
        return msgspec.structs.replace(row, id=invocation_id, workflow=None)

    def send(self, rows: Sequence[New]) -> list[Submitted]:
        """Submit, sending along the blobs that the store is not known to hold; once more when it misses some."""
        keys = [key for row in rows for key in row.blobs] if any(row.blobs for row in rows) else []
        blobs = self._codec.blobs.pending(keys) if keys else ()
        try:
            answers = self._submit(rows, blobs)
        except MissingBlobsError as missing:
            self._codec.blobs.forget(missing.keys)
            answers = self._submit(rows, self._codec.blobs.pending(keys))
        if keys:
            self._codec.blobs.mark_stored(keys)
        return answers

    def _submit(self, rows: Sequence[New], blobs: Sequence[Blob]) -> list[Submitted]:
        connection = connection_for(self._store)
        try:
            return self._store.submit(
                rows,
                blobs,
                max_queue_length=self._conf.max_queue_length,
                connection=connection,
            )
        except QueueFullError as full:
            if connection is not None:
                raise
            return self._wait_for_room(rows, blobs, full)

    def _wait_for_room(self, rows: Sequence[New], blobs: Sequence[Blob], full: QueueFullError) -> list[Submitted]:
        """Raise ``full``, or try again until there is room if the settings say so. The slot of a waiting body is lent out.

        :raises QueueFullError: the settings do not say so, it would block an event loop, or there can never be room.
        """
        conf = self._conf
        if conf.queue_full != "block" or is_on_loop():
            raise full
        running = context.current()
        slot = running.slot if running else None
        pause = FIRST_PAUSE
        if slot:
            slot.park()
        try:
            while len(rows) <= conf.max_queue_length or not conf.max_queue_length:
                try:
                    return self._store.submit(rows, blobs, max_queue_length=conf.max_queue_length)
                except QueueFullError:
                    time.sleep(pause)  # no store tells when there is room
                    pause = min(2 * pause, LAST_PAUSE)
            raise full
        finally:
            if slot:
                slot.unpark()

    def _rows(
        self, spec: TaskSpec, calls: Sequence[Encoded], options: CallOptions, ids: Sequence[str] | None = None
    ) -> list[New]:
        """The records of calls."""
        if not spec.is_plain or options is not NO_OPTIONS:
            given = ids or [""] * len(calls)
            return [self._new_with_all(spec, call, options, own) for call, own in zip(calls, given, strict=True)]
        running = context.current()
        conf = spec.conf
        if not ids:
            ids = new_ids(len(calls)) if len(calls) > 1 else [new_id()]
        return [
            New(  # as little as possible: it takes the longer the more there is
                id=invocation_id,
                task=spec.key,
                args=call.payload,
                blobs=call.blobs,
                queue=conf.queue,
                priority=conf.priority,
                max_crashes=spec.max_crashes,
                result_ttl=spec.result_ttl,
                timeout=spec.timeout,
                parent=running.id if running else None,
                workflow=_workflow(spec, invocation_id, running) if running else None,
                tags=conf.tags,
            )
            for invocation_id, call in zip(ids, calls, strict=True)
        ]

    def _new_with_all(self, spec: TaskSpec, call: Encoded, options: CallOptions, own: str = "") -> New:
        """The record of a call with keys, dates or options."""
        running = context.current()
        conf = spec.conf
        digest = self._codec.digest(call) if spec.needs_digest or options.key is not None else ""
        registration = running_key = None
        if spec.controlled:
            registration = self._key(conf.registration_concurrency, spec, call, digest)
            running_key = self._key(conf.running_concurrency, spec, call, digest)
        invocation_id = own or new_id()
        if options.key is not None:
            invocation_id = derived_id(self._conf.app_id, spec.key, options.key)
        due = self._due(options)
        return New(
            id=invocation_id,
            task=spec.key,
            args=call.payload,
            args_digest=digest,
            blobs=call.blobs,
            queue=options.queue or conf.queue,
            priority=conf.priority if options.priority is None else options.priority,
            due=due,
            expires=(max(due, self._store.clock.now()) + spec.expires) if spec.expires else 0,
            registration_key=registration,
            running_key=running_key,
            running_limit=conf.running_limit,
            drop_blocked=not conf.reroute_on_concurrency_control,
            rate=self._rate(spec, call, *spec.rate) if spec.rate else None,
            cache_key=f"{spec.key}#{digest}" if conf.call_result_cache else None,
            max_crashes=spec.max_crashes,
            result_ttl=spec.result_ttl,
            timeout=spec.timeout if options.timeout is None else microseconds(options.timeout),
            parent=running.id if running else None,
            workflow=_workflow(spec, invocation_id, running) if running else None,
            tags=(*conf.tags, *options.tags) if conf.tags or options.tags else (),
        )

    def _due(self, options: CallOptions) -> int:
        if options.delay:
            return self._store.clock.now() + int(options.delay * SECOND)
        return int(options.run_at.timestamp() * SECOND) if options.run_at else 0

    def _key(self, mode: ConcurrencyControlType, spec: TaskSpec, call: Encoded, digest: str) -> str | None:
        return control_key(
            mode, spec.key, spec.conf.key_arguments, lambda name: self._codec.canonical(call, name), lambda: digest
        )

    def _rate(self, spec: TaskSpec, call: Encoded, n: int, period: float) -> Rate:
        """Rates count per key when the task names key arguments, else per task."""
        key = spec.key
        if spec.conf.key_arguments:
            key = self._key(ConcurrencyControlType.KEYS, spec, call, "") or key
        return Rate(key, n, microseconds(period))

    def _checked(self, spec: TaskSpec, row: New, answer: Submitted, options: CallOptions) -> Submitted:
        """The answer, unless the call it stands for differs where it must not."""
        if answer.id != row.id:
            answer = msgspec.structs.replace(answer, existing=True)
        if not answer.existing or answer.args_digest == row.args_digest:
            return answer
        if options.key is not None and answer.id == row.id:
            raise IdempotencyKeyError(
                f"idempotency key {options.key!r} of {spec.key} belongs to invocation {answer.id}, which was called with other arguments: "
                "use another key, or the same arguments",
                spec.key,
            )
        if spec.conf.on_diff_non_key_args_raise:
            raise self._different_arguments(spec, row, answer.id)
        return answer

    def _different_arguments(
        self, spec: TaskSpec, row: New, holder: str
    ) -> InvocationConcurrencyWithDifferentArgumentsError:
        """The error that shows how the registered call differs from this one."""
        found = self._store.get([holder])
        if not found:
            raise InvocationNotFoundError(f"invocation {holder} was purged while it was compared", holder)
        codec = self._codec
        was, now = (spec.binder.flat(codec.decode(spec, call)) for call in (found[0], row))
        old, new = (codec.canonicals(codec.encode(spec, values)) for values in (was, now))
        before, after = codec.describe(spec, was), codec.describe(spec, now)
        changed = {name: (before[name], after[name]) for name in old if name in new and old[name] != new[name]}
        added = {name: after[name] for name in after if name not in before}
        removed = {name: before[name] for name in before if name not in after}
        lines = [f"changed {name}: {one} -> {other}" for name, (one, other) in changed.items()]
        lines += [f"added {name}: {value}" for name, value in added.items()] + [
            f"removed {name}: {value}" for name, value in removed.items()
        ]
        text = f"{spec.key} is registered as {holder} under the same key with other arguments: " + "; ".join(lines)
        return InvocationConcurrencyWithDifferentArgumentsError(text, spec.key, holder, changed, added, removed)


def _own(row: New, answer: Submitted) -> Submitted:
    """The answer to a call whose id was made for it. If that was there already, this call was sent again after its first answer got lost."""
    return msgspec.structs.replace(answer, existing=False) if answer.id == row.id else answer


def _workflow(spec: TaskSpec, invocation_id: str, running: context.Running) -> WorkflowRef:
    """A call joins the workflow of its caller; without a caller it is the root of its own, which needs no record."""
    workflow: WorkflowRef = running.workflow or WorkflowRef(running.id, running.task)
    if spec.conf.force_new_workflow:
        return WorkflowRef(invocation_id, spec.key, workflow.id)
    return workflow
