"""Who must hear of what in the memory store: the unit of work and its wake-ups, listeners, watches and wait edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock

from pynenc.core.records import Ref
from pynenc.exceptions import StoreError
from pynenc.store.base import Wake


class Unit:
    """One operation: nobody else works inside, and whoever must hear of it is called after the lock is free.

    ``stirred`` collects the queues in which something may have become claimable, ``wakes`` the watches whose ids have ended. An order wakes
    every listener: the runner that is meant is most likely busy with the very work that it is about.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.is_open = False
        self.listeners: dict[Listener, None] = {}
        self.stirred: set[str] = set()
        self.wakes: dict[Watch, None] = {}
        self.has_orders = False

    def __enter__(self) -> None:
        self.lock.acquire()
        if not self.is_open:
            self.lock.release()
            raise StoreError("the store is closed, or was never opened: call open() first")

    def __exit__(self, *_: object) -> None:
        calls = self._calls() if self.stirred or self.wakes or self.has_orders else ()
        self.lock.release()
        for wake in calls:
            wake()

    def _calls(self) -> list[Wake]:
        calls = [watch.wake for watch in self.wakes]
        calls += [listener.wake for listener in self.listeners if listener.wants(self.stirred) or self.has_orders]
        self.wakes.clear()
        self.stirred.clear()
        self.has_orders = False
        return calls


class Listener:
    """The interest of a runner in new work.

    The flag needs no lock: a change before ``idle(True)`` is seen by the claim that follows it, a change after it sees the flag.
    """

    def __init__(self, unit: Unit, queues: Iterable[str], wake: Wake) -> None:
        self._unit = unit
        self._queues = frozenset(queues)
        self._is_idle = False
        self.wake = wake

    def idle(self, is_idle: bool, /) -> None:  # noqa: FBT001 - the contract
        self._is_idle = is_idle

    def wants(self, queues: set[str]) -> bool:
        """Whether it wants to hear of work in ``queues``."""
        return self._is_idle and bool(queues) and (not self._queues or not self._queues.isdisjoint(queues))

    def close(self) -> None:
        with self._unit.lock:
            self._unit.listeners.pop(self, None)


class Watch:
    """One call of ``watch``: the ids, and who waits for them (None: nobody that the store knows)."""

    def __init__(self, waits: Waits, ids: Sequence[str], wake: Wake, waiter: Ref | None) -> None:
        self._waits = waits
        self.ids = tuple(dict.fromkeys(ids))
        self.wake = wake
        self.waiter = waiter

    def close(self) -> None:
        with self._waits.unit.lock:
            self._waits.forget(self)


class Waits:
    """Watches by id, and the wait edges in both directions.

    An edge is kept with the watches that made it: an invocation may wait for another one several times at once.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._watches: dict[str, dict[Watch, None]] = {}
        self._awaited: dict[str, dict[str, dict[Watch, None]]] = {}
        self._waiters: dict[str, dict[str, None]] = {}

    def awaited_by(self, waiter: str) -> tuple[str, ...]:
        """What an invocation waits for."""
        return tuple(self._awaited.get(waiter, ()))

    def waiters_of(self, awaited: str) -> tuple[str, ...]:
        """Who waits for an invocation."""
        return tuple(self._waiters.get(awaited, ()))

    def edges(self) -> set[tuple[str, str]]:
        """All edges, from the waiter to the awaited; raises ``ValueError`` when the two directions differ."""
        forth = {(waiter, awaited) for waiter, edges in self._awaited.items() for awaited in edges}
        if forth != {(waiter, awaited) for awaited, waiters in self._waiters.items() for waiter in waiters}:
            raise ValueError("the wait edges differ by direction")
        return forth

    def add(self, watch: Watch, pending: Iterable[str]) -> None:
        """Record a watch, and edges to those of its ids that are pending."""
        for awaited in watch.ids:
            self._watches.setdefault(awaited, {})[watch] = None
        if watch.waiter is not None:
            for awaited in pending:
                self._awaited.setdefault(watch.waiter.id, {}).setdefault(awaited, {})[watch] = None
                self._waiters.setdefault(awaited, {})[watch.waiter.id] = None

    def forget(self, watch: Watch) -> None:
        """Remove a watch and the edges that only it has made."""
        for awaited in watch.ids:
            _discard(self._watches, awaited, watch)
            if watch.waiter is not None and watch in self._awaited.get(watch.waiter.id, {}).get(awaited, ()):
                self._forget_edge(watch, watch.waiter.id, awaited)

    def _forget_edge(self, watch: Watch, waiter: str, awaited: str) -> None:
        edges = self._awaited[waiter]
        _discard(edges, awaited, watch)
        if awaited not in edges:
            _discard(self._waiters, awaited, waiter)
        if not edges:
            del self._awaited[waiter]

    def end(self, invocation_id: str) -> None:
        """An invocation has become final, or is not there any more: wake who watches it, drop its edges."""
        if invocation_id in self._watches:
            self.unit.wakes.update(self._watches[invocation_id])
        if invocation_id in self._awaited:
            self.stop(invocation_id)
        for waiter in self._waiters.pop(invocation_id, ()):
            edges = self._awaited[waiter]
            del edges[invocation_id]
            if not edges:
                del self._awaited[waiter]

    def stop(self, waiter: str) -> None:
        """The attempt of a waiter is over: it waits for nothing."""
        for awaited in self._awaited.pop(waiter, ()):
            _discard(self._waiters, awaited, waiter)

    def remove(self, invocation_id: str) -> None:
        """An invocation is removed: who watches it is woken a last time."""
        self.end(invocation_id)
        self._watches.pop(invocation_id, None)


def _discard(index: dict[K, dict[V, None]], key: K, value: V) -> None:
    """Remove a value from an index, and its key with the last one."""
    values = index.get(key)
    if values is not None:
        values.pop(value, None)
        if not values:
            del index[key]
