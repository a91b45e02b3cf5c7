"""What the URL of a Redis store says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pynenc.core.url import check_server_url
from pynenc.exceptions import ConfigError

#: Seconds to wait for an answer, for a connection, and between two questions whether an idle connection still works.
ANSWER, CONNECT, HEALTH = 30.0, 5.0, 30
_NUMBERS = {"wait_aof": 0, "wait_replicas": 0, "wait_timeout": 5.0, "timeout": ANSWER}
_WHOLE = ("wait_aof", "wait_replicas")


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect, and what to wait for.

    :ivar waits: commands that follow a write; :ivar needed: what each must answer at least.
    """

    display_url: str
    connection_class: type[Any]
    connection: dict[str, Any]
    waits: tuple[tuple[Any, ...], ...]
    needed: tuple[tuple[int, ...], ...]


def parse(url: str) -> Options:
    """The options of ``redis://user:password@host:port/db?option=…``.

    :raises ConfigError: there is no such option, or its value is none.
    """
    from redis import connection as driver

    check_server_url(url)
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise ConfigError(f"{display(url)!r} is no URL of Redis or Valkey: write redis://host:6379/0")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    numbers = {name: _number(url, name, query.pop(name, default)) for name, default in _NUMBERS.items()}
    scheme = parts.scheme.replace("valkey", "redis")
    path = parts.path
    if path.startswith("/") and not path[1:].isdigit() and not parts.hostname:
        scheme = "unix"
    elif path[1:] and not path[1:].isdigit():
        raise ConfigError(f"{display(url)!r}: a database of Redis is a number, as in redis://host:6379/0")
    plain = _joined(scheme, parts.netloc, path, urlencode(query))
    try:
        connection = driver.parse_url(plain)  # type: ignore[no-untyped-call]
        asked = {name: value for name, value in connection.items() if name in query and "ssl" not in name}
        driver.Connection(**asked | driver_info())  # type: ignore[no-untyped-call]
    except TypeError as error:
        raise ConfigError(f"{display(url)!r}: redis-py knows no option {str(error).rpartition(' ')[2]}") from None
    except ValueError as error:
        raise ConfigError(f"{display(url)!r}: {error}") from None
    if "decode_responses" in connection:
        raise ConfigError(f"{display(url)!r}: decode_responses is not for you to choose, values are bytes")
    return _options(url, connection, numbers)


def _options(url: str, connection: dict[str, Any], numbers: dict[str, float]) -> Options:
    from redis.connection import Connection

    kind = connection.pop("connection_class", Connection)
    connection |= {
        **driver_info(),
        "socket_timeout": numbers["timeout"],
        "protocol": 2,
        "health_check_interval": HEALTH,
    }
    if "path" not in connection:
        connection |= {"socket_keepalive": True, "socket_connect_timeout": CONNECT}
    waits: list[tuple[Any, ...]] = []
    needed: list[tuple[int, ...]] = []
    patience = int(numbers["wait_timeout"] * 1000)
    aof, replicas = int(numbers["wait_aof"]), int(numbers["wait_replicas"])
    if aof:
        waits.append(("WAITAOF", 1, aof - 1, patience))
        needed.append((1, aof - 1))
    if replicas:
        waits.append(("WAIT", replicas, patience))
        needed.append((replicas,))
    return Options(display(url), kind, connection, tuple(waits), tuple(needed))


@cache
def driver_info() -> dict[str, Any]:
    """What a connection tells the server of the driver. Newer drivers look their version up in the files of their package, for each connection again."""
    try:
        from redis.driver_info import DriverInfo
    except ImportError:
        return {}
    return {"driver_info": DriverInfo()}


def _number(url: str, name: str, value: str | float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf or (name in _WHOLE and number % 1):
        kind = "a whole number" if name in _WHOLE else "a number"
        raise ConfigError(f"{display(url)!r}: {name} must be {kind} of at least 0, not {value!r}")
    return number


def display(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    query = [(name, "***" if "pass" in name else value) for name, value in parse_qsl(parts.query)]
    where = parts.netloc.rpartition("@")[2]
    if parts.username:
        where = f"{quote(parts.username)}@{where}"
    return _joined(parts.scheme, where, parts.path, urlencode(query, safe="*"))


def _joined(scheme: str, where: str, path: str, query: str) -> str:
    return f"{scheme}://{where}{path}" + (f"?{query}" if query else "")
