"""URLs of servers: what is wrong with one, said without its password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pynenc.exceptions import ConfigError

#: One host, with a port or without.
_PLACE = re.compile(r"(\[[^]]*\]|[^:\[\]]*)(:\d*)?")


def check_server_url(url: str) -> None:
    """Refuse a URL that does not end where it seems to: a password with characters that mean something else in a URL.

    :raises ConfigError: it is such a one; the text shows nothing of it but its scheme.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    places = authority.rpartition("@")[2].split(",")
    try:
        parts = urlsplit(url)
        beyond = (parts.path, parts.query.partition("=")[0], parts.fragment)
        is_split = any("@" in part for part in beyond) or not all(map(_PLACE.fullmatch, places))
    except ValueError:  # brackets
        is_split = True
    if is_split:
        raise ConfigError(
            f"a URL of {scheme}:// cannot be read: in a user name or password write "
            "/ as %2F, ? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, ] as %5D, % as %25"
        )
