"""What a script refuses, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence

from pynenc.exceptions import MissingBlobsError, PynencError, QueueFullError, TaskRoutingError


def of_submission(answer: Sequence[bytes], limit: int) -> PynencError:
    """Why a batch was not accepted."""
    why, *rest = [text.decode() for text in answer]
    if why == "blobs":
        return MissingBlobsError(rest)
    queue, task = rest
    if why == "full":
        return QueueFullError(
            f"queue {queue!r} holds {limit} invocations already (max_queue_length): wait, or start more runners", task
        )
    return TaskRoutingError(
        f"queue {queue!r} is draining and takes no new calls: use another queue, or `pynenc queues resume {queue}`",
        task,
    )
