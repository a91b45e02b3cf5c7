"""Calls in transactions of others, on their connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pynenc.exceptions import StoreError
from pynenc.store.postgres import wire
from pynenc.store.postgres.database import Call, Database, Rows
from pynenc.store.postgres.opening import FIND_SCHEMA

IDENTITY = "SELECT id FROM @version"


def run(database: Database, connection: object, calls: Sequence[Call]) -> list[Rows]:
    """The rows of each of several statements in the transaction of ``connection``, which is begun if there is none; what fails is undone alone.

    :raises StoreError: it is no connection to this database.
    """
    if not isinstance(connection, psycopg.Connection):
        name = type(connection).__name__
        raise StoreError(f"a {name} is no connection to {database.settings.display}: give a psycopg.Connection")
    try:
        cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
        wire.register(cursor.adapters)
        if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            cursor.execute("BEGIN")
        with _savepoint(cursor):
            _check(database, cursor)
            return [_rows(cursor, database.text(text), values) for text, values in calls]
    except psycopg.Error as error:
        raise database.explained(error) from error


@contextmanager
def _savepoint(cursor: psycopg.RawCursor[Any]) -> Iterator[None]:
    """Undo alone what fails; the transaction goes on."""
    cursor.execute("SAVEPOINT pynenc", prepare=False)
    try:
        yield
    except BaseException:
        cursor.execute("ROLLBACK TO SAVEPOINT pynenc", prepare=False)
        raise
    finally:
        cursor.execute("RELEASE SAVEPOINT pynenc", prepare=False)


def _rows(cursor: psycopg.RawCursor[Any], text: bytes, values: Sequence[Any]) -> Rows:
    cursor.execute(text, values, prepare=False, binary=True)
    return cursor.fetchall()


def _check(database: Database, cursor: psycopg.RawCursor[Any]) -> None:
    """Refuse a connection that leads elsewhere: there is no such schema, or it is another one."""
    found = _rows(cursor, FIND_SCHEMA.encode(), (database.settings.schema,))
    if not found or _rows(cursor, database.text(IDENTITY), ())[0][0] != database.identity:
        raise StoreError(
            f"the connection leads to another database than {database.settings.display}: connect to that one"
        )
