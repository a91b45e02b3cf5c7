"""Rows of the server as records, and records as values for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Beat,
    Claimed,
    ClaimRequest,
    HistoryEntry,
    Invocation,
    New,
    Outcome,
    Progress,
    Rate,
    WorkflowRef,
)
from pynenc.core.status import InvocationStatus, Place
from pynenc.store.postgres.schema import CODES, PLACES, STATUSES
from pynenc.store.postgres.wire import Flags, Numbers, Payloads, Texts

encode = msgspec.msgpack.encode
decode_beat = msgspec.msgpack.Decoder(Beat).decode
decode_progress = msgspec.msgpack.Decoder(Progress).decode
Row = tuple[Any, ...]


# -- claimed rows ------------------------------------------------------------------------------------------------------------
QUEUE, SEQ, RANK, BOOST = 5, 20, 21, 22


def claimed(row: Row) -> Claimed:
    """What the new owner gets."""
    return Claimed(
        row[0],
        row[1],
        row[2],
        row[3],
        tuple(row[4]) if row[4] else (),
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        row[14],
        WorkflowRef(row[15], row[16], row[17]) if row[15] is not None else None,
        tuple(row[18]) if row[18] else (),
        row[19],
    )


class Head:
    """The last row of a claim, which concerns all of it (see ``cycle`` in ``sql/finish.sql``)."""

    __slots__ = ("created", "finals", "has_suspects", "lost", "next_due", "ready", "sleepers", "success", "verdict")

    def __init__(self, row: Row) -> None:
        self.verdict: str = row[1]
        self.ready: int = row[2]
        self.lost: list[str] = row[4]
        self.sleepers: int = row[10]
        #: The task, result and round of the only one that succeeded, if it is told along.
        self.success: tuple[str, bytes, int] | None = (row[5], row[3], row[8]) if row[5] else None
        self.created: int = row[12]
        self.next_due: int = row[13]
        self.finals: list[str] = row[18]
        self.has_suspects: bool = row[19]


# -- values of a claim and of outcomes ---------------------------------------------------------------------------------------
def claim_values(request: ClaimRequest | None) -> tuple[Any, ...]:
    """The parameters of a claim in ``cycle`` and ``wait``."""
    if request is None:
        return _NO_CLAIM
    shares = request.shares
    return (
        True,
        request.runner,
        request.limit,
        Texts([queue for queue, _ in shares]),
        Numbers([most for _, most in shares]),
        Texts(request.ids),
        request.alone == "only",
        request.aged,
        Texts(request.without),
    )


_NO_CLAIM = (False, "", 0, Texts(), Numbers(), Texts(), False, False, Texts())
_NO_OUTCOMES = (
    Texts(),
    Numbers(),
    Numbers(),
    Payloads(),
    *(Numbers(),) * 4,
    Texts(),
    Flags(),
    Numbers(),
    Flags(),
    Texts(),
    Payloads(),
    False,
)


_SUCCESS = InvocationStatus.SUCCESS


def outcome_values(outcomes: Sequence[Outcome]) -> tuple[Any, ...]:
    """The parameters of outcomes in ``cycle``; few of them when all succeed at once."""
    if not outcomes:
        return _NO_OUTCOMES
    ids = Texts([each.id for each in outcomes])
    attempts = Numbers([each.attempt for each in outcomes])
    payloads = Payloads([each.payload for each in outcomes])
    started = Numbers([each.started for each in outcomes])
    ended = Numbers([each.ended for each in outcomes])
    if not [o for o in outcomes if o.status is not _SUCCESS or o.retries or o.crashes or o.reason or o.alone]:
        return (
            ids,
            attempts,
            Numbers(),
            payloads,
            Numbers(),
            Numbers(),
            started,
            ended,
            Texts(),
            Flags(),
            Numbers(),
            Flags(),
            Texts(),
            Payloads(),
            False,
        )
    return (
        ids,
        attempts,
        Numbers([CODES[each.status] for each in outcomes]),
        payloads,
        Numbers([each.retries for each in outcomes]),
        Numbers([each.crashes for each in outcomes]),
        started,
        ended,
        Texts([without_nul(each.reason) for each in outcomes]),
        Flags([each.alone for each in outcomes]),
        Numbers([each.due for each in outcomes]),
        Flags([each.unknown_task for each in outcomes]),
        *_extras(outcomes),
        not all(each.status.is_final() for each in outcomes),
    )


def _extras(outcomes: Sequence[Outcome]) -> tuple[Texts, Payloads]:
    """What only suspensions and those that continue as new have, as JSON; and the arguments of the next round."""
    if not [o for o in outcomes if o.awaits or o.signals >= 0 or o.args is not None]:
        return Texts(), Payloads()
    return Texts([_extra(each) for each in outcomes]), Payloads([each.args or b"" for each in outcomes])


def _extra(outcome: Outcome) -> str:
    if not (outcome.awaits or outcome.signals >= 0 or outcome.args is not None):
        return ""
    extra = {"awaits": outcome.awaits, "signals": outcome.signals, "blobs": outcome.blobs}
    return msgspec.json.encode({**extra, "renews": outcome.args is not None}).decode()


def without_nul(text: str) -> str:
    """A text for people as PostgreSQL can keep it: without the one character that it cannot store."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


# -- submissions -------------------------------------------------------------------------------------------------------------
def common(new: New) -> tuple[Any, ...] | None:
    """What calls that are submitted by one statement have in common; None for one that needs a look of its own."""
    if (
        new.running_key is not None
        or new.registration_key is not None
        or new.rate is not None
        or new.cache_key is not None
    ):
        return None
    if new.args_digest or new.drop_blocked:
        return None
    flow = new.workflow
    return (
        new.task,
        new.queue,
        float(new.priority),
        new.due,
        new.expires,
        new.max_crashes,
        new.result_ttl,
        new.timeout,
        new.parent or "",
        *((flow.id, flow.type, flow.parent or "") if flow else ("", "", "")),
        new.tags,
        new.blobs,
    )


def call_values(n: int, new: New) -> dict[str, Any]:
    """A call of any kind, for the JSON that ``submit`` takes; without its arguments."""
    rate, flow = new.rate, new.workflow
    return {
        "n": n,
        "id": new.id,
        "task": new.task,
        "queue": new.queue,
        "priority": new.priority,
        "due": new.due,
        "expires": new.expires,
        "registration_key": new.registration_key,
        "running_key": new.running_key,
        "running_limit": new.running_limit,
        "drop_blocked": new.drop_blocked,
        "rate_key": rate.key if rate else None,
        "rate_n": rate.n if rate else None,
        "rate_period": rate.period if rate else None,
        "cache_key": new.cache_key,
        "max_crashes": new.max_crashes,
        "result_ttl": new.result_ttl,
        "timeout": new.timeout,
        "parent": new.parent,
        "workflow": flow.id if flow else None,
        "workflow_type": flow.type if flow else None,
        "workflow_parent": flow.parent if flow else None,
        "tags": new.tags or None,
        "blobs": new.blobs,
        "args_digest": new.args_digest,
    }


def reaction_values(reactions: Sequence[Reaction]) -> tuple[Any, ...]:
    """The parameters of a subscription: each template is a call without id and arguments."""
    return (
        Numbers([CODES[each.status] for each in reactions]),
        Texts([each.task for each in reactions]),
        Texts([each.status.value for each in reactions]),
        Texts([msgspec.json.encode(call_values(0, each.new), enc_hook=str).decode() for each in reactions]),
        Payloads([each.new.args for each in reactions]),
        Payloads([each.tail for each in reactions]),
    )


# -- invocations as readers see them -----------------------------------------------------------------------------------------
_READ = (
    "seq id task status place args args_digest blobs queue priority rank due expires registration_key running_key running_limit rate_key rate_n "
    "rate_period parent workflow workflow_type workflow_parent tags attempt retries crashes max_crashes round runner created claimed started ended "
    "result_ttl cancel alone reason payload progress"
)
READ_NAMES = _READ.split()


def invocation(row: Row, waiting_for: tuple[str, ...]) -> Invocation:
    """An invocation as readers see it, from the columns :data:`READ_NAMES`."""
    values = dict(zip(READ_NAMES, row, strict=True))
    del values["seq"]
    status, place = STATUSES[values.pop("status")], PLACES[values.pop("place")]
    rate = values.pop("rate_key"), values.pop("rate_n"), values.pop("rate_period")
    flow = values.pop("workflow"), values.pop("workflow_type"), values.pop("workflow_parent")
    progress = decode_progress(raw) if (raw := values.pop("progress")) else None
    return Invocation(
        status=status,
        place=place,
        rate=Rate(*rate) if rate[0] is not None else None,
        workflow=WorkflowRef(*flow) if flow[0] is not None else None,
        progress=progress if progress and progress.attempt == values["attempt"] else None,
        waiting_for=waiting_for,
        args=values.pop("args"),
        blobs=tuple(values.pop("blobs") or ()),
        tags=tuple(values.pop("tags") or ()),
        cancel_requested=values.pop("cancel"),
        payload=values.pop("payload") or b"",
        **values,
    )


def may_wait(row: Row) -> bool:
    """Whether what these columns show can wait for others."""
    return row[4] in (Place.CLAIMED, Place.WAITING)


def history_entry(name: str, row: Row) -> HistoryEntry:
    """An entry: n, status, at, runner, attempt, round, reason, payload."""
    return HistoryEntry(name, row[0], STATUSES[row[1]], *row[2:])
