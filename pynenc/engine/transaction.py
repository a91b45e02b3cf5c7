"""Calls as a part of the caller's own database transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

from pynenc import context
from pynenc.exceptions import StoreError
from pynenc.store.base import Store


@contextmanager
def join(store: Store, connection: object) -> Iterator[None]:
    """Make the calls of the block a part of the transaction of ``connection``, which its owner commits or rolls back."""
    if connection is None:
        raise StoreError("app.transaction got None for a connection: the calls would be a part of no transaction")
    with context.within(store, driver_connection(connection)):
        yield


def connection_for(store: object) -> object:
    """The connection whose transaction the submissions to ``store`` are a part of here; None if there is none."""
    joined = context.transaction()
    return joined.connection if joined is not None and joined.store is store else None


def refuse_inside(store: Store, what: str, instead: str = "") -> None:
    """Refuse what takes no part in the transaction that the calls of this block belong to: it could wait for its locks, or for its commit.

    :param instead: what else can be done about it. :raises StoreError: this is such a block.
    """
    if connection_for(store) is not None:
        raise StoreError(
            f"{what} is no part of the transaction of app.transaction, whose calls are accepted when it commits: do it before or after that block"
            f"{instead and f', {instead}'}"
        )


#: What may be done with a store inside of such a block: it waits for no lock of the transaction, nor for its commit.
READINGS = frozenset(
    {"open", "close", "shared", "display_url", "clock", "finals", "recall", "get_blobs", "owned"}
    | {"queues", "get", "find", "count", "history", "runners", "check"}
)


class Apart:
    """A store as it is handed out inside of such a block: it can be read, and given what says which connection it belongs to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in READINGS:
            refuse_inside(self._store, f"store.{name}")
        return getattr(self._store, name)

    def submit(self, *args: Any, connection: object | None = None, **options: Any) -> Any:
        """What is submitted with a connection is a part of the transaction of that."""
        if connection is None:
            refuse_inside(self._store, "store.submit without connection=")
        return self._store.submit(*args, connection=connection, **options)


def handed_out(store: Store) -> Store:
    """The store for users: here it may be one that refuses what takes no part in a transaction."""
    return store if connection_for(store) is None else cast("Store", Apart(store))


def driver_connection(connection: Any) -> Any:
    """The connection of the database driver inside what SQLAlchemy (connection or session) and Django hand out, in a transaction that those know of.

    :raises StoreError: they would not end it.
    """
    keeps_books = False
    while True:
        keeps_books = _begin(connection) or keeps_books
        inner = getattr(connection, "driver_connection", None)  # SQLAlchemy: what its pool lends
        if inner is None:
            inner = getattr(connection, "connection", None)  # SQLAlchemy: a connection or a session; Django: a wrapper
        if isinstance(inner, MethodType):
            inner = inner()
        if inner is None or inner is connection:  # psycopg's is itself
            break
        connection = inner
    is_automatic = getattr(connection, "autocommit", -1)
    if is_automatic == -1:  # sqlite3, in its older way
        is_automatic = getattr(connection, "isolation_level", "") is None
    if keeps_books and is_automatic:
        raise StoreError(
            "this connection has isolation_level AUTOCOMMIT, so that SQLAlchemy ends no transaction: give one without it"
        )
    return connection


def _begin(connection: Any) -> bool:
    """Begin a transaction where SQLAlchemy keeps the books of it, as its first statement would; whether it does."""
    if getattr(connection, "in_atomic_block", None) is False:
        raise StoreError(
            "put `with transaction.atomic():` around app.transaction: outside of it Django ends no transaction"
        )
    is_begun = getattr(connection, "in_transaction", None)
    if not isinstance(is_begun, MethodType):
        return False
    if not is_begun():
        connection.begin()
    return True
