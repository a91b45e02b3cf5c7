"""Which workflow an invocation belongs to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkflowIdentity:
    """A workflow: the id of its root invocation, the key of its root task, and the workflow that started it, if any."""

    workflow_id: str
    workflow_type: str
    parent_workflow_id: str | None = None

    @property
    def is_subworkflow(self) -> bool:
        """Whether another workflow started it."""
        return self.parent_workflow_id is not None
