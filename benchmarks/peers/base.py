"""What cases ask of another library: a task that does nothing, a worker in a process of its own, and its results."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, ClassVar

from benchmarks.latency import times
from benchmarks.processes import Program, launched


class Peer:
    """One library on an empty store.

    :ivar package: what must be installed. :ivar has_results: whether it keeps the values that tasks return. :ivar stop_signal: what ends its worker in
        order.
    """

    package: ClassVar[str]
    has_results: ClassVar[bool] = True
    stop_signal: ClassVar[int] = signal.SIGTERM

    def submit(self, count: int) -> None:
        """Submit calls 0 to ``count``, one by one, each accepted before the next."""
        raise NotImplementedError

    def submit_many(self, count: int) -> None:
        """The same with what the library has for many calls at once."""
        self.submit(count)

    def accepted(self) -> int:
        """How many calls wait."""
        raise NotImplementedError

    def is_settled(self, count: int) -> bool:
        """Whether the outcome of so many calls is written; asked when all were executed."""
        raise NotImplementedError

    def results(self) -> list[Any]:
        """The result of each call that was submitted, in order; only asked if it keeps them."""
        raise NotImplementedError

    def times(self, count: int) -> dict[str, float]:
        """Milliseconds from a call until its result is there, one after the other."""
        return times(count, self.call)

    def call(self, index: int) -> object:
        """One call and its result."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts its worker."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What its worker is told besides."""
        return {}

    def close(self) -> None:
        """Give back connections."""

    @contextmanager
    def worker(self) -> Iterator[Program]:
        """Its worker, as long as the body of ``with`` runs."""
        with launched(self.command(), self.stop_signal, **self.environment()) as program:
            yield program


#: Makes a peer on the store that a URL names.
Maker = Callable[[str], Peer]


def module(name: str, options: dict[str, Any]) -> list[str]:
    """A command that runs a module of this package with options as JSON."""
    return [sys.executable, "-m", f"benchmarks.peers.{name}", json.dumps(options)]


def version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None
