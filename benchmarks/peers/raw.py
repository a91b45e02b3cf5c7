"""The engine itself: one narrow table in SQLite and nothing around it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

#: About as long as the id, the names and the arguments of a small call.
PAYLOAD = b"x" * 100


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A new file in the mode that the store uses."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, data BLOB)")
    return connection


def rows_one_by_one(connection: sqlite3.Connection, count: int) -> None:
    """A row per commit."""
    for _ in range(count):
        connection.execute("INSERT INTO item (data) VALUES (?)", (PAYLOAD,))


def rows_in_bulk(connection: sqlite3.Connection, count: int) -> None:
    """All rows in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO item (data) VALUES (?)", [(PAYLOAD,)] * count)
    connection.execute("COMMIT")
