"""The types of the public API, as the two type checkers see them in their strict modes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CASES = Path(__file__).with_name("cases.py")
Checker = Callable[[Path, Path], str]


def check(tmp_path: Path, *command: str | Path) -> str:
    environment = os.environ | {
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
        "MYPY_CACHE_DIR": str(tmp_path / "cache"),
        "MYPYPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def mypy(tmp_path: Path, file: Path) -> str:
    """What mypy has against a file; errors in the package itself are the business of ``make lint``."""
    return check(tmp_path, "mypy", "--strict", "--warn-unused-ignores", "--follow-imports=silent", file)


def pyright(tmp_path: Path, file: Path) -> str:
    """What pyright has against a file; its settings are in pyproject.toml."""
    return check(tmp_path, "pyright", "--pythonpath", sys.executable, file)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_cases_have_the_stated_types(tmp_path: Path, checker: Checker) -> None:
    assert checker(tmp_path, CASES) == ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_wrong_case_is_found(tmp_path: Path, checker: Checker) -> None:
    """Were the package unreadable to a checker, everything would be Any, and the cases would hold for no reason."""
    wrong = tmp_path / "wrong.py"
    lines = [
        "# pyright: strict",
        "from typing import assert_type",
        "from tests.api.typing.cases import add",
        "assert_type(add(1, 2).result, str)",
        "",
    ]
    wrong.write_text("\n".join(lines))
    assert "str" in checker(tmp_path, wrong)
