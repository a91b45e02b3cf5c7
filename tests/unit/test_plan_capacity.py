"""The model of capacity against what is known in closed form."""

import json
import math
from pathlib import Path

import pytest

from tools import plan_capacity
from tools.plan_capacity import RESULTS, Costs, Load, curve, main, measured, needs, play, purge_rate, queue_wait

LOAD = Load(per_day=86_400.0 * 1000)  # a thousand a second, three at the peak


@pytest.mark.parametrize("peak", [1.5, 2.0, 3.0, 5.0, 10.0])
def test_the_curve_of_a_day_has_its_mean_and_its_peak(peak: float) -> None:
    heights = curve(peak)
    assert sum(heights) / len(heights) == pytest.approx(1.0)
    assert max(heights) == pytest.approx(peak)
    assert min(heights) >= 0


def test_the_wait_for_one_server_is_that_of_the_textbook() -> None:
    assert queue_wait(0.5, 1, 10.0) == pytest.approx(10.0)  # M/M/1: rho / (1 - rho) services
    assert queue_wait(0.9, 1, 1.0) == pytest.approx(9.0)
    assert queue_wait(0.75, 2, 1.0) == pytest.approx(0.75**2 / (1 - 0.75**2))  # M/M/2
    assert queue_wait(0.0, 4, 1.0) == 0.0


def test_a_store_that_can_do_it_is_never_behind() -> None:
    day = play(LOAD, Costs(service_us=300.0, servers=1), 1)
    assert day.utilisation == pytest.approx(0.9)
    assert (day.longest_delay, day.hours_behind) == (0.0, 0.0)
    assert day.operation_ms == pytest.approx(0.3 / 0.1)


def test_a_store_that_cannot_is_behind_by_what_is_left_over() -> None:
    costs = Costs(service_us=500.0, servers=1)  # 2,000 a second, less than the peak and more than the mean
    over = sum(max(0.0, 1000 * height - 2000) * 60 for height in curve(3.0))
    day = play(LOAD, costs, 1)
    assert day.longest_delay == pytest.approx(over / 2000, rel=0.01)
    assert 0 < day.hours_behind < 12
    assert day.operation_ms == math.inf
    assert play(LOAD, costs, 2).longest_delay == 0.0


def test_what_is_scarcest_gives_way_first() -> None:
    few = needs(LOAD, Costs(max_connections=10))
    assert few[0].what == "connections"
    assert few[0].stores == math.ceil(LOAD.runners * 3 * 3 / 6)
    slow = needs(LOAD, Costs(service_us=100_000.0, max_connections=0))
    assert slow[0].what == "operations"
    assert "connections" not in [need.what for need in slow], "there is no limit"


def test_more_of_the_same_needs_as_many_more_stores() -> None:
    one = {need.what: need.asked for need in needs(Load(per_day=1e8), Costs())}
    ten = {need.what: need.asked for need in needs(Load(per_day=1e9), Costs())}
    assert all(
        ten[what] == pytest.approx(10 * one[what])
        for what in ("operations", "commits", "log volume", "storage", "purge")
    )
    assert ten["heartbeats"] == one["heartbeats"]


def test_the_purge_is_the_one_of_the_code() -> None:
    assert purge_rate() == 5000.0


def test_the_same_parameters_give_the_same_answer(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--per-day", "1e9", "--service-us", "60", "--servers", "1"])
    first = capsys.readouterr().out
    main(["--per-day", "1e9", "--service-us", "60", "--servers", "1"])
    assert capsys.readouterr().out == first
    assert "the first to give way: " in first


def test_costs_are_those_of_a_run_of_the_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        "parallelize CPU µs": 10,
        "parallelize commits": 0.5,
        "parallelize WAL bytes": 600,
        "parallelize disk bytes": 400,
        "drain CPU µs": 40,
        "drain commits": 0.25,
        "drain WAL bytes": 1400,
        "drain disk bytes": 800,
        "round trip CPU µs": 9999,
    }
    figures = {name: {"median": value} for name, value in names.items()}
    (tmp_path / "day.json").write_text(json.dumps({"cases": [{"name": "cost-postgres", "figures": figures}]}))
    monkeypatch.setattr(plan_capacity, "RESULTS", tmp_path)
    found = {"service_us": 50, "batch": 1, "commits_per_batch": 0.75, "log_bytes": 2000, "row_bytes": 1200}
    assert measured("day", "postgres", "parallelize") == found
    with pytest.raises(ValueError, match="did not measure"):
        measured("day", "redis", "parallelize")
    main(["--measured", "day"])
    by_file = capsys.readouterr().out
    main([f"--{name.replace('_', '-')}={value}" for name, value in found.items()])
    assert capsys.readouterr().out == by_file
    main(["--measured", "day", "--service-us", "51"])
    assert capsys.readouterr().out != by_file


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json"))[-1:], ids=lambda path: path.stem)
@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_the_latest_run_measured_them(path: Path, store: str) -> None:
    for way in ("parallelize", "enqueue one by one"):
        costs = measured(path.stem, store, way)
        assert min(value for name, value in costs.items() if name != "commits_per_batch") > 0
