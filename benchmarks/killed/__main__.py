"""Kill workers of this library and of others in the middle of their work, and tell what became of the calls.

python -m benchmarks.killed [--only NAME...] [--calls N] [--kills N] [--stillness SECONDS] [--json FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import engines, report, surroundings
from benchmarks.killed.contender import Contender
from benchmarks.killed.storm import Found, Harm, run
from benchmarks.peers import base

CALLS, KILLS, STILLNESS = 300, 5, 90.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part, where, and with which settings: module and class, and what is said of settings that are not the library's own."""

    name: str
    engine: str
    place: str
    settings: str = ""

    @property
    def package(self) -> str:
        return self.name.partition("-")[0]

    @property
    def label(self) -> str:
        where = {"sqlite": "SQLite", "redis": "Valkey", "postgres": "PostgreSQL"}[self.engine]
        return ", ".join(filter(None, (self.package, where, self.settings)))

    def make(self, url: str) -> Contender:
        """The contender on an empty store."""
        module, _, name = self.place.partition(":")
        options = {"safe": True} if self.settings else {}
        contender: Contender = getattr(import_module(f"benchmarks.killed.{module}"), name)(url, **options)
        return contender


ENTRIES = (
    Entry("pynenc-sqlite", "sqlite", "with_pynenc:Ours"),
    Entry("pynenc-redis", "redis", "with_pynenc:Ours"),
    Entry("pynenc-postgres", "postgres", "with_pynenc:Ours"),
    Entry("huey-sqlite", "sqlite", "with_huey:Huey"),
    Entry("huey-redis", "redis", "with_huey:Huey"),
    Entry("rq", "redis", "with_rq:Rq"),
    Entry("rq-safe", "redis", "with_rq:Rq", "retried, maintenance every 5 s"),
    Entry("dramatiq", "redis", "with_dramatiq:Dramatiq"),
    Entry("dramatiq-safe", "redis", "with_dramatiq:Dramatiq", "heartbeat timeout 10 s, maintenance always"),
    Entry("celery", "redis", "with_celery:OnRedis"),
    Entry("celery-safe", "redis", "with_celery:OnRedis", "acks late, visibility timeout 10 s"),
)


class Stores:
    """Empty stores; a server is started when the first contender needs it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: dict[str, engines.Serving] = {}

    def empty(self, engine: str) -> str:
        """The URL of an empty one."""
        if engine == "sqlite":
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pynenc-killed-"))
            return f"sqlite:///{folder}/jobs.db"
        if engine not in self._servers:
            self._servers[engine] = self._stack.enter_context(engines.serving(engine))
        return self._servers[engine].fresh()


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 1 when a call of this library has no result that its body returned, or somebody could not be measured."""
    options = _parse(arguments)
    entries = [entry for entry in ENTRIES if not options.only or entry.name in options.only]
    present = [entry for entry in entries if base.version(entry.package)]
    about = surroundings.describe()
    results = measure(present, Harm(options.calls, options.kills, options.stillness))
    print(table(results))
    if absent := sorted({entry.package for entry in entries if entry not in present}):
        print(f"\nNot installed, so left out: {', '.join(absent)} (`make bench-peers` installs them).")
    if options.json:
        report.write(options.json, {"surroundings": about, "contenders": [_as_data(*each) for each in results]})
    is_ours_clean = all(found.is_clean for entry, found in results if entry.package == "pynenc")
    return int(not is_ours_clean or len(results) < len(present))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.killed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [entry.name for entry in ENTRIES]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=f"only these of {', '.join(names)}")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"calls that each gets ({CALLS})")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"how often a worker is killed ({KILLS})")
    parser.add_argument(
        "--stillness", type=float, default=STILLNESS, help=f"seconds without progress that end it ({STILLNESS:g})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    return parser.parse_args(arguments)


def measure(entries: list[Entry], harm: Harm) -> list[tuple[Entry, Found]]:
    """One after the other. One that cannot be measured is said, and the others go on."""
    results = []
    with ExitStack() as stack:
        stores = Stores(stack)
        for entry in entries:
            print(f"{entry.name} ...", file=sys.stderr, flush=True)
            try:
                results.append((entry, run(entry.make(stores.empty(entry.engine)), harm)))
            except Exception as error:
                print(f"{entry.name} failed: {type(error).__name__}: {error}", file=sys.stderr)
    return results


COLUMNS = ("accepted", "killed", "lost", "held", "failed", "unanswered", "phantom", "twice")


def table(results: list[tuple[Entry, Found]]) -> str:
    """All in one, as the documentation has it."""
    rows = [["", *COLUMNS, "again: median", "longest", "never"], ["---"] * (len(COLUMNS) + 4)]
    rows += [
        [entry.label, *(str(getattr(found, name)) for name in COLUMNS), *_times(found)] for entry, found in results
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _times(found: Found) -> list[str]:
    said = [f"{each(found.again):.1f} s" if found.again else "" for each in (statistics.median, max)]
    return [*said, str(found.never)]


def _as_data(entry: Entry, found: Found) -> dict[str, Any]:
    return {"name": entry.name, "label": entry.label, **dataclasses.asdict(found), "never": found.never}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
