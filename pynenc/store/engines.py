"""Versions of the database engines, for people."""

from __future__ import annotations

import sqlite3


def sqlite_version() -> str:
    """The version of the SQLite library that Python uses."""
    return sqlite3.sqlite_version
