"""Submission: which statement a batch of calls takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from pynenc.core.records import Blob, Microseconds, New, Submitted, are_alike
from pynenc.core.status import InvocationStatus
from pynenc.store.postgres import joined, record
from pynenc.store.postgres.database import Call, Combiner, Database, Rows
from pynenc.store.postgres.schema import STATUSES
from pynenc.store.postgres.wake import NOTIFY, Letter
from pynenc.store.postgres.wire import Numbers, Payloads, Texts

ALIKE = "SELECT @submit_alike({})".format(", ".join(f"${n}" for n in range(1, 20)))
SUBMIT = "SELECT * FROM @submit($1, $2, $3::text::json, $4, $5, $6)"
PUT_BLOBS = "SELECT @put_blobs($1, @time($2), $3, $4, $5)"
#: Rows of one statement; more are sent as several in one transaction, so that no parameter becomes too large.
BATCH = 5000

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(list[tuple[str, int, bool, str]]).decode
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
        alike = _alike(new, limit)
        if alike is not None and len(new) <= BATCH and not blobs:
            rows = self._combiner.call(ALIKE, *self._alike_values(alike, new, at, self._me()))
            sleepers, answers = _answer_alike(new, rows[0][0])
            self._ring(len(new), (), sleepers)
            return answers
        calls = self._calls(new, blobs, limit, at, alike, self._me())
        sleepers, found = _answer(new, self._database.pipeline(calls)[bool(blobs) :], is_alike=alike is not None)
        self._ring(len(new), (), sleepers)
        return found

    def join(
        self, new: Sequence[New], blobs: Sequence[Blob], limit: int, at: Microseconds, connection: object, channel: str
    ) -> list[Submitted]:
        """The same as a part of the transaction of ``connection``; a notification is a part of it, too."""
        alike = _alike(new, limit)
        calls = self._calls(new, blobs, limit, at, alike, "")
        answers = joined.run(self._database, connection, [*calls, (NOTIFY, (channel, Letter(w=len(new)).encode()))])
        return _answer(new, answers[bool(blobs) : -1], is_alike=alike is not None)[1]

    def _alike_values(self, alike: tuple[Any, ...], new: Sequence[New], at: Microseconds, me: str) -> tuple[Any, ...]:
        ids, args = Texts([each.id for each in new]), Payloads([each.args for each in new])
        return (self._database.app, at, *alike[:-2], Texts(alike[-2]), Texts(alike[-1]), ids, args, me)

    def _calls(
        self,
        new: Sequence[New],
        blobs: Sequence[Blob],
        limit: int,
        at: Microseconds,
        alike: tuple[Any, ...] | None,
        me: str,
    ) -> list[Call]:
        """The statements of a batch."""
        app = self._database.app
        calls: list[Call] = []
        if blobs:
            keys, sizes = Texts([blob.key for blob in blobs]), Numbers([blob.size for blob in blobs])
            calls.append((PUT_BLOBS, (app, at, keys, sizes, Payloads([blob.data for blob in blobs]))))
        parts = [new[start : start + BATCH] for start in range(0, len(new), BATCH)]
        if alike is not None:
            return calls + [(ALIKE, self._alike_values(alike, part, at, me)) for part in parts]
        for part in parts:
            text = _encode([record.call_values(n, each) for n, each in enumerate(part, 1)], enc_hook=str).decode()
            calls.append((SUBMIT, (app, at, text, Payloads([each.args for each in part]), limit, me)))
        return calls


def _answer(new: Sequence[New], answers: list[Rows], *, is_alike: bool) -> tuple[int, list[Submitted]]:
    """Who sleeps, and the answers of all statements of a batch."""
    found: list[Submitted] = []
    sleepers = 0
    for rows in answers:
        if is_alike:
            seen, part = _answer_alike(new[len(found) : len(found) + BATCH], rows[0][0])
            sleepers |= seen
            found += part
        else:
            sleepers |= rows.pop()[4]
            found += [Submitted(name, STATUSES[status], is_old, digest) for name, status, is_old, digest, _ in rows]
    return sleepers, found


def _alike(new: Sequence[New], limit: int) -> tuple[Any, ...] | None:
    """What all calls of a batch have in common; None when they differ in more than id and arguments."""
    if limit:
        return None
    return record.common(new[0]) if are_alike(new) else None


def _answer_alike(new: Sequence[New], text: str) -> tuple[int, list[Submitted]]:
    """Who sleeps, and the answers; the text is longer when something was there already, or stands twice in the batch."""
    if len(text) == 1:
        return int(text), [Submitted(each.id, _registered, False, "") for each in new]
    known = {row[0]: row for row in _decode(text[1:])}
    was_there = {name for name, row in known.items() if not row[2]}
    answers = []
    for each in new:
        _, status, _, digest = known[each.id]
        answers.append(Submitted(each.id, STATUSES[status], each.id in was_there, digest))
        was_there.add(each.id)
    return int(text[0]), answers
