"""How an attempt ends: value, exception, crash or release → :class:`~pynenc.core.records.Outcome`.

Every way is one function below; none of them looks at a clock or draws a random number, both come as arguments.
"""

from __future__ import annotations

import msgspec

from pynenc.core.duration import LONGEST
from pynenc.core.records import UNKNOWN_TASK, Claimed, Microseconds, Outcome
from pynenc.core.status import InvocationStatus

SECOND: Microseconds = 1_000_000


class RetryPolicy(msgspec.Struct, frozen=True):
    """When and how often a task is tried again: delays in seconds, ``jitter`` spreads them between 0 and the full delay."""

    max_retries: int = 0
    delay: float = 0.0
    backoff: float = 2.0
    max_delay: float = 3600.0
    jitter: bool = True

    def wait(self, retries: int, random: float) -> float:
        """Seconds before attempt number ``retries + 1``; ``random`` is uniform in [0, 1).

        Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
        """
        if self.delay <= 0:
            return 0.0
        exponent = min(retries, 1000)
        try:
            delay = min(self.delay * self.backoff**exponent, self.max_delay)
        except OverflowError:
            delay = self.max_delay
        return delay * random if self.jitter else delay


def succeeded(claimed: Claimed, payload: bytes, started: Microseconds, ended: Microseconds) -> Outcome:
    """The body returned; ``payload`` is its encoded value."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.SUCCESS,
        payload=payload,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=started,
        ended=ended,
    )


def failed(claimed: Claimed, error: bytes, started: Microseconds, ended: Microseconds, reason: str = "") -> Outcome:
    """The body raised for the last time."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.FAILED,
        payload=error,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=started,
        ended=ended,
        reason=reason,
    )


def to_retry(
    claimed: Claimed,
    error: bytes,
    policy: RetryPolicy,
    started: Microseconds,
    ended: Microseconds,
    random: float,
    delay: float | None,
) -> Outcome:
    """The body raised something that is retried, if the policy has a retry left; else it failed.

    :param delay: seconds that the exception asked for; overrides the backoff.
    """
    if claimed.retries >= policy.max_retries:
        return failed(
            claimed, error, started, ended, reason=f"{claimed.retries} retries used" if policy.max_retries else ""
        )
    wait = policy.wait(claimed.retries, random) if delay is None else min(max(0.0, delay), LONGEST)
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.RETRY,
        payload=error,
        due=ended + int(wait * SECOND),
        retries=claimed.retries + 1,
        crashes=claimed.crashes,
        started=started,
        ended=ended,
        reason="retry",
    )


def paused(
    claimed: Claimed,
    reason: str,
    started: Microseconds,
    ended: Microseconds,
    *,
    due: Microseconds = 0,
    awaits: tuple[str, ...] = (),
    signals: int = -1,
) -> Outcome:
    """The body is suspended until one of these comes."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.PAUSED,
        due=due,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=started,
        ended=ended,
        reason=reason,
        awaits=awaits,
        signals=signals,
    )


def continued(claimed: Claimed, args: bytes, blobs: tuple[str, ...], signals: int, started: Microseconds) -> Outcome:
    """The body continues as new."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.REGISTERED,
        started=started,
        reason="continued as new",
        signals=signals,
        args=args,
        blobs=blobs,
    )


def cancelled(claimed: Claimed, started: Microseconds, ended: Microseconds) -> Outcome:
    """The body ended because it was asked to; the store knows the reason that was given."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.CANCELLED,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=started,
        ended=ended,
    )


def released(claimed: Claimed, reason: str, *, alone: bool = False, started: Microseconds = 0) -> Outcome:
    """The work goes back, without ``started`` as if it had not been claimed; ``alone`` marks it as suspected of having killed its process."""
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.REGISTERED,
        retries=claimed.retries,
        crashes=claimed.crashes,
        started=started,
        reason=reason,
        alone=alone,
        unknown_task=reason == UNKNOWN_TASK,
    )


def handed_back(claimed: Claimed) -> Outcome:
    """The runner stops while the body runs."""
    return released(claimed, "runner stopped", started=claimed.claimed)


def crashed(claimed: Claimed, cause: str, error: bytes, now: Microseconds) -> Outcome:
    """Its process died while nothing else ran in it: counted, and final after ``max_crashes``."""
    crashes = claimed.crashes + 1
    if crashes < claimed.max_crashes:
        return Outcome(
            id=claimed.id,
            attempt=claimed.attempt,
            status=InvocationStatus.REGISTERED,
            retries=claimed.retries,
            crashes=crashes,
            reason=f"crash {crashes} of {claimed.max_crashes}: {cause}",
            alone=True,
        )
    return Outcome(
        id=claimed.id,
        attempt=claimed.attempt,
        status=InvocationStatus.FAILED,
        payload=error,
        retries=claimed.retries,
        crashes=crashes,
        ended=now,
        reason=f"crash {crashes} of {max(1, claimed.max_crashes)}: {cause}",
    )
