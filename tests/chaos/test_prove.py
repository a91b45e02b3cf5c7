"""The command: its summary, its exit code, its seeds."""

from __future__ import annotations

import json

import pytest

from pynenc.testing import prove
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.report import Report, quantiles


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--only", "simulation", "--seed", "1", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "1..2" in out
    assert all(kind.value in out for kind in Kind)
    assert "all promises held" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--only", "space", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ok"] is True
    assert [part["part"] for part in summary["parts"]] == ["space"]


def test_violations_are_shown_and_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Report("space", "-", violations=[Violation(Kind.LOST, f"number {n} is gone") for n in range(30)])
    monkeypatch.setitem(prove._RUN, "space", lambda wanted, progress: broken)
    assert prove.main(["--only", "space"]) == 1
    out = capsys.readouterr().out
    assert "number 0 is gone" in out
    assert "and 10 more" in out
    assert "BROKEN" in out


def test_quantiles() -> None:
    assert quantiles("recovery", []) == {}
    values = [float(number) for number in range(1, 101)]
    assert quantiles("recovery", values) == {"recovery p50": 51.0, "recovery p99": 100.0, "recovery max": 100.0}
