"""The measurements run from beginning to end: servers start and stop, work is submitted, run and answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def measured(tmp_path: Path, name: str) -> dict[str, Any]:
    """A case with small sizes."""
    result = tmp_path / "run.json"
    options = ["--quick", "--rounds", "1", "--only", name, "--json", str(result)]
    command = [sys.executable, "benchmarks/run.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(result.read_text())["cases"]
    return case


@pytest.mark.parametrize("engine", ["redis", "postgres"])
def test_what_a_call_costs_a_server(engine, tmp_path):
    case = measured(tmp_path, f"cost-{engine}")
    each = {"redis": "scripts", "postgres": "commits"}[engine]
    assert 1 <= case["figures"][f"enqueue one by one {each}"]["median"] < 1.5
    assert case["figures"][f"drain {each}"]["median"] < 0.5


def test_workflows_of_many_steps(tmp_path):
    case = measured(tmp_path, "workflow-steps")
    assert case["checked"]["calls"] >= 3
    assert case["checked"]["lost"] == 0
    assert {"pynenc one at a time", "pynenc 10 at a time"} <= case["figures"].keys()


def test_replays_of_workflows(tmp_path):
    case = measured(tmp_path, "workflow-replay")
    assert {"pynenc 100 steps", "pynenc 1,000 steps"} <= case["figures"].keys()


def test_calls_whose_workers_are_killed(tmp_path):
    result = tmp_path / "run.json"
    options = ["--only", "pynenc-sqlite", "--calls", "20", "--kills", "1", "--json", str(result)]
    command = [sys.executable, "-m", "benchmarks.killed", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(result.read_text())["contenders"]
    assert found["accepted"] >= 20
    assert found["killed"] == len(found["again"]) >= 1
    assert "| pynenc, SQLite | " in done.stdout
