"""The measurements run from beginning to end: servers start and stop, work is submitted, run and answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("engine", ["redis", "postgres"])
def test_what_a_call_costs_a_server(engine, tmp_path):
    result = tmp_path / "run.json"
    command = [
        sys.executable,
        "benchmarks/run.py",
        "--quick",
        "--rounds",
        "1",
        "--only",
        f"cost-{engine}",
        "--json",
        str(result),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(result.read_text())["cases"]
    each = {"redis": "scripts", "postgres": "commits"}[engine]
    assert 1 <= case["figures"][f"enqueue one by one {each}"]["median"] < 1.5
    assert case["figures"][f"drain {each}"]["median"] < 0.5
