"""What a memory store remembers: values by scope, kept together for the invocation that a scope belongs to."""

from __future__ import annotations

from collections.abc import Mapping

Scope = dict[str, bytes]


class Values:
    """Scopes by owner: what stands before the first ``/``."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[str, Scope]] = {}

    def scope(self, name: str) -> Scope:
        """The values of a scope, to be read or removed."""
        return self._owners.get(_owner(name), {}).get(name, {})

    def put(self, name: str, items: Mapping[str, bytes], *, once: bool = False) -> Scope:
        """Store values; with ``once`` those that are there stay. The whole scope."""
        values = self._owners.setdefault(_owner(name), {}).setdefault(name, {})
        values |= {key: value for key, value in items.items() if not (once and key in values)}
        return values

    def drop(self, name: str) -> None:
        """Forget one scope."""
        self._owners.get(_owner(name), {}).pop(name, None)

    def forget(self, owner: str) -> None:
        """Forget all scopes of an owner."""
        self._owners.pop(owner, None)

    def clear(self) -> None:
        """Forget everything."""
        self._owners.clear()


def signal_key(number: int) -> str:
    """The key under which a signal is remembered; keys sort as numbers do."""
    return f"signal:{max(0, number):09d}"


def _owner(scope: str) -> str:
    return scope.partition("/")[0]
