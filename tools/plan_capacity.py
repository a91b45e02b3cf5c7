"""How many stores does a load need, and what gives way first? A small deterministic model, fed with costs that were measured elsewhere.

    python -m tools.plan_capacity --per-day 1e9 --peak 3 --runners 1000 --measured 2026-11-27 --store postgres ...

The load of a day follows a smooth curve with the given mean and peak. It is spread evenly over some stores. For each thing that can run out the
model says how many stores would be enough for it alone; the largest number is the answer, and what asked for it gives way first. The day is then
played minute by minute with that many stores, with the fewest that keep up at the peak, and with one less: a store that is asked for more than it
can do builds a backlog, and the backlog is the delay (a fluid queue). Within what a store can do, the delay of a single operation is that of a
queue with several servers (Erlang C). Nothing is drawn at random: the same parameters give the same answer.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from pynenc.conf.config_runner import ConfigRunner
from pynenc.engine import upkeep
from pynenc.runner import keeper

#: What ``make bench`` measured, by date.
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
DAY = 86_400.0
MINUTES = 1440


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: invocations a day, how much higher the busiest minute is than the mean, and who works."""

    per_day: float = 1e9
    peak: float = 3.0
    runners: int = 1000
    processes: int = 2
    slots: int = 16
    body_ms: float = 100.0
    keep_days: float = 1.0

    @property
    def mean(self) -> float:
        """Invocations a second."""
        return self.per_day / DAY


@dataclass(frozen=True, slots=True)
class Costs:
    """What one store can do, and what an invocation costs it in all: submitted, claimed, finished, purged.

    ``servers`` is how many operations it works on at once, ``service_us`` the time that one of them is busy for an invocation. ``use`` is how
    much of each limit one is willing to use at the peak. Zero for a limit that does not exist.
    """

    service_us: float = 200.0
    servers: int = 8
    use: float = 0.6
    batch: float = 10.0
    commits_per_batch: float = 3.0
    commits_per_second: float = 5_000.0
    log_bytes: float = 3_000.0
    log_bytes_per_second: float = 200e6
    row_bytes: float = 1_500.0
    storage_bytes: float = 2e12
    connections_per_process: int = 3
    max_connections: int = 1_000
    dead_rows: float = 3.0
    vacuum_rows_per_second: float = 100_000.0
    heartbeat_us: float = 100.0


@dataclass(frozen=True, slots=True)
class Need:
    """How many stores one limit asks for: what the whole load asks of it, and what one store has of it (0: no limit)."""

    what: str
    asked: float
    limit: float
    unit: str
    stores: int


def measured(date: str, store: str, submitted: str) -> dict[str, float]:
    """What an invocation cost a server in a run of the benchmarks: to be submitted in one way, then to be claimed and finished under load.

    :raises ValueError: the run did not measure that.
    """
    cases = json.loads((RESULTS / f"{date}.json").read_text())["cases"]
    figures: dict[str, dict[str, float]] = next(
        (case["figures"] for case in cases if case["name"] == f"cost-{store}"), {}
    )
    steps = [
        {name.removeprefix(f"{step} "): figure["median"] for name, figure in figures.items() if name.startswith(step)}
        for step in (submitted, "drain")
    ]
    if not all(steps):
        raise ValueError(f"the run of {date} did not measure what a call costs {store} by {submitted!r}")
    cost = {name: sum(step[name] for step in steps) for name in steps[0]}
    return {
        "service_us": cost["CPU µs"],
        "batch": 1.0,
        "commits_per_batch": cost.get("commits", 0.0),
        "log_bytes": cost.get("WAL bytes", cost.get("AOF bytes", 0.0)),
        "row_bytes": cost.get("disk bytes", cost.get("memory bytes", 0.0)),
    }


# -- the limits ----------------------------------------------------------------------------------------------------------
def needs(load: Load, costs: Costs) -> list[Need]:
    """What each limit asks for, the strictest first."""
    return sorted((need for need in _needs(load, costs) if need.limit), key=lambda need: -need.stores)


def _needs(load: Load, costs: Costs) -> Iterator[Need]:
    peak = load.mean * load.peak
    yield _need("operations", peak * costs.service_us / 1e6, costs.servers * costs.use, "busy servers")
    yield _need(
        "commits", peak / costs.batch * costs.commits_per_batch, costs.commits_per_second * costs.use, "a second"
    )
    yield _need("log volume", peak * costs.log_bytes / 1e6, costs.log_bytes_per_second * costs.use / 1e6, "MB a second")
    stored = load.per_day * load.keep_days * costs.row_bytes
    yield _need("storage", stored / 1e9, costs.storage_bytes * costs.use / 1e9, "GB")
    yield _need("vacuum", load.mean * costs.dead_rows, costs.vacuum_rows_per_second * costs.use, "dead rows a second")
    yield _need("purge", load.mean, purge_rate(), "rows a second")
    beats = load.runners * (1 + load.processes) / ConfigRunner().heartbeat_seconds
    yield _need("heartbeats", beats * costs.heartbeat_us / 1e6, costs.servers * 0.05, "busy servers, of 5 %")
    connections = load.runners * (load.processes + 1) * costs.connections_per_process
    yield _need("connections", connections, costs.max_connections * costs.use, "at once")


def _need(what: str, asked: float, limit: float, unit: str) -> Need:
    return Need(what, asked, limit, unit, max(1, math.ceil(asked / limit - 1e-9)) if limit else 0)


def purge_rate() -> float:
    """Rows a second that the upkeep of one app removes at most, as its constants say."""
    return upkeep.PURGE_BATCHES * upkeep.PURGE_ROWS / keeper.PURGE_AGAIN


# -- the day -------------------------------------------------------------------------------------------------------------
def curve(peak: float) -> list[float]:
    """The load of each minute of a day, relative to its mean of 1, with the given peak."""
    power = 1
    while math.comb(2 * power, power) / 4**power * peak >= 1:  # the mean of the power of a cosine
        power += 1
    share = math.comb(2 * power, power) / 4**power
    base = (1 - peak * share) / (1 - share)
    wave = [((1 - math.cos(2 * math.pi * minute / MINUTES)) / 2) ** power for minute in range(MINUTES)]
    return [base + (peak - base) * height for height in wave]


@dataclass(frozen=True, slots=True)
class Day:
    """How a day goes: utilisation at the peak, longest delay by backlog, hours with one, and the delay of one operation at the peak."""

    utilisation: float
    longest_delay: float
    hours_behind: float
    operation_ms: float


def play(load: Load, costs: Costs, stores: int) -> Day:
    """Play a day with so many stores, beginning at the quietest minute."""
    can_do = costs.servers / (costs.service_us / 1e6)
    backlog = longest = 0.0
    behind = 0
    for height in curve(load.peak):
        backlog = max(0.0, backlog + (load.mean * height / stores - can_do) * 60.0)
        behind += backlog > 0
        longest = max(longest, backlog / can_do)
    busy = load.mean * load.peak / stores / can_do
    wait = queue_wait(busy, costs.servers, costs.service_us / 1e3) if busy < 1 else math.inf
    return Day(busy, longest, behind / 60, wait + costs.service_us / 1e3)


def queue_wait(utilisation: float, servers: int, service: float) -> float:
    """Mean wait in an M/M/c queue, in the unit of ``service``; Erlang's C formula by way of his B (A. K. Erlang, 1917)."""
    offered = utilisation * servers
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered * blocking / (count + offered * blocking)
    waits = blocking / (1 - utilisation * (1 - blocking))
    return waits * service / (servers * (1 - utilisation))


# -- the answer ----------------------------------------------------------------------------------------------------------
def report(load: Load, costs: Costs) -> str:
    """The answer, as text."""
    found = needs(load, costs)
    stores = found[0].stores
    slots = load.mean * load.peak * load.body_ms / 1e3
    lines = [
        f"load: {load.mean:,.0f} a second on average, {load.mean * load.peak:,.0f} at the peak",
        f"slots: {slots:,.0f} busy at the peak of {load.runners * load.slots:,} ({load.body_ms:g} ms for each body)",
        "",
        f"{'limit':<12} {'asked':>12} {'one store':>12}  {'stores':>6}  unit",
        *(f"{n.what:<12} {n.asked:>12,.1f} {n.limit:>12,.1f}  {n.stores:>6}  {n.unit}" for n in found),
        "",
        f"stores: {stores}; the first to give way: {found[0].what}",
    ]
    bare = _enough(load, costs)
    days = sorted({stores, bare, max(1, bare - 1)}, reverse=True)
    return "\n".join([*lines, *(_day_line(count, play(load, costs, count)) for count in days)])


def _enough(load: Load, costs: Costs) -> int:
    """The fewest stores that do not fall behind at the peak."""
    return math.ceil(load.mean * load.peak * costs.service_us / 1e6 / costs.servers + 1e-9)


def _day_line(stores: int, day: Day) -> str:
    text = f"a day with {stores}: {day.utilisation:.0%} busy at the peak"
    if day.longest_delay:
        return f"{text}, behind for {day.hours_behind:.1f} hours, by {day.longest_delay / 60:,.0f} minutes at worst"
    return f"{text}, never behind, {day.operation_ms:.2f} ms for an operation"


def main(arguments: list[str]) -> None:
    """Read the parameters and print the answer."""
    parser = argparse.ArgumentParser(prog="plan_capacity", description=(__doc__ or "").partition("\n")[0])
    for kind in (Load, Costs):
        group = parser.add_argument_group(kind.__name__.lower())
        for field in fields(kind):
            read = int if field.type == "int" else float
            group.add_argument(
                f"--{field.name.replace('_', '-')}", type=read, default=field.default, help=f"{field.default:g}"
            )
    parser.add_argument("--measured", metavar="DATE", help="take the costs from this run of the benchmarks")
    parser.add_argument("--store", choices=("postgres", "redis"), default="postgres")
    parser.add_argument("--submitted", choices=("parallelize", "enqueue one by one"), default="parallelize")
    given = vars(parser.parse_args(arguments))
    if given["measured"]:
        parser.set_defaults(**measured(given["measured"], given["store"], given["submitted"]))
        given = vars(parser.parse_args(arguments))
    load, costs = (kind(**{field.name: given[field.name] for field in fields(kind)}) for kind in (Load, Costs))
    print(report(load, costs))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1:])
