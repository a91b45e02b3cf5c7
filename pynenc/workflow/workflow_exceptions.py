"""Public path of the errors about workflows."""

from pynenc.exceptions import NonDeterminismError, WorkflowError, WorkflowMembershipError, WorkflowPauseError

__all__ = ["NonDeterminismError", "WorkflowError", "WorkflowMembershipError", "WorkflowPauseError"]
