"""The engine itself: one narrow table in PostgreSQL and nothing around it."""

from __future__ import annotations

from benchmarks.peers.raw import PAYLOAD

TABLE = "CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea)"
INSERT = "INSERT INTO item (data) VALUES ($1)"
COPY = "COPY item (data) FROM STDIN (FORMAT binary)"


class RawPostgres:
    """One connection."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self._connection.execute(TABLE)

    def rows_one_by_one(self, count: int) -> None:
        """A prepared INSERT, and a commit, per row."""
        with self._connection.cursor(binary=True) as cursor:
            for _ in range(count):
                cursor.execute(INSERT, (PAYLOAD,), prepare=True)

    def rows_in_bulk(self, count: int) -> None:
        """All rows by one COPY."""
        with self._connection.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(["bytea"])
            for _ in range(count):
                copy.write_row((PAYLOAD,))

    def close(self) -> None:
        self._connection.close()
