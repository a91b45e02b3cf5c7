"""SQLite: a hundred thousand workflows sleep in one store; what that costs a runner, and how late those go on that are due."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from benchmarks.harness import Bench, Checked, Report
from benchmarks.latency import percentiles
from benchmarks.ours import PATIENCE, runner, sqlite_app
from benchmarks.processes import Program, processor_seconds, resident, wait_until
from benchmarks.tasks import app
from benchmarks.workflows import MICROSECONDS, now, sleeper
from pynenc.core.records import Filter, Page
from pynenc.invocation.base_invocation import BaseInvocationGroup

THREADS = 10
DAY = 86_400 * MICROSECONDS
#: Microseconds between two that are due, where each is due at a time of its own.
APART = 2_000
#: Seconds until the first is due, in which all fall asleep.
AHEAD = 2
#: Seconds that a new runner gets to settle (its start costs some 25 ms, once), and those over which its use of the processor is counted.
SETTLE, LOOK = 5.0, 10.0
#: Rows of one look.
PAGE = 500
start = partial(runner, "ThreadRunner", "benchmarks.workflows", threads=THREADS)


def measure(bench: Bench) -> Report:
    """Every sleeper was called, run until its sleep, and suspended, by one runner; then a new one is looked at."""
    count, due = bench.size(100_000, 2_000), bench.size(1_000, 100)
    checked = Checked()

    def empty() -> dict[str, float]:
        with sqlite_app(), start() as process:
            return _look(process)

    def asleep() -> dict[str, float]:
        with sqlite_app():
            with start():
                began = time.perf_counter()
                _sleep([now() + DAY] * count)
                figures = {"suspended per second": count / (time.perf_counter() - began)}
            with start() as process:
                figures |= _look(process)
                figures |= _wake("one by one", due, APART, checked)
                figures |= _wake("at once", due, 0, checked)
            return figures

    contest = bench.contest({"no sleepers": empty, "sleepers": asleep}, rounds=1)
    return Report(
        f"SQLite: {count:,} sleeping workflows",
        "",
        f"ThreadRunner with ten threads; synchronous=NORMAL; lateness: from when {due:,} more were due, one every {APART / 1000:g} ms or all at once, until "
        "the line of the body behind the sleep",
        contest.figures,
        [
            *contest.at_most("sleepers RSS MB", 1.1, beside="no sleepers RSS MB"),
            *contest.at_most("sleepers CPU %", 0.5, 0.1, unit="%"),
            *contest.at_most("sleepers one by one p99 ms", 50, 10, unit="ms"),
            *contest.at_most("sleepers one by one out of order", 0),
        ],
        checked,
    )


def _look(process: Program) -> dict[str, float]:
    """What a runner costs that has nothing to do."""
    time.sleep(SETTLE)
    used, began = processor_seconds(process.pid), time.monotonic()
    time.sleep(LOOK)
    percent = (processor_seconds(process.pid) - used) / (time.monotonic() - began) * 100
    return {"CPU %": percent, "RSS MB": resident(process.pid)}


def _sleep(dues: Sequence[int]) -> BaseInvocationGroup[..., int]:
    """Call workflows that sleep until then, and wait until all are suspended."""
    group = sleeper.parallelize([(due,) for due in dues])
    wait_until(_nothing_runs, pause=0.01, what="the sleep of all")
    if now() > dues[0]:
        raise RuntimeError("some were due before all slept")
    return group


def _wake(label: str, count: int, apart: int, checked: Checked) -> dict[str, float]:
    """Milliseconds that they are late, and how many were claimed before one that was due earlier."""
    first = now() + AHEAD * MICROSECONDS
    group = _sleep([first + number * apart for number in range(count)])
    late = group.get_results(PATIENCE)
    checked.add(count, lost=sum(each < 0 for each in late))
    figures = {f"{label} {name} ms": value for name, value in percentiles([each / 1000 for each in late]).items()}
    return figures | {f"{label} out of order": _disorder([each.invocation_id for each in group])}


def _disorder(ids: Sequence[str]) -> int:
    claimed: dict[str, int] = {}
    for first in range(0, len(ids), PAGE):
        found = app.store.find(Filter(ids=tuple(ids[first : first + PAGE])), Page(PAGE)).invocations
        claimed |= {str(row.id): row.claimed for row in found}
    return sum(claimed[one] > claimed[two] for one, two in pairwise(map(str, ids)))


def _nothing_runs() -> bool:
    return not any(info.ready or info.claimed for info in app.store.queues())
