"""The types of the public API, as the two type checkers see them in their strict modes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CASES = Path(__file__).with_name("cases.py")
Checker = Callable[..., str]


def check(tmp_path: Path, *command: str | Path) -> str:
    environment = os.environ | {
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
        "MYPY_CACHE_DIR": str(tmp_path / "cache"),
        "MYPYPATH": os.pathsep.join((str(ROOT), str(tmp_path))),
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


def mypy(tmp_path: Path, *files: Path) -> str:
    """What mypy has against files; errors in the package itself are the business of ``make lint``."""
    options = ("--strict", "--warn-unused-ignores", "--follow-imports=silent", "--explicit-package-bases")
    return check(tmp_path, "mypy", *options, *files)


def pyright(tmp_path: Path, *files: Path) -> str:
    """What pyright has against files; its settings are in pyproject.toml."""
    return check(tmp_path, "pyright", "--pythonpath", sys.executable, *files)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_cases_have_the_stated_types(tmp_path: Path, checker: Checker) -> None:
    """And a wrong case is found: were the package unreadable to a checker, everything would be Any, and the cases would hold for no reason."""
    wrong = tmp_path / "wrong.py"
    lines = [
        "# pyright: strict",
        "from typing import assert_type",
        "from tests.api.typing.cases import add",
        "assert_type(add(1, 2).result, str)",
        "",
    ]
    wrong.write_text("\n".join(lines))
    told = checker(tmp_path, CASES, wrong)
    complaints = [line for line in told.splitlines() if re.search(r":\d+: error|:\d+:\d+ - error", line)]
    assert ["wrong.py:4" in line and "str" in line for line in complaints] == [True], told
