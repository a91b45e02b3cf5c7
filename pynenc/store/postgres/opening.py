"""What is looked at, and made, when a store is opened: the settings of the server and the schema."""

from __future__ import annotations

from pynenc.exceptions import SchemaError, StoreError
from pynenc.store.postgres import schema
from pynenc.store.postgres.connection import Connection

#: Asks the tables of the catalogue: a lookup by name may remember from before a lock that there was nothing.
FIND_SCHEMA = "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'version'"
#: A migration that cannot have a lock soon gives up, rather than keep all others waiting behind it.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '3s';"
#: What transactions are unless they say otherwise; why they may only read, unless the server is a standby that may become more.
SETTINGS = """
SELECT current_setting('default_transaction_isolation'), CASE WHEN current_setting('transaction_read_only')::boolean AND NOT pg_is_in_recovery()
    THEN (SELECT source FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only') END
"""
FIND_APP = "SELECT num, (SELECT id FROM @version) FROM @app WHERE name = $1"
ADD_APP = "INSERT INTO @app (name) VALUES ($1) ON CONFLICT (name) DO NOTHING"


def version_of(connection: Connection, name: str) -> tuple[int, int] | None:
    """The version of the schema that is there; None when there is none."""
    if connection.execute(FIND_SCHEMA, (name,)).fetchone() is None:
        return None
    row = connection.execute(schema.render(schema.GET_VERSION, name).encode()).fetchone()
    return (row[0], row[1]) if row else None


def check_settings(connection: Connection, display: str) -> None:
    """Refuse what transactions are here.

    :raises StoreError: they may only read, or see too little of what others did.
    """
    found = connection.execute(SETTINGS.encode()).fetchone()
    assert found is not None
    isolation, why_it_only_reads = found
    if why_it_only_reads is not None:
        raise StoreError(
            f"{display}: transactions may only read, though this is no standby: default_transaction_read_only is on ({why_it_only_reads}): "
            "ALTER ROLE ... (or DATABASE, or SYSTEM) RESET default_transaction_read_only, or use another user"
        )
    if isolation != "read committed":
        raise StoreError(
            f"{display}: transactions are {isolation} by default, and must be read committed here: "
            "ALTER ROLE ... SET default_transaction_isolation = 'read committed'"
        )


def prepare(connection: Connection, name: str, app_id: str) -> tuple[int, object]:
    """Create what is missing, refuse what is not known; the number of the app, and what tells the schema from all others."""
    version = version_of(connection, name)
    if version is None:
        migrate(connection, name)
        version = version_of(connection, name)
    assert version is not None
    _check_version(version, name)
    find, add = schema.render(FIND_APP, name).encode(), schema.render(ADD_APP, name).encode()
    found = connection.execute(find, (app_id,)).fetchone()
    if found is None:
        connection.execute(add, (app_id,))
        found = connection.execute(find, (app_id,)).fetchone()
    assert found is not None
    return int(found[0]), found[1]


def _check_version(version: tuple[int, int], name: str) -> None:
    there, ours = ".".join(map(str, version)), ".".join(map(str, schema.VERSION))
    if version[0] > schema.VERSION[0]:
        raise SchemaError(
            f"schema {name!r} has version {there}, and this version of pynenc knows {ours}: upgrade pynenc here, or use another schema"
        )
    if version < schema.VERSION:
        raise SchemaError(
            f"schema {name!r} has version {there}, and this version of pynenc needs {ours}: run `pynenc store migrate`"
        )


def migrate(connection: Connection, name: str) -> list[str]:
    """Take the steps that are missing, alone; what was done. Others may work meanwhile: a lock that cannot be had soon ends it, and nothing is changed."""
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock($1::integer, hashtext($2))", (schema.LOCKS["LOCK_SCHEMA"], name)
        )
        connection.execute(LOCK_TIMEOUT.encode())
        connection.execute("SET LOCAL client_min_messages = 'warning'")
        present = version_of(connection, name)
        if present is not None and present[0] > schema.VERSION[0]:
            _check_version(present, name)
        texts = schema.statements(name, present)
        for text in texts:
            connection.execute(text.encode(), prepare=False)
        return texts
