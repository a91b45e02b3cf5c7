"""Where a storm takes place: the store, and the harm that can be done to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

from pynenc.testing.chaos.proxy import Proxy

Harm = Callable[[Random], str]


class Ground(Protocol):
    """The store of a storm.

    :ivar url: for runners and clients. :ivar calm_url: for the judge, whom no harm may reach on the way.
    :ivar forgot: when a server died that forgets its last claims by that, in microseconds.
    :ivar harms: each does some harm, which passes by itself, and says which in a few words.
    """

    url: str
    calm_url: str
    forgot: list[int]
    harms: tuple[Harm, ...]

    def close(self) -> None:
        """Leave nothing behind."""


class FileGround:
    """One SQLite file, to which nothing happens but what happens to its users."""

    harms: tuple[Harm, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.forgot: list[int] = []
        self.url = self.calm_url = f"sqlite:///{folder / 'chaos.db'}"

    def close(self) -> None: ...


class Server(Protocol):
    """A server of ours, that can be killed and started again with its data."""

    port: int

    @property
    def url(self) -> str: ...
    def start(self) -> object: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class ServerGround:
    """A server behind a proxy.

    :param terminate: makes the server end the connections of all its clients by itself. :param forgets: whether its death may undo the last claims.
    """

    def __init__(self, server: Server, terminate: Callable[[str], None], *, forgets: bool) -> None:
        server.start()
        self._server = server
        self._proxy = Proxy("127.0.0.1", server.port)
        self._terminate = terminate
        self._forgets = forgets
        self.forgot: list[int] = []
        self.calm_url = server.url
        self.url = server.url.replace(f":{server.port}", f":{self._proxy.port}")
        self.harms: tuple[Harm, ...] = (self._crash, self._cut, self._lose, self._freeze, self._end_sessions)

    def _crash(self, draw: Random) -> str:
        if self._forgets:
            self.forgot.append(time.time_ns() // 1000)
        self._server.kill()
        time.sleep(draw.random())
        self._server.start()
        return "server killed"

    def _cut(self, _: Random) -> str:
        self._proxy.cut()
        return "connections cut"

    def _lose(self, draw: Random) -> str:
        self._proxy.lose_replies(0.05 + 0.2 * draw.random())
        return "replies lost"

    def _freeze(self, draw: Random) -> str:
        self._proxy.freeze(0.5 + 2.5 * draw.random())
        return "network silent"

    def _end_sessions(self, _: Random) -> str:
        self._terminate(self.calm_url)
        return "sessions ended"

    def close(self) -> None:
        self._proxy.close()
        self._server.close()


def _postgres(_: Path) -> Ground:
    import psycopg

    from pynenc.testing.servers.postgres import PostgresServer

    def terminate(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")

    return ServerGround(PostgresServer(()), terminate, forgets=True)  # claims do not wait for the disk


def _redis(_: Path) -> Ground:
    from redis import Redis

    from pynenc.testing.servers.redis import RedisServer

    def terminate(url: str) -> None:
        with Redis.from_url(url) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    return ServerGround(RedisServer("valkey", aof="always"), terminate, forgets=False)


#: Kinds of grounds by name; each is made in a folder.
GROUNDS: dict[str, Callable[[Path], Ground]] = {"sqlite": FileGround, "postgres": _postgres, "redis": _redis}
