"""Waiting in the plain model: who is stuck for ever, and who is raised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pynenc.core.status import Place
from pynenc.testing.model.row import Row

if TYPE_CHECKING:
    from pynenc.testing.model.state import Model


def raise_ranks(rows: dict[str, Row]) -> None:
    """Raise ranks until nothing changes."""
    while True:
        lower = [(rows[name], row.rank) for row in rows.values() for name in row.waits if rows[name].rank < row.rank]
        if not lower:
            return
        for row, rank in lower:
            row.rank = max(row.rank, rank)


def is_stuck(model: Model, waiter: str, ids: Iterable[str]) -> bool:
    """Whether ``waiter`` could never go on if it waited for ``ids``, too."""
    waits = {name: set(row.waits) for name, row in model.rows.items()}
    waits[waiter] |= _unfinished(model, ids)
    return waiter not in _can_end(model, waits)


def can_end_without(model: Model, waiter: str, ids: Iterable[str]) -> bool:
    """Whether all of ``ids`` can end while ``waiter`` does not; it may be stuck already because of what it awaits elsewhere."""
    waits = {name: set(row.waits) for name, row in model.rows.items() if name != waiter}
    return _unfinished(model, ids) <= _can_end(model, waits)


def find_stuck(model: Model) -> set[str]:
    """Those that wait and can never go on; nobody, since a wait that would close a circle is refused."""
    waits = {name: set(row.waits) for name, row in model.rows.items()}
    waiting = {name for name, awaited in waits.items() if awaited}
    return waiting - _can_end(model, waits) if waiting else waiting


def _unfinished(model: Model, ids: Iterable[str]) -> set[str]:
    return {name for name in ids if model.rows[name].place is not Place.FINAL}


def _can_end(model: Model, waits: dict[str, set[str]]) -> set[str]:
    """Those that can end, a set grown step by step from those that wait for nothing."""
    can_end: set[str] = set()
    while True:
        more = {
            name
            for name in waits.keys() - can_end
            if waits[name] <= can_end and _has_place(model, model.rows[name], can_end)
        }
        if not more:
            return can_end
        can_end |= more


def _has_place(model: Model, row: Row, can_end: set[str]) -> bool:
    """Whether ``row`` has, gets or may yet get a place of its running key."""
    if not row.key or row.place in (Place.READY, Place.CLAIMED):
        return True
    holders = model.holders(row.key)
    return len(holders) < row.new.running_limit or any(holder.new.id in can_end for holder in holders)


def wait(model: Model, waiter: str, ids: Iterable[str]) -> None:
    """Record the edges and raise what is waited for."""
    row = model.rows[waiter]
    row.waits |= _unfinished(model, ids)
    _boost(model, row.waits & set(ids), model.clock.now(), set())
    raise_ranks(model.rows)


def _boost(model: Model, ids: Iterable[str], at: int, seen: set[str]) -> None:
    for name in set(ids) - seen:
        seen.add(name)
        model.rows[name].boost = at
        _boost(model, model.rows[name].waits, at, seen)
