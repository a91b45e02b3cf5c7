"""How contestants are compared, and what is said of it."""

from __future__ import annotations

import pytest

from benchmarks import plot, report
from benchmarks.harness import TIMES, Bench, Contest, Report

SAMPLES = {"ours": [10.0, 30.0, 20.0], "one": [1.0, 2.0, 4.0], "slow": [5.0]}


def test_a_bar_is_judged_by_ratios_within_a_round():
    (bar,) = Contest(SAMPLES).at_least("ours", 6, beside="one")
    assert bar.measured == 10.0
    assert bar.is_met


def test_the_best_of_each_round_is_one_more_to_compare_with():
    contest = Contest(dict(SAMPLES))
    contest.add_best("best", ["one", "slow", "not installed"])
    assert contest.samples["best"] == [5.0, 2.0, 4.0]


def test_nothing_is_judged_beside_what_was_not_measured():
    contest = Contest(dict(SAMPLES))
    contest.add_best("best", ["not installed"])
    assert contest.at_least("ours", 2, beside="best") == []


def test_an_aim_without_a_bar_is_missed_by_nobody():
    (bar,) = Contest(SAMPLES).at_least("ours", None, 40.0, unit="/s")
    assert bar.is_met
    assert not bar.is_aim_met
    assert bar.factor is None


def test_who_is_slow_takes_part_in_the_first_round_only(capsys):
    turns = []
    contest = Bench(rounds=3, quick=True).contest(
        {"fast": lambda: turns.append("fast") or 1.0, "slow": lambda: turns.append("slow") or 1.0}, once=["slow"]
    )
    assert turns == ["fast", "slow", "fast", "fast"]
    assert [len(samples) for samples in contest.samples.values()] == [3, 1]


@pytest.fixture
def run() -> dict:
    contest = Contest(SAMPLES)
    bars = [*contest.at_least("ours", 1, beside="one"), *contest.at_least("ours", None, 40.0, unit="/s")]
    case = Report("title", "/s", "settings", contest.figures, bars)
    said = {"date": "2026-01-01", "pynenc": "0", "python": "3", "sqlite": "3", "processors": "2"}
    return {"surroundings": said, "rounds": 3, "quick": True, "cases": [report.as_data("name", case)]}


def test_tables_and_drawing_know_aims_without_a_bar(run):
    text = report.markdown(run)
    assert "| title | ours | 20/s |  | ≥ 40/s | not yet |" in text
    assert f"| title | ours ÷ one | 10{TIMES} | ≥ 1{TIMES} |  | met |" in text
    report.show(run)
    assert plot.draw(run).count("ours") == 1
