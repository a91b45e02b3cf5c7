"""The signals of one run that it has not used: looked up only when none that is known will do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from pynenc.engine import decode_signal

_SIGNAL = "signal:"


class Inbox:
    """What has come, by name, in the order in which it came.

    :param first: signals below this number were used in earlier rounds. :param used: and these. :ivar seen: how many had come at the last look.
    """

    def __init__(self, first: int, used: Iterable[int]) -> None:
        self._first = first
        self._used = set(used)
        self._waiting: dict[str, deque[tuple[int, bytes]]] = {}
        self.seen = first

    def look(self, stored: Mapping[str, bytes]) -> None:
        """All signals that are stored, among other values of the invocation."""
        came = {int(key.removeprefix(_SIGNAL)): value for key, value in stored.items() if key.startswith(_SIGNAL)}
        self.seen = max([self._first, *(number + 1 for number in came)])
        self._waiting = {}
        for number in sorted(came.keys() - self._used):
            if number >= self._first:
                name, payload = decode_signal(came[number])
                self._waiting.setdefault(name, deque()).append((number, payload))

    def first(self, name: str) -> tuple[int, bytes] | None:
        """The number and the value of the first one of a name, if one is known."""
        waiting = self._waiting.get(name)
        while waiting and waiting[0][0] in self._used:
            waiting.popleft()
        return waiting[0] if waiting else None

    def holds(self, number: int) -> bool:
        """Whether a signal was not used."""
        return number not in self._used

    def use(self, number: int) -> None:
        """A signal was used."""
        self._used.add(number)
