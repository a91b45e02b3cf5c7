"""The repository speaks of itself only: no path of a machine, no address of a package mirror, no secret."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = {
    "a path of a machine": re.compile(r"(?<![\w.])/(work|root|home|tmp|Users)/\w"),
    "an address of a package index": re.compile(
        r"--(extra-)?index[-]url|trusted[-]host|files\.pythonhosted[.]org|registry\.npmjs[.]org"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY"),
}


def committed_files() -> list[str]:
    """Files that are, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def find_leaks(text: str) -> list[str]:
    """What is in a text that should not be, with the line."""
    return [
        f"line {number}: {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in PATTERNS.items()
        if pattern.search(line)
    ]


def test_nothing_leaks() -> None:
    leaks = []
    for name in committed_files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:8192]:
            leaks += [f"{name}, {leak}" for leak in find_leaks(content.decode("utf-8"))]
    assert leaks == []


@pytest.mark.parametrize(
    "line",
    [f"open('/{folder}/x')" for folder in ("work", "root", "home", "tmp")]
    + ["pip install --index" + "-url=x", "-----BEGIN RSA PRIVATE" + " KEY"],
)
def test_leaks_are_found(line: str) -> None:
    assert len(find_leaks(f"fine\n{line}\n")) == 1


@pytest.mark.parametrize("line", ["docs/home/x.md", "network/work/item", "a.b/tmp/c", "sqlite:///jobs.db"])
def test_ordinary_text_is_fine(line: str) -> None:
    assert find_leaks(line) == []
