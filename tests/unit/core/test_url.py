"""URLs of servers whose password is not written as a URL wants it."""

from __future__ import annotations

import pytest

from pynenc.core.url import check_server_url
from pynenc.exceptions import ConfigError
from pynenc.store.postgres.url import parse as parse_postgres
from pynenc.store.redis.options import parse as parse_redis


@pytest.mark.parametrize("parse", [parse_postgres, parse_redis])
@pytest.mark.parametrize("character", "/?#[]")
@pytest.mark.parametrize("before", ["wr0ng", "12"])
def test_a_character_that_means_something_else_is_refused_without_the_password(parse, character, before):
    with pytest.raises(ConfigError, match="write / as %2F") as raised:
        parse(f"{'redis' if parse is parse_redis else 'postgresql'}://me:{before}{character}secret@host/0")
    assert "wr0ng" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:p%2Fw@host:5/db",
        "postgresql://me:a@b@host/db",
        "postgresql://one:1,two:2/db",
        "postgresql://[::1]:5/db?user=me@there",
        "postgresql://%2Fvar%2Frun/db",
        "postgresql:///db",
        "redis:///run/redis.sock",
    ],
)
def test_others_are_fine(url):
    check_server_url(url)
