"""Connections that do not wait for ever.

The driver waits for an answer as long as the connection stands, and it stands as long as the other machine confirms what is sent: also when the process
of the server stands still, or a proxy holds everything back. Here whoever waits gives up after some seconds in which nothing came. Only Python waits, never
libpq, which would hold up all threads meanwhile.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

T = TypeVar("T")
#: Seconds to wait for any answer, unless the URL has others.
ANSWER_SECONDS = 60.0


class SilentError(psycopg.OperationalError):
    """The server did not say anything for too long; the connection is closed."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that gives up. :ivar patience: seconds that it waits for an answer."""

    patience = ANSWER_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:  # noqa: ARG002  # the driver's
        """Do what a generator of the driver asks for.

        :raises SilentError: nothing came.
        """
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(self.await_socket(reads=bool(wanted & Wait.R), writes=bool(wanted & Wait.W)))
        except StopIteration as end:
            result: T = end.value
            return result
        except psycopg.Error:
            _leave(gen)
            raise
        except BaseException:  # an answer may still come
            self.close()
            _leave(gen)
            raise

    def await_socket(self, *, reads: bool, writes: bool) -> int:
        """Until the socket can be read or written.

        :raises SilentError: that does not happen for too long.
        """
        events = (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)
        found = poll({self.pgconn.socket: events}, self.patience)
        if not found:
            self.close()
            raise SilentError(f"no answer within {self.patience:g} s")
        happened = next(iter(found.values()))
        can_write = writes and bool(happened & select.POLLOUT)
        # The end of a connection is something to read as well.
        return (Ready.W if can_write else Ready.NONE) | (Ready.R if happened & ~select.POLLOUT else Ready.NONE)


def _leave(gen: PQGen[Any]) -> None:
    """End a generator that tidies up when it ends, on a connection that may be closed."""
    with suppress(psycopg.Error):
        gen.close()


def poll(wanted: dict[int, int], seconds: float) -> dict[int, int]:
    """What happens on some descriptors, whatever their numbers, within so many seconds."""
    poller = select.poll()
    for descriptor, events in wanted.items():
        poller.register(descriptor, events)
    return dict(poller.poll(seconds * 1000))
