"""Redis and PostgreSQL: what one call costs the server, counted by the server itself, and how long its processors worked for it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from benchmarks import marks
from benchmarks.engines import serving
from benchmarks.harness import Bench, Report
from benchmarks.ours import on_store, runner, scratch
from benchmarks.processes import wait_until
from benchmarks.tasks import app, nothing
from pynenc.core.records import QueueState

THREADS = 10
Counts = dict[str, float]


class Meter(ABC):
    """The counters of a server."""

    @abstractmethod
    def read(self) -> Counts:
        """What was done until now; everybody else has disconnected."""

    def spent(self, count: int, work: Callable[[], object]) -> Counts:
        """What each of ``count`` cost."""
        before = self.read()
        work()
        after = self.read()
        return {name: (after[name] - before[name]) / count for name in after}


class RedisMeter(Meter):
    """Commands, of which some come from scripts; memory; and the append-only file."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url)

    def read(self) -> Counts:
        calls = {name: each["calls"] for name, each in self._client.info("commandstats").items()}
        cpu = self._client.info("cpu")
        return {
            "CPU µs": (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6,
            "scripts": sum(calls.get(f"cmdstat_{name}", 0) for name in ("evalsha", "eval", "fcall")),
            "commands": sum(calls.values()),
            "AOF bytes": self._client.info("persistence")["aof_current_size"],
            "memory bytes": self._client.info("memory")["used_memory"],
        }


class PostgresMeter(Meter):
    """Commits and the log. A connection tells the server what it did when it ends, at the latest."""

    COMMITS = "SELECT sum(xact_commit)::float FROM pg_stat_database WHERE datname = current_database()"
    WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float"
    SIZE = "SELECT pg_database_size(current_database())::float"
    OTHERS = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True)

    def read(self) -> Counts:
        wait_until(lambda: self._ask(self.OTHERS) == 1, what="the end of other connections")
        self._connection.execute("SELECT pg_stat_force_next_flush()")
        commits, log, size = self._ask(self.COMMITS), self._ask(self.WAL), self._ask(self.SIZE)
        cpu = processor_microseconds(int(self._ask("SELECT pg_backend_pid()")))
        return {"CPU µs": cpu, "commits": commits, "WAL bytes": log, "disk bytes": size}

    def _ask(self, query: str) -> float:
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return float(row[0])


def processor_microseconds(backend: int) -> float:
    """What all processes of a PostgreSQL server have worked until now, those that ended included (Linux; elsewhere 0)."""
    try:
        first = int(_stat(backend)[1])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        ticks = sum(map(int, _stat(first)[11:15])) + sum(sum(map(int, _stat(int(pid))[11:13])) for pid in children)
    except OSError:
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK") * 1e6


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name: state, parent, …, user and system time, and those of its children that ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def measure_redis(bench: Bench) -> Report:
    """Script calls, commands and bytes for each call."""
    return _measure(bench, "redis", RedisMeter)


def measure_postgres(bench: Bench) -> Report:
    """Commits and bytes of the log for each call."""
    return _measure(bench, "postgres", PostgresMeter)


def _measure(bench: Bench, engine: str, meter: Callable[[str], Meter]) -> Report:
    few, many = bench.size(400, 50), bench.size(10_000, 1_000)
    with serving(engine) as server:
        contest = bench.contest(
            {
                "enqueue one by one": lambda: _submitting(server.fresh(), meter, few, _one_by_one),
                "parallelize": lambda: _submitting(server.fresh(), meter, many, _at_once),
                "drain": lambda: _draining(server.fresh(), meter, many),
                "round trip": lambda: _answering(server.fresh(), meter, few),
            },
            rounds=1,
        )
        return Report(
            f"{server.name}: what a call costs the server",
            "",
            f"{server.durability}; {few:,} calls one by one, {many:,} at once; a runner of {THREADS} threads",
            contest.figures,
            [],
        )


def _one_by_one(count: int) -> None:
    for index in range(count):
        nothing(index)


def _at_once(count: int) -> None:
    nothing.parallelize([(index,) for index in range(count)])


def _submitting(url: str, meter: Callable[[str], Meter], count: int, work: Callable[[int], None]) -> Counts:
    def submit() -> None:
        with on_store(url):
            work(count)

    with on_store(url):
        nothing(0)
    return meter(url).spent(count, submit)


def _draining(url: str, meter: Callable[[str], Meter], count: int) -> Counts:
    def drain() -> None:
        with on_store(url), runner("ThreadRunner", threads=THREADS):
            app.store.set_queue("default", QueueState.ACTIVE)
            wait_until(executed.are_complete, what="the execution of all calls")

    with scratch() as folder:
        executed = marks.create(folder / "marks", count)
        with on_store(url):
            app.store.set_queue("default", QueueState.PAUSED)
            _at_once(count)
        return meter(url).spent(count, drain)


def _answering(url: str, meter: Callable[[str], Meter], count: int) -> Counts:
    def answer() -> None:
        with on_store(url), runner("ThreadRunner", threads=THREADS):
            assert all(nothing(index).result == index for index in range(count))

    with on_store(url):
        nothing(0)
    return meter(url).spent(count, answer)
