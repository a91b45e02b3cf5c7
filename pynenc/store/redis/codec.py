"""How records become the bytes that the scripts pack and take apart, and back.

A *call* is what was submitted: ``seq, created`` (written by the script), ``flags, result_ttl, task, queue``, the rest as msgpack, then the
arguments. A *state* is what became of it: it begins like the call, then comes msgpack, then the payload. An invocation that is READY and was never
claimed has no state. The usual history is not stored but follows from the state (:func:`derived`); the same is written in Lua in ``life.lua``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

import msgspec

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Alone,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Final,
    HistoryEntry,
    Invocation,
    New,
    Outcome,
    Progress,
    Rate,
    WorkflowRef,
)
from pynenc.core.status import InvocationStatus, Place

STATUSES = tuple(InvocationStatus)
CODES = {status: code for code, status in enumerate(STATUSES)}
PLACES = tuple(Place)
#: Bits of the flags, as in ``start_of_all.lua``.
KEYED, FIRST, CACHED = 1, 2, 4

#: seq, created, flags, result_ttl, length of the task
_HEAD = Struct(">QQBQH")
_SENT = Struct(">BQH")
#: status, alone, bits (unknown task, more than the usual), attempt, retries, crashes, due, started, ended; the reason follows, or all that is unusual
_OUTCOME = Struct(">BBBIIIQQQ")
_SHORT = Struct(">H")
_LONG = Struct(">I")

encode = msgspec.msgpack.encode


class Meta(msgspec.Struct, array_like=True, gc=False):
    """What a call says beside its head and its arguments."""

    priority: float
    due: int
    expires: int
    registration_key: str | None
    running_key: str | None
    running_limit: int
    drop_blocked: bool
    rate_key: str | None
    rate_n: int
    rate_period: int
    cache_key: str | None
    max_crashes: int
    timeout: int
    parent: str | None
    workflow: str | None
    workflow_type: str | None
    workflow_parent: str | None
    tags: tuple[str, ...]
    blobs: tuple[str, ...]
    digest: str


class State(msgspec.Struct, array_like=True, gc=False):
    """What changes of an invocation; in the order of ``row.lua``."""

    place: int = 0
    status: int = 0
    back: int = 0
    why: int = 0
    alone: int = 0
    cancel: int = 0
    attempt: int = 0
    retries: int = 0
    crashes: int = 0
    round: int = 0
    claimed: int = 0
    started: int = 0
    ended: int = 0
    due: int = 0
    priority: float = 0.0
    rank: float = 0.0
    boost: int = 0
    entries: int = 0
    passed: int = 0
    held: int = 0
    rated: int = 0
    runner: str = ""
    reason: str = ""
    signalled: int = 0
    seen: int = -1


_meta = msgspec.msgpack.Decoder(Meta).decode
_state = msgspec.msgpack.Decoder(State).decode
_step = msgspec.msgpack.Decoder(tuple[int, int, str, int, int, str]).decode
_progress = msgspec.msgpack.Decoder(Progress).decode


# -- what is sent --------------------------------------------------------------------------------------------------------
def calls_of(batch: Sequence[New], *, alike: bool) -> list[str | bytes]:
    """Id and call of each."""
    if not alike:
        return [part for new in batch for part in (new.id, head_of(new) + new.args)]
    head = head_of(batch[0])
    return [part for new in batch for part in (new.id, head + new.args)]


def head_of(new: New) -> bytes:
    """A call, without its arguments and without what the script writes in front."""
    rate, workflow, task, queue = new.rate, new.workflow, new.task.encode(), new.queue.encode()
    flags = 0
    if new.running_key is not None or rate is not None:
        flags |= KEYED
    if new.registration_key is not None or new.expires:
        flags |= FIRST
    if new.cache_key is not None:
        flags |= CACHED
    meta = encode(
        (
            new.priority,
            new.due,
            new.expires,
            new.registration_key,
            new.running_key,
            new.running_limit,
            new.drop_blocked,
            rate.key if rate else None,
            rate.n if rate else 0,
            rate.period if rate else 0,
            new.cache_key,
            new.max_crashes,
            new.timeout,
            new.parent,
            workflow.id if workflow else None,
            workflow.type if workflow else None,
            workflow.parent if workflow else None,
            new.tags,
            new.blobs,
            new.args_digest,
        )
    )
    head = _SENT.pack(flags, new.result_ttl, len(task))
    return b"".join((head, task, _SHORT.pack(len(queue)), queue, _LONG.pack(len(meta)), meta))


def is_plain(new: New) -> bool:
    """Whether nothing but its id can make another invocation answer for it, or set it aside or end it before it is claimed."""
    keys = (new.running_key, new.registration_key, new.rate, new.cache_key)
    return keys == _NO_KEYS and not (new.due or new.expires or new.blobs)


_NO_KEYS = (None, None, None, None)


def groups_of(batch: Sequence[New], *, alike: bool) -> bytes:
    """Runs of the same queue, task and priority: what the script counts and lines up together."""
    if alike:
        return encode([(batch[0].queue, batch[0].task, batch[0].priority, len(batch))])
    groups: list[list[Any]] = []
    last = None
    for new in batch:
        kind = (new.queue, new.task, new.priority)
        if kind != last:
            last = kind
            groups.append([*kind, 0])
        groups[-1][3] += 1
    return encode(groups)


def tally_name(status: InvocationStatus, queue: str, task: str) -> bytes:
    """What counts the invocations of a kind."""
    name = queue.encode()
    return b"%c%s%s%s" % (CODES[status], _SHORT.pack(len(name)), name, task.encode())


def request_of(request: ClaimRequest, client: str, wanted: Sequence[str]) -> bytes:
    """A claim; ``client`` is the process that is idle when there is too little (empty: that is not said)."""
    return encode(
        (
            request.runner,
            request.limit,
            request.shares,
            [str(each) for each in request.ids],
            request.alone is Alone.ONLY,
            request.aged,
            request.without,
            client,
            wanted,
        )
    )


def outcome_of(outcome: Outcome) -> bytes:
    """How an attempt ended, without its payload."""
    has_more = outcome.args is not None or outcome.signals >= 0 or bool(outcome.awaits)
    head = _OUTCOME.pack(
        CODES[outcome.status],
        outcome.alone,
        outcome.unknown_task | has_more << 1,
        outcome.attempt,
        outcome.retries,
        outcome.crashes,
        outcome.due,
        outcome.started,
        outcome.ended,
    )
    if has_more:
        return head + _unusual(outcome)
    return head + outcome.reason.encode() if outcome.reason else head


def _unusual(outcome: Outcome) -> bytes:
    """What suspends an invocation, or lets it continue as new; the arguments stand at the end."""
    awaits = [str(each) for each in outcome.awaits]
    more = encode((outcome.reason, awaits, outcome.signals, outcome.blobs, outcome.args is not None))
    return _LONG.pack(len(more)) + more + (outcome.args or b"")


def reactions_of(reactions: Sequence[Reaction]) -> list[Any]:
    """Reactions as ``subscribe.lua`` takes them apart."""
    return [
        part
        for each in reactions
        for part in (CODES[each.status], each.status.value, each.task, head_of(each.new) + each.new.args, each.tail)
    ]


def filter_of(where: Filter) -> bytes:
    """A filter without its ids."""
    return encode(
        (
            where.tasks,
            [CODES[status] for status in where.statuses],
            where.queues,
            where.tags,
            _or_false(where.parent),
            _or_false(where.workflow),
            _or_false(where.runner),
            _or_false(where.running_key),
            where.created_from,
            where.created_until,
            where.text,
        )
    )


def _or_false(text: str | None) -> str | bool:
    """Lua arrays have no holes."""
    return False if text is None else text


# -- what comes back -----------------------------------------------------------------------------------------------------
class Head:
    """The beginning that call and state share, and where the rest begins."""

    __slots__ = ("created", "end", "queue", "result_ttl", "seq", "task")

    def __init__(self, text: bytes) -> None:
        self.seq, self.created, _, self.result_ttl, size = _HEAD.unpack_from(text)
        at = _HEAD.size + size
        self.task = text[_HEAD.size : at].decode()
        (size,) = _SHORT.unpack_from(text, at)
        self.end = at + 2 + size
        self.queue = text[at + 2 : self.end].decode()


def meta_of(text: bytes, at: int) -> tuple[Meta, bytes]:
    """The rest of a call and its arguments."""
    (size,) = _LONG.unpack_from(text, at)
    at += 4
    return _meta(text[at : at + size]), text[at + size :]


def state_of(text: bytes, at: int) -> tuple[State, bytes]:
    """The rest of a state, and its payload."""
    (size,) = _LONG.unpack_from(text, at)
    at += 4
    return _state(text[at : at + size]), text[at + size :]


def claimed_of(name: bytes, call: bytes, state: bytes, now: int) -> Claimed:
    """A claimed invocation; without a state it was claimed for the first time, at ``now``. In one piece, because this is done for every claim."""
    _, created, _, _, size = _HEAD.unpack_from(call)
    at = _HEAD.size + size
    task = call[_HEAD.size : at].decode()
    begin = at + 2 + (call[at] << 8 | call[at + 1])
    queue = call[at + 2 : begin].decode()
    (size,) = _LONG.unpack_from(call, begin)
    at = begin + 4 + size
    meta = _meta(call[begin + 4 : at])
    attempt, retries, crashes, round_, claimed, priority, alone = 1, 0, 0, 0, now, meta.priority, False
    if state:
        own, _ = state_of(state, begin)
        attempt, retries, crashes, round_ = own.attempt, own.retries, own.crashes, own.round
        claimed, priority, alone = own.claimed, own.priority, own.alone == 1
    return Claimed(
        name.decode(),
        task,
        attempt,
        call[at:],
        meta.blobs,
        queue,
        priority,
        retries,
        crashes,
        meta.max_crashes,
        round_,
        meta.timeout,
        created,
        claimed,
        meta.parent,
        None if meta.workflow is None else _workflow(meta),
        meta.tags,
        alone,
    )


def _workflow(meta: Meta) -> WorkflowRef | None:
    if meta.workflow is None:
        return None
    return WorkflowRef(meta.workflow, meta.workflow_type or "", meta.workflow_parent)


def claim_of(answer: Sequence[Any]) -> Claim:
    """The answer to a claim."""
    now, due, suspects = int(answer[0]), int(answer[1]), answer[2] == 1
    batch = [claimed_of(answer[i], answer[i + 1], answer[i + 2], now) for i in range(3, len(answer), 3)]
    return Claim(tuple(batch), due, suspects)


def final_of(name: str, state: bytes | None) -> Final | None:
    """The final that a state tells of, if it is one."""
    if not state:
        return None
    head = Head(state)
    own, payload = state_of(state, head.end)
    if own.place != Place.FINAL:
        return None
    return Final(name, STATUSES[own.status], head.task, payload, own.round, own.reason)


def invocation_of(found: Sequence[Any]) -> Invocation:
    """An invocation as readers see it: from id, call, state, progress and what it waits for."""
    name, call, state, progress_text, awaited = found
    head = Head(call)
    meta, args = meta_of(call, head.end)
    if state:
        own, payload = state_of(state, head.end)
    else:
        own, payload = State(priority=meta.priority, rank=meta.priority, due=meta.due), b""
    progress = _progress(progress_text) if progress_text else None
    return Invocation(
        id=name.decode(),
        task=head.task,
        status=STATUSES[own.status],
        place=PLACES[own.place],
        args=args,
        args_digest=meta.digest,
        blobs=meta.blobs,
        queue=head.queue,
        priority=own.priority,
        rank=own.rank,
        due=own.due,
        expires=meta.expires,
        registration_key=meta.registration_key,
        running_key=meta.running_key,
        running_limit=meta.running_limit,
        rate=Rate(meta.rate_key, meta.rate_n, meta.rate_period) if meta.rate_key is not None else None,
        parent=meta.parent,
        workflow=_workflow(meta),
        tags=meta.tags,
        attempt=own.attempt,
        retries=own.retries,
        crashes=own.crashes,
        max_crashes=meta.max_crashes,
        round=own.round,
        runner=own.runner or None,
        created=head.created,
        claimed=own.claimed,
        started=own.started,
        ended=own.ended,
        result_ttl=head.result_ttl,
        cancel_requested=own.cancel == 1,
        alone=own.alone == 1,
        reason=own.reason,
        payload=payload,
        progress=progress if progress and progress.attempt == own.attempt else None,
        waiting_for=tuple(sorted(each.decode() for each in awaited)),
    )


# -- history -------------------------------------------------------------------------------------------------------------
#: status, at, runner, attempt, round, reason, payload
Entry = tuple[int, int, str, int, int, str, bytes]


def history_of(found: Sequence[Any]) -> Iterable[HistoryEntry]:
    """All changes of status, from id, beginning of the call, state and the steps that were kept."""
    name, call, state, steps = found
    created = _HEAD.unpack_from(call.ljust(_HEAD.size, b"\0"))[1]
    own, payload = state_of(state, Head(state).end) if state else (State(), b"")
    entries = [*map(_kept, steps), *derived(created, own, payload)]
    text = name.decode()
    for seq, (status, at, runner, attempt, round_, reason, data) in enumerate(entries):
        yield HistoryEntry(text, seq, STATUSES[status], at, runner or None, attempt, round_, reason, data)


def _kept(text: bytes) -> Entry:
    (size,) = _LONG.unpack_from(text)
    return (*_step(text[4 : 4 + size]), text[4 + size :])


def derived(created: int, own: State, payload: bytes) -> list[Entry]:
    """The entries of the history that follow from the state itself."""
    found: list[Entry] = []
    if own.entries == 0:
        found.append((CODES[InvocationStatus.REGISTERED], created, "", 0, 0, "", b""))
        if own.place == Place.PARKED:
            found.append((CODES[InvocationStatus.CONCURRENCY_CONTROLLED], created, "", 0, 0, own.reason, b""))
    if own.place == Place.CLAIMED or (own.place == Place.FINAL and own.runner):
        who = (own.runner, own.attempt, own.round, "", b"")
        found.append((CODES[InvocationStatus.PENDING], own.claimed, *who))
        if own.started:
            found.append((CODES[InvocationStatus.RUNNING], own.started, *who))
    if own.place == Place.FINAL:
        found.append((own.status, own.ended, own.runner, own.attempt, own.round, own.reason, payload))
    return found
