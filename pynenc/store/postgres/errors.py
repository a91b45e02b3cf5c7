"""What an error of the server or of the connection means to a user."""

from __future__ import annotations

import msgspec
import psycopg

from pynenc.exceptions import (
    MissingBlobsError,
    PynencError,
    QueueFullError,
    RunnerLostError,
    SchemaError,
    StoreError,
    TaskRoutingError,
)
from pynenc.store.postgres.connection import SilentError
from pynenc.store.postgres.refusal import RefusedError

#: Serialization failure, deadlock, lock not available, two at once for one key: trying the transaction again is all that is needed.
PASSING = frozenset({"40001", "40P01", "55P03", "23505"})
#: A prepared statement is not there, or is there already: a pooler gives each transaction to another server process.
UNPREPARED = frozenset({"26000", "42P05"})
#: The server goes down, comes up, or has no connection free.
UNREACHABLE = frozenset({"57P01", "57P02", "57P03", "53300", "08000", "08003", "08006", "08001", "08004"})
#: Something of the schema is not there.
MISSING = frozenset({"42P01", "42883", "3F000", "42703"})
#: No disk space, out of memory, read-only, cancelled (by a person or ``statement_timeout``): it may pass.
SHORT = frozenset({"53100", "53200", "53400", "25006", "57014"})


def is_silent(error: BaseException | None) -> bool:
    """Whether somebody has waited for an answer in vain: trying again at once would take as long."""
    return isinstance(error, (SilentError, psycopg.errors.ConnectionTimeout))


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether the connection is of no use any more, or there was none."""
    if error.sqlstate is None:
        is_of_connection = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return is_of_connection and not isinstance(error, RefusedError)
    return error.sqlstate in UNREACHABLE


def explained(error: psycopg.Error, where: str, schema: str) -> PynencError:
    """The error to raise instead. ``where`` is the URL without password."""
    state, detail = error.sqlstate, error.diag.message_detail or ""
    if state and state.startswith("PN"):
        return _of_ours(state, msgspec.json.decode(detail))
    if isinstance(error, RefusedError):
        return StoreError(f"{where} refuses the connection: {_first_line(error)}")
    if is_connection_lost(error):
        return StoreError(f"{where} does not answer: {_first_line(error)}", retryable=True)
    if state in PASSING or state in SHORT:
        return StoreError(f"{where}: {_first_line(error)}", retryable=True)
    if state in MISSING:
        return SchemaError(
            f"{where}: schema {schema!r} is not complete ({_first_line(error)}): run `pynenc store migrate`"
        )
    if state == "42501":
        return StoreError(
            f"{where}: {_first_line(error)}: give this user the privileges that docs/guides/postgresql.md lists"
        )
    if isinstance(error, psycopg.DataError):
        return StoreError(f"PostgreSQL cannot store this value: {_first_line(error)}")
    return StoreError(f"{where}: {_first_line(error)}")


def _of_ours(state: str, detail: object) -> PynencError:
    """An error that our own functions raise."""
    if state == "PN001":
        return RunnerLostError(f"runner {detail} is not registered, or its lease was taken away: register a new one")
    if state == "PN002" and isinstance(detail, list):
        return MissingBlobsError(detail)
    queue, task, *rest = detail if isinstance(detail, list) else ("", "")
    if state == "PN003":
        return TaskRoutingError(
            f"queue {queue!r} is draining and takes no new calls: use another queue, or `pynenc queues resume {queue}`",
            task,
        )
    limit = rest[0] if rest else ""
    return QueueFullError(
        f"queue {queue!r} holds {limit} invocations already (max_queue_length): wait, or start more runners", task
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
