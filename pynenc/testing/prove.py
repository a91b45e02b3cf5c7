"""``make prove``: what the promises about reliability rest on, in one run that prints its seeds.

    python -m pynenc.testing.prove [--seeds N] [--seed S] [--chaos-invocations N] [--server-invocations N] [--kill-rounds N] [--only PART] [--json]

The parts: the simulation (runners, clients and a nemesis in one thread, on virtual time), a tenth of it over SQLite, kill rounds
(``kill -9`` during commits), scarce space, and chaos (real processes that are killed and stopped) on SQLite and on servers that are
killed and cut off as well (``--only chaos-postgres``, ``--only chaos-redis``). The exit code is 1 when any promise was broken.
A simulation's seed repeats exactly with ``--seed``; the seeds of chaos and kill rounds repeat the plan, not the moment.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from pynenc.testing.checker import Kind
from pynenc.testing.report import Figure, Progress, Report, silent

PARTS = ("simulation", "sqlite", "kill", "space", "chaos", "chaos-postgres", "chaos-redis")
#: What runs unless parts are asked for: storms over servers are asked for by name.
USUAL = PARTS[:5]
#: Violations of a part that are printed.
SHOWN = 20
#: What the summary shows below the violations, in this order.
FIGURES = (
    "seeds",
    "invocations",
    "bodies",
    "calls",
    "faults",
    "rounds",
    "acknowledged",
    "workflows",
    "passes",
    "firings",
    "cases",
    "killed",
    "zombies refused",
    "duplicates executed",
    "taken back p50",
    "taken back p99",
    "taken back max",
    "recovery p50",
    "recovery p99",
    "recovery max",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the summary, and return the exit code."""
    wanted = _parser().parse_args(arguments)
    parts = wanted.only or USUAL
    started = time.monotonic()
    with _progress(is_shown=sys.stderr.isatty() and not wanted.json) as progress:
        reports = [_RUN[part](wanted, progress) for part in PARTS if part in parts]
    seconds = time.monotonic() - started
    if wanted.json:
        print(json.dumps(_summary(reports, seconds), indent=2))
    else:
        _print(reports, seconds)
    return int(any(report.violations for report in reports))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pynenc.testing.prove", description="Prove the promises.")
    parser.add_argument(
        "--seeds",
        type=int,
        help="seeds of the simulation (default 1000, or 1 with --seed); a tenth of them over SQLite",
    )
    parser.add_argument("--seed", type=int, help="the first seed of the simulation, and the seed of the other parts")
    parser.add_argument("--chaos-invocations", type=int, default=20_000, help="default %(default)s")
    parser.add_argument(
        "--server-invocations", type=int, default=4_000, help="the same for each server, default %(default)s"
    )
    parser.add_argument("--harm-every", type=float, default=0.6, help="seconds between two acts of chaos, %(default)s")
    parser.add_argument("--kill-rounds", type=int, default=500, help="default %(default)s")
    parser.add_argument(
        "--processes", type=int, default=2, help="processes for simulation and kill rounds, %(default)s"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part; may be given again")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


# -- parts -----------------------------------------------------------------------------------------------------------------
def _simulation(wanted: argparse.Namespace, progress: Progress) -> Report:
    return _simulate(wanted, progress, "memory", 1000)


def _sqlite(wanted: argparse.Namespace, progress: Progress) -> Report:
    return _simulate(wanted, progress, "sqlite", 100)


def _simulate(wanted: argparse.Namespace, progress: Progress, store: str, usual: int) -> Report:
    from pynenc.testing.simulation import simulate

    first = random.randrange(10**6) if wanted.seed is None else wanted.seed
    count = max(1, (wanted.seeds or (1000 if wanted.seed is None else 1)) * usual // 1000)
    return simulate(range(first, first + count), progress, wanted.processes, store=store)


def _kill(wanted: argparse.Namespace, progress: Progress) -> Report:
    from pynenc.testing.kills import run_kills

    return run_kills(wanted.kill_rounds, _seed(wanted), progress, wanted.processes)


def _space(_wanted: argparse.Namespace, progress: Progress) -> Report:
    from pynenc.testing.space import run_space

    return run_space(progress)


def _chaos(wanted: argparse.Namespace, progress: Progress, store: str = "sqlite") -> Report:
    from pynenc.testing.chaos import ChaosPlan, run_chaos

    invocations = wanted.chaos_invocations if store == "sqlite" else wanted.server_invocations
    plan = ChaosPlan(seed=_seed(wanted), invocations=invocations, harm_every=wanted.harm_every, store=store)
    return run_chaos(plan, progress)


def _seed(wanted: argparse.Namespace) -> int:
    return random.randrange(10**6) if wanted.seed is None else int(wanted.seed)


_RUN: dict[str, Callable[[argparse.Namespace, Progress], Report]] = {
    "simulation": _simulation,
    "sqlite": _sqlite,
    "kill": _kill,
    "space": _space,
    "chaos": _chaos,
    "chaos-postgres": partial(_chaos, store="postgres"),
    "chaos-redis": partial(_chaos, store="redis"),
}


# -- what people see -------------------------------------------------------------------------------------------------------
@contextmanager
def _progress(*, is_shown: bool) -> Iterator[Progress]:
    """A bar for each part on a terminal; nothing elsewhere."""
    if not is_shown:
        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    bars: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True)) as shown:

        def progress(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = shown.add_task(part, total=total)
            shown.update(bars[part], completed=done, total=total)

        yield progress


def _summary(reports: Sequence[Report], seconds: float) -> dict[str, object]:
    return {
        "ok": not any(report.violations for report in reports),
        "seconds": round(seconds, 1),
        "parts": [report.to_dict() for report in reports],
    }


def _print(reports: Sequence[Report], seconds: float) -> None:
    for report in reports:
        for violation in report.violations[:SHOWN]:
            print(f"{report.part}: {violation.kind}: {violation.text}")
        if len(report.violations) > SHOWN:
            print(f"{report.part}: … and {len(report.violations) - SHOWN} more")
        print(*report.trace, sep="\n", end="\n" if report.trace else "")
    rows = [("", [report.part for report in reports]), ("seed", [report.seed for report in reports])]
    rows += [(kind.value, [str(report.counts()[kind.value]) for report in reports]) for kind in Kind]
    rows += [row for row in _figures(reports) if any(row[1])]
    rows += [("seconds", [f"{report.seconds:.1f}" for report in reports])]
    for name, values in rows:
        print(f"{name:<22}" + "".join(f"{value:>16}" for value in values))
    verdict = "BROKEN" if any(report.violations for report in reports) else "all promises held"
    print(f"{verdict}, {seconds:.0f} s; {_checked(reports)}")


def _checked(reports: Sequence[Report]) -> str:
    """How much of what is durable beyond a single call was there to be checked."""
    workflows, firings = (
        sum(int(report.figures.get(name, 0)) for report in reports) for name in ("workflows", "firings")
    )
    return f"{workflows:,} workflows and {firings:,} firings checked"


def _figures(reports: Sequence[Report]) -> Iterator[tuple[str, list[str]]]:
    extra = [name for report in reports for name in report.figures if name not in FIGURES]
    for name in (*FIGURES, *dict.fromkeys(extra)):
        yield name, [_shown(report.figures.get(name, "")) for report in reports]


def _shown(value: Figure) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
