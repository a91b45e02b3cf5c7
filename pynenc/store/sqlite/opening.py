"""The file of a store: what is created in it, what is refused, and what an error of it means to a user."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pynenc.exceptions import SchemaError, StoreError
from pynenc.store.sqlite import schema

BUSY_SECONDS = 10.0
#: The first release that has all that the statements use. The youngest of it is RETURNING; UPSERT came with 3.24.
OLDEST = (3, 35, 0)


def check_library() -> None:
    """Whether the SQLite of this Python is recent enough.

    :raises StoreError: it is not.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreError(
            f"this Python uses SQLite {sqlite3.sqlite_version}, which is too old: {'.'.join(map(str, OLDEST))} is the least"
        )


def prepare(connection: sqlite3.Connection, app_id: str) -> str:
    """Create what is missing; the prefix of the app's tables."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.VERSION:
        raise SchemaError(
            f"the database has schema version {version}, and this version of pynenc knows {schema.VERSION}: upgrade pynenc here, or use another file"
        )
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if version == 0 and tables:
        raise SchemaError("the database belongs to another program: name another file in the store URL")
    row = connection.execute("SELECT num FROM app WHERE name = ?", (app_id,)).fetchone() if tables else None
    if row is None:
        row = _create(connection, app_id)
    elif missing := [text for name, text in schema.ADDED.items() if f"a{row[0]}_{name}" not in tables]:
        _execute(connection, missing, f"a{row[0]}_")
    return f"a{row[0]}_"


def _execute(connection: sqlite3.Connection, texts: Sequence[str], prefix: str) -> None:
    """Execute statements of the schema, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for text in texts:
            for statement in text.replace("$", prefix).split(";\n"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _create(connection: sqlite3.Connection, app_id: str) -> tuple[int]:
    """Create the tables of one app, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(schema.APPS)
        connection.execute(f"PRAGMA user_version={schema.VERSION}")
        connection.execute("INSERT OR IGNORE INTO app (name) VALUES (?)", (app_id,))
        row: tuple[int] = connection.execute("SELECT num FROM app WHERE name = ?", (app_id,)).fetchone()
        for text in (schema.TABLES, *schema.ADDED.values()):
            for statement in text.replace("$", f"a{row[0]}_").split(";\n"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return row


def explained(error: Exception, path: Path) -> StoreError:
    """What an error of SQLite or the file system means to a user."""
    text = str(error)
    if "closed" in text:
        return StoreError("the store is closed: open it again, or use another app object")
    if "locked" in text or "busy" in text:
        return StoreError(
            f"{path} is locked by another program for more than {BUSY_SECONDS:g} s: {text}", retryable=True
        )
    if "full" in text or "No space" in text:
        return StoreError(f"no space left for {path}: make room; nothing that was accepted is lost", retryable=True)
    if "readonly" in text or isinstance(error, PermissionError):
        return StoreError(f"{path} cannot be written: check the permissions of the file and of its folder ({text})")
    if "not a database" in text or "malformed" in text:
        return StoreError(f"{path} is no sound SQLite database ({text}): restore a backup or use another file")
    is_passing = isinstance(error, sqlite3.OperationalError) and "disk I/O" in text
    return StoreError(f"{path}: {text}", retryable=is_passing)
