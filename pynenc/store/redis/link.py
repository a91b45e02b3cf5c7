"""Connections to the server: a pool, one script call a round trip, and errors in our own words.

A connection serves one operation at a time and goes back to the pool. What fails after something was sent is sent again only where nobody would notice
that it was done twice (:data:`SAFE`); else who called knows what to do. A connection that the server has closed in the meantime is noticed before it
is used. In a cluster all keys of an app lie in one slot; a server that says where that is (``MOVED``) is followed.
"""

from __future__ import annotations

import os
import random
import re
import select
import ssl
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynenc.exceptions import ConfigError, PynencError, SchemaError, StoreError
from pynenc.store.redis import tls
from pynenc.store.redis.options import Options
from pynenc.store.redis.scripts import Script, script

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:
    raise ConfigError('the driver of Redis is not installed: pip install "pynenc[redis]"') from error

RedisError = redis.RedisError
#: A connection of the driver, which says nothing of its types.
Connection = Any
#: The least version of Redis.
OLDEST = (6, 2)
#: Connections that are kept while nobody needs them.
IDLE_CONNECTIONS = 16
#: Scripts that may run twice without anybody noticing: they are sent again when a connection breaks, which rides out about a second.
SAFE = frozenset(
    {"submit", "start", "heartbeat", "report", "remember", "subscribe", "put_blobs", "set_queue", "unwait", "open"}
    | {"finals", "read", "history", "queues", "scan", "check"}
)
#: How often that is, and the first and the longest pause before it in seconds.
RESENDS, FIRST_PAUSE, LONGEST_PAUSE = 5, 0.02, 0.5
#: Errors of a server that will go away by themselves, by their first word.
_PASSING = frozenset({"LOADING", "BUSY", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF"})
#: What a script may not do for its user, in the words of Redis 7 and of 6.2.
_FORBIDDEN = re.compile(
    r"(ERR )?(Error running script.*)?(ACL failure in script|.*The user executing the script can't)", re.DOTALL
)
#: The rights that a user of the server needs.
RIGHTS = "~pynenc:* &pynenc:* +@all -@admin -@dangerous +info"
_INSIDE = re.compile(r"^Error running script.* -([A-Z]+) ")


class Link:
    """The way to one server for one app.

    :param prefix: what all keys of the app begin with.
    """

    def __init__(self, options: Options, prefix: str) -> None:
        self._options = options
        self._arguments = dict(options.connection)
        self.prefix = prefix.encode()
        self._pool: list[Connection] = []
        self._has_flags = True
        self.version: tuple[int, ...] = ()
        self.is_open = False
        #: What scripts get as the time: that of the server, unless a test has its own.
        self.time: Callable[[], str] = _server_time
        _links.add(self)

    @property
    def display_url(self) -> str:
        """The URL for people."""
        return self._options.display_url

    @property
    def waits_for_file(self) -> bool:
        """Whether writes wait for the append-only file."""
        return any(command == "WAITAOF" for command, *_ in self._options.waits)

    # -- life ------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect, and learn what the server understands."""
        if self._options.connection_class is redis.SSLConnection:  # no answer to a handshake comes late
            patience = min(tls.HANDSHAKE, self._arguments["socket_timeout"] or tls.HANDSHAKE)
            self.connect(socket_timeout=patience).disconnect()
        connection = self.connect()
        try:
            info = _ask(connection, "INFO", "server").decode()
        except redis.RedisError as error:
            connection.disconnect()
            raise self._explained_connect(error) from error
        self.version = version_of(info)
        if self.version < OLDEST:
            raise SchemaError(
                f"{self._options.display_url} is version {'.'.join(map(str, self.version))}: Redis 6.2 or Valkey is needed"
            )
        self._has_flags = self.version >= (7, 0)
        self._pool.append(connection)
        self.is_open = True

    def close(self) -> None:
        """Close all connections that are not in use; the others are closed when they come back."""
        self.is_open = False
        while self._pool:
            self._pool.pop().disconnect()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's."""
        _inherited.append(self._pool)
        self._pool = []

    def connect(self, **others: Any) -> Connection:
        """A new connection, perhaps with other arguments of the driver."""
        connection = self._options.connection_class(retry=Retry(NoBackoff(), 0), **self._arguments | others)
        try:
            connection.connect()
        except redis.RedisError as error:
            raise self._explained_connect(error) from error
        return connection

    def _explained_connect(self, error: redis.RedisError) -> PynencError:
        """Why there is no connection; TLS that will not come about gets no better by waiting."""
        where, kind = self._options.display_url, self._options.connection_class
        untrusted = next((each for each in _causes(error) if isinstance(each, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            return StoreError(f"{where}: the certificate of the server is not trusted: {untrusted}")
        if kind is redis.SSLConnection and (why := tls.wrong_files(self._arguments)):
            return StoreError(f"{where}: a file of ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be used: {why}")
        if kind is redis.SSLConnection and tls.is_plain(self._arguments):
            return StoreError(f"{where} speaks no TLS: write redis:// or valkey://")
        if kind is redis.Connection and _is_broken_off(error) and tls.is_tls(self._arguments):
            return StoreError(f"{where} speaks TLS only: write rediss:// or valkeys://")
        return self.explained(error)

    # -- work ------------------------------------------------------------------------------------------------------------
    def run(self, name: str, *arguments: bytes | str | float, durable: bool = False, again: bool = False) -> Any:
        """Run a script and return its answer.

        :param durable: wait for what the URL asks for (``wait_aof``, ``wait_replicas``). :param again: it may run twice, as :data:`SAFE` ones.
        """
        wanted = script(name, has_flags=self._has_flags)
        command = ("EVALSHA", wanted.digest, 1, self.prefix, *arguments)
        resends = RESENDS if again or name in SAFE else 0
        while True:
            try:
                return self._exchange(command, wanted, durable=durable)
            except StoreError as error:
                is_broken = isinstance(error.__cause__, redis.ConnectionError) and error.retryable
                if not (is_broken and resends and self.is_open):
                    raise
            time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 4 ** (RESENDS - resends)) * (0.5 + random.random() / 2))
            resends -= 1

    def ask(self, command: str, *arguments: bytes | str | float) -> Any:
        """The answer to a single command."""
        return self._exchange((command, *arguments))

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to several commands, in one round trip and one unit."""
        connection = self._take()
        try:
            connection.send_packed_command(connection.pack_commands([("MULTI",), *commands, ("EXEC",)]))
            for _ in commands:
                connection.read_response()
            connection.read_response()
            answer: list[Any] = connection.read_response()
        except redis.ResponseError as error:
            connection.disconnect()
            raise self.explained(error) from error
        except redis.RedisError as error:
            raise self.explained(error) from error
        self._give(connection)
        return answer

    @contextmanager
    def watching(self, *keys: bytes) -> Iterator[Callable[[], bool]]:
        """A function that tells, once, whether nobody has written to these keys since the beginning."""
        connection = self._take()

        def is_untouched() -> bool:
            _ask(connection, "MULTI")
            return _ask(connection, "EXEC") is not None

        try:
            _ask(connection, "WATCH", *keys)
            yield is_untouched
        except redis.RedisError as error:
            raise self.explained(error) from error
        finally:
            connection.disconnect()

    def _exchange(self, command: Sequence[Any], wanted: Script | None = None, *, durable: bool = False) -> Any:
        connection = self._take()
        waits = self._options.waits if durable else ()
        answers: list[Any] = []
        try:
            connection.send_packed_command(connection.pack_commands([command, *waits]))
            while len(answers) <= len(waits):
                answers.append(connection.read_response())
        except redis.ResponseError as error:
            self._skip(connection, len(waits) - len(answers))
            return self._answer_to(error, command, wanted, durable=durable)
        except redis.RedisError as error:
            raise self.explained(error) from error
        except BaseException:
            connection.disconnect()  # an answer may still come
            raise
        self._give(connection)
        if waits:
            self._check_waits(answers[1:])
        return answers[0]

    def _skip(self, connection: Connection, count: int) -> None:
        """The connection goes on after an error; the next answers belong to what need not be waited for any more."""
        try:
            for _ in range(count):
                connection.read_response()
        except redis.RedisError:
            connection.disconnect()
        else:
            self._give(connection)

    def _answer_to(self, error: Exception, command: Sequence[Any], wanted: Script | None, *, durable: bool) -> Any:
        """What is done about the error of a server: it did not know the script yet, or others have the keys."""
        if isinstance(error, redis.exceptions.NoScriptError) and wanted is not None:
            return self._exchange(("EVAL", wanted.text, *command[2:]), durable=durable)
        if isinstance(error, redis.exceptions.MovedError):
            self._arguments |= {"host": error.host or self._arguments.get("host"), "port": error.port}
            while self._pool:
                self._pool.pop().disconnect()
            return self._exchange(command, wanted, durable=durable)
        raise self.explained(error) from error

    def _check_waits(self, found: Sequence[Any]) -> None:
        """Compare how many have what was written with how many must have it."""
        for wait, answer, needed in zip(self._options.waits, found, self._options.needed, strict=True):
            reached = tuple(answer) if isinstance(answer, list) else (answer,)
            if any(has < needs for has, needs in zip(reached, needed, strict=True)):
                raise StoreError(
                    f"{wait[0]} was answered with {reached} instead of {needed}: what was written may not survive the loss of a server; "
                    "it is safe to try again",
                    retryable=True,
                )

    def _take(self) -> Connection:
        if not self.is_open:
            raise StoreError("the store is closed, or was never opened: call open() first")
        while True:
            try:
                connection = self._pool.pop()
            except IndexError:
                return self.connect()
            if not _is_readable(connection):
                return connection
            connection.disconnect()

    def _give(self, connection: Connection) -> None:
        if self.is_open and len(self._pool) < IDLE_CONNECTIONS:
            self._pool.append(connection)
        else:
            connection.disconnect()

    def explained(self, error: Exception) -> PynencError:
        """An error of the driver as one of ours, without passwords."""
        where, text = self._options.display_url, str(error)
        inside = _INSIDE.search(text)  # older servers wrap the error of a command in that of the script
        word = inside[1] if inside else text.partition(" ")[0].rstrip(":")
        if isinstance(error, redis.exceptions.NoPermissionError) or word == "NOPERM" or _FORBIDDEN.match(text):
            return StoreError(f"{where} forbids this user what pynenc needs: {text}; give it {RIGHTS}")
        refused = redis.AuthenticationError | redis.exceptions.AuthorizationError
        if isinstance(error, refused) or word in ("WRONGPASS", "NOAUTH"):
            return StoreError(f"{where} refuses this user: {text}")
        if isinstance(error, redis.exceptions.OutOfMemoryError) or word == "OOM":
            return StoreError(
                f"the memory of {where} is full (maxmemory), nothing was written: raise maxmemory, or let `pynenc purge` remove what is over",
                retryable=True,
            )
        if isinstance(error, redis.ConnectionError | redis.TimeoutError) or word in _PASSING:
            return StoreError(f"{where} does not answer: {text}", retryable=True)
        return StoreError(f"{where} answered with an error: {text}")


def _server_time() -> str:
    return "0"


def version_of(info: str) -> tuple[int, ...]:
    """The version of Redis that a server says it understands, as Valkey does too; (0,) if it says none."""
    found = re.search(r"redis_version:([\d.]+)", info)
    return tuple(int(part) for part in found[1].split(".")) if found else (0,)


def _ask(connection: Connection, *command: str | bytes) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_broken_off(error: redis.RedisError) -> bool:
    """Whether somebody was there who did not speak as a server does; the kinds of these errors are those of answers and of silence."""
    return type(error) is redis.ConnectionError or isinstance(error, redis.InvalidResponse)


def _is_readable(connection: Connection) -> bool:
    """Whether the server has said something that nobody asked for: it has closed the connection."""
    sock = connection._sock
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


_links: weakref.WeakSet[Link] = weakref.WeakSet()
#: What a forked child got from its parent: kept, because closing it would disturb the parent.
_inherited: list[object] = []


def _after_fork() -> None:
    for link in list(_links):
        link.abandon()


os.register_at_fork(after_in_child=_after_fork)
