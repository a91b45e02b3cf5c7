"""Waiting in the plain model: who is stuck for ever, and who is raised."""

from __future__ import annotations

from collections.abc import Iterable

from pynenc.core.status import Place
from pynenc.testing.model.row import Row
from pynenc.testing.model.state import Model, raise_ranks


def is_stuck(model: Model, waiter: str, ids: Iterable[str]) -> bool:
    """Whether ``waiter`` could never go on if it waited for ``ids``.

    It is not among those that can end, a set grown step by step from those that wait for nothing.
    """
    waits = {name: set(row.waits) for name, row in model.rows.items()}
    waits[waiter] |= {name for name in ids if model.rows[name].place is not Place.FINAL}
    can_end: set[str] = set()
    while True:
        more = {
            name
            for name in waits.keys() - can_end
            if waits[name] <= can_end and _has_place(model, model.rows[name], can_end)
        }
        if not more:
            return waiter not in can_end
        can_end |= more


def _has_place(model: Model, row: Row, can_end: set[str]) -> bool:
    needs_key = row.place is Place.PARKED and not row.is_unknown and row.key
    return not needs_key or any(holder.new.id in can_end for holder in model.holders(row.key or ""))


def wait(model: Model, waiter: str, ids: Iterable[str]) -> None:
    """Record the edges and raise what is waited for."""
    row = model.rows[waiter]
    row.waits |= {name for name in ids if model.rows[name].place is not Place.FINAL}
    _boost(model, row.waits & set(ids), model.clock.now(), set())
    raise_ranks(model.rows)


def _boost(model: Model, ids: Iterable[str], at: int, seen: set[str]) -> None:
    for name in set(ids) - seen:
        seen.add(name)
        model.rows[name].boost = at
        _boost(model, model.rows[name].waits, at, seen)
