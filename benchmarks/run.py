"""Measure this library beside the raw engine and its peers.

    python benchmarks/run.py [--only NAME...] [--quick] [--rounds N] [--json FILE]
    python benchmarks/run.py --write-docs        the table in docs/performance.md, from the latest results
    python benchmarks/run.py --plot              a drawing of them
    python benchmarks/run.py --list              the names of the cases

A complete run is kept in ``benchmarks/results/<date>.json``; with ``--quick`` or ``--only`` nothing is kept unless ``--json`` says where.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import plot, report, surroundings
from benchmarks.cases import CASES, load
from benchmarks.harness import Bench

ROUNDS, QUICK_ROUNDS = 5, 2


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 1 when a call was lost, executed twice or failed."""
    options = _parse(arguments)
    if options.list:
        print("\n".join(CASES))
        return 0
    if options.write_docs or options.plot:
        return _publish(docs=options.write_docs, drawing=options.plot)
    names = options.only or list(CASES)
    run = measure(names, rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS), quick=options.quick)
    report.show(run)
    if options.json:
        report.write(options.json, run)
    elif not (options.quick or options.only):
        report.write(report.RESULTS / f"{run['surroundings']['date']}.json", run)
    return int(any(case["checked"]["lost"] for case in run["cases"]) or len(run["cases"]) < len(names))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(CASES), help="only these cases")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not what it can do")
    parser.add_argument("--rounds", type=int, help=f"how often each contestant takes its turn ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--write-docs", action="store_true", help="write the latest results into docs/performance.md")
    parser.add_argument("--plot", action="store_true", help="draw the latest results")
    parser.add_argument("--list", action="store_true", help="name the cases")
    return parser.parse_args(arguments)


def measure(names: list[str], *, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure cases, one after the other. One that fails is said, and the others go on."""
    where = surroundings.describe()
    cases = []
    for name in names:
        print(f"{name} ", end="", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            cases.append(report.as_data(name, load(name)(Bench(rounds=rounds, quick=quick))))
        except Exception as error:
            print(f" failed: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    return {"surroundings": where, "rounds": rounds, "quick": quick, "cases": cases}


def _publish(*, docs: bool, drawing: bool) -> int:
    run = report.latest()
    if docs:
        report.PAGE.write_text(report.in_page(report.PAGE.read_text("utf-8"), run), "utf-8")
        print(f"wrote {report.PAGE.relative_to(report.ROOT)}")
    if drawing:
        path = report.RESULTS / f"{run['surroundings']['date']}.svg"
        path.write_text(plot.draw(run), "utf-8")
        print(f"wrote {path.relative_to(report.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
