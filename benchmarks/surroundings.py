"""What was measured, where and when: nothing that names a person or a machine."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import engines
from benchmarks.peers import base
from benchmarks.peers.registry import PACKAGES
from pynenc import __version__


def describe() -> dict[str, str]:
    """Date, versions and the kind of machine."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "pynenc": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **engines.versions(),
        **{name: base.version(name) or "not installed" for name in PACKAGES},
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "processors": f"{os.cpu_count()} of {_processor()}",
        "memory": f"{_memory_gigabytes():.0f} GB",
    }
    if load := _load():
        found["load before"] = load
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _load() -> str:
    """How busy the machine was with other things when the run began."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
