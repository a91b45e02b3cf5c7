"""``pynenc bench``: what this machine does with the embedded store, in a few seconds.

Every figure comes from work that was done and checked: each result of the drain is compared. It measures this library alone; the
benchmarks in the repository compare it with the raw engine and with others.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path

import click

from pynenc.cli.child import runner_process
from pynenc.cli.output import guarded, json_option, print_json, print_table
from pynenc.invocation.base_invocation import BaseInvocationGroup
from pynenc.store.engines import sqlite_version
from pynenc.version import __version__

#: Seconds that one wait may take before the measurement is given up.
PATIENCE = 120.0
#: Round trips before those that count; of those that count, at least and at most so many, within so many seconds.
WARM_UP, FEW, MANY, LONG = 3, 10, 300, 3.0


@click.command(epilog="Example: pynenc bench --calls 20000 --json")
@click.option("--calls", default=5000, show_default=True, type=click.IntRange(10), help="Calls in each measurement.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Worker processes.")
@json_option
@guarded
def bench(*, calls: int, processes: int, as_json: bool) -> None:
    """Measure calls that do nothing on a temporary SQLite file: submit one by one and in bulk, drain, idle round trip."""
    from pynenc.cli.bench_tasks import app

    with tempfile.TemporaryDirectory(prefix="pynenc-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        app.conf.store = url
        try:
            figures = _measure(calls, processes, url)
        finally:
            app.close()
    if as_json:
        print_json({**_surroundings(), "calls": calls, "processes": processes, "figures": figures})
        return
    click.echo(", ".join(f"{name} {value}" for name, value in _surroundings().items()))
    rows = [(name.replace("_", " "), f"{value:,.2f}") for name, value in figures.items()]
    print_table(("figure", "value"), rows, "nothing was measured")


def _surroundings() -> dict[str, str]:
    return {
        "pynenc": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite_version(),
        "machine": platform.machine(),
    }


def _measure(calls: int, processes: int, url: str) -> dict[str, float]:
    """The figures by name."""
    import statistics

    from pynenc.cli.bench_tasks import nothing

    started = time.perf_counter()
    single = [nothing(x) for x in range(calls)]
    middle = time.perf_counter()
    bulk = nothing.parallelize([(x,) for x in range(calls)])
    ended = time.perf_counter()
    with runner_process("pynenc.cli.bench_tasks", "--processes", str(processes), store=url):
        drained = _drain(BaseInvocationGroup(nothing, [*single, *bulk]), [*range(calls), *range(calls)])
        times = _round_trips()
    return {
        "submit_one_by_one_per_second": calls / (middle - started),
        "submit_in_bulk_per_second": calls / (ended - middle),
        "drain_per_second": drained,
        "round_trip_p50_ms": statistics.median(times),
        "round_trip_p99_ms": statistics.quantiles(times, n=100)[98],
    }


def _drain(group: BaseInvocationGroup[[int], int], expected: list[int]) -> float:
    """Calls per second from the first result to the last: how long the runner takes to start does not count."""
    group[0].get_result(PATIENCE)
    started = time.perf_counter()
    results = group.get_results(PATIENCE)
    seconds = time.perf_counter() - started
    if results != expected:
        raise ValueError("the results are not those of the calls: this is a bug of pynenc, please report it")
    return len(expected) / seconds


def _round_trips() -> list[float]:
    """Milliseconds from call to result while nothing else is to be done."""
    from pynenc.cli.bench_tasks import nothing

    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < WARM_UP + FEW or (len(times) < WARM_UP + MANY and time.perf_counter() - begun < LONG):
        started = time.perf_counter()
        nothing(len(times)).get_result(PATIENCE)
        times.append((time.perf_counter() - started) * 1000)
    return times[WARM_UP:]
