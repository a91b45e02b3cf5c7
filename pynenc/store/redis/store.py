"""The store object: each operation of the contract is one script call, or a reading in one round trip."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    Amended,
    Beat,
    Blob,
    Change,
    Claim,
    Claimed,
    ClaimRequest,
    Filter,
    Final,
    Finished,
    Found,
    HistoryEntry,
    Invocation,
    Microseconds,
    New,
    Orders,
    Outcome,
    Owner,
    Page,
    Progress,
    Purge,
    Purged,
    QueueInfo,
    QueueState,
    Recovered,
    Ref,
    RunnerInfo,
    Submitted,
    are_alike,
)
from pynenc.core.status import InvocationStatus
from pynenc.core.waiting import never_ending
from pynenc.exceptions import RunnerLostError, StoreError
from pynenc.store.base import FIRST_PAGE, Clock, IdleListener, SystemClock, Wake, Watch
from pynenc.store.redis import checking, reading, refusals, safety
from pynenc.store.redis.bell import Bell
from pynenc.store.redis.clock import ServerClock
from pynenc.store.redis.codec import (
    STATUSES,
    calls_of,
    claim_of,
    encode,
    final_of,
    groups_of,
    head_of,
    is_plain,
    outcome_of,
    reactions_of,
    request_of,
    tally_name,
)
from pynenc.store.redis.link import Link
from pynenc.store.redis.options import parse

#: A runner without a sign of life for so long is forgotten, in microseconds.
LONG_GONE: Microseconds = 24 * 3600 * 1_000_000


class RedisStore:
    """Invocations of one app in Redis or Valkey.

    :param url: ``redis://user:password@host:6379/0``; ``rediss://`` for TLS, ``valkey://`` and ``valkeys://`` mean the same. Options:
        ``wait_aof=1`` (a write is answered when it is in the append-only file of the server, and of ``wait_aof - 1`` replicas),
        ``wait_replicas=1`` (when so many replicas have it), ``wait_timeout=5`` (seconds to wait for these), ``timeout=30`` (seconds to wait
        for any answer), and whatever redis-py understands in a URL.
    """

    shared = True

    def __init__(self, url: str, app_id: str, clock: Clock | None = None) -> None:
        options = parse(url)
        self.display_url = options.display_url
        self._link = Link(options, f"pynenc:{{{app_id.translate(_BRACES)}}}:")
        is_ours = clock is None or isinstance(clock, SystemClock)
        self._server_clock = ServerClock(partial(self._link.ask, "TIME")) if is_ours else None
        self.clock: Clock = self._server_clock or clock or SystemClock()
        if not is_ours:
            self._link.time = self._virtual_time
        self._bell: Bell | None = None
        _stores.add(self)

    def _virtual_time(self) -> str:
        """What scripts get as the time, when it is not the server's."""
        clock = self.clock
        return f"{clock.now()} {clock.lease()} {clock.boot_id()}"

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if self._link.is_open:
            return
        self._link.open()
        try:
            safety.check(self._link, self.display_url)
            if self._server_clock:
                self._server_clock.measure()
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        self._link.close()

    def schema_version(self) -> str:
        """The layout of the keys that are there, also while this is not open; empty when there are none."""
        was_open = self._link.is_open
        if not was_open:
            self._link.open()
        try:
            return (self._link.ask("GET", self._link.prefix + b"version") or b"").decode()
        finally:
            if not was_open:
                self._link.close()

    def advice(self) -> list[str]:
        """What a person should change about the server, a line each."""
        return safety.advice(self._link)

    def declare_dead(self, group: str) -> None:
        """Make it certain for everybody that the process behind ``group`` is gone."""
        self._link.ask("HSET", self._link.prefix + b"dead", group, 1)

    def _after_fork(self) -> None:
        """In a forked child: nothing of the parent may be used or closed."""
        _inherited.append(self._bell)
        self._bell = None

    @property
    def _ringer(self) -> Bell:
        bell = self._bell
        if bell is None:
            if not self._link.is_open:
                raise StoreError("the store is closed, or was never opened: call open() first")
            self._bell = bell = Bell(self._link)
        return bell

    def _run(self, name: str, *arguments: Any, durable: bool = False) -> Any:
        """Run a script; whoever is idle here and has not said so says it before."""
        if self._bell is not None:
            self._bell.tell()
        return self._link.run(name, self._link.time(), *arguments, durable=durable)

    # -- the life of an invocation -----------------------------------------------------------------------------------
    def submit(
        self,
        new: Sequence[New],
        blobs: Sequence[Blob] = (),
        *,
        max_queue_length: int = 0,
        connection: object | None = None,
    ) -> list[Submitted]:
        if connection is not None:
            raise StoreError(
                "calls cannot be a part of a transaction in Redis: use the SQLite or the PostgreSQL store for that"
            )
        if not new:
            return []
        alike = len(new) > 1 and are_alike(new)
        usual = not (blobs or max_queue_length) and all(map(is_plain, new[:1] if alike else new))
        if len(new) == 1 and usual and not new[0].priority:
            answer = self._submit_one(new[0])
        else:
            if usual and len(new) > 1:
                usual = len({each.id for each in new}) == len(new)
            sent = [part for blob in blobs for part in (blob.key, blob.data)]
            groups, calls = groups_of(new, alike=alike), calls_of(new, alike=alike)
            values = ("1" if usual else "0", max_queue_length, groups, len(blobs), *sent, *calls)
            answer = self._run("submit", *values, durable=True)
        if answer is None:
            return [Submitted(each.id, _REGISTERED, False, each.args_digest) for each in new]
        if answer and isinstance(answer[0], bytes):
            raise refusals.of_submission(answer, max_queue_length)
        return [
            Submitted(name.decode(), STATUSES[status], there == 1, digest.decode())
            for name, status, there, digest in answer
        ]

    def _submit_one(self, new: New) -> Any:
        """The shortest way, of most single calls."""
        kind = tally_name(_REGISTERED, new.queue, new.task)
        return self._run("submit", "2", 0, b"", 0, new.id, head_of(new) + new.args, new.queue, kind, durable=True)

    def claim(self, request: ClaimRequest) -> Claim:
        asked, mark = self._request(request)
        answer = self._link.run("claim", self._link.time(), asked)
        return self._claimed(request, answer, mark)

    def _request(self, request: ClaimRequest) -> tuple[bytes, int]:
        """A request as it is sent, and what is needed when it was answered."""
        client, wanted, before = self._bell.mark() if self._bell is not None else ("", [], 0)
        return request_of(request, client, wanted), before if client else -1

    def _claimed(self, request: ClaimRequest, answer: Sequence[Any], mark: int) -> Claim:
        if answer[0] == b"lost":
            raise RunnerLostError(f"runner {request.runner} has no lease: it must register again under a new id")
        claim = claim_of(answer)
        if mark >= 0 and self._bell is not None and len(claim.batch) < request.limit:
            self._bell.marked(mark)
        return claim

    def start(self, runner: str, refs: Sequence[Ref], at: Microseconds) -> list[str]:
        if not refs:
            return []
        pairs = [part for ref in refs for part in (str(ref.id), ref.attempt)]
        return _names(self._run("start", runner, at, *pairs))

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        if not outcomes and request is None:
            return Finished()
        parts: list[Any] = []
        for each in outcomes:
            parts += (each.id, outcome_of(each), each.payload)
        asked, mark = self._request(request) if request is not None else (b"", -1)
        answer = self._link.run("finish", self._link.time(), asked, runner, *parts, durable=bool(outcomes))
        if request is None:
            return Finished(tuple(_names(answer[0])))
        if answer[0] == b"lost":
            return Finished((), self._claimed(request, answer, mark))
        return Finished(tuple(_names(answer[0])), self._claimed(request, answer[1], mark))

    def report(self, runner: str, progress: Sequence[Progress]) -> list[str]:
        if not progress:
            return []
        parts = [part for each in progress for part in (str(each.id), each.attempt, encode(each))]
        return _names(self._run("report", runner, *parts))

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        if not ids:
            return []
        values = (change.kind.value, change.reason, repr(change.priority), change.value, change.attempt)
        answer = self._run("amend", *values, *map(str, ids), durable=True)
        pairs = zip(ids, answer[::2], answer[1::2], strict=True)
        return [Amended(name, ok == 1, STATUSES[status] if status >= 0 else None) for name, ok, status in pairs]

    # -- runners -------------------------------------------------------------------------------------------------------
    def heartbeat(self, beats: Sequence[Beat]) -> list[Orders]:
        if not beats:
            return []
        parts: list[Any] = []
        for beat in beats:
            about = (beat.group, int(beat.supervised), beat.lease, beat.tasks, beat.queues)
            parts += (beat.id, encode(msgspec.structs.replace(beat, tasks=())), encode(about))
        answer = self._run("heartbeat", *parts)
        if self._server_clock:
            self._server_clock.measure()
        return [Orders(each[0] == 1, tuple(_names(each[2:])), len(each) > 1 and each[1] == 1) for each in answer]

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        answer = self._run("recover", by, limit, error, durable=True)
        return [
            Recovered(answer[i].decode(), answer[i + 1].decode(), STATUSES[answer[i + 2]])
            for i in range(0, len(answer), 3)
        ]

    def expire(self, limit: int) -> int:
        return int(self._run("expire", limit, durable=True))

    def retire(self, runners: Sequence[str]) -> int:
        return int(self._run("retire", *runners)) if runners else 0

    def owned(self, runner: str) -> list[Claimed]:
        return reading.owned(self._link, runner)

    # -- waiting --------------------------------------------------------------------------------------------------------
    def finals(self, ids: Sequence[str]) -> list[Final]:
        return reading.finals(self._link, ids) if ids else []

    def watch(
        self, ids: Sequence[str], wake: Wake, *, waiter: Ref | None = None, request: ClaimRequest | None = None
    ) -> Watch:
        bell = self._ringer
        close = None if waiter is None else partial(self._stop_waiting, waiter)
        name, attempt = (str(waiter.id), waiter.attempt) if waiter else ("", 0)
        watch = bell.watch(ids, wake, name, close)
        try:
            asked, mark = self._request(request) if request is not None else (b"", -1)
            tie = "+" if len(watch.ids) == 1 else "-"
            values: tuple[Any, ...] = (asked, bell.client, tie, name, attempt, *watch.ids)
            answer = self._link.run("watch", self._link.time(), *values, again=request is None)
            if answer[0] == b"circle":
                cycle = _names(answer[1:])
                raise never_ending(cycle, {row.id: row.task for row in self.get(cycle)})
            if request is not None and (answer[0] == b"lost" or answer[1]):
                watch.claim = self._claimed(request, answer if answer[0] == b"lost" else answer[1], mark)
            if answer[0] != b"lost":
                watch.since(answer[3])
            if len(answer) > 2 and answer[2]:
                watch.final = final_of(watch.ids[0], answer[2])
        except BaseException:
            bell.unwatch(watch)
            raise
        if answer[0] == 1:
            wake()
        return watch

    def _stop_waiting(self, waiter: Ref, ids: Sequence[str]) -> None:
        """Forget the edges of a wait to what is not known to be final. When the server is away they last until the attempt of the waiter ends."""
        try:
            if self._link.is_open:
                self._run("unwait", str(waiter.id), waiter.attempt, *ids)
        except StoreError as error:
            if not error.retryable:
                raise

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:
        return self._ringer.listen(queues, wake)

    # -- values ----------------------------------------------------------------------------------------------------------
    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Owner | None = None
    ) -> dict[str, bytes]:
        if not (items or by):
            return {}
        owner = (str(by.id), by.attempt, by.runner) if by else ("", 0, "")
        parts = [part for item in items.items() for part in item]
        answer = self._run("remember", scope, int(once), *owner, *parts, durable=True)
        return dict(zip(items, answer, strict=True)) if answer else {}

    def recall(self, scope: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        return reading.recall(self._link, scope, keys)

    def put_blobs(self, blobs: Sequence[Blob]) -> None:
        if blobs:
            self._run("put_blobs", *[part for blob in blobs for part in (blob.key, blob.data)], durable=True)

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        return reading.get_blobs(self._link, keys) if keys else {}

    def lease(self, name: str, owner: str, ttl: Microseconds) -> bool:
        answer: int = self._run("lease", name, owner, ttl)
        return answer == 1

    def purge(self, purge: Purge) -> Purged:
        if purge.everything:
            answer = self._run("purge_all", purge.limit, durable=True)
        else:
            now = self.clock.now()
            borders = (purge.ended_before, now - purge.blob_grace, purge.limit, now - LONG_GONE)
            answer = self._run("purge", *borders, durable=True)
        return Purged(answer[0], answer[1], answer[2], answer[3] == 1)

    # -- reactions -------------------------------------------------------------------------------------------------------
    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        self._run("subscribe", owner, *reactions_of(reactions), durable=True)

    # -- queues -----------------------------------------------------------------------------------------------------------
    def queues(self) -> list[QueueInfo]:
        return reading.queues(self._run("queues"))

    def set_queue(self, name: str, state: QueueState) -> None:
        self._run("set_queue", name, state.value, durable=True)

    # -- reading -----------------------------------------------------------------------------------------------------------
    def get(self, ids: Sequence[str]) -> list[Invocation]:
        return reading.get(self._link, ids)

    def find(self, where: Filter, page: Page = FIRST_PAGE) -> Found:
        return reading.find(self._link, where, page)

    def count(self, where: Filter, by: str = "status") -> dict[str, int]:
        return reading.count(self._link, where, by)

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        return reading.history(self._link, ids)

    def runners(self) -> list[RunnerInfo]:
        return reading.runners(self._link, self.clock)

    def check(self) -> list[str]:
        return checking.check(self._link)


_REGISTERED = InvocationStatus.REGISTERED
#: The hash tag of a cluster ends at the first brace.
_BRACES = {ord("{"): "%7B", ord("}"): "%7D", ord("%"): "%25"}


def _names(texts: Sequence[bytes]) -> list[str]:
    return [text.decode() for text in texts]


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()
#: What a forked child got from its parent: kept, because closing it would disturb the parent.
_inherited: list[object] = []


def _after_fork() -> None:
    for store in list(_stores):
        store._after_fork()


os.register_at_fork(after_in_child=_after_fork)
