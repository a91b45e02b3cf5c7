"""The servers of the conformance tests: one of each kind for a test process, ended with it.

``PYNENC_TEST_REDIS=redis://host:port/15`` names one to be used instead of Valkey; its database is emptied for each test.
"""

from __future__ import annotations

import atexit
import os
from functools import cache

import redis

from pynenc.testing.servers.redis import RedisServer


@cache
def server_of(kind: str) -> str:
    """The URL of the server of a kind."""
    named = os.environ.get("PYNENC_TEST_REDIS")
    if named and kind == "valkey":
        return named
    server = RedisServer(kind, socket=True).start()
    atexit.register(server.close)
    return server.url


def emptied(url: str) -> str:
    """A URL whose database is empty now."""
    with redis.Redis.from_url(url.replace("redis:///", "unix:///").replace("valkey://", "redis://")) as client:
        client.flushdb()
    return url
