"""Stores: where invocations live, chosen by URL."""

from __future__ import annotations

from importlib import import_module
from urllib.parse import urlsplit

from pynenc.exceptions import ConfigError
from pynenc.store.base import Clock, Store

#: Scheme of a URL → module and class; imported on demand, so that no driver is loaded before it is asked for.
SCHEMES = {
    "memory": "pynenc.store.memory:MemoryStore",
    "postgres": "pynenc.store.postgres:PostgresStore",
    "postgresql": "pynenc.store.postgres:PostgresStore",
    "sqlite": "pynenc.store.sqlite:SqliteStore",
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys"), "pynenc.store.redis:RedisStore"),
}


def open_store(url: str, app_id: str, clock: Clock | None = None) -> Store:
    """The store that ``url`` names, not opened yet (see :meth:`~pynenc.store.base.Store.open`).

    A store class takes ``(url, app_id, clock)``; others than the built-in ones are found through the entry point group ``pynenc.stores`` by their scheme.

    :raises ConfigError: nothing is known for the scheme, or its driver is not installed.
    """
    scheme = urlsplit(url).scheme
    target = SCHEMES.get(scheme) or _plugin(scheme)
    if target is None:
        raise ConfigError(
            f"no store for {url!r}: known schemes are {', '.join(sorted(SCHEMES))}, or install one that provides {scheme!r}"
        )
    module, _, name = target.partition(":")
    store: Store = getattr(import_module(module), name)(url, app_id, clock)
    return store


def _plugin(scheme: str) -> str | None:
    """The ``module:Class`` that an installed distribution registers for a scheme."""
    from importlib.metadata import entry_points  # takes long to import

    return next((entry.value for entry in entry_points(group="pynenc.stores", name=scheme)), None)
