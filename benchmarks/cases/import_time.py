"""``import pynenc``: how long it takes and what it brings along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Bar, Bench, Contest, Report, Turn
from benchmarks.ours import scratch
from benchmarks.peers import base
from benchmarks.processes import ROOT

#: Drivers of databases, and frameworks for the web, that nobody asked for yet.
UNWANTED = ("sqlite3", "psycopg", "redis", "asyncpg", "starlette", "uvicorn", "jinja2", "flask", "fastapi", "django")
PROGRAM = """
import sys, time
began = time.perf_counter()
import {module}
took = (time.perf_counter() - began) * 1000
print(took, len(sys.modules), *(name for name in {unwanted!r} if name in sys.modules))
"""


def measure(bench: Bench) -> Report:
    """Milliseconds and modules, in a fresh interpreter whose files are in the cache of the system."""
    unwanted: set[str] = set()
    with scratch() as folder:
        contest = _contest(bench, unwanted, compiled=folder)
    return Report(
        "import pynenc",
        "",
        "a fresh interpreter, everything compiled and in the cache of the system",
        contest.figures,
        [
            *contest.at_most("pynenc ms", 100, 60, unit="ms"),
            Bar("drivers and web frameworks", "pynenc modules", len(unwanted), 0, at_most=True),
        ],
        notes=[f"It imports {', '.join(sorted(unwanted))}."] if unwanted else [],
    )


def _contest(bench: Bench, unwanted: set[str], compiled: Path) -> Contest:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def take(module: str, seen: set[str]) -> dict[str, float]:
        text = PROGRAM.format(module=module, unwanted=UNWANTED)
        output = subprocess.run(
            [sys.executable, "-c", text], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        milliseconds, modules, *found = output.stdout.split()
        seen.update(found)
        return {"ms": float(milliseconds), "modules": float(modules)}

    contestants: dict[str, Turn] = {
        "pynenc": lambda: take("pynenc", unwanted),
        "asyncio": lambda: take("asyncio", set()),
    }
    if base.version("huey"):
        contestants["huey"] = lambda: take("huey", set())
    for turn in contestants.values():
        turn()
    return bench.contest(contestants, rounds=bench.size(15, 3))
