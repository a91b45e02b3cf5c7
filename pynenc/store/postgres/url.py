"""What a URL of this store says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pynenc.core.url import check_server_url
from pynenc.exceptions import ConfigError
from pynenc.store.postgres import schema
from pynenc.store.postgres.connection import ANSWER_SECONDS

#: Seconds and milliseconds after which a connection that does not answer is given up; a URL may say otherwise.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "pynenc",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
#: Seconds, also for statements that may take the server long: more than the kernel can count in milliseconds is a mistake.
LONGEST_TIMEOUT = 86_400.0
_SWITCH = {"on": True, "off": False}
_LISTEN = {**_SWITCH, "auto": None}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a URL asks for.

    :ivar conninfo: for the driver. :ivar display: without password. :ivar prepare: whether statements are prepared on the server.
    :ivar listen: whether a connection for wake-ups is kept; None: unless a pooler is between. :ivar pool: how many connections are kept at most.
    :ivar timeout: seconds to wait for any answer.
    """

    conninfo: str
    display: str
    schema: str = schema.DEFAULT
    prepare: bool = True
    listen: bool | None = None
    pool: int = 16
    timeout: float = ANSWER_SECONDS


def parse(url: str) -> Settings:
    """The settings of ``postgresql://user:password@host:port/database?schema=pynenc&prepare=on&listen=auto&pool=16&timeout=60``, with any parameter of libpq.

    :raises ConfigError: it cannot be read, or an option has a value that it cannot have.
    """
    check_server_url(url)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {name: options.pop(name) for name in ("schema", "prepare", "listen", "pool", "timeout") if name in options}
    conninfo = f"postgresql://{parts.netloc}{parts.path}?{urlencode(_DEFAULTS | options, quote_via=quote)}"
    display = _without_password(url)
    if not _NAME.fullmatch(own.get("schema") or schema.DEFAULT):
        raise ConfigError(f"{display!r}: the name of a schema is letters, digits and underscores, no more than 63")
    try:
        return Settings(
            conninfo,
            display,
            own.get("schema") or schema.DEFAULT,
            _SWITCH[own.get("prepare", "on")],
            _LISTEN[own.get("listen", "auto")],
            max(2, int(own.get("pool", "16"))),
            _timeout(own.get("timeout", ANSWER_SECONDS)),
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{display!r}: options of a PostgreSQL URL are schema=NAME, prepare=on or off, listen=on, off or auto, pool=NUMBER, timeout=SECONDS, "
            "and the parameters of libpq"
        ) from error


def _timeout(value: str | float) -> float:
    seconds = float(value)
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise ValueError(value)
    return seconds


def _without_password(url: str) -> str:
    """The URL for people: no password, wherever it stands."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    secret = ("password", "passfile", "sslpassword")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name not in secret])
    return f"{parts.scheme}://{login.partition(':')[0]}{at}{place}{parts.path}" + (f"?{query}" if query else "")
