"""The simulation: runners, clients, persons and a nemesis in one thread, on virtual time, over a store that loses replies.

Theory of operation
-------------------
A *seed* is one run of about a hundred invocations: some seconds of storm in which calls to the store fail, are applied without an answer, come
late or twice, while runners are killed, frozen past their leases and replaced; then calm, until everything has ended. Every answer of the store is
checked by a :mod:`~pynenc.testing.simulation.ledger` when it comes, and the whole by the offline :mod:`~pynenc.testing.checker` at the end.

Some invocations are workflows as a store sees them, and every third seed has reactions to changes of status; at the end
:mod:`~pynenc.testing.simulation.durable` looks at both. The actors decide with the functions that real runners decide with (:mod:`pynenc.core.outcome`) and
follow the same protocol. A run depends on nothing but its
seed: the processes that carry seeds out hash texts in a fixed way.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from time import monotonic

from pynenc.testing.checker import Kind, Violation
from pynenc.testing.report import Progress, Report
from pynenc.testing.simulation.stores import STORES
from pynenc.testing.simulation.world import Ran, run_seed

__all__ = ["Ran", "run_seed", "simulate"]

#: Seeds that a process runs before it reports.
CHUNK = 10
#: What ``prove`` calls the simulation over each store.
PARTS = {"memory": "simulation", "sqlite": "sqlite"}


def simulate(seeds: Sequence[int], progress: Progress, processes: int = 2, *, store: str = "memory") -> Report:
    """Run seeds in several processes.

    :param progress: told how many seeds have run. :param store: a name of :data:`STORES`.
    """
    started = monotonic()
    totals: Counter[str] = Counter()
    part = PARTS[store]
    report = Report(part, f"{seeds[0]}..{seeds[-1]}" if len(seeds) > 1 else str(seeds[0]))
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    done = 0
    with _fixed_hashes(), ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_run_chunk, chunk, store) for chunk in chunks]):
            for ran in future.result():
                done += 1
                totals.update(ran.counts)
                _note(report, ran, is_alone=len(seeds) == 1)
            progress(part, done, len(seeds))
    report.figures.update({"seeds": done, **totals})
    report.seconds = monotonic() - started
    return report


def _run_chunk(seeds: Sequence[int], store: str) -> list[Ran]:
    return [run_seed(seed, STORES[store]) for seed in seeds]


def _note(report: Report, ran: Ran, *, is_alone: bool) -> None:
    """Keep the violations of a seed, and how to see what led to the first."""
    if ran.violations and not report.trace:
        again = f"python -m pynenc.testing.prove --only {report.part} --seed {ran.seed}"
        report.trace = (
            [f"-- the last calls of seed {ran.seed}", *ran.trace] if is_alone else [f"-- see it again: {again}"]
        )
    report.violations += [Violation(Kind(kind), f"seed {ran.seed}: {text}") for kind, text in ran.violations]


@contextmanager
def _fixed_hashes() -> Iterator[None]:
    """Processes that are spawned inside hash texts in the same way every time."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
