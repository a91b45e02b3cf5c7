"""Transactions on one SQLite file: one writer a process behind a gate between processes, readers beside it.

A writer takes the lock of its process, then the *gate*, an exclusive ``flock`` on a file of its own, then begins. So SQLite's busy handler, which
sleeps up to 100 ms and starves some processes for seconds, is needed only against programs that do not know the gate. Callers that meet at the
lock are served together: see :meth:`Database.combine`.

A file that is removed or replaced goes on to work for whoever has it open, and what is written there is lost. So the path is looked at now and
then: see :meth:`Database.look`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import msgspec

from pynenc.core.records import Final
from pynenc.exceptions import SchemaError, StoreError, StoreGoneError
from pynenc.store.base import Clock
from pynenc.store.sqlite.opening import BUSY_SECONDS, explained, prepare

T = TypeVar("T")

#: Seconds between two looks of a fork for readers that are still at it.
PAUSE = 0.0002
#: Bytes of a page of a new file. A commit of one call writes three pages, so small ones make it a tenth faster, and large ones bulk by as little as 3 %.
PAGE_SIZE = 2048
#: Pages of WAL after which a commit copies it back into the database: 16 MB.
CHECKPOINT_PAGES = 8000
#: What "full" means on macOS, where fsync alone does not reach the disk; elsewhere without effect.
FULLFSYNC = ("fullfsync=ON", "checkpoint_fullfsync=ON")
#: KiB of pages that a connection keeps in memory.
WRITER_CACHE, READER_CACHE = 8192, 2048
#: Microseconds between two looks at whether the open file is still the one of its path.
LOOK_EVERY = 500_000
#: Tries before a writer waits in the queue of the kernel: (sleep in seconds, times).
GATE_TRIES = ((0.00002, 5), (0.0002, 10), (0.001, 10))

_PRAGMAS = (
    f"page_size={PAGE_SIZE}",
    "journal_mode=WAL",
    "temp_store=MEMORY",
    f"wal_autocheckpoint={CHECKPOINT_PAGES}",
    "journal_size_limit=67108864",
)


class Texts(dict[str, str]):
    """Statements with the prefix of one app filled in, made once each."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, text: str) -> str:
        self[text] = made = text.replace("$", self.prefix)
        return made


class Tx(msgspec.Struct):
    """One transaction, and what it means for those who sleep: told to them after the commit.

    The statements of every call do without the methods, where one function call less counts: ``tx.execute(tx.texts[TEXT], values)``.

    :ivar ready: how many invocations may have become claimable. :ivar finals: ids that became final.
    :ivar known: one of these finals, where it is at hand, with a time in this transaction, in seconds of the monotonic clock.
    :ivar orders: whether a runner has a new order.
    :ivar changes: what may be reacted to: id, task, code of the status, round and attempt.
    """

    execute: Callable[..., sqlite3.Cursor]
    executemany: Callable[..., sqlite3.Cursor]
    texts: Texts
    now: int
    ready: int = 0
    finals: list[str] = []
    known: tuple[float, Final] | None = None
    orders: bool = False
    changes: list[tuple[str, str, int, int, int]] = []

    def run(self, text: str, *values: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        return self.execute(self.texts[text], values)

    def all(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.execute(self.texts[text], values).fetchall()

    def one(self, text: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a query, if there is one."""
        found: tuple[Any, ...] | None = self.execute(self.texts[text], values).fetchone()
        return found

    def value(self, text: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.execute(self.texts[text], values).fetchone()
        return found[0] if found else None

    def many(self, text: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute a statement for each row of values; how many rows of the table were changed."""
        return self.executemany(self.texts[text], rows).rowcount


class Pending:
    """A caller that waits for its turn at the writing connection."""

    __slots__ = ("error", "is_done", "result", "work")

    def __init__(self, work: Callable[[Tx], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False


class Database:
    """The connections of one store object.

    :param react: completes a transaction with changes that may be reacted to.
    :param after: is told of each transaction after its commit, outside all locks.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        app_id: str,
        synchronous: str,
        clock: Clock,
        react: Callable[[Tx], None],
        after: Callable[[Tx], None],
    ) -> None:
        self._path = path
        self._folder = folder
        self._app_id = app_id
        self._synchronous = synchronous
        self._now = clock.now
        self._react = react
        self._after = after
        self._texts = Texts("")
        self._writer: sqlite3.Connection | None = None
        #: Those that nobody uses, and those of them that a fork keeps from being used; and how many there are in all.
        self._readers: list[sqlite3.Connection] = []
        self._resting: list[sqlite3.Connection] = []
        self._count = 0
        self._making = Lock()
        self._lock = Lock()
        #: Held by who does the work of all in ``_waiting``.
        self._turn = Lock()
        self._waiting: deque[Pending] = deque()
        self._gate = -1
        #: Which file is open (device and number), and when that was still the one of the path.
        self._file = (0, 0)
        self.looked = 0
        self._is_durable = True
        self.is_open = False
        self._must_reopen = False

    # -- life ----------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect, and create or verify the schema.

        :raises SchemaError: the file has a schema of a later version, or is not ours.
        :raises StoreError: it cannot be opened.
        """
        with self._lock:
            if self.is_open:
                return
            try:
                self._gate = os.open(self._folder / "gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._enter_gate()
                try:
                    self._writer = self._connect(WRITER_CACHE)
                    self._file = _identity(self._path)
                    self._texts = Texts(prepare(self._writer, self._app_id))
                finally:
                    self._leave_gate()
            except (OSError, sqlite3.Error) as error:
                self._release()
                raise explained(error, self._path) from error
            except SchemaError:
                self._release()
                raise
            self.is_open = True

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self.is_open = self._must_reopen = False
            self._release()

    def _release(self) -> None:
        """Close all connections, behind the gate: the last one checkpoints, and some releases of SQLite must not do that beside a commit."""
        connections = self._take_all()
        if connections and self._gate >= 0:
            self._enter_gate()
        for connection in connections:
            connection.close()
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def _take_all(self) -> list[sqlite3.Connection]:
        """All connections, but for those that are in use; they are no longer ours."""
        with self._making:
            readers, self._readers = self._readers, []
            self._count -= len(readers)
        writer, self._writer = self._writer, None
        return readers if writer is None else [writer, *readers]

    def pause(self, held: list[Lock]) -> None:
        """Before a fork: let what other threads do end, if that takes no longer than it may. What is locked within SQLite then stays so for ever in the child.

        :param held: gets what :meth:`resume` gives back, also if a signal interrupts this: Python forks all the same.
        """
        for lock in (self._lock, self._making):
            if lock.acquire(timeout=BUSY_SECONDS):
                held.append(lock)  # noqa: PERF401  # at once: a signal may interrupt it
        until = time.monotonic() + BUSY_SECONDS
        while self._making in held and len(self._resting) < self._count and time.monotonic() < until:
            try:
                self._resting.append(self._readers.pop())
            except IndexError:
                time.sleep(PAUSE)

    def resume(self, held: list[Lock]) -> None:
        """After it, in the parent."""
        if self._making in held:
            self._wake_readers()
        while held:
            held.pop().release()

    def _wake_readers(self) -> None:
        while self._resting:
            self._readers.append(self._resting.pop())

    def abandon(self) -> None:
        """In a forked child: other connections are opened when they are needed.

        Those of the parent are closed, which no other process notices. As long as one is open, SQLite takes the parent's locks on the file for this
        process's own: others would take down the log of the database when the parent has ended, and what is written here from then on would be lost.
        """
        self._making, self._lock, self._turn = Lock(), Lock(), Lock()
        self._waiting = deque()
        self._wake_readers()
        for connection in self._take_all():
            with suppress(sqlite3.Error):
                connection.close()
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
        self._must_reopen = self._must_reopen or self.is_open
        self.is_open = False

    def reopen(self) -> None:
        """Open again after a fork.

        :raises StoreError: the store was closed.
        """
        if not (self._must_reopen or self.is_open):  # another thread may have been faster
            raise StoreError("the store is closed: open it again, or use another app object")
        self.open()
        self._must_reopen = False

    def look(self, now: int) -> None:
        """See whether the open file is still the one of its path, if nobody did so a moment ago.

        :raises StoreGoneError: it is not.
        """
        if 0 <= now - self.looked < LOOK_EVERY or self._file == (0, 0):
            return
        try:
            found = _identity(self._path)
        except (FileNotFoundError, NotADirectoryError):
            found = (0, 0)
        except OSError:
            return  # nobody can tell
        if found != self._file:
            how = "replaced" if any(found) else "removed"
            raise StoreGoneError(
                f"{self._path} was {how} while it was in use: nothing more is written; start again to use the file that is there then"
            )
        self.looked = now

    def _connect(self, cache: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            for pragma in (*_PRAGMAS, f"synchronous={self._synchronous}", *FULLFSYNC, f"cache_size=-{cache}"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    # -- the gate ------------------------------------------------------------------------------------------------------
    def _enter_gate(self) -> None:
        try:
            flock(self._gate, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            self._wait_at_gate()

    def _wait_at_gate(self) -> None:
        """Another process writes: try again soon, then queue."""
        for pause, times in GATE_TRIES:
            for _ in range(times):
                time.sleep(pause)
                try:
                    flock(self._gate, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    continue
                return
        flock(self._gate, LOCK_EX)

    def _leave_gate(self) -> None:
        flock(self._gate, LOCK_UN)

    # -- transactions --------------------------------------------------------------------------------------------------
    def write(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:
        """Do ``work`` in one transaction.

        :param durable: whether a power cut must not undo it; only asked when ``synchronous`` is full.
        """
        if self._must_reopen:
            self.reopen()
        with self._lock:
            try:
                writer = self._writer
                if writer is None or (durable is not self._is_durable and self._synchronous == "full"):
                    writer = self._prepared(durable)
                try:
                    flock(self._gate, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    self._wait_at_gate()
                try:
                    writer.execute("BEGIN IMMEDIATE")
                    tx = Tx(writer.execute, writer.executemany, self._texts, self._now())
                    if not 0 <= tx.now - self.looked < LOOK_EVERY:
                        self.look(tx.now)
                    result = work(tx)
                    if tx.changes:
                        self._react(tx)
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise
                finally:
                    flock(self._gate, LOCK_UN)
            except (sqlite3.Error, OSError) as error:
                raise explained(error, self._path) from error
        if tx.ready or tx.finals or tx.orders:
            self._after(tx)
        return result

    def _prepared(self, durable: bool) -> sqlite3.Connection:  # noqa: FBT001  # one of two ways to say it, both here
        """The writing connection in the wanted mode."""
        if self._writer is None:
            raise StoreError("the store is closed: open it again, or use another app object")
        self._writer.execute(f"PRAGMA synchronous={'full' if durable else 'normal'}")
        self._is_durable = durable
        return self._writer

    def insert(self, text: str, values: tuple[Any, ...]) -> bool:
        """Insert one row by one statement, which is a transaction by itself; whether the row is there now because of it.

        It does not even try while others write: they are better served by :meth:`combine`.
        """
        if self._waiting or self._must_reopen or not self._lock.acquire(blocking=False):
            return False
        try:
            writer = self._writer if self._is_durable and self._writer else self._prepared(durable=True)
            try:
                flock(self._gate, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                self._wait_at_gate()
            try:
                return writer.execute(self._texts[text], values).rowcount == 1
            finally:
                flock(self._gate, LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self._path) from error
        finally:
            self._lock.release()

    def combine(self, work: Callable[[Tx], T]) -> T:
        """Do ``work`` in one transaction, together with that of all who wait at the lock; an error of one does not touch the others.

        Flat combining (Hendler, Incze, Shavit and Tzafrir, SPAA 2010): whoever gets the lock does the work of everybody.
        """
        if not (self._waiting or self._lock.locked()):
            return self.write(work)
        met: T = self._meet(Pending(work))
        return met

    def _meet(self, mine: Pending) -> Any:
        """Wait until somebody has done the work, or do that of everybody who waits when the transaction begins."""
        self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                self._serve_all(mine)
        if mine.error is not None:
            raise mine.error
        return mine.result

    def _serve_all(self, mine: Pending) -> None:
        group: list[Pending] = []

        def work(tx: Tx) -> None:
            group.extend(self._waiting.popleft() for _ in range(len(self._waiting)))
            _serve(tx, group, self._path)

        try:
            self.write(work)
        except StoreError as error:
            for each in group or [mine]:
                each.error = each.error or error
            if not group:
                self._waiting.remove(mine)
        except BaseException:
            # This thread was interrupted: the others go on without it.
            self._waiting.extendleft(reversed(group))
            self._waiting.remove(mine)
            raise
        for each in group:
            each.is_done = True

    def join(self, connection: object, work: Callable[[Tx], T]) -> T:
        """Do ``work`` in a transaction that is somebody else's to commit, on their connection; it begins one if there is none.

        :raises StoreError: it is no connection to this file.
        """
        if not self.is_open:
            self.reopen()
        if not isinstance(connection, sqlite3.Connection):
            raise StoreError(
                f"a {type(connection).__name__} is no connection to {self._path}: give a sqlite3.Connection"
            )
        texts, connection.text_factory = connection.text_factory, str
        try:
            if not _leads_to(connection, self._path):
                raise StoreError(f"the connection leads to another database than {self._path}: connect to that file")
            cursor = connection.cursor()
            cursor.row_factory = None
            if not connection.in_transaction:
                cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("SAVEPOINT call")
            try:
                return work(Tx(cursor.execute, cursor.executemany, self._texts, self._now()))
            except BaseException:
                cursor.execute("ROLLBACK TO call")
                raise
            finally:
                cursor.execute("RELEASE call")
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        finally:
            connection.text_factory = texts

    def read(self, work: Callable[[Tx], T]) -> T:
        """Do ``work`` on one consistent state, beside the writers."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._new_reader()
        try:
            connection.execute("BEGIN")
            try:
                tx = Tx(connection.execute, connection.executemany, self._texts, self._now())
                self.look(tx.now)
                return work(tx)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        finally:
            self._readers.append(connection)
            if not self.is_open:
                self.close()

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of one query, which needs no transaction to be consistent."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._new_reader()
        try:
            return connection.execute(self._texts[text], values).fetchall()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        finally:
            self._readers.append(connection)
            if not self.is_open:
                self.close()

    def _new_reader(self) -> sqlite3.Connection:
        if not self.is_open:
            self.reopen()
        with self._making:
            try:
                connection = self._connect(READER_CACHE)
                connection.execute("PRAGMA query_only=ON")
            except sqlite3.Error as error:
                raise explained(error, self._path) from error
            self._count += 1
            return connection


def _identity(path: Path) -> tuple[int, int]:
    """What tells a file from all others: its device and its number."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _leads_to(connection: sqlite3.Connection, path: Path) -> bool:
    cursor = connection.cursor()
    cursor.row_factory = None
    files = {name: file for _, name, file in cursor.execute("PRAGMA database_list")}
    return bool(files["main"]) and path.samefile(files["main"])


def _serve(tx: Tx, group: Sequence[Pending], path: Path) -> None:
    """Do the work of several callers in one transaction; what fails is undone alone."""
    for each in group:
        tx.run("SAVEPOINT caller")
        ready, known = tx.ready, tx.known
        try:
            each.result = each.work(tx)
        except Exception as error:
            each.error = explained(error, path) if isinstance(error, sqlite3.Error) else error
            tx.run("ROLLBACK TO caller")
            tx.ready, tx.known = ready, known
        tx.run("RELEASE caller")
