"""Who waits for whom: the search for a cycle that could never end.

An invocation waits for others in two ways: its body asked for their results (*wait edges*), or it is parked behind a
running key and can only start when a holder of the key ends (*key edges*). A wait edge blocks by itself; of the key edges all
must be blocked, since one free holder is enough to let the parked invocation go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Neighbours = Callable[[str], Iterable[str]]


def find_cycle(waiter: str, awaited: str, edges: Neighbours, holders: Neighbours) -> tuple[str, ...]:
    """The circle that would close if ``waiter`` waited for ``awaited``: ids from ``waiter`` to what waits for it; empty if there is none.

    :param edges: the invocations whose results the given one waits for.
    :param holders: for an invocation that needs a running key which is full, all invocations that hold it; empty for any other.

    Depth-first search; every invocation is visited once, so the cost is linear in the edges that can be reached.
    """
    known: dict[str, tuple[str, ...]] = {}

    def path(node: str) -> tuple[str, ...]:
        if node == waiter:
            return (waiter,)
        if node in known:
            return known[node]
        known[node] = ()
        found = next((p for p in map(path, edges(node)) if p), ())
        if not found:
            blocked = [path(holder) for holder in holders(node)]
            found = blocked[0] if blocked and all(blocked) else ()
        known[node] = (node, *found) if found else ()
        return known[node]

    found = path(awaited)
    return (waiter, *found[:-1]) if found else ()
