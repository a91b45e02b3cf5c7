"""Submissions to a memory store: who answers for a call, and why a batch is refused as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pynenc.core.records import Blob, Microseconds, New, QueueState, Submitted
from pynenc.core.status import Place
from pynenc.exceptions import MissingBlobsError, QueueFullError, TaskRoutingError
from pynenc.store._memory_places import Places
from pynenc.store._memory_rows import BlobRow, Row, to_submitted


def submit(
    places: Places, batch: Sequence[New], blobs: Sequence[Blob], max_queue_length: int, now: Microseconds
) -> list[Submitted]:
    """Accept a batch, or raise and leave everything as it is."""
    _refuse(places, batch, blobs, max_queue_length)
    keep_blobs(places, blobs, now)
    return accept(places, batch, now)


def accept(places: Places, batch: Sequence[New], now: Microseconds) -> list[Submitted]:
    """Insert, or find who answers."""
    rows = places.rows
    answers = []
    for new in batch:
        if new.id in rows or new.registration_key is not None or new.cache_key is not None:
            holder = _holder(places, new)
            if holder is not None:
                answers.append(to_submitted(holder, existing=holder.id == new.id))
                continue
        row = places.insert(new, now)
        answers.append(Submitted(new.id, row.status, False, new.args_digest))
    return answers


def keep_blobs(places: Places, blobs: Sequence[Blob], now: Microseconds) -> None:
    """Store what is new, and make the rest young again."""
    for blob in blobs:
        if blob.key in places.blobs:
            places.blobs[blob.key].touched = now
        else:
            places.blobs[blob.key] = BlobRow(blob.data, now)


def _holder(places: Places, new: New) -> Row | None:
    """The row that answers for a submission."""
    row = places.rows.get(new.id)
    if row is None and new.registration_key is not None:
        row = places.rows.get(places.registered.get(new.registration_key, ""))
    if row is None and new.cache_key is not None and new.cache_key in places.successes:
        row = places.rows[places.successes[new.cache_key][-1][1]]
    return row


def _refuse(places: Places, batch: Sequence[New], blobs: Sequence[Blob], max_queue_length: int) -> None:
    """Raise when the batch cannot be accepted as a whole."""
    needed = {key for new in batch if new.blobs for key in new.blobs}
    missing = needed - places.blobs.keys() - {blob.key for blob in blobs} if needed else ()
    if missing:
        raise MissingBlobsError(sorted(missing))
    is_draining = any(queue.state is QueueState.DRAINING for queue in places.queues.values())
    if not is_draining and (not max_queue_length or _has_room(places, batch, max_queue_length)):
        return
    lengths = Counter({queue.name: queue.unclaimed for queue in places.queues.values()})
    for new in _insertions(places, batch):
        _refuse_draining(places, new)
        lengths[new.queue] += 1
        if max_queue_length and lengths[new.queue] > max_queue_length:
            raise QueueFullError(
                f"queue {new.queue!r} holds {max_queue_length} unfinished invocations already: try again later, or raise max_queue_length",
                new.task,
            )


def _has_room(places: Places, batch: Sequence[New], max_queue_length: int) -> bool:
    """Whether the batch fits without looking closer."""
    return len(batch) + max((queue.unclaimed for queue in places.queues.values()), default=0) <= max_queue_length


def _insertions(places: Places, batch: Sequence[New]) -> list[New]:
    """Those of a batch that no row will answer for, neither a present one nor an earlier one of the batch."""
    inserted: list[New] = []
    ids: set[str] = set()
    keys: set[str] = set()
    for new in batch:
        if _holder(places, new) is not None or new.id in ids or new.registration_key in keys:
            continue
        ids.add(new.id)
        if new.registration_key is not None:
            keys.add(new.registration_key)
        inserted.append(new)
    return inserted


def _refuse_draining(places: Places, new: New) -> None:
    queue = places.queues.get(new.queue)
    if queue is None or queue.state is not QueueState.DRAINING:
        return
    parent = places.rows.get(new.parent or "")
    if parent is None or parent.place is not Place.CLAIMED:
        raise TaskRoutingError(
            f"queue {new.queue!r} is draining: it accepts only what its running work calls", new.task
        )
