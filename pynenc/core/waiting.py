"""Who waits for whom: the search for a wait that could never end.

An invocation waits for others in two ways: its body asked for their results (*wait edges*: all of them must end), or it is parked behind a
running key (*key edges*: one free holder is enough). So the question is not whether there is a circle but whether the waiter *can end*: the least
set that contains whatever waits for nothing and grows by whatever all its wait edges, and one of its key edges if it has any, lead into.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from pynenc.exceptions import CycleDetectedError

Neighbours = Callable[[str], Iterable[str]]


def find_cycle(waiter: str, awaited: str, edges: Neighbours, holders: Neighbours) -> tuple[str, ...]:
    """The circle that would close if ``waiter`` waited for ``awaited``: ids from ``waiter`` to what waits for it; empty if it can end.

    :param edges: the invocations whose results the given one waits for.
    :param holders: for an invocation that needs a running key which is full, all invocations that hold it; empty for any other.

    Each invocation that can be reached is asked for its neighbours once.
    """
    waits: dict[str, tuple[str, ...]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    reached = [waiter]
    for node in reached:
        if node not in waits:
            waits[node] = (*edges(node), awaited) if node == waiter else tuple(edges(node))
            keys[node] = tuple(holders(node))
            reached += (*waits[node], *keys[node])
    can_end = _can_end(waits, keys)
    return () if waiter in can_end else _path(waiter, awaited, waits, keys, can_end)


def never_ending(cycle: Sequence[str], tasks: Mapping[str, str]) -> CycleDetectedError:
    """The error for a circle that begins with who would close it; ``tasks`` names the tasks of its invocations."""
    names = " -> ".join(f"{tasks.get(name, 'unknown task')} ({name})" for name in (*cycle, cycle[0]))
    return CycleDetectedError(
        f"waiting would never end: {names}; let one of these tasks not wait for the other", cycle[0], cycle
    )


def _can_end(waits: dict[str, tuple[str, ...]], keys: dict[str, tuple[str, ...]]) -> set[str]:
    """The least fixed point: whatever can end lets go those that wait for it; each edge is followed once."""
    missing = {node: len(names) for node, names in waits.items()}
    locked = {node for node, names in keys.items() if names}
    waiters, parked = _reversed(waits), _reversed(keys)
    ends = [node for node, count in missing.items() if not count and node not in locked]
    can_end = set(ends)
    for node in ends:
        for waiter in waiters[node]:
            missing[waiter] -= 1
        locked.difference_update(parked[node])
        for freed in (*waiters[node], *parked[node]):
            if not missing[freed] and freed not in locked and freed not in can_end:
                can_end.add(freed)
                ends.append(freed)
    return can_end


def _reversed(edges: dict[str, tuple[str, ...]]) -> defaultdict[str, list[str]]:
    """Who has an edge to the given one."""
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for node, names in edges.items():
        for name in names:
            sources[name].append(node)
    return sources


def _path(
    waiter: str, awaited: str, waits: dict[str, tuple[str, ...]], keys: dict[str, tuple[str, ...]], can_end: set[str]
) -> tuple[str, ...]:
    """The shortest way from ``awaited`` back to ``waiter`` through those that cannot end; ``waiter`` stands in front."""
    came_from: dict[str, str] = {}
    reached = [awaited]
    for node in reached:
        if node == waiter:
            break
        for following in (*waits[node], *keys[node]):
            if following not in can_end and following not in came_from and following != awaited:
                came_from[following] = node
                reached.append(following)
    path = [waiter]
    while path[-1] != awaited and path[-1] in came_from:
        path.append(came_from[path[-1]])
    return (waiter, *reversed(path[1:]))
