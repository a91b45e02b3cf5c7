"""The proxy does the harm that it says, and only that."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import SimpleQueue
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from pynenc.testing.chaos.proxy import Proxy

SECONDS = 10.0


class Server(ThreadingTCPServer):
    """Answers in capitals, and remembers what it was asked."""

    daemon_threads = True
    heard: SimpleQueue[bytes]


class Loud(BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(1000):
                self.server.heard.put(data)
                self.request.sendall(data.upper())
        except ConnectionError:
            pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Loud) as server:
        server.heard = SimpleQueue()
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(*server.server_address)
    yield proxy
    proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), SECONDS)


def is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(10) == b""
    except ConnectionError:
        return True


def test_it_passes_on(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"HELLO"


def test_cut_connections_are_noticed_and_new_ones_work(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"ONE"
        proxy.cut()
        assert is_cut(client)
    test_it_passes_on(proxy)


def test_a_lost_reply_was_asked_for_all_the_same(proxy: Proxy, server: Server) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert client.recv(10) == b"A"
        proxy.lose_replies(SECONDS)
        client.sendall(b"b")
        assert is_cut(client)
    assert [server.heard.get(timeout=SECONDS) for _ in range(2)] == [b"a", b"b"]


def test_silence_passes(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert client.recv(10) == b"A"
        proxy.freeze(0.2)
        client.sendall(b"b")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(10)
        client.settimeout(SECONDS)
        assert client.recv(10) == b"B"


def test_a_server_that_is_not_there(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = Proxy("127.0.0.1", port)
    with connect(proxy) as client:
        assert is_cut(client)
    proxy.close()
