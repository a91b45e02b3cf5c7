"""One row of ``inv`` as an object that can change, inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from pynenc.core.records import New
from pynenc.store.sqlite import schema
from pynenc.store.sqlite.database import Tx

_FIXED = [
    "seq",
    "id",
    "task",
    "queue",
    "created",
    "registration_key",
    "running_key",
    "running_limit",
    "drop_blocked",
    "rate_key",
    "rate_n",
    "rate_period",
    "max_crashes",
    "result_ttl",
    "expires",
    "special",
]
_MUTABLE = [
    "status",
    "place",
    "priority",
    "rank",
    "boost",
    "attempt",
    "runner",
    "retries",
    "crashes",
    "round",
    "claimed",
    "started",
    "ended",
    "due",
    "timer",
    "held",
    "rated",
    "why",
    "behind",
    "back",
    "alone",
    "cancel",
    "entries",
    "gone",
    "reason",
    "payload",
    "signals",
    "seen",
]
_NAMES = (*_FIXED, *_MUTABLE)

_COLUMNS = ", ".join(_NAMES)
BY_ID = f"SELECT {_COLUMNS} FROM $inv WHERE id = ?"
BY_SEQ = f"SELECT {_COLUMNS} FROM $inv WHERE seq = ?"
OWNED = f"SELECT {_COLUMNS} FROM $inv INDEXED BY $owned WHERE place = 3 AND runner = ? ORDER BY seq LIMIT ?"
NEXT_BEHIND = (
    f"SELECT {_COLUMNS} FROM $inv WHERE why = ? AND why > 0 AND behind = ? ORDER BY rank DESC, boost DESC, seq LIMIT 1"
)
ALL_BEHIND = f"SELECT {_COLUMNS} FROM $inv WHERE why = ? AND why > 0 AND behind = ? ORDER BY seq"
#: The rest of a query for what was never claimed and is over by some time.
IS_OVERDUE = "$inv INDEXED BY $expiring WHERE expires > 0 AND expires <= ? AND attempt = 0 AND round = 0 AND place < 3"
OVERDUE = f"SELECT {_COLUMNS} FROM {IS_OVERDUE} ORDER BY expires, seq LIMIT ?"
DUE = f"SELECT {_COLUMNS} FROM $inv WHERE queue = ? AND timer <= ? ORDER BY timer, seq LIMIT ?"
_SAVE = f"UPDATE $inv SET {', '.join(f'{name} = ?' for name in _MUTABLE)} WHERE seq = ?"

_values = attrgetter(*_MUTABLE, "seq")


class Row:
    """A row; what changed is written by :meth:`save`."""

    __slots__ = _NAMES

    seq: int
    id: str
    task: str
    queue: str
    created: int
    registration_key: str | None
    running_key: str | None
    running_limit: int
    drop_blocked: int
    rate_key: str | None
    rate_n: int
    rate_period: int
    max_crashes: int
    result_ttl: int
    expires: int
    special: int
    status: int
    place: int
    priority: float
    rank: float
    boost: int
    attempt: int
    runner: str | None
    retries: int
    crashes: int
    round: int
    claimed: int
    started: int
    ended: int
    due: int
    timer: int | None
    held: str | None
    rated: str | None
    why: int
    behind: str | None
    back: int
    alone: int
    cancel: int
    entries: int
    gone: int | None
    reason: str
    payload: bytes | None
    signals: int
    seen: int | None

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Row:
        """The row of a query that selects all columns of it."""
        row = cls()
        for name, value in zip(_NAMES, values, strict=True):
            setattr(row, name, value)
        return row

    @classmethod
    def fresh(cls, new: New, now: int) -> Row:
        """What :func:`pynenc.store.sqlite.life.settle` needs of a row that is not inserted yet."""
        row = cls()
        row.seq = row.why = row.entries = row.attempt = row.round = row.alone = 0
        row.id, row.status, row.back, row.created = new.id, schema.REGISTERED, schema.REGISTERED, now
        row.place, row.due, row.timer = schema.WAITING, new.due, None
        row.running_key, row.running_limit, row.drop_blocked = new.running_key, new.running_limit, int(new.drop_blocked)
        row.held = row.rated = row.behind = row.runner = None
        rate = new.rate
        row.rate_key = rate.key if rate else None
        row.rate_n, row.rate_period = (rate.n, rate.period) if rate else (0, 0)
        row.reason, row.payload = "", b""
        return row

    def save(self, tx: Tx) -> None:
        """Write all that may have changed."""
        tx.run(_SAVE, *_values(self))


def load(tx: Tx, invocation_id: str) -> Row | None:
    """The row of an id."""
    found = tx.one(BY_ID, invocation_id)
    return Row.of(found) if found else None


def rows(tx: Tx, query: str, *values: Any) -> Iterator[Row]:
    """The rows of a query, read completely before the first one is handed out: the caller changes them."""
    return map(Row.of, tx.all(query, *values))
