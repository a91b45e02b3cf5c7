"""Workflows: what tasks that were called from one another share."""

from pynenc.workflow.workflow_context import WorkflowContext
from pynenc.workflow.workflow_exceptions import (
    NonDeterminismError,
    WorkflowError,
    WorkflowMembershipError,
    WorkflowPauseError,
)
from pynenc.workflow.workflow_identity import WorkflowIdentity

__all__ = [
    "NonDeterminismError",
    "WorkflowContext",
    "WorkflowError",
    "WorkflowIdentity",
    "WorkflowMembershipError",
    "WorkflowPauseError",
]
