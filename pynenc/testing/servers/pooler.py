"""A pooler before a PostgreSQL server that does what PgBouncer does in transaction mode, at its worst.

Theory of operation
-------------------
Clients outnumber the connections to the server. One is lent to a client with its first message, and goes back when the server has answered
everything and is outside a transaction. No client gets the same one twice in a row, so whatever relies on a session breaks at once: prepared
statements by name, SET, LISTEN, advisory locks, temporary tables. What the server says on a connection that nobody has is dropped. It is spoken
to without encryption and without a password.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from struct import pack, unpack

from pynenc.testing.servers.local import LocalServer

#: Messages that the server answers with ``ReadyForQuery``, and those that wait for one of them.
_ASKS, _PARTS = b"QSF", b"PBDEC"
#: Instead of a startup message: a client asks for encryption, or for the end of a query.
_ENCRYPTION, _CANCEL = {80877103, 80877104}, 80877102
_GONE = (OSError, IncompleteReadError, asyncio.CancelledError)


class Pooler(LocalServer):
    """Between clients and the server on ``port`` of this host.

    :param size: connections to the server, two at least, for all clients of the same user, database and options.
    """

    def __init__(self, port: int, size: int = 3) -> None:
        self._upstream, self._size = port, size
        self._pools: dict[bytes, _Pool] = {}
        super().__init__()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        client = _Client(reader, writer)
        with suppress(*_GONE):
            if startup := await client.begin():
                await client.stay(self._pools.setdefault(startup, _Pool(startup, self._upstream, self._size)))
        client.leave()


class _Client:
    """Who borrows connections. :ivar lent: the one that it has now."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.lent: _Connection | None = None

    async def begin(self) -> bytes:
        """Its startup message; empty when it only came to end a query, which goes on."""
        while True:
            size, code = unpack("!II", head := await self._reader.readexactly(8))
            if code not in _ENCRYPTION:
                return b"" if code == _CANCEL else head + await self._reader.readexactly(size - 8)
            self._writer.write(b"N")

    async def stay(self, pool: _Pool) -> None:
        """Pass on what it says until it goes."""
        try:
            await self.tell(await pool.greet())
        except _RefusedError as refused:
            await self.tell(refused.args[0])
            raise
        last: _Connection | None = None
        while (message := await _message(self._reader))[:1] != b"X":
            if self.lent is None:
                self.lent = last = await pool.lend(last)
                last.client = self
            self.lent.ask(message)

    async def tell(self, message: bytes) -> None:
        """Pass on what the server says. The client may have gone: then nobody hears it."""
        with suppress(OSError):
            self._writer.write(message)
            await self._writer.drain()

    def leave(self) -> None:
        """It goes. A transaction that it has begun is undone by the end of its connection."""
        if self.lent is not None:
            self.lent.end()
        self._writer.transport.abort()


class _Connection:
    """One to the server. :ivar client: who has it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.client: _Client | None = None
        #: Answers that have not come, and whether something was said that has none by itself.
        self._owed, self._is_asking = 0, False

    def ask(self, message: bytes) -> None:
        """Pass on what the client says."""
        self._owed += message[0] in _ASKS
        self._is_asking = message[0] in _PARTS or (self._is_asking and message[0] not in _ASKS)
        self._writer.write(message)

    async def pass_on(self, pool: _Pool) -> None:
        """Pass on what the server says until it hangs up."""
        with suppress(*_GONE):
            while True:
                message = await _message(self._reader)
                client = self.client
                self._owed -= message[:1] == b"Z"
                if message[:1] + message[-1:] == b"ZI" and client and not (self._owed or self._is_asking):
                    client.lent = self.client = None
                    pool.take_back(self)
                if client:
                    await client.tell(message)
        self.end()
        pool.forget(self)

    def end(self) -> None:
        """Hang up on both sides."""
        client, self.client = self.client, None
        self._writer.transport.abort()
        if client is not None:
            client.lent = None
            client.leave()


class _Pool:
    """The connections of all clients that begin with the same ``startup``."""

    def __init__(self, startup: bytes, port: int, size: int) -> None:
        self._startup, self._port, self._size = startup, port, size
        self._idle: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._freed = asyncio.Event()
        self._greeting = b""

    async def greet(self) -> bytes:
        """What the server says at the beginning, with a key that leads nowhere."""
        if not self._greeting:
            self.take_back(await self._open())
        return self._greeting + _framed(b"K", os.urandom(8)) + _framed(b"Z", b"I")

    async def lend(self, last: _Connection | None) -> _Connection:
        """Another connection than the client had before."""
        while self._count >= self._size:
            if found := next((each for each in self._idle if each is not last), None):
                self._idle.remove(found)
                return found
            self._freed.clear()
            await self._freed.wait()
        return await self._open()

    def take_back(self, connection: _Connection) -> None:
        """Nobody has it now."""
        self._idle.append(connection)
        self._freed.set()

    def forget(self, connection: _Connection) -> None:
        """It has ended."""
        self._count -= 1
        self._idle = [each for each in self._idle if each is not connection]
        self._freed.set()

    async def _open(self) -> _Connection:
        self._count += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._greeting = await _enter(reader, writer, self._startup)
        except BaseException:
            self._count -= 1
            self._freed.set()
            raise
        connection = _Connection(reader, writer)
        self._tasks.add(task := asyncio.create_task(connection.pass_on(self)))
        task.add_done_callback(self._tasks.discard)
        return connection


class _RefusedError(OSError):
    """What the server says instead of letting a client in."""


async def _enter(reader: StreamReader, writer: StreamWriter, startup: bytes) -> bytes:
    """Be let in by the server; what it says, but for the key of the connection."""
    said = b""
    writer.write(startup)
    while (message := await _message(reader))[:1] != b"Z":
        if message[:1] == b"E":
            writer.transport.abort()
            raise _RefusedError(message)
        said += b"" if message[:1] == b"K" else message
    return said


async def _message(reader: StreamReader) -> bytes:
    """The next message, with its head."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(unpack("!xI", head)[0] - 4)


def _framed(kind: bytes, data: bytes) -> bytes:
    return kind + pack("!I", len(data) + 4) + data
