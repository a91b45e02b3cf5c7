"""The simulation finds nothing in a sound store, finds seeded bugs, and repeats itself exactly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pynenc.core.records import New, Ref
from pynenc.testing.checker import Kind
from pynenc.testing.clock import VirtualClock
from pynenc.testing.report import silent
from pynenc.testing.simulation import run_seed, simulate
from pynenc.testing.simulation.ledger import Account, Ledger
from pynenc.testing.simulation.schedule import Call
from pynenc.testing.simulation.world import World
from tests.conformance.test_seeded_bugs import (
    AcceptsASecondFinal,
    AcknowledgesBeforeItInserts,
    ForgetsAStep,
    ForgetsPendingWork,
    ForgetsTheKeyOnRetry,
    HandsOutTwice,
    LosesAReaction,
    LosesASignal,
    ReleasesTheKeyTwice,
    RemembersForZombies,
    SkipsTheFence,
    Sound,
)

#: Each bug, and as what the simulation shows it.
BUGS = {
    SkipsTheFence: {Kind.ZOMBIE},
    AcceptsASecondFinal: {Kind.ZOMBIE},
    AcknowledgesBeforeItInserts: {Kind.LOST},
    ReleasesTheKeyTwice: {Kind.OVER_LIMIT, Kind.PHANTOM},
    HandsOutTwice: {Kind.ZOMBIE, Kind.DOUBLE_FINAL},
    ForgetsPendingWork: {Kind.STUCK, Kind.LOST, Kind.UNSOUND},
    ForgetsTheKeyOnRetry: {Kind.STUCK, Kind.UNSOUND},
    LosesAReaction: {Kind.LOST_FIRING},
    LosesASignal: {Kind.WRONG_WORKFLOW},
    RemembersForZombies: {Kind.WRONG_WORKFLOW},
    ForgetsAStep: {Kind.WRONG_WORKFLOW},
}
#: Seeds within which a bug must show itself.
SEEDS = 150


def test_a_sound_store_passes() -> None:
    report = simulate(range(30), silent)
    assert report.violations == []
    assert int(report.figures["invocations"]) > 1000
    assert int(report.figures["zombies refused"]) > 0


@pytest.mark.parametrize(("lost", "is_sound"), [(["a"], True), ([], False), (["a", "a"], False)])
def test_the_start_of_two_attempts_of_one_is_refused_to_the_earlier(lost: list[str], is_sound: bool) -> None:
    ledger = Ledger(VirtualClock())
    account = ledger.accounts["a"] = Account(New(id="a", task="t", args=b""))
    account.owner, account.attempt = "r", 3
    ledger.observe(Call("start", ("r", [Ref("a", 2), Ref("a", 3)], 0)), lost)
    assert [violation.kind for violation in ledger.violations] == [Kind.ZOMBIE] * (not is_sound)


@pytest.mark.parametrize("has_ledger", [True, False], ids=["ledger", "checker"])
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_caught(bug: type[Sound], has_ledger: bool) -> None:
    found: list[tuple[str, str]] = []
    for seed in range(SEEDS):
        found += run_seed(seed, bug, has_ledger=has_ledger).violations
        if {Kind(kind) for kind, _ in found} & BUGS[bug]:
            return
    raise AssertionError(found)


@pytest.mark.parametrize("seed", [0, 1, 873691])
def test_the_verdict_waits_for_the_last_client(seed: int) -> None:
    world = World(seed)
    assert world.run().violations == []
    assert world.clients == 0


RUN = "import sys; from pynenc.testing.simulation import run_seed; print(run_seed(int(sys.argv[1])))"


def test_a_seed_repeats_itself() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", RUN, "5"]
    first, second = (subprocess.run(command, env=environment, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second


def test_a_sound_sqlite_store_passes() -> None:
    report = simulate(range(6), silent, store="sqlite")
    assert report.violations == []
    assert int(report.figures["invocations"]) > 100
