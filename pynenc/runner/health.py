"""The health port: ``/livez``, ``/readyz`` and ``/metrics`` of one runner, for probes and scrapers.

It is served by the process that supervises, in threads of its own, and only reads: signs that loops leave, numbers that workers publish, and
now and then the queues of the store. Requests are bounded: GET and HEAD only, a few at a time, each for a few seconds.
"""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, Protocol, Self

import msgspec

from pynenc.core.records import QueueInfo
from pynenc.exceptions import ConfigError, StoreError
from pynenc.runner import exposition
from pynenc.runner.numbers import Numbers
from pynenc.runner.vital import Loop, Verdict, Vital, judge
from pynenc.store.base import Store

logger = logging.getLogger("pynenc.runner")

#: Requests that are answered at once; more are turned away.
MOST_REQUESTS = 8
#: Seconds that one request may take.
PATIENCE = 5.0
#: Seconds that the store gets to answer; the page does without it then.
STORE_PATIENCE = 1.0
#: Seconds for which an answer of the store about its queues is good enough.
QUEUES_EVERY = 3.0


class Watched(Protocol):
    """Who can be asked; from any thread."""

    def vital(self) -> Vital:
        """Its signs of life."""

    def numbers(self) -> Numbers:
        """Its totals."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back to who asked."""

    status: int
    kind: str
    body: bytes


class Health:
    """Answers for one runner.

    :param limit: seconds after which a loop that does not move, or a store that does not answer, makes the runner unready.
    """

    def __init__(self, app_id: str, watched: Watched, store: Store, limit: float) -> None:
        self._app_id = app_id
        self._watched = watched
        self._store = store
        self._limit = limit
        self._queues: Sequence[QueueInfo] = ()
        self._queues_at = 0.0
        self._is_up = True
        self._reading = Lock()

    def answer(self, path: str) -> Answer:
        """The answer to a path."""
        match path.partition("?")[0]:
            case "/livez" | "/readyz" as asked:
                return self._judged(asked)
            case "/metrics":
                return Answer(200, exposition.CONTENT_TYPE, self._metrics().encode())
        return Answer(404, "text/plain", b"there are /livez, /readyz and /metrics here\n")

    def _judged(self, asked: str) -> Answer:
        vital = self._watched.vital()
        verdict = self._verdict(vital)
        is_fine = verdict.live if asked == "/livez" else verdict.ready
        body = msgspec.structs.asdict(verdict) | {"workers": [_shown(loop) for loop in vital.loops]}
        return Answer(200 if is_fine else 503, "application/json", msgspec.json.encode(body) + b"\n")

    def _verdict(self, vital: Vital) -> Verdict:
        return judge(vital, time.monotonic(), self._limit)

    def _metrics(self) -> str:
        vital = self._watched.vital()
        kind = self._store.display_url.partition(":")[0]
        is_ready = self._verdict(vital).ready
        page = exposition.render(self._app_id, kind, vital, self._watched.numbers(), is_ready=is_ready)
        self._read_queues()
        exposition.add_queues(page, self._queues, self._store.clock.now(), is_up=self._is_up)
        return page.text()

    def _read_queues(self) -> None:
        """Ask the store again if its last answer is old, and nobody else is asking. One that does not answer soon is not up, which must not keep the page."""
        if time.monotonic() < self._queues_at or not self._reading.acquire(blocking=False):
            return
        asking = Thread(target=self._ask, name="pynenc-health-store", daemon=True)
        asking.start()
        asking.join(STORE_PATIENCE)
        if asking.is_alive():
            self._queues, self._is_up = (), False

    def _ask(self) -> None:
        try:
            self._queues, self._is_up = self._store.queues(), True
        except StoreError as error:
            self._queues, self._is_up = (), False
            logger.warning("the store did not say how long its queues are: %s", error)
        finally:
            self._queues_at = time.monotonic() + QUEUES_EVERY
            self._reading.release()


def _shown(loop: Loop) -> dict[str, object]:
    """A fetch loop as it is shown to people."""
    ago = round(time.monotonic() - loop.moved, 3) if loop.moved else None
    return {"worker": loop.worker, "process": loop.pid, "seconds_since_it_moved": ago}


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: _Server
    server_version = "pynenc"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer with a body."""
        answer = self.server.health.answer(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815  # likewise

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002  # as it is there
        """An error in one line; a method that is not there is not allowed here."""
        code = 405 if code == 501 else code
        self.send_response(code, message if code != 405 else None)
        if code == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as it is named there
        """Probes come every few seconds; they are nothing to write about."""
        logger.debug("health port: " + format, *args)  # noqa: G003  # the format is of http.server


class _Server(ThreadingHTTPServer):
    """A few requests at once, none for long."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, health: Health) -> None:
        self.health = health
        self._room = BoundedSemaphore(MOST_REQUESTS)
        self._open: dict[int, tuple[float, socket.socket]] = {}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's own name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there is room."""
        if not self._room.acquire(blocking=False):
            super().shutdown_request(request)
            return
        self._open[id(request)] = time.monotonic(), request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The request is answered, or was given up."""
        super().shutdown_request(request)
        if self._open.pop(id(request), None):
            self._room.release()

    def service_actions(self) -> None:
        """Hang up on who sends or reads too slowly."""
        for began, request in list(self._open.values()):
            if time.monotonic() > began + PATIENCE:
                _hang_up(request)

    def handle_error(self, *_: Any) -> None:
        """Who asked went away, or the answer failed."""
        logger.debug("a request to the health port failed: %r", sys.exception())


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class HealthServer:
    """Serves a :class:`Health` while it is entered.

    :param port: 0 for any that is free. :raises ConfigError: the address is not to be had.
    """

    def __init__(self, host: str, port: int, health: Health) -> None:
        try:
            self._server = _Server(host, port, health)
        except OSError as error:
            raise ConfigError(
                f"nothing can listen at {host}:{port} ({error}): change the settings 'health_host' and 'health_port'"
            ) from error

    @property
    def url(self) -> str:
        """Where it can be asked."""
        host, port = self._server.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, name="pynenc-health", daemon=True).start()
        logger.info("health and metrics are at %s", self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
