"""A small storm of real processes, and what the verdict says when its evidence is spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pynenc.store import open_store
from pynenc.testing.chaos import ChaosPlan, run_chaos, verdict, witness
from pynenc.testing.chaos.witness import Witnessed
from pynenc.testing.checker import Kind
from pynenc.testing.report import Report, silent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storm")


@pytest.fixture(scope="module")
def report(folder: Path) -> Iterator[Report]:
    plan = ChaosPlan(seed=3, invocations=600, runners=2, clients=2, harm_every=0.4, folder=folder)
    return run_chaos(plan, silent)


def test_the_promises_hold(report: Report) -> None:
    assert report.violations == []
    assert int(report.figures["invocations"]) >= 600
    assert any(name.startswith("harm") for name in report.figures)
    assert int(report.figures["bodies"]) >= int(report.figures["invocations"])


def without_intentions(seen: Witnessed) -> Witnessed:
    return seen._replace(intended={})


def with_larger_batch(seen: Witnessed) -> Witnessed:
    large = {name: count + 1 if count > 10 else count for name, count in seen.intended.items()}
    return seen._replace(intended=large)


SPOILT: dict[Kind, Callable[[Witnessed], Witnessed]] = {
    Kind.LOST: lambda seen: seen._replace(acknowledged={*seen.acknowledged, "somebody"}),
    Kind.PHANTOM: without_intentions,
    Kind.ZOMBIE: lambda seen: seen._replace(bodies=[]),
    Kind.UNSOUND: with_larger_batch,
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_evidence_is_noticed(kind: Kind, folder: Path, report: Report) -> None:
    store = open_store(f"sqlite:///{folder / 'chaos.db'}", "chaos")
    store.open()
    spoilt = Report("chaos", report.seed)
    try:
        verdict.judge(spoilt, store, SPOILT[kind](witness.read(folder)), [])
    finally:
        store.close()
    assert kind in {violation.kind for violation in spoilt.violations}
