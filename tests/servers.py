"""The servers of the tests: one of each kind for a test process, started when it is first needed and ended with the process.

``PYNENC_TEST_REDIS=redis://host:port`` names one to be used instead of Valkey; its databases are emptied.
"""

from __future__ import annotations

import atexit
import os
from functools import cache
from pathlib import Path

import redis

from pynenc.testing.servers.redis import RedisServer

#: Databases of a server, so that each test can have its own.
DATABASES = 4096
_used: dict[tuple[str, Path], int] = {}


@cache
def _server(kind: str) -> RedisServer:
    server = RedisServer(kind, socket=True, more=("--databases", str(DATABASES))).start()
    atexit.register(server.close)
    return server


def url_of(kind: str, database: int = 0) -> str:
    """The URL of a database of the server of a kind."""
    named = os.environ.get("PYNENC_TEST_REDIS")
    return f"{named.rstrip('/')}/{database % 16}" if named and kind == "valkey" else _server(kind).url_of(database)


def empty(url: str) -> str:
    """A URL whose database is empty now."""
    with client_of(url) as client:
        client.flushdb()
    return url


def client_of(url: str) -> redis.Redis:
    """A plain client of a database."""
    return redis.Redis.from_url(url.replace("redis:///", "unix:///"))


def url_for(folder: Path, kind: str = "valkey") -> str:
    """The URL of a database that belongs to a folder: empty at first, the same whenever it is asked for."""
    if (kind, folder) not in _used:
        _used[kind, folder] = len(_used) + 1
        return empty(url_of(kind, _used[kind, folder]))
    return url_of(kind, _used[kind, folder])
