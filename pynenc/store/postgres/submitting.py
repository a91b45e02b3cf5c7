"""Submission: which statement a batch of calls takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from pynenc.core.records import Blob, Microseconds, New, Submitted
from pynenc.core.status import InvocationStatus
from pynenc.store.postgres import record
from pynenc.store.postgres.database import Call, Combiner, Database, Rows
from pynenc.store.postgres.schema import STATUSES
from pynenc.store.postgres.wire import Numbers, Payloads, Texts

ALIKE = "SELECT * FROM @submit_alike({})".format(", ".join(f"${n}" for n in range(1, 19)))
SUBMIT = "SELECT * FROM @submit($1, $2, $3::text::json, $4, $5, $6)"
PUT_BLOBS = "SELECT @put_blobs($1, @time($2), $3, $4, $5)"
#: Rows of one statement; more are sent as several in one transaction, so that no parameter becomes too large.
BATCH = 5000

_encode = msgspec.json.encode
_registered = InvocationStatus.REGISTERED


class Ring(Protocol):
    """Tells those who sleep what a commit has changed."""

    def __call__(self, ready: int, finals: Sequence[str], sleepers: int) -> None: ...


class Submitting:
    """The submissions of one store object."""

    def __init__(self, database: Database, ring: Ring, me: Callable[[], str]) -> None:
        self._database = database
        self._combiner = Combiner(database)
        self._ring = ring
        self._me = me

    def submit(self, new: Sequence[New], blobs: Sequence[Blob], limit: int, at: Microseconds) -> list[Submitted]:
        """Accept invocations, all or none; see :meth:`pynenc.store.base.Store.submit`."""
        alike = None if limit or blobs else _alike(new)
        if alike is not None and len(new) <= BATCH:
            rows = self._combiner.call(ALIKE, *self._alike_values(alike, new, at))
            self._ring(len(new), (), rows[0][4])
            return _answer_alike(new, rows)
        calls = self._calls(new, blobs, limit, at, alike)
        answers = self._database.pipeline(calls)
        return self._answer(new, answers, is_alike=alike is not None)

    def _alike_values(self, alike: tuple[Any, ...], new: Sequence[New], at: Microseconds) -> tuple[Any, ...]:
        ids, args = Texts([each.id for each in new]), Payloads([each.args for each in new])
        return (self._database.app, at, *alike[:-1], Texts(alike[-1]), ids, args, self._me())

    def _calls(
        self, new: Sequence[New], blobs: Sequence[Blob], limit: int, at: Microseconds, alike: tuple[Any, ...] | None
    ) -> list[Call]:
        """The statements of a batch."""
        parts = [new[start : start + BATCH] for start in range(0, len(new), BATCH)]
        if alike is not None:
            return [(ALIKE, self._alike_values(alike, part, at)) for part in parts]
        app = self._database.app
        calls: list[Call] = []
        if blobs:
            keys, sizes = Texts([blob.key for blob in blobs]), Numbers([blob.size for blob in blobs])
            calls.append((PUT_BLOBS, (app, at, keys, sizes, Payloads([blob.data for blob in blobs]))))
        for part in parts:
            text = _encode([record.call_values(n, each) for n, each in enumerate(part, 1)], enc_hook=str).decode()
            calls.append((SUBMIT, (app, at, text, Payloads([each.args for each in part]), limit, self._me())))
        return calls

    def _answer(self, new: Sequence[New], answers: list[Rows], *, is_alike: bool) -> list[Submitted]:
        found: list[Submitted] = []
        sleepers = 0
        for rows in answers:
            if is_alike:
                part = new[len(found) : len(found) + BATCH]
                found += _answer_alike(part, rows)
                sleepers |= rows[0][4]
            elif len(rows[0]) > 1:  # not the blobs
                sleepers |= rows.pop()[4]
                found += [Submitted(name, STATUSES[status], is_old, digest) for name, status, is_old, digest, _ in rows]
        self._ring(len(new), (), sleepers)
        return found


def _alike(new: Sequence[New]) -> tuple[Any, ...] | None:
    """What all calls of a batch have in common; None when they differ in more than id and arguments."""
    first = record.common(new[0])
    if first is None or any(record.common(each) != first for each in new[1:]):
        return None
    return first


def _answer_alike(new: Sequence[New], rows: Rows) -> list[Submitted]:
    """The answers; more than one row came when something was there already, or stands twice in the batch."""
    if len(rows) == 1:
        return [Submitted(each.id, _registered, False, "") for each in new]
    known = {row[0]: row for row in rows[1:]}
    was_there = {name for name, row in known.items() if not row[2]}
    answers = []
    for each in new:
        _, status, _, digest, _ = known[each.id]
        answers.append(Submitted(each.id, STATUSES[status], each.id in was_there, digest))
        was_there.add(each.id)
    return answers
