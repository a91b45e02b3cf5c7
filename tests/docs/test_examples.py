"""Every example runs as its reader would run it, copied to an empty folder, and prints what it says."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, _environment, matches

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/tasks.py"))
SECONDS = 60


def run(example: Path, folder: Path, *command: str) -> str:
    """Copy an example and run a command in it; what it printed."""
    copy = folder / example.name
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    environment = _environment(copy, folder / "bin")
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("example", [e for e in EXAMPLES if (e / "main.py").exists()], ids=lambda path: path.name)
def test_example(example: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    printed = run(example, tmp_path, sys.executable, "main.py")
    assert matches((example / "expected.txt").read_text(), printed), printed
    assert time.monotonic() - started < SECONDS / 2


def test_the_testing_example(tmp_path: Path) -> None:
    printed = run(ROOT / "examples" / "testing", tmp_path, sys.executable, "-m", "pytest", "-q")
    assert re.search(r"\b\d+ passed", printed)


def test_all_examples_are_listed() -> None:
    listed = set(re.findall(r"\]\((\w+)\)", (ROOT / "examples" / "README.md").read_text("utf-8")))
    assert listed == {path.name for path in EXAMPLES}
