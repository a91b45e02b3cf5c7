"""Every error that pynenc raises: one tree, each message saying what to do next.

::

    PynencError
    ├── RetryError                      raise it in a task to ask for another attempt
    ├── SerializationError              a value cannot be encoded or decoded
    ├── ConfigError                     a setting is unknown, wrong or contradictory
    ├── TaskError
    │   ├── InvalidTaskOptionsError
    │   ├── TaskRoutingError
    │   │   ├── InvocationConcurrencyWithDifferentArgumentsError
    │   │   ├── IdempotencyKeyError     one key, two different calls
    │   │   └── QueueFullError
    │   ├── TaskTimeoutError            (also a TimeoutError)
    │   ├── TaskFailedError             the original class cannot be rebuilt here
    │   └── WorkerLostError             the process died under the task
    ├── InvocationError
    │   ├── InvocationNotFoundError
    │   ├── InvocationCancelledError
    │   ├── ConcurrencyControlledError
    │   ├── ResultTimeoutError          (also a TimeoutError)
    │   ├── CycleDetectedError
    │   └── InvocationStatusError
    │       ├── InvocationStatusTransitionError
    │       └── InvocationStatusOwnershipError
    ├── RunnerError
    │   ├── RunnerNotExecutableError    (also a ConfigError)
    │   └── RunnerLostError             its lease was taken away
    ├── StoreError                      .retryable says whether trying again may help
    │   ├── MissingBlobsError
    │   ├── SchemaError
    │   └── StoreGoneError              its file was removed or replaced
    ├── WorkflowError
    │   ├── WorkflowPauseError
    │   ├── NonDeterminismError
    │   └── WorkflowMembershipError
    └── TriggerError
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from pynenc.core.duration import seconds
from pynenc.core.options import Seconds


class PynencError(Exception):
    """Base of all errors of this library."""


class RetryError(PynencError):
    """Raised by a task to be tried again, whatever its ``retry_for`` says.

    :param message: shown in the history of the invocation. A number or a ``timedelta`` in its place is the delay: ``RetryError(30)``.
    :param delay: until the next attempt, as ``retry_delay`` takes it: seconds, a ``timedelta``, or text such as ``"30s"``; overrides the
        task's backoff once. :ivar delay: the same in seconds, or None.
    :raises ValueError: the delay is none, is negative, or is longer than 1000 years.
    :raises TypeError: two delays.
    """

    def __init__(self, message: str | float | timedelta = "retry requested", delay: Seconds | None = None) -> None:
        if isinstance(message, int | float | timedelta) and not isinstance(message, bool):
            if delay is not None:
                raise TypeError(
                    f"RetryError got two delays, {message!r} and {delay!r}: put a message before the second"
                )
            message, delay = "retry requested", message
        super().__init__(message)
        self.delay = None if delay is None else _delay(delay)


def _delay(value: Seconds) -> float:
    try:
        return seconds(value)
    except ValueError as error:
        raise ValueError(f"bad value for 'delay' of RetryError: {value!r}; it must be {error}") from None


class SerializationError(PynencError):
    """A value cannot be encoded or decoded; the message names the argument and what to do."""


class ConfigError(PynencError):
    """A setting is unknown, has a bad value, or contradicts another."""


class TaskError(PynencError):
    """Base of errors about a task; ``task_id`` is its key, ``module.function``."""

    def __init__(self, message: str, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class InvalidTaskOptionsError(TaskError):
    """The decorator was given options that do not exist; ``invalid`` lists all of them."""

    def __init__(self, message: str, task_id: str | None = None, invalid: Sequence[str] = ()) -> None:
        super().__init__(message, task_id)
        self.invalid = tuple(invalid)


class TaskRoutingError(TaskError):
    """A call was refused when it was submitted.

    ``accepted`` holds the invocations of the same ``parallelize`` that were accepted before the failure.
    """

    accepted: Sequence[object] = ()


class InvocationConcurrencyWithDifferentArgumentsError(TaskRoutingError):
    """A registered invocation holds the same key with other arguments."""

    def __init__(
        self,
        message: str,
        task_id: str | None = None,
        invocation_id: str | None = None,
        changed: Mapping[str, tuple[str, str]] | None = None,
        added: Mapping[str, str] | None = None,
        removed: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, task_id)
        self.invocation_id = invocation_id
        self.changed = dict(changed or {})
        self.added = dict(added or {})
        self.removed = dict(removed or {})


class IdempotencyKeyError(TaskRoutingError):
    """An idempotency key was used again with other arguments."""


class QueueFullError(TaskRoutingError):
    """The queue holds ``max_queue_length`` invocations already."""


class TaskTimeoutError(TaskError, TimeoutError):
    """One attempt of a task ran longer than its ``timeout``."""


class TaskFailedError(TaskError):
    """A task failed with an exception whose class cannot be rebuilt safely here.

    :ivar error_type: qualified name of the original class.
    :ivar remote_traceback: traceback text of the process that ran the task.
    """

    def __init__(
        self,
        message: str,
        task_id: str | None = None,
        error_type: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message, task_id)
        self.error_type = error_type
        self.remote_traceback = remote_traceback


class WorkerLostError(TaskError):
    """The process that ran a task died (signal, exit or out of memory) too many times."""


class InvocationError(PynencError):
    """Base of errors about one invocation."""

    def __init__(self, message: str, invocation_id: str | None = None) -> None:
        super().__init__(message)
        self.invocation_id = invocation_id


class InvocationNotFoundError(InvocationError):
    """The store has no invocation of this id (it may have been purged)."""


class InvocationCancelledError(InvocationError):
    """The invocation was cancelled, or expired before it started."""


class ConcurrencyControlledError(InvocationError):
    """The invocation was dropped by concurrency control and will never run."""


class ResultTimeoutError(InvocationError, TimeoutError):
    """The result was not there in time; the invocation goes on."""


class CycleDetectedError(InvocationError):
    """Waiting would never end; ``cycle`` lists the invocation ids around the circle."""

    def __init__(self, message: str, invocation_id: str | None = None, cycle: Iterable[str] = ()) -> None:
        super().__init__(message, invocation_id)
        self.cycle = tuple(cycle)


class InvocationStatusError(InvocationError):
    """A change of status that the rules do not allow."""


class InvocationStatusTransitionError(InvocationStatusError):
    """The status table has no such transition."""


class InvocationStatusOwnershipError(InvocationStatusError):
    """The attempt that wants the change does not own the invocation any more."""


class RunnerError(PynencError):
    """Base of errors about runners."""


class RunnerNotExecutableError(RunnerError, ConfigError):
    """The runner cannot run with these settings: its processes could not share the store, or it is the one that runs nothing."""


class RunnerLostError(RunnerError):
    """The lease of this runner was taken away; it must register again under a new id."""


class StoreError(PynencError):
    """The store refused or failed; ``retryable`` says whether trying again may help."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class MissingBlobsError(StoreError):
    """``submit`` refers to blobs that the store does not hold; nothing was submitted."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(f"the store does not hold {len(self.keys)} referenced blob(s); send them and submit again")


class SchemaError(StoreError):
    """The database has a schema that this version does not know."""


class StoreGoneError(StoreError):
    """The file of the store was removed or replaced while it was in use. Nothing was written; a runner ends by it."""


class WorkflowError(PynencError):
    """Base of errors about workflows."""


class WorkflowPauseError(WorkflowError):
    """A workflow is paused, or waits for a signal, where nobody else could let it go on: in development mode, in tests."""


class NonDeterminismError(WorkflowError):
    """A replayed workflow did something else than its record says. With runners nobody gets it: the run waits for a person.

    :ivar position: where. :ivar asked: what it did now. :ivar recorded: what it did before. :ivar where: the line of code, as ``file:line``.
    """

    def __init__(self, message: str, position: str = "", asked: str = "", recorded: str = "", where: str = "") -> None:
        super().__init__(message)
        self.position = position
        self.asked = asked
        self.recorded = recorded
        self.where = where


class WorkflowMembershipError(WorkflowError):
    """An invocation that is no member of the workflow tried to change its data."""


class TriggerError(PynencError):
    """A trigger is defined wrongly or its function failed."""
