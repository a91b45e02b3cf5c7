"""Connections, and how statements travel on them.

Theory of operation
-------------------
Each operation of the store is one call of a function on the server: one round trip, one statement, one commit. Connections are in autocommit mode, keep nothing
in their session, and wait in a stack, so that a pooler between may hand each transaction to another server process. Where several statements
belong together they are sent as one pipeline.

The pool is our own: forked children must leave the connections of their parents alone, no thread may be needed, and a look at the socket tells
whether a connection that waited is still there.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from select import POLLIN
from threading import Lock
from typing import Any, TypeVar

import psycopg
from psycopg import RawCursor

from pynenc.exceptions import PynencError, StoreError
from pynenc.store.postgres import direct, schema, wire
from pynenc.store.postgres.connection import Connection, poll
from pynenc.store.postgres.errors import PASSING, UNPREPARED, explained, is_connection_lost, is_silent
from pynenc.store.postgres.opening import LOCK_TIMEOUT, check_settings, migrate, prepare, version_of
from pynenc.store.postgres.refusal import RefusedError, is_refusal
from pynenc.store.postgres.url import LONGEST_TIMEOUT, Settings

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
#: A statement and its values.
Call = tuple[str, tuple[Any, ...]]

#: How often a transaction is tried again that met others, and the longest pause in seconds.
TRIES, LONGEST_PAUSE = 12, 0.2
#: How often what may be done twice is sent again on another connection.
RESENDS = 3
OLDEST_SERVER = 140000
#: Seconds that opening waits for a server that starts.
OPEN_SECONDS = 5.0
#: Callers that are served together at most.
MOST_TOGETHER = 200


class Database:
    """The connections of one store object."""

    def __init__(self, settings: Settings, app_id: str) -> None:
        self.settings = settings
        self._app_id = app_id
        self._texts: dict[str, bytes] = {}
        self._idle: list[Connection] = []
        #: Turned off behind a pooler that loses prepared statements.
        self._prepares = settings.prepare
        self.app = 0
        #: What tells the schema from all others.
        self.identity: object = None
        self.quoted_schema = schema.quoted(settings.schema)
        self.is_open = False

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect, and create or verify the schema.

        :raises SchemaError: the schema is of a version that this code does not know.
        :raises StoreError: the server does not answer.
        """
        self.is_open = True
        until = time.monotonic() + OPEN_SECONDS
        try:
            while True:
                try:
                    self._prepare()
                    return
                except psycopg.Error as error:
                    if not is_connection_lost(error) or time.monotonic() > until:
                        raise self.explained(error) from error
                time.sleep(LONGEST_PAUSE * (0.5 + random.random()))
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Create or verify the schema, and learn what is needed."""
        connection = self._take()
        try:
            if connection.info.server_version < OLDEST_SERVER:
                raise StoreError(f"{self.settings.display}: this server is too old: PostgreSQL 14 is the least")
            check_settings(connection, self.settings.display)
            self.app, self.identity = prepare(connection, self.settings.schema, self._app_id)
        finally:
            self._give_back(connection)

    def migrate(self) -> list[str]:
        """Take the steps that are missing; what was done."""
        try:
            with self.connect(LONGEST_TIMEOUT) as connection:  # it says nothing while it builds an index
                return migrate(connection, self.settings.schema)
        except psycopg.Error as error:
            raise self.explained(error) from error

    def schema_version(self) -> str:
        """The version of the schema that is there; empty when there is none."""
        try:
            with self.connect() as connection:
                return ".".join(map(str, version_of(connection, self.settings.schema) or ()))
        except psycopg.Error as error:
            raise self.explained(error) from error

    def migration(self) -> str:
        """The SQL of the steps that are missing, as one transaction; empty when none is."""
        try:
            with self.connect() as connection:
                texts = schema.statements(self.settings.schema, version_of(connection, self.settings.schema))
        except psycopg.Error as error:
            raise self.explained(error) from error
        return (
            "\n".join(("BEGIN;", LOCK_TIMEOUT, *(f"{text.rstrip().rstrip(';')};" for text in texts), "COMMIT;\n"))
            if texts
            else ""
        )

    def close(self) -> None:
        """Close all connections that nobody uses; the others close when they are given back."""
        self.is_open = False
        while self._idle:
            self._idle.pop().close()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's. They are kept, unused; others are opened when they are needed."""
        _abandoned.append(self._idle)
        self._idle = []

    def explained(self, error: psycopg.Error) -> PynencError:
        """The error to raise for an error of the driver."""
        return explained(error, self.settings.display, self.settings.schema)

    # -- connections -----------------------------------------------------------------------------------------------------
    def connect(self, patience: float | None = None) -> Connection:
        """A new connection, with the patience that the URL asks for or another one.

        :raises RefusedError: waiting would not give one.
        """
        conninfo = self.settings.conninfo
        try:
            connection = Connection.connect(conninfo, autocommit=True, prepare_threshold=None, cursor_factory=RawCursor)
        except psycopg.OperationalError as error:
            if is_refusal(error, conninfo):
                raise RefusedError(str(error)) from error
            raise
        connection.patience = patience or self.settings.timeout
        wire.register(connection.adapters)
        return connection

    def _take(self) -> Connection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if _is_there(connection):
                return connection
            connection.close()
        if not self.is_open:
            raise StoreError("the store is closed: open it again, or use another app object")
        return self.connect()

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.broken:
            # Most likely the server went away under all of them.
            self._drop_idle()
            connection.close()
        elif self.is_open and len(self._idle) < self.settings.pool:
            self._idle.append(connection)
        else:
            connection.close()

    def _drop_idle(self) -> None:
        for _ in range(len(self._idle)):
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            if _is_there(connection):
                self._idle.insert(0, connection)
                return
            connection.close()

    # -- statements ------------------------------------------------------------------------------------------------------
    def text(self, text: str) -> bytes:
        """A statement with the schema filled in."""
        made = self._texts.get(text)
        if made is None:
            made = self._texts[text] = schema.render(text, self.settings.schema).encode()
        return made

    def call(self, text: str, *values: Any, again: bool = True) -> Rows:
        """The rows of one statement, which is one transaction.

        :param again: whether it may be sent again when the connection broke, since doing it twice is the same as once.
        """
        return self._tried(lambda connection: self._execute(connection, text, values), again=again)

    def _execute(self, connection: Connection, text: str, values: Sequence[Any]) -> Rows:
        return direct.execute(connection, self.text(text), values, is_prepared=self._prepares)

    def call_patiently(self, text: str, *values: Any) -> Rows:
        """The rows of a statement that reads and may take the server long: they are waited for as long as the connection stands."""

        def run(connection: Connection) -> Rows:
            connection.patience = LONGEST_TIMEOUT
            try:
                return self._execute(connection, text, values)
            finally:
                connection.patience = self.settings.timeout

        return self._tried(run, again=True)

    def pipeline(self, calls: Sequence[Call], *, again: bool = True) -> list[Rows]:
        """The rows of each of several statements, in one transaction and one round trip."""
        return self._tried(lambda connection: self._pipeline(connection, calls), again=again)

    def _pipeline(self, connection: Connection, calls: Sequence[Call]) -> list[Rows]:
        cursors = []
        with connection.pipeline(), connection.transaction():
            for text, values in calls:
                cursor = connection.cursor(binary=True)
                cursors.append(cursor.execute(self.text(text), values))
        return [_rows(cursor) for cursor in cursors]

    def transaction(self, work: Callable[[Callable[..., Rows]], T]) -> T:
        """Do ``work``, which gets a function for statements, in one transaction of several round trips."""

        def run(connection: Connection) -> T:
            with connection.transaction():
                return work(lambda text, *values: self._execute(connection, text, values))

        return self._tried(run, again=True)

    def _tried(self, work: Callable[[Connection], T], *, again: bool) -> T:
        """Do ``work`` on a connection, again when that can help at once."""
        tries = resends = 0
        while True:
            prepares = self._prepares
            try:
                connection = self._take()
                try:
                    return work(connection)
                finally:
                    self._give_back(connection)
            except psycopg.Error as error:
                if error.sqlstate in PASSING and tries < TRIES:
                    tries += 1
                elif error.sqlstate in UNPREPARED and prepares:  # others may have met it, too
                    self._prepares = False
                    continue
                elif (
                    again and is_connection_lost(error) and not is_silent(error) and resends < RESENDS and self.is_open
                ):
                    resends += 1
                else:
                    raise self.explained(error) from error
                time.sleep(min(LONGEST_PAUSE, 0.002 * 2 ** (tries + 3 * resends)) * random.random())
            except UnicodeEncodeError as error:
                raise StoreError(f"PostgreSQL cannot store this text: {error}") from error


def _rows(cursor: Any) -> Rows:
    found: Rows = cursor.fetchall() if cursor.description is not None else []
    return found


def _is_there(connection: Connection) -> bool:
    """Whether a connection that waited is still good: nothing should have come on it, an end least of all."""
    if connection.closed:
        return False
    try:
        readable = poll({connection.fileno(): POLLIN}, 0)
    except (OSError, ValueError, psycopg.Error):
        return False
    if not readable:
        return True
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    return not connection.closed


class Combiner:
    """Serves callers that come at the same time together: one transaction, one commit for all.

    Flat combining (Hendler, Incze, Shavit and Tzafrir, SPAA 2010): whoever gets the lock sends the calls of everybody. An error of
    one does not touch the others.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = Lock()
        self._waiting: deque[_Waiting] = deque()

    def call(self, text: str, *values: Any) -> Rows:
        """Like :meth:`Database.call`."""
        mine = _Waiting((text, values))
        self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                self._serve(mine)
        if mine.error is not None:
            raise mine.error
        return mine.rows

    def _serve(self, mine: _Waiting) -> None:
        """Send the calls of all who wait now."""
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
        if mine not in group:
            self._waiting.remove(mine)
            group.append(mine)
        try:
            if len(group) > 1 and self._serve_together(group):
                return
            for each in group:
                each.serve(self._database)
        finally:
            # Whoever was not served, because this thread was interrupted, serves himself.
            self._waiting.extendleft(each for each in reversed(group) if not each.is_done and each is not mine)

    def _serve_together(self, group: list[_Waiting]) -> bool:
        try:
            answers = self._database.pipeline([each.call for each in group])
        except PynencError as error:
            if not is_silent(error.__cause__):
                return False
            for each in group:  # each alone would wait as long
                each.error, each.is_done = StoreError(str(error), retryable=True), True
            return True
        for each, rows in zip(group, answers, strict=True):
            each.rows = rows
            each.is_done = True
        return True


class _Waiting:
    """A caller whose statement somebody sends."""

    __slots__ = ("call", "error", "is_done", "rows")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.rows: Rows = []
        self.error: BaseException | None = None
        self.is_done = False

    def serve(self, database: Database) -> None:
        """Send it alone."""
        try:
            self.rows = database.call(self.call[0], *self.call[1])
        except Exception as error:
            self.error = error
        self.is_done = True


#: The connections that forked children got from their parents.
_abandoned: list[Any] = []
