"""The store object: each operation of the contract is one transaction of the modules beside this one."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

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
)
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, StoreError
from pynenc.store.base import FIRST_PAGE, Clock, IdleListener, SystemClock, Wake, Watch
from pynenc.store.sqlite import (
    amending,
    claiming,
    damage,
    finishing,
    purging,
    reacting,
    reading,
    running,
    submitting,
    waits,
)
from pynenc.store.sqlite.database import LOOK_EVERY, Database, Tx
from pynenc.store.sqlite.joined import Joined
from pynenc.store.sqlite.opening import check_library, explained
from pynenc.store.sqlite.schema import json_list
from pynenc.store.sqlite.signs import Signs
from pynenc.store.sqlite.wake import Bell

T = TypeVar("T")
logger = logging.getLogger("pynenc.store")

#: Seconds in which no rows that cannot be read are searched for after a search that did not help; or ten times as long as it took.
SEARCH_AGAIN = 5.0

REMEMBER_ONCE = "INSERT INTO $memo (scope, key, value) VALUES (?, ?, ?) ON CONFLICT (scope, key) DO NOTHING"
SET_QUEUE = "INSERT INTO $queue (name, state) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state"
ANY_EDGE_OF = "SELECT 1 FROM $edge WHERE waiter = ? AND awaited IN (SELECT value FROM json_each(?)) LIMIT 1"


class SqliteStore:
    """Invocations of one app in an SQLite file.

    :param url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``, with ``?synchronous=normal`` (default), ``full`` or ``off``.

    With ``normal`` everything that was accepted survives the death of any process; with ``full`` a power cut as well.
    """

    shared = True

    def __init__(self, url: str, app_id: str, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.display_url = url
        self.path, self._synchronous = _parse(url)
        self._folder = Path(f"{self.path}-run")
        self._app_id = app_id
        self._database = Database(
            self.path, self._folder, app_id, self._synchronous, self.clock, reacting.react, self._ring
        )
        self._signs = Signs(self._folder, app_id)
        self._bell: Bell | None = None
        self._is_closed = True
        #: Not before this time, in monotonic seconds, rows that cannot be read are searched for again.
        self._search_at = 0.0
        self._joined = self._expect_commits()
        _stores.add(self)

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        if self._bell is not None:
            return
        check_library()
        self._is_closed = False
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database.open()
            self._bell = Bell(self._folder, self._finals_among)
        except OSError as error:
            raise explained(error, self.path) from error

    def close(self) -> None:
        self._is_closed = True
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()
        self._signs.close()
        self._database.close()

    def schema_version(self) -> str:
        """The version of the schema that is there, also while this is not open; empty when there is none."""
        if not self.path.exists():
            return ""
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                found = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        return str(found) if found else ""

    def declare_dead(self, group: str) -> None:
        """Stop showing that the process behind ``group`` lives, as its death would."""
        self._signs.release(group)

    def _after_fork(self) -> None:
        """In a forked child: nothing of the parent may be used or closed. What is needed is opened again when it is needed."""
        _inherited.append((self._bell, self._signs))
        self._bell = None
        self._signs = Signs(self._folder, self._app_id)
        self._database.abandon()
        self._joined = self._expect_commits()

    def _expect_commits(self) -> Joined:
        return Joined(self._database, self._tell_of)

    def _tell_of(self, ready: int) -> None:
        """Wake runners for so many calls that may have become claimable."""
        if not self._is_closed:
            (self._bell or self._ringer).ring(ready, (), orders=False)

    @property
    def _ringer(self) -> Bell:
        """The bell of this process.

        :raises StoreError: the store is closed.
        """
        bell = self._bell
        if bell is None:
            if self._is_closed:
                raise StoreError("the store is closed: open it again, or use another app object")
            if not self._database.is_open:
                self._database.reopen()
            self._bell = bell = Bell(self._folder, self._finals_among)
        return bell

    def _ring(self, tx: Tx) -> None:
        if not self._is_closed:
            (self._bell or self._ringer).ring(tx.ready, tx.finals, tx.known, orders=tx.orders)

    def _finals_among(self, ids: Sequence[str]) -> dict[str, Final | None]:
        if len(ids) == 1:
            return {final.id: final for final in self.finals(ids)}
        return dict.fromkeys([name for (name,) in self._database.query(reading.ALL_FINAL, json_list(ids))])

    # -- the life of an invocation -----------------------------------------------------------------------------------
    def submit(
        self,
        new: Sequence[New],
        blobs: Sequence[Blob] = (),
        *,
        max_queue_length: int = 0,
        connection: object | None = None,
    ) -> list[Submitted]:
        if not new:
            return []
        if connection is not None:
            work = partial(submitting.submit, new=new, blobs=blobs, max_queue_length=max_queue_length)
            answers = self._database.join(connection, work)
            self._joined.expect(answers[-1].id, len(answers))
            return answers
        if len(new) == 1 and not max_queue_length:
            now = self.clock.now()
            if not 0 <= now - self._database.looked < LOOK_EVERY:
                self._database.look(now)
            if submitting.submit_alone(self._database, new[0], now):
                self._tell_of(1)
                return [Submitted(new[0].id, InvocationStatus.REGISTERED)]
        return self._database.combine(
            partial(submitting.submit, new=new, blobs=blobs, max_queue_length=max_queue_length)
        )

    def claim(self, request: ClaimRequest) -> Claim:
        work = partial(claiming.claim, request=request)
        try:
            return self._database.write(work, durable=False)
        except damage.DAMAGE as error:
            return self._again(error, lambda: self._database.write(work, durable=False))

    def _careful(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:
        """Do work that reads rows in one transaction, whatever somebody wrote into them by hand."""
        try:
            return self._database.write(work, durable=durable)
        except damage.DAMAGE as error:
            return self._again(error, lambda: self._database.write(work, durable=durable))

    def _again(self, error: Exception, attempt: Callable[[], T]) -> T:
        """Do what failed with ``error`` after rows that cannot be read were put out of its way, by this process or another. When that does not
        help, nothing is searched for a while.

        :raises Exception: what is wrong still.
        """
        while (began := time.monotonic()) >= self._search_at:
            was_in_vain = not self._end_unreadable()
            try:
                return attempt()
            except damage.DAMAGE as more:
                error = more
                if was_in_vain:
                    self._search_at = time.monotonic() + max(SEARCH_AGAIN, 10 * (time.monotonic() - began))
        raise error

    def _end_unreadable(self) -> list[str]:
        """End rows that cannot be read; the ids of it."""
        seqs = [seq for (seq,) in self._database.query(damage.BROKEN)]
        ended = self._database.write(lambda tx: damage.end_unreadable(tx, seqs)) if seqs else []
        if ended:
            names = ", ".join(ended)
            logger.error("%d invocation(s) failed, because their rows cannot be read: %s", len(ended), names)
        return ended

    def start(self, runner: str, refs: Sequence[Ref], at: Microseconds) -> list[str]:
        if not refs:
            return []
        return self._database.write(lambda tx: finishing.start(tx, runner, refs, at), durable=False)

    def finish(self, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None) -> Finished:
        if not outcomes and request is None:
            return Finished()
        work = partial(finishing.finish, runner=runner, outcomes=outcomes, request=request, clock=self.clock)
        try:
            return self._database.write(work)
        except damage.DAMAGE as error:
            return self._again(error, lambda: self._database.write(work))

    def report(self, runner: str, progress: Sequence[Progress]) -> list[str]:
        return self._database.write(lambda tx: finishing.report(tx, runner, progress), durable=False)

    def amend(self, ids: Sequence[str], change: Change) -> list[Amended]:
        return self._careful(lambda tx: amending.amend(tx, ids, change)) if ids else []

    # -- runners -------------------------------------------------------------------------------------------------------
    def heartbeat(self, beats: Sequence[Beat]) -> list[Orders]:
        if not beats:
            return []
        for group in {beat.group for beat in beats}:
            self._signs.hold(group)
        return self._careful(lambda tx: running.heartbeat(tx, beats, self.clock), durable=False)

    def recover(self, by: str, limit: int, error: bytes) -> list[Recovered]:
        found = self._database.read(lambda tx: running.victims(tx, by, self.clock, self._signs.is_dead))
        if not found:
            return []

        def work(tx: Tx) -> list[Recovered]:
            victims = running.victims(tx, by, self.clock, self._signs.is_dead)
            return running.recover(tx, victims, limit, error)

        recovered = self._careful(work)
        self._forget_groups({victim.group for victim in found})
        return recovered

    def expire(self, limit: int) -> int:
        if not self._database.query(running.ANY_OVERDUE, self.clock.now()):
            return 0
        return self._careful(lambda tx: running.expire(tx, limit))

    def retire(self, runners: Sequence[str]) -> int:
        if not runners:
            return 0
        count = self._careful(lambda tx: running.retire(tx, runners))
        for name in runners:
            self._forget_groups({name})
        return count

    def _forget_groups(self, groups: set[str]) -> None:
        """Remove the signs of groups that have no runners any more."""
        living = {info.beat.group for info in self.runners()}
        owing = self._database.read(running.groups_that_owe)
        for group in groups - living - owing:
            self._signs.forget(group)

    def owned(self, runner: str) -> list[Claimed]:
        try:
            return self._database.read(lambda tx: claiming.owned(tx, runner))
        except damage.DAMAGE as error:
            return self._again(error, lambda: self._database.read(lambda tx: claiming.owned(tx, runner)))

    # -- waiting --------------------------------------------------------------------------------------------------------
    def finals(self, ids: Sequence[str]) -> list[Final]:
        if not ids:
            return []
        is_one = len(ids) == 1
        found = self._database.query(*((reading.FINAL, ids[0]) if is_one else (reading.FINALS, json_list(ids))))
        if not (finals := reading.finals(found, ids)):
            self._database.look(self.clock.now())  # whoever waits must not do so for ever
        return finals

    def watch(
        self, ids: Sequence[str], wake: Wake, *, waiter: Ref | None = None, request: ClaimRequest | None = None
    ) -> Watch:
        bell = self._ringer
        close = None if waiter is None else lambda left: self._stop_waiting(waiter, left)
        watch = bell.watch(ids, wake, close)
        try:
            if waiter is not None:
                work = partial(amending.wait, waiter=waiter, ids=ids, request=request)
                try:
                    is_over, watch.claim = self._database.write(work, durable=False)
                except damage.DAMAGE as error:
                    is_over, watch.claim = self._again(error, lambda: self._database.write(work, durable=False))
            else:
                is_over = bool(self._database.query(reading.ANY_FINAL, json_list(ids)))
        except BaseException:
            bell.unwatch(watch)
            raise
        if is_over:
            wake()
        return watch

    def _stop_waiting(self, waiter: Ref, ids: Sequence[str]) -> None:
        """Forget the edges of a wait to what is not known to be final, if there are any."""
        if not self._database.is_open:
            return
        if self._database.query(ANY_EDGE_OF, waiter.id, json_list(ids)):
            edges = [(waiter.id, name, waiter.attempt) for name in ids]
            self._database.write(lambda tx: tx.many(waits.DROP_EDGE, edges), durable=False)

    def listen(self, queues: Sequence[str], wake: Wake) -> IdleListener:
        return self._ringer.listen(wake, is_picky=bool(queues))

    # -- values ----------------------------------------------------------------------------------------------------------
    def remember(
        self, scope: str, items: Mapping[str, bytes], *, once: bool = False, by: Owner | None = None
    ) -> dict[str, bytes]:
        def work(tx: Tx) -> dict[str, bytes]:
            if by is not None and not finishing.get_on(tx, by):
                return {}
            rows = [(scope, key, value) for key, value in items.items()]
            written = tx.many(REMEMBER_ONCE if once else amending.REMEMBER, rows)
            return dict(items) if written == len(rows) else reading.recall(tx, scope, items)

        return self._database.combine(work) if items or by else {}

    def recall(self, scope: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        return self._database.read(lambda tx: reading.recall(tx, scope, keys))

    def put_blobs(self, blobs: Sequence[Blob]) -> None:
        self._database.write(lambda tx: submitting.put_blobs(tx, blobs))

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self._database.read(lambda tx: reading.get_blobs(tx, keys)) if keys else {}

    def lease(self, name: str, owner: str, ttl: Microseconds) -> bool:
        return self._database.write(lambda tx: running.lease(tx, name, owner, ttl, self.clock), durable=False)

    def purge(self, purge: Purge) -> Purged:
        return self._database.write(lambda tx: purging.purge(tx, purge, self.clock))

    # -- reactions -------------------------------------------------------------------------------------------------------
    def subscribe(self, owner: str, reactions: Sequence[Reaction]) -> None:
        self._database.write(lambda tx: reacting.subscribe(tx, owner, reactions))

    # -- queues -----------------------------------------------------------------------------------------------------------
    def queues(self) -> list[QueueInfo]:
        return self._database.read(reading.queues)

    def set_queue(self, name: str, state: QueueState) -> None:
        def work(tx: Tx) -> None:
            tx.run(SET_QUEUE, name, state.value)
            tx.ready += sys.maxsize if state is not QueueState.PAUSED else 0

        self._database.write(work)

    # -- reading -----------------------------------------------------------------------------------------------------------
    def get(self, ids: Sequence[str]) -> list[Invocation]:
        return self._database.read(lambda tx: reading.get(tx, ids))

    def find(self, where: Filter, page: Page = FIRST_PAGE) -> Found:
        return self._database.read(lambda tx: reading.find(tx, where, page))

    def count(self, where: Filter, by: str = "status") -> dict[str, int]:
        return self._database.read(lambda tx: reading.count(tx, where, by))

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        return self._database.read(lambda tx: reading.history(tx, ids))

    def runners(self) -> list[RunnerInfo]:
        found = self._database.read(lambda tx: running.runners(tx, self.clock))
        dead = {group for group in {info.beat.group for info in found if info.alive} if self._signs.is_dead(group)}
        return [msgspec.structs.replace(info, alive=False) if info.beat.group in dead else info for info in found]

    def check(self) -> list[str]:
        return self._database.read(reading.check)


def _parse(url: str) -> tuple[Path, str]:
    """The path and the durability that a URL names."""
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path:
        raise ConfigError(f"{url!r} names no file: write sqlite:///relative.db or sqlite:////absolute/path.db")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "normal").lower()
    if options or synchronous not in ("normal", "full", "off"):
        raise ConfigError(f"{url!r}: the only option of a sqlite URL is synchronous=normal, full or off")
    return Path(path).absolute(), synchronous


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
#: What a forked child got from its parent: kept, because closing it would disturb the parent.
_inherited: list[object] = []


class _Forking(local):
    """What a thread that forks has paused."""

    def __init__(self) -> None:
        self.paused: list[tuple[Database, list[Lock]]] = []


_forking = _Forking()


def _before_fork() -> None:
    for store in sorted(_stores, key=id):  # in one order in all threads
        held: list[Lock] = []
        _forking.paused.append((store._database, held))
        store._database.pause(held)


def _after_fork_in_parent() -> None:
    while _forking.paused:
        database, held = _forking.paused.pop()
        database.resume(held)


def _after_fork_in_child() -> None:
    _forking.paused.clear()
    for store in list(_stores):
        store._after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
