"""A few kill rounds and the cases of scarce space; and that their examiners see what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pynenc.core.records import New
from pynenc.store import open_store
from pynenc.testing import kills, space
from pynenc.testing.checker import Kind
from pynenc.testing.kills import Told
from pynenc.testing.report import silent


def test_rounds_lose_nothing() -> None:
    report = kills.run_kills(16, 7, silent)
    assert report.violations == []
    assert int(report.figures["acknowledged"]) > 0


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file with one invocation, accepted and not finished."""
    url = f"sqlite:///{tmp_path / 'kills.db'}"
    store = open_store(url, kills.APP_ID)
    store.open()
    store.submit([New(id="a", task="kill.task", args=b"")])
    store.close()
    return url


WRONG = {
    "+ a b": Kind.LOST,
    "= a": Kind.LOST,
    "- a": Kind.LOST,
    ": a": Kind.LOST,
}


@pytest.mark.parametrize("step", WRONG)
def test_what_was_acknowledged_and_is_not_there_is_noticed(url: str, step: str) -> None:
    found = [kind for kind, _ in kills.examine(url, Told([step, "done"]))]
    assert found == [WRONG[step]]


def test_half_a_step_is_noticed(url: str) -> None:
    assert [kind for kind, _ in kills.examine(url, Told(["+ a b"]))] == [Kind.UNSOUND]


def test_a_sound_file_passes(url: str) -> None:
    assert list(kills.examine(url, Told(["up", "+ a", "done", "+ b c"]))) == []


def test_scarce_space() -> None:
    report = space.run_space(silent)
    assert report.violations == []
