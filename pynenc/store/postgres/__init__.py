"""The PostgreSQL store: many machines, one database."""

from __future__ import annotations

from pynenc.exceptions import ConfigError

try:
    import psycopg  # noqa: F401
except ImportError as error:
    raise ConfigError('the PostgreSQL store needs its driver: pip install "pynenc[postgres]"') from error

from pynenc.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
