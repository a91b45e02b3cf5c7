"""Who must hear of what in the memory store: the unit of work and its wake-ups, listeners, watches and wait edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from pynenc.core.records import Claim, Final, Ref
from pynenc.exceptions import StoreError
from pynenc.store.base import Wake


class Unit:
    """One operation: nobody else works inside, and whoever must hear of it is called after the lock is free.

    ``stirred`` collects the queues in which something may have become claimable, ``wakes`` the watches whose ids have ended. An order wakes
    every listener: the runner that is meant is most likely busy with the very work that it is about.

    An interest may be closed by the garbage collector, when it finds an abandoned coroutine in the middle of an operation of this very thread. So
    closing never waits for the lock: whoever holds it does what was left to him.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.is_open = False
        self.listeners: dict[Listener, None] = {}
        self.stirred: set[str] = set()
        self.wakes: dict[Watch, None] = {}
        self.has_orders = False
        self._closings: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self.lock.acquire()
        self._do_closings()
        if not self.is_open:
            self.lock.release()
            raise StoreError("the store is closed, or was never opened: call open() first")

    def __exit__(self, *_: object) -> None:
        calls = self._calls() if self.stirred or self.wakes or self.has_orders else ()
        self.lock.release()
        self._try_closings()
        for wake in calls:
            wake()

    def close(self, closing: Callable[[], object]) -> None:
        """Carry out a closing inside the unit: now, or before anybody else works there."""
        self._closings.append(closing)
        self._try_closings()

    def _try_closings(self) -> None:
        while self._closings and self.lock.acquire(blocking=False):
            try:
                self._do_closings()
            finally:
                self.lock.release()

    def _do_closings(self) -> None:
        while self._closings:
            self._closings.popleft()()

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
        self._unit.close(lambda: self._unit.listeners.pop(self, None))


class Watch:
    """One call of ``watch``: the ids, and who waits for them (None: nobody that the store knows)."""

    def __init__(self, waits: Waits, ids: Sequence[str], wake: Wake, waiter: Ref | None) -> None:
        self._waits = waits
        self.ids = tuple(dict.fromkeys(ids))
        self.wake = wake
        self.waiter = waiter
        self.claim = Claim()
        self.final: Final | None = None

    def close(self) -> None:
        self._waits.unit.close(lambda: self._waits.forget(self))


class Node:
    """What is known of one invocation: who watches it, what it awaits with which watches, and who awaits it."""

    __slots__ = ("awaits", "waiters", "watches")

    def __init__(self) -> None:
        self.watches: dict[Watch, None] = {}
        self.awaits: dict[str, dict[Watch | None, None]] = {}
        self.waiters: dict[str, None] = {}


class Waits:
    """Watches and wait edges, by invocation: most have neither and no node.

    An edge is kept with the watches that made it (None: the suspension of the waiter): an invocation may wait for another one several times at once.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.nodes: dict[str, Node] = {}

    def awaited_by(self, waiter: str) -> tuple[str, ...]:
        """What an invocation waits for."""
        node = self.nodes.get(waiter)
        return tuple(node.awaits) if node else ()

    def waiters_of(self, awaited: str) -> tuple[str, ...]:
        """Who waits for an invocation."""
        node = self.nodes.get(awaited)
        return tuple(node.waiters) if node else ()

    def add(self, watch: Watch, pending: Iterable[str]) -> None:
        """Record a watch, and edges to those of its ids that are pending."""
        for awaited in watch.ids:
            self._node(awaited).watches[watch] = None
        if watch.waiter is not None:
            waiter = watch.waiter.id
            for awaited in pending:
                self._node(waiter).awaits.setdefault(awaited, {})[watch] = None
                self._node(awaited).waiters[waiter] = None

    def sleep(self, waiter: str, pending: Iterable[str]) -> None:
        """Record the edges of a suspended invocation, which no watch has made and none takes away."""
        for awaited in pending:
            self._node(waiter).awaits[awaited] = {None: None}
            self._node(awaited).waiters[waiter] = None

    def forget(self, watch: Watch) -> None:
        """Remove a watch and the edges that only it has made."""
        for awaited in watch.ids:
            if awaited in self.nodes:
                self.nodes[awaited].watches.pop(watch, None)
                if watch.waiter is not None:
                    self._forget_edge(watch, watch.waiter.id, awaited)
                self._tidy(awaited)

    def _forget_edge(self, watch: Watch, waiter: str, awaited: str) -> None:
        node = self.nodes.get(waiter)
        watches = node.awaits.get(awaited) if node else None
        if node is not None and watches is not None:
            watches.pop(watch, None)
            if not watches:
                del node.awaits[awaited]
                del self.nodes[awaited].waiters[waiter]
                self._tidy(waiter)

    def end(self, invocation_id: str) -> None:
        """An invocation has become final: wake who watches it, drop its edges."""
        self.stop(invocation_id)
        node = self.nodes.get(invocation_id)
        if node is not None:
            self.unit.wakes.update(node.watches)
            for waiter in node.waiters:
                del self.nodes[waiter].awaits[invocation_id]
                self._tidy(waiter)
            node.waiters.clear()
            self._tidy(invocation_id)

    def stop(self, waiter: str) -> None:
        """The attempt of a waiter is over: it waits for nothing."""
        node = self.nodes.get(waiter)
        if node is not None:
            for awaited in node.awaits:
                del self.nodes[awaited].waiters[waiter]
                self._tidy(awaited)
            node.awaits.clear()
            self._tidy(waiter)

    def remove(self, invocation_id: str) -> None:
        """An invocation is not there any more: who watches it is woken a last time."""
        self.end(invocation_id)
        self.nodes.pop(invocation_id, None)

    def _node(self, invocation_id: str) -> Node:
        node = self.nodes.get(invocation_id)
        if node is None:
            node = self.nodes[invocation_id] = Node()
        return node

    def _tidy(self, invocation_id: str) -> None:
        """Drop a node that says nothing any more."""
        node = self.nodes[invocation_id]
        if not (node.watches or node.awaits or node.waiters):
            del self.nodes[invocation_id]
