"""Which peers stand beside us on which server, with which settings. Those that are not installed are left out, and said."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.harness import TIMES
from benchmarks.peers import base
from benchmarks.peers.taskiq_peer import DEFAULT_CHECK


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer with settings.

    :ivar place: module and class. :ivar is_slow: measured in the first round only. :ivar share: how much it drains of what others do, so that no turn takes
    long.
    """

    label: str
    package: str
    place: str
    options: dict[str, Any] = field(default_factory=dict)
    is_slow: bool = False
    share: float = 1.0

    def make(self, url: str) -> base.Peer:
        """The peer on an empty store."""
        module, _, name = self.place.partition(":")
        peer: base.Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)(url, **self.options)
        return peer

    def calls(self, count: int) -> int:
        """How many it gets where others get ``count``."""
        return max(10, int(count * self.share))


#: Two processes of five slots.
SIZE = f"2{TIMES}5"

DRAMATIQ = Entry(f"dramatiq {SIZE}", "dramatiq", "dramatiq_redis:Dramatiq")
DRAMATIQ_TUNED = Entry(
    "dramatiq tuned", "dramatiq", "dramatiq_redis:Dramatiq", {"threads": 8, "prefetch": 500, "bare": True}
)
TASKIQ = Entry(f"taskiq {SIZE}", "taskiq-redis", "taskiq_peer:Taskiq")
TASKIQ_DEFAULT = Entry(
    "taskiq default poll", "taskiq-redis", "taskiq_peer:Taskiq", {"check": DEFAULT_CHECK}, is_slow=True
)
TASKIQ_TUNED = Entry("taskiq 1 ms poll", "taskiq-redis", "taskiq_peer:Taskiq")
HUEY = Entry("huey", "huey", "huey_peer:HueyRedis")
HUEY_DEFAULT = Entry("huey default poll", "huey", "huey_peer:HueyRedis", {"poll": False}, is_slow=True, share=0.2)
HUEY_TUNED = Entry("huey notified", "huey", "huey_peer:HueyRedis", {"notify": True})
CELERY = Entry("celery 10 threads", "celery", "celery_redis:Celery", is_slow=True, share=0.2)
RQ = Entry("rq 10 simple workers", "rq", "rq_redis:Rq", is_slow=True, share=0.2)
PROCRASTINATE = Entry("procrastinate", "procrastinate", "procrastinate_peer:Procrastinate", share=0.1)
PGQUEUER_1 = Entry("pgqueuer batch 1", "pgqueuer", "pgqueuer_peer:Pgqueuer", {"batch": 1}, share=0.1)
PGQUEUER = Entry("pgqueuer", "pgqueuer", "pgqueuer_peer:Pgqueuer")
PGQUEUER_BEST = Entry("pgqueuer batch 100", "pgqueuer", "pgqueuer_peer:Pgqueuer", {"batch": 100})

SUBMITTING = {"redis": (DRAMATIQ, TASKIQ, HUEY, CELERY, RQ), "postgres": (PROCRASTINATE, PGQUEUER)}
IN_BULK = {"redis": (RQ,), "postgres": (PROCRASTINATE, PGQUEUER)}
DRAINING = {
    "redis": (DRAMATIQ, DRAMATIQ_TUNED, TASKIQ, HUEY, CELERY, RQ),
    "postgres": (PROCRASTINATE, PGQUEUER_1, PGQUEUER_BEST),
}
ANSWERING = {
    "redis": (DRAMATIQ, TASKIQ_DEFAULT, TASKIQ_TUNED, HUEY_DEFAULT, HUEY_TUNED, CELERY, RQ),
    "postgres": (PROCRASTINATE, PGQUEUER),
}
PACKAGES = (
    "huey",
    "dramatiq",
    "taskiq",
    "taskiq-redis",
    "celery",
    "rq",
    "procrastinate",
    "pgqueuer",
    "asyncpg",
    "dbos",
)


def installed(entries: tuple[Entry, ...]) -> list[Entry]:
    """Those that can be measured."""
    return [entry for entry in entries if base.version(entry.package)]


def left_out(entries: tuple[Entry, ...]) -> list[str]:
    """What to say of the others."""
    names = sorted({entry.package for entry in entries if not base.version(entry.package)})
    return [f"Not installed, so left out: {', '.join(names)} (`make bench-peers` installs them)."] if names else []


def slow(entries: tuple[Entry, ...]) -> list[str]:
    """The labels of those that take part in one round only."""
    return [entry.label for entry in installed(entries) if entry.is_slow]


def notes(entries: tuple[Entry, ...]) -> list[str]:
    """What to say of who was not measured, or not in every round."""
    once = slow(entries)
    return [*left_out(entries), *([f"In the first round only, with fewer calls: {', '.join(once)}."] if once else [])]
