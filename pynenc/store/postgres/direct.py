"""Statements by the short way: straight to libpq, because a cursor of the driver takes longer to set up than the server takes to answer.

Each statement is prepared once for each connection. A server that went away is noticed by the time-outs of the connection, one that says nothing by the
patience of the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.waiting import Ready

from pynenc.store.postgres import wire
from pynenc.store.postgres.connection import Connection

_int8, _float8 = Struct(">q").pack, Struct(">d").pack
#: How each type of a parameter travels: its number on the server, and what packs it. All in the binary format.
_TYPES: dict[type, tuple[int, Any]] = {
    str: (25, str.encode),
    int: (20, _int8),
    bytes: (17, None),
    bool: (16, lambda value: b"\1" if value else b"\0"),
    float: (701, _float8),
    wire.Texts: (wire.TextsDumper.oid, wire.pack_texts),
    wire.Payloads: (wire.PayloadsDumper.oid, wire.pack_payloads),
    wire.Numbers: (wire.NumbersDumper.oid, wire.pack_numbers),
    wire.Flags: (wire.FlagsDumper.oid, wire.pack_flags),
}
_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


def _type(value: object) -> tuple[int, Any]:
    """How a value travels; ids and names are kinds of text."""
    for kind in type(value).__mro__:
        if kind in _TYPES:
            return _TYPES[kind]
    raise TypeError(f"no way to send a {type(value).__name__}")


class _Prepared:
    """A statement that the server knows, and how its rows are read."""

    __slots__ = ("formats", "name", "transformer")

    def __init__(self, name: bytes, count: int, connection: Connection) -> None:
        self.name = name
        self.formats = [Format.BINARY] * count
        self.transformer = Transformer(connection)


_prepared: WeakKeyDictionary[Connection, dict[bytes, _Prepared]] = WeakKeyDictionary()


def execute(connection: Connection, text: bytes, values: Sequence[Any], *, is_prepared: bool) -> list[tuple[Any, ...]]:
    """The rows of a statement.

    :raises psycopg.Error: it failed.
    """
    packed = []
    for value in values:
        pack = (_TYPES.get(type(value)) or _type(value))[1]
        packed.append(pack(value) if pack else value)
    pgconn = connection.pgconn
    if is_prepared:
        statements = _prepared.get(connection)
        if statements is None:
            statements = _prepared[connection] = {}
        statement = statements.get(text)
        if statement is None:
            statement = _prepare(connection, statements, text, values)
        pgconn.send_query_prepared(statement.name, packed, statement.formats, Format.BINARY)
        transformer = statement.transformer
    else:
        oids = [_type(value)[0] for value in values]
        pgconn.send_query_params(text, packed, oids, [Format.BINARY] * len(packed), Format.BINARY)
        transformer = Transformer(connection)
    result = _answer(connection)
    if result.status not in _GOOD:
        raise _error(connection, result)
    if not result.ntuples:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def _prepare(
    connection: Connection, statements: dict[bytes, _Prepared], text: bytes, values: Sequence[Any]
) -> _Prepared:
    oids = [_type(value)[0] for value in values]
    # The same name never means another statement, whoever shares a server process behind a pooler.
    name = f"pynenc_{blake2b(text + repr(oids).encode(), digest_size=12).hexdigest()}".encode()
    connection.pgconn.send_prepare(name, text, oids)
    result = _answer(connection)
    if result.status not in _GOOD:
        raise _error(connection, result)
    made = statements[text] = _Prepared(name, len(values), connection)
    return made


def _answer(connection: Connection) -> Any:
    """The result of what was sent. A connection that is left before it has answered is of no use to anybody."""
    first = None
    try:
        while (result := _next(connection)) is not None:
            first = first or result
        while connection.pgconn.notifies() is not None:
            """A pooler hands on what somebody else listens to: nobody here wants it."""
    except BaseException:
        connection.close()
        raise
    return first


def _next(connection: Connection) -> Any:
    """The next result; None at the end of the answer. It is not asked for before it is there, because libpq would wait for it and hold up all threads."""
    pgconn = connection.pgconn
    while pgconn.is_busy():
        # What is large is sent as fast as it is read at the other end.
        if connection.await_socket(reads=True, writes=bool(pgconn.flush())) & Ready.R:
            pgconn.consume_input()
    return pgconn.get_result()


def _error(connection: Connection, result: Any) -> psycopg.Error:
    """The error of a result; one of the connection when there is none of the server."""
    if result.status == ExecStatus.FATAL_ERROR and result.error_field(psycopg.pq.DiagnosticField.SQLSTATE):
        return error_from_result(result, encoding="utf-8")
    return psycopg.OperationalError(connection.pgconn.get_error_message())
