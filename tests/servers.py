"""The servers of the tests: one of each kind for a test process, started when it is first needed and ended with the process.

``PYNENC_TEST_REDIS=redis://host:port`` names one to be used instead of Valkey, by one run of the suite at a time; its databases are shared out among the
test processes, and emptied.
"""

from __future__ import annotations

import atexit
import os
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import redis

from pynenc.store.redis.options import driver_info
from pynenc.testing.servers.redis import RedisServer

#: Databases of a server, so that each test can have its own.
DATABASES = 4096
#: Databases that a test may have at once.
LEAST = 4
_used: dict[tuple[str, Path], int] = {}


@cache
def _server(kind: str) -> RedisServer:
    server = RedisServer(kind, socket=True, more=("--databases", str(DATABASES))).start()
    atexit.register(server.close)
    return server


def url_of(kind: str, database: int = 0) -> str:
    """The URL of a database of the server of a kind."""
    named = os.environ.get("PYNENC_TEST_REDIS")
    if not named or kind != "valkey":
        return _server(kind).url_of(database)
    mine = _databases(named)
    return urlsplit(named)._replace(path=f"/{mine[database % len(mine)]}").geturl()


@cache
def _databases(named: str) -> range:
    """The databases of a named server that belong to this test process."""
    with client_of(named) as client:
        count = int(str(client.config_get("databases")["databases"]))  # type: ignore[index]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    found = range(number % processes, count, processes)
    if len(found) < LEAST:
        raise RuntimeError(
            f"{named} has {count} databases, too few for {processes} test processes: start it with --databases {DATABASES}"
        )
    return found


def empty(url: str) -> str:
    """A URL whose database is empty now."""
    with client_of(url) as client:
        client.flushdb()
    return url


def client_of(url: str) -> redis.Redis:
    """A plain client of a database."""
    return redis.Redis.from_url(url.replace("redis:///", "unix:///"), **driver_info())


def url_for(folder: Path, kind: str = "valkey") -> str:
    """The URL of a database that belongs to a folder: empty at first, the same whenever it is asked for."""
    if (kind, folder) not in _used:
        _used[kind, folder] = len(_used) + 1
        return empty(url_of(kind, _used[kind, folder]))
    return url_of(kind, _used[kind, folder])
