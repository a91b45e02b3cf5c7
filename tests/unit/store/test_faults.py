"""What will not pass ends whoever asks; what may pass is tried again. On real servers, which are set up wrongly."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import trustme

from pynenc import Pynenc
from pynenc.exceptions import StoreError
from pynenc.runner import ThreadRunner
from pynenc.store import open_store
from pynenc.store.postgres import database, refusal
from pynenc.store.postgres.errors import is_connection_lost
from pynenc.store.postgres.refusal import RefusedError, code_of
from pynenc.store.postgres.url import parse
from pynenc.store.redis import link, tls
from pynenc.testing.chaos.proxy import Proxy
from pynenc.testing.servers.postgres import PostgresServer, empty_url, new_url, shared_url, with_options
from pynenc.testing.servers.redis import RedisServer, free_port

#: Rights of a user, and what it is told that it lacks.
RIGHTS = {
    "no writing": ("~pynenc:* &pynenc:* +@all -@admin -@dangerous +info -@write", "no permissions to run the"),
    "other keys": ("~other:* &pynenc:* +@all -@admin -@dangerous +info", "a key"),
    "other channels": ("~pynenc:* resetchannels +@all -@admin -@dangerous +info", "a channel"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(aof="always") as server:
        yield server


def run(url: str) -> StoreError:
    """What ends a runner at its start."""
    app = Pynenc(app_id="faults", store=url, runner={"threads": 1})
    with pytest.raises(StoreError) as raised:
        ThreadRunner(app).run()
    app.close()
    assert not raised.value.retryable
    return raised.value


def failure(url: str) -> psycopg.Error:
    """Why there is no connection."""
    with pytest.raises(psycopg.OperationalError) as raised:
        database.Database(parse(url), "faults").connect()
    return raised.value


@pytest.mark.parametrize(
    "options", [{"sslmode": "require"}, {"service": "nope"}, {"sslmode": "verify-full", "sslrootcert": "/nowhere.pem"}]
)
def test_a_connection_that_cannot_come_about_ends_a_runner(options: dict[str, str]) -> None:
    with PostgresServer() as own:
        assert "refuses the connection" in str(run(with_options(own.url, **options)))


def test_a_role_that_may_only_read_ends_a_runner() -> None:
    url = empty_url()
    schema = url.rpartition("schema=")[2]
    store = open_store(url, "faults")
    store.open()
    store.close()
    with psycopg.connect(shared_url(), autocommit=True) as client:
        client.execute(f"CREATE ROLE {schema}_reader LOGIN".encode())
        client.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}_reader".encode())
        client.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {schema}_reader".encode())
    try:
        assert "permission denied" in str(run(url.replace("postgres@", f"{schema}_reader@")))
    finally:
        with psycopg.connect(shared_url(), autocommit=True) as client:
            client.execute(f"DROP OWNED BY {schema}_reader; DROP ROLE {schema}_reader".encode())


@pytest.mark.parametrize("is_new", [True, False])
def test_a_role_whose_transactions_only_read_is_no_standby(is_new: bool) -> None:
    url = new_url() if is_new else empty_url()
    if not is_new:  # then nothing would be written before the first beat
        store = open_store(url, "faults")
        store.open()
        store.close()
    role = f"careful_{os.getpid()}"
    with psycopg.connect(shared_url(), autocommit=True) as client:
        client.execute(f"CREATE ROLE {role} LOGIN SUPERUSER".encode())
        client.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on".encode())
    try:
        told = str(run(url.replace("postgres@", f"{role}@")))
        assert "default_transaction_read_only is on (user)" in told
    finally:
        with psycopg.connect(shared_url(), autocommit=True) as client:
            client.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize("what", RIGHTS)
def test_a_user_without_a_right_is_told_which(what: str, server: RedisServer) -> None:
    rules, lacks = RIGHTS[what]
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">secret", *rules.split())
    told = str(run(server.url.replace("//", "//poor:secret@")))
    assert lacks in told
    assert link.RIGHTS in told
    assert link.RIGHTS.partition("+")[2] in (Path(__file__).parents[3] / "docs/guides/redis.md").read_text()


def test_a_wrong_password_ends_a_runner(server: RedisServer) -> None:
    assert "refuses this user" in str(run(server.url.replace("//", "//nobody:wrong@")))


def test_a_server_without_tls_is_told_from_one_that_is_away(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE", 0.3)
    assert "speaks no TLS" in str(run(server.url.replace("redis:", "rediss:")))
    away = open_store(f"rediss://127.0.0.1:{free_port()}/0", "faults")
    with pytest.raises(StoreError) as raised:
        away.open()
    assert raised.value.retryable


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile"])
@pytest.mark.parametrize("text", [None, "no certificate"])
def test_certificates_that_cannot_be_used_are_no_outage(name: str, text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "a.pem").write_text(text)
    with tls_port(b"") as port:
        told = run(f"rediss://127.0.0.1:{port}/0?{name}={tmp_path}/a.pem")
    assert re.search(rf"{name}.* cannot be used: .*({'No such file' if text is None else 'SSL|X509'})", str(told))


#: How a server says no to whoever does not begin with a handshake: it breaks off, or it sends an alert.
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


@contextmanager
def tls_port(refusal: bytes, *, wants_certificate: bool = False) -> Iterator[int]:
    """A port on which TLS is spoken and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    if wants_certificate:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    def serve(client: socket.socket) -> None:
        with client:
            if client.recv(1, socket.MSG_PEEK) != b"\x16":
                client.sendall(refusal)
                return
            with context.wrap_socket(client, server_side=True) as secure:
                secure.recv(1)

    def listen() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                client, _ = listener.accept()
                with suppress(OSError):
                    serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=listen, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(("refusal", "wants_certificate"), [(b"", False), (ALERT, False), (ALERT, True)])
def test_a_server_of_tls_only_is_told_from_one_that_is_away(refusal: bytes, wants_certificate: bool) -> None:
    with tls_port(refusal, wants_certificate=wants_certificate) as port:
        assert "rediss://" in str(run(f"redis://127.0.0.1:{port}/0"))
        app = Pynenc(app_id="faults", store=f"valkey://127.0.0.1:{port}/0")
        with pytest.raises(StoreError, match="rediss://") as raised:
            app.task(_nothing)()
        assert not raised.value.retryable
        app.close()


def _nothing() -> None:
    """A task."""


@pytest.mark.parametrize(
    "place", ["invalid.invalid", "127.0.0.1:1/certificate?application_name=permission%20denied%20does%20not%20exist"]
)
def test_names_that_sound_like_a_refusal_are_none(place: str) -> None:
    assert is_connection_lost(failure(with_options(f"postgresql://invalid@{place}", connect_timeout="2")))


def test_a_database_that_is_closed_for_maintenance_is_an_outage() -> None:
    name = empty_url().rpartition("schema=")[2]
    with psycopg.connect(shared_url(), autocommit=True) as client:
        client.execute(f"CREATE DATABASE {name} ALLOW_CONNECTIONS false".encode())
    try:
        error = failure(urlsplit(shared_url())._replace(path=f"/{name}").geturl())
        assert "not currently accepting connections" in str(error)
        assert is_connection_lost(error)
    finally:
        with psycopg.connect(shared_url(), autocommit=True) as client:
            client.execute(f"DROP DATABASE {name}".encode())


@pytest.mark.parametrize(
    ("hosts", "refused"),
    [
        ("{0}:{1},127.0.0.1:1", False),
        ("127.0.0.1:1,{0}:{1}", False),
        ("{0}:{1},{0}:{1}", True),
        ("localhost:{1}", True),  # by one of its addresses, perhaps, where nobody listens at the other one
    ],
)
def test_one_host_that_refuses_is_not_all_of_them(hosts: str, refused: bool) -> None:
    parts = urlsplit(shared_url())
    error = failure(f"postgresql://postgres@{hosts.format(parts.hostname, parts.port)}/not_there")
    assert (isinstance(error, RefusedError), is_connection_lost(error)) == (refused, not refused)


RULES = """
host all known all scram-sha-256
host closed shut all trust
host postgres busy all trust
host all postgres all trust
"""


class Stranger(Proxy):
    """Before a server: its errors are in a language that nobody here knows."""

    def _allowed(self, answer: bytes) -> bytes:
        """Of an error: type and length, then fields that begin with a letter and end with a zero."""
        if answer[:1] != b"E":
            at = answer.find(b"E\0\0\0")
            return answer if at < 0 else answer[:at] + self._allowed(answer[at:])
        fields = [
            field if field[:1] in b"CV" else field[:1] + b"qapla" for field in answer[5:].rstrip(b"\0").split(b"\0")
        ]
        body = b"".join(field + b"\0" for field in fields) + b"\0"
        return b"E" + (len(body) + 4).to_bytes(4, "big") + body


@pytest.fixture(scope="module")
def stranger() -> Iterator[Callable[..., str]]:
    """The URL of a server of another language: of a user and of a database."""
    with PostgresServer() as own:
        with psycopg.connect(own.url, autocommit=True) as client:
            client.execute(
                "CREATE ROLE known LOGIN PASSWORD 'right'; CREATE ROLE shut LOGIN; CREATE ROLE busy LOGIN CONNECTION LIMIT 0"
            )
            client.execute("CREATE DATABASE closed")
            client.execute("REVOKE CONNECT ON DATABASE closed FROM public")
        (own.folder / "data/pg_hba.conf").write_text(RULES)
        own.restart()
        with closing(Stranger("127.0.0.1", own.port)) as proxy:
            yield (
                lambda user, name: (
                    f"postgresql://{user}@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"
                )
            )


@pytest.mark.parametrize(
    ("user", "name", "code"),
    [
        ("known:wrong", "postgres", "28P01"),
        ("shut", "postgres", "28000"),
        ("shut", "closed", "42501"),
        ("postgres", "not_there", "3D000"),
    ],
)
def test_a_refusal_is_understood_in_any_language(stranger: Callable[..., str], user: str, name: str, code: str) -> None:
    url = stranger(user, name)
    assert code_of(url) == code
    told = run(url)
    assert "refuses the connection" in str(told)
    assert "FATAL" not in str(told)


def test_an_outage_is_understood_in_any_language(stranger: Callable[..., str]) -> None:
    assert code_of(stranger("busy", "postgres")) == "53300"
    assert is_connection_lost(failure(stranger("busy", "postgres")))
    assert code_of(stranger("postgres", "postgres")) is None


@pytest.fixture
def mute() -> Iterator[tuple[str, list[str]]]:
    """The URL of a port that accepts and breaks off, and who has come."""
    come: list[str] = []

    def listen() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                client, address = listener.accept()
                come.append(str(address))
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=listen, daemon=True)
        thread.start()
        yield f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/x?sslmode=disable&gssencmode=disable", come
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_who_gives_no_code_is_not_asked_again_each_time(
    mute: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, come = mute
    for _ in range(10):
        assert is_connection_lost(failure(url))
    assert len(come) <= 12, "ten connections and a question, perhaps for each of two texts of the error"
    monkeypatch.setattr(refusal, "SILENCE", 0.0)
    refusal._judged.clear()
    come.clear()
    for _ in range(10):
        assert is_connection_lost(failure(url))
    assert len(come) == 20, "it is asked again later"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EPERM, errno.ENOSYS])
def test_where_the_system_gives_no_file_an_outage_is_one(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: str) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "memfd_create", refuses)
    assert is_connection_lost(failure(f"postgresql://nobody@127.0.0.1:1/{code}"))


def test_a_server_of_redis_that_is_too_old_is_refused(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis.Redis.from_url(server.url) as client:
        info = client.execute_command("INFO", "server")
        text = "\r\n".join(f"{name}:{value}" for name, value in info.items())
    real = link.version_of(text)
    older = text.replace(f"redis_version:{info['redis_version']}", "redis_version:6.0.16")
    assert link.version_of(older) == (6, 0, 16) < link.OLDEST < real
    assert link.version_of("no such line") < link.OLDEST
    monkeypatch.setattr(link, "OLDEST", (*real, 1))
    assert info["redis_version"] in str(run(server.url))


def test_a_server_of_postgresql_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.OLDEST_SERVER == 140000
    with psycopg.connect(shared_url()) as client:
        monkeypatch.setattr(database, "OLDEST_SERVER", client.info.server_version + 1)
    assert "this server is too old" in str(run(empty_url()))
