"""What is looked at when a store is opened: the version of its keys, and whether the server keeps what it accepts."""

from __future__ import annotations

import logging
from typing import Any

from pynenc.exceptions import SchemaError, StoreError
from pynenc.store.redis.link import Link

logger = logging.getLogger("pynenc")

#: The version of the layout of the keys. A layout that an older pynenc can work on keeps its number.
VERSION = 1
WAITAOF_SINCE = (7, 2)
_warned: set[str] = set()


def check(link: Link, display_url: str) -> None:
    """Refuse a server that would lose invocations, and say once when a crash of it would.

    :raises StoreError: it evicts keys when its memory is full, or cannot do what wait_aof asks. :raises SchemaError: its keys are of an unknown layout.
    """
    found = link.run("open", link.time(), VERSION)
    if int(found) != VERSION:
        raise SchemaError(
            f"{display_url} holds keys of layout {int(found)}, this pynenc knows layout {VERSION}: use the version of pynenc that wrote them"
        )
    info = _info(link)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreError(
            f"{display_url} has maxmemory-policy {policy}: it would throw invocations away when its memory is full. "
            "Set `maxmemory-policy noeviction`, or use a server of its own for pynenc"
        )
    if link.waits_for_file:
        _check_file(link, display_url, is_there=info.get("aof_enabled", "1") != "0")
    if info.get("aof_enabled", "1") == "0" and display_url not in _warned:
        _warned.add(display_url)
        logger.warning("%s: %s", display_url, NO_AOF)


def _check_file(link: Link, display_url: str, *, is_there: bool) -> None:
    """Refuse ``wait_aof`` where it would fail after each write, which had happened then."""
    if link.version < WAITAOF_SINCE:
        raise StoreError(
            f"{display_url}: wait_aof needs Redis 7.2 or Valkey: leave it out, and set `appendfsync always`"
        )
    if not is_there:
        raise StoreError(f"{display_url}: wait_aof needs an append-only file: set `appendonly yes`")


NO_AOF = (
    "the append-only file is off: when the server dies, whatever it accepted since its last snapshot is lost. "
    "Set `appendonly yes` (with `appendfsync always` a power cut is survived as well)"
)


def advice(link: Link) -> list[str]:
    """What a person should change about the server."""
    info = _info(link)
    found = []
    if info.get("aof_enabled", "1") == "0":
        found.append(NO_AOF)
    elif info.get("aof_last_write_status", "ok") != "ok":
        found.append("the append-only file could not be written: look at the disk of the server and at its log")
    return found


def _info(link: Link) -> dict[str, str]:
    """What the server says of its memory and of its persistence."""
    answers: list[Any] = link.ask_all([("INFO", "memory"), ("INFO", "persistence")])
    lines = b"\n".join(answers).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
