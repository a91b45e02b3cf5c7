"""The SQLite store: one file, many processes of one machine.

Theory of operation
-------------------
``schema`` holds the tables and how a row becomes a record. An invocation is one row of ``inv`` from its submission to its purge;
partial indices hold only what an operation looks for: READY rows by queue and rank, timers, what a runner owns, who is parked
behind what.

``database`` runs transactions: one writing connection a process behind a lock of the process and a *gate* between processes (a
``flock``, because the busy handler of SQLite starves some writers for seconds), and a pool of reading connections.

``life`` is what happens to one row: admitted, parked, let go, ended. It works on :class:`~pynenc.store.sqlite.row.Row` objects
inside a transaction. The common way of a call, submitted → claimed → final with neither key nor rate, never gets there:
``submitting``, ``claiming`` and ``finishing`` do it in bulk statements.

``wake`` carries wake-ups to other processes: a small mapped file says who is idle or waits for results, and only they get a datagram. ``signs`` are
lock files that the kernel releases when a process dies.

Files beside ``app.db``: ``app.db-wal`` and ``app.db-shm`` of SQLite, and the folder ``app.db-run`` with gate, board, sockets and lock
files. The folder may be removed while no process uses the store.
"""

from pynenc.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
