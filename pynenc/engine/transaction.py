"""Calls as a part of the caller's own database transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from pynenc import context
from pynenc.store.base import Store


@contextmanager
def join(store: Store, connection: object) -> Iterator[None]:
    """Make the calls of the block a part of the transaction of ``connection``, which its owner commits or rolls back."""
    with context.within(store, driver_connection(connection)):
        yield


def driver_connection(connection: Any) -> Any:
    """The connection of the database driver inside what SQLAlchemy (connection or session) and Django hand out."""
    while True:
        inner = getattr(connection, "driver_connection", None)  # SQLAlchemy: what its pool lends
        if inner is None:
            inner = getattr(connection, "connection", None)  # SQLAlchemy: a connection or a session; Django: a wrapper
        if isinstance(inner, MethodType):
            inner = inner()
        if inner is None or inner is connection:  # psycopg's is itself
            return connection
        connection = inner
