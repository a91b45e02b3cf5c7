"""``task.wf``: what a body knows about its workflow and keeps in it."""

from __future__ import annotations

from typing import Any

from pynenc import context
from pynenc.core.records import WorkflowRef
from pynenc.workflow.workflow_identity import WorkflowIdentity


class WorkflowContext:
    """Workflow functions of the invocation that runs here; ``RuntimeError`` outside of one."""

    __slots__ = ()

    @property
    def identity(self) -> WorkflowIdentity:
        """The workflow of the running invocation."""
        ref = _ref(_running())
        return WorkflowIdentity(ref.id, ref.type, ref.parent)

    def get_data(self, key: str, default: Any = None) -> Any:
        """The value that a member of the workflow stored last under ``key``; an own copy."""
        running = _running()
        scope = _scope(running)
        stored = running.engine.store.recall(scope, [key])
        return running.engine.codec.decode_value(stored[key], scope, key) if key in stored else default

    def set_data(self, key: str, value: Any) -> None:
        """Store a value for all members of the workflow; durable when it returns.

        :raises SerializationError: the value cannot be encoded.
        """
        running = _running()
        scope = _scope(running)
        running.engine.store.remember(scope, {key: running.engine.codec.encode_value(value, scope, key)})


def _running() -> context.Running:
    running = context.current()
    if running is None:
        raise RuntimeError("task.wf works inside a running task only: call the task and use it in its body")
    return running


def _ref(running: context.Running) -> WorkflowRef:
    ref: WorkflowRef | None = running.workflow
    return ref or WorkflowRef(running.id, running.task)


def _scope(running: context.Running) -> str:
    return f"workflow:{_ref(running).id}"
