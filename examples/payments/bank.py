"""A bank as seen from outside: it takes each idempotency key once, and is sometimes not there."""

import sqlite3
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, cents INTEGER);
CREATE TABLE IF NOT EXISTS requests (key TEXT);
CREATE TABLE IF NOT EXISTS receipts (key TEXT PRIMARY KEY, attempt INTEGER, fence TEXT);
"""


class BankIsDownError(Exception):
    """Try again later."""


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.executescript(SCHEMA)
    return connection


def pay(path: Path, key: str, cents: int) -> bool:
    """Take the money; whether it was taken now rather than at an earlier request with the same key."""
    connection = connect(path)
    try:
        connection.execute("INSERT INTO requests VALUES (?)", (key,))
        (asked,) = connection.execute("SELECT count(*) FROM requests WHERE key = ?", (key,)).fetchone()
        if cents % 2 and asked == 1:
            raise BankIsDownError("the first request for an odd amount finds the bank closed")
        return connection.execute("INSERT OR IGNORE INTO payments VALUES (?, ?)", (key, cents)).rowcount == 1
    finally:
        connection.close()


def write_receipt(path: Path, key: str, attempt: int, fence: str) -> None:
    """Keep the receipt of the newest attempt: one that was frozen and comes back late changes nothing."""
    connection = connect(path)
    connection.execute(
        "INSERT INTO receipts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
        "SET attempt = excluded.attempt, fence = excluded.fence WHERE excluded.attempt > receipts.attempt",
        (key, attempt, fence),
    )
    connection.close()
