"""A runner that is killed at every step of a workflow: the result is the one of a run that nobody disturbs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.conftest import url_of

ROOT = Path(__file__).parents[2]
PATH = ("Completed via path A", "Completed via path B")

#: What is run, with its arguments; its result or error; at least so many deaths; what it does.
FLOWS = {
    "main_wf_task": ([{"approval": True}], PATH, 5, []),
    "steps": ([4], [0, 2, 4, 6], 5, [f"double {n}" for n in range(4)]),
    "survivor": ([], ["one", "two", "42"], 3, ["refuse one", "refuse two", "double 21"]),
    "calls": (
        [0.1],
        [3, 3, 0, 2, 4, 6, 8, 7, 22],
        10,
        ["add 1 2"] * 2 + [f"add {n} {n}" for n in range(5)] + ["add 20 2"],
    ),
    "counts": ([0, 3], 21, 6, []),
    "saga": ([["flight", "broken", "hotel"]], "ValueError: payment", 9, ["undo hotel", "undo broken", "undo flight"]),
    "gathers": (
        [0.05],
        [1, 4, 7, 7, "yes"],
        12,
        ["double 0", "double 1", "double 2"] + [f"add {n} 1" for n in range(3)],
    ),
}

#: What a flow undoes when it has failed, whenever its runner was killed; in any order of its branches.
UNDONE = [f"undo {number} {what}" for number in range(2) for what in ("add", "double")]


@pytest.mark.parametrize(
    ("store", "name"), [(store, name) for store in ("sqlite", "valkey", "postgres") for name in FLOWS]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_step(store, name, when, tmp_path):
    arguments, result, deaths, work = FLOWS[name]
    answer = live(store, name, when, arguments, tmp_path)
    assert answer.get("result", answer.get("error")) in (result if isinstance(result, tuple) else (result,)), answer
    assert answer["deaths"] >= deaths
    assert answer["check"] == []
    done = Counter((tmp_path / "witness").read_text().split("\n")[:-1]) if work else Counter()
    if when == "after":  # what was written is not done again
        assert all(done[word] >= count for word, count in Counter(work).items()), done
        steps = {
            word: count for word, count in done.items() if word.startswith("double") and name not in ("saga", "gathers")
        }
        assert set(steps.values()) <= {1}, done
    assert not Counter(work) - done


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("shape", "failing"), [("gather", 0), ("gather", 2), ("nested", 1), ("group", 0), ("group", 1)]
)
def test_killed_at_every_step_it_undoes_what_it_had_registered(shape, failing, when, tmp_path):
    answer = live("sqlite", "falls", when, [shape, failing], tmp_path)
    assert "failed last" in answer["error"] or "TaskGroup" in answer["error"], answer
    assert answer["deaths"] >= 9
    undone = [word for word in (tmp_path / "witness").read_text().split("\n") if word.startswith("undo")]
    assert set(undone) == set(UNDONE)


def live(store, name, when, arguments, tmp_path):
    """What became of a flow whose runner was killed at each of its writes."""
    url = url_of(store, tmp_path)
    command = [sys.executable, "-m", "tests.workflows.lives", str(tmp_path), url, when, name, json.dumps(arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])
