"""PostgreSQL behind a pooler in transaction mode: our own, or the PgBouncer that ``PYNENC_TEST_PGBOUNCER`` names, with settings after the name.

::

    PYNENC_TEST_PGBOUNCER="/usr/sbin/pgbouncer max_prepared_statements=200" pytest tests/conformance/test_postgres_pooled.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from atexit import register
from functools import cache
from pathlib import Path
from shutil import rmtree
from urllib.parse import urlsplit

import psycopg

from pynenc.testing.servers.pooler import Pooler
from pynenc.testing.servers.postgres import PATIENCE, free_port, unprivileged, with_options

#: Connections to the server: so few that each is used by everybody.
SIZE = 3
_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
{more}
"""


class PgBouncer:
    """The program in a temporary folder; as ``nobody`` where we are root, as whom it refuses to run."""

    def __init__(self, program: str, server: int, *more: str) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pynenc-pgbouncer-"))
        self._folder.chmod(0o755)
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server=server, port=self.port, size=SIZE, more="\n".join(more)))
        user = unprivileged()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, settings], user=user, group=user, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        """Until it lets somebody in."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres").close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()}") from error
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        """End it and remove its folder."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)
        rmtree(self._folder)


def open_pooler(server: int) -> Pooler | PgBouncer:
    """A new pooler before the server on a port of this host."""
    program, *settings = os.environ.get("PYNENC_TEST_PGBOUNCER", "").split() or [""]
    return PgBouncer(program, server, *settings) if program else Pooler(server, SIZE)


@cache
def _port(server: int) -> int:
    """Of the pooler before a server; it lives as long as this process."""
    pooler = open_pooler(server)
    register(pooler.close)
    return pooler.port


def pooled(url: str) -> str:
    """The URL of the same database by way of a pooler, which speaks no TLS."""
    parts = urlsplit(with_options(url, sslmode="disable"))
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{_port(parts.port or 5432)}").geturl()
