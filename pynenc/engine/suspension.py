"""How a body is left without an end: raised through it, by nothing that ``except Exception`` or ``retry_for`` sees.

A body that swallows one does not get on: the next durable operation raises it again, and whatever the body returns or raises after it is not its end.
"""

from __future__ import annotations

#: How the reason begins of a run whose code and record differ.
DIFFERS = "code and record differ: "
#: And of one that waits for a signal; its name follows.
FOR_SIGNAL = "waits for signal "


class Departure(BaseException):
    """Base of the ways."""


class Suspended(Departure):
    """The run goes on when one of these comes: ``due`` (0: no time), a final of ``awaits``, more than ``signals`` signals (-1: none wakes it), a person."""

    def __init__(self, reason: str, *, due: int = 0, awaits: tuple[str, ...] = (), signals: int = -1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.due = due
        self.awaits = awaits
        self.signals = signals


class Differs(Suspended):
    """The body does something else than its record says (``difference``): the run goes on when a person says so, with the code as it is then."""

    def __init__(self, difference: str, error: Exception) -> None:
        super().__init__(DIFFERS + difference)
        self.error = error


class Continued(Departure):
    """The run continues as new with other arguments; the first ``signals`` signals were used."""

    def __init__(self, args: bytes, blobs: tuple[str, ...], signals: int) -> None:
        super().__init__("continued as new")
        self.arguments = args
        self.blobs = blobs
        self.signals = signals


class GivenUp(Departure):
    """The attempt does not own its invocation any more: another one goes on, and nothing that this one does counts."""


class EndOfRecord(Departure):
    """A history that is only checked has no more to say."""


def union(ways: list[Suspended]) -> Suspended:
    """What goes on when any of several would. A signal may have come after one of them looked and before another one did: it wakes."""
    return Suspended(
        "; ".join(dict.fromkeys(way.reason for way in ways)),
        due=min((way.due for way in ways if way.due), default=0),
        awaits=tuple(dict.fromkeys(name for way in ways for name in way.awaits)),
        signals=min((way.signals for way in ways if way.signals >= 0), default=-1),
    )
