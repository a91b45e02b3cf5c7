"""What is counted, and how it is written down for Prometheus."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pynenc.core import outcome
from pynenc.core.records import Claimed, QueueInfo, QueueState
from pynenc.runner.exposition import METRICS, add_queues, render
from pynenc.runner.numbers import BOUNDS, MOST_NAMES, Measures, Numbers, Totals, decode
from pynenc.runner.vital import Loop, Vital

SECOND = 1_000_000
STRANGE = 'a "quoted"\\ name\nof two lines'


def claimed(number: int, task: str = "m.f", queue: str = "default") -> Claimed:
    return Claimed(str(number), task, 1, b"", queue=queue)


def succeeded(of: Claimed, seconds: float = 0.02):
    return outcome.succeeded(of, b"", SECOND, SECOND + int(seconds * SECOND))


def numbers_of(*pairs) -> Numbers:
    measures = Measures()
    measures.note_claim([each for each, _ in pairs])
    measures.note_written([ended for _, ended in pairs], ())
    return decode(measures.encode())


def test_a_turn_is_counted() -> None:
    first, second, third = (claimed(n) for n in range(3))
    retry = outcome.to_retry(second, b"", outcome.RetryPolicy(max_retries=1), SECOND, 2 * SECOND, 0.5, None)
    numbers = numbers_of((first, succeeded(first)), (second, retry), (third, outcome.released(third, "late")))
    assert (numbers.claims, numbers.claimed, numbers.released) == (1, 3, 1)
    assert numbers.finished == {"m.f": {"success": 1}}
    assert numbers.retried == {"m.f": 1}
    assert sum(numbers.durations["default"].counts) == 2
    assert numbers.durations["default"].total == pytest.approx(1.02)


def test_a_result_that_another_attempt_owns_is_refused_not_finished() -> None:
    measures = Measures()
    measures.note_claim([claimed(1)])
    measures.note_written([succeeded(claimed(1))], ("1",))
    numbers = decode(measures.encode())
    assert (numbers.refused, numbers.finished) == (1, {})


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (0.001, 0), (0.0011, 1), (1800.0, 11), (4000.0, 12)])
def test_a_duration_belongs_to_the_class_whose_bound_it_does_not_pass(seconds: float, place: int) -> None:
    numbers = numbers_of((claimed(1), succeeded(claimed(1), seconds)))
    assert numbers.durations["default"].counts[place] == 1


def test_names_are_bounded() -> None:
    many = [claimed(n, f"task{n}", f"queue{n}") for n in range(MOST_NAMES + 50)]
    numbers = numbers_of(*((each, succeeded(each)) for each in many))
    assert len(numbers.finished) == len(numbers.durations) == MOST_NAMES + 1
    assert numbers.finished["other"] == {"success": 50}
    twice = Numbers()
    twice.add(numbers)
    twice.add(numbers)
    assert twice.finished["other"] == {"success": 100}
    assert sum(twice.durations["other"].counts) == 100


def test_the_largest_numbers_fit_on_a_board() -> None:
    many = [claimed(n, f"{n:04}" + "é" * 300, f"{n:04}" + "é" * 300) for n in range(MOST_NAMES + 1)]
    measures = Measures()
    for _ in range(3):
        measures.note_claim(many)
        measures.note_written([succeeded(each) for each in many], ())
    assert len(measures.encode()) < 200_000


def test_totals_never_fall() -> None:
    totals = Totals()
    one, two = claimed(1), claimed(2)
    published = Measures()
    published.note_claim([one])
    published.note_written([succeeded(one)], ())
    totals.hear(7, published.encode())
    totals.hear(7, None)  # not readable just now
    assert totals.total().finished == {"m.f": {"success": 1}}
    totals.bury(7)
    totals.note_death()
    totals.settle([two], [outcome.failed(two, b"", 0, SECOND)])
    totals.hear(8, published.encode())
    total = totals.total()
    assert total.finished == {"m.f": {"success": 2, "failed": 1}}
    assert (total.deaths, total.claims) == (1, 2)


def page(numbers: Numbers, queues: list[QueueInfo]) -> str:
    vital = Vital(turned=1.0, loops=(Loop("a", 1, 1.0),), slots=8, running=3)
    sheet = render("shop", "sqlite", vital, numbers, is_ready=True)
    add_queues(sheet, queues, 10 * SECOND, is_up=True)
    return sheet.text()


def test_the_page_can_be_parsed_whatever_the_names_are() -> None:
    strange = claimed(1, STRANGE, STRANGE)
    numbers = numbers_of((strange, succeeded(strange)))
    numbers.retried["m.f"] = 3
    text = page(
        numbers,
        [QueueInfo(STRANGE, QueueState.ACTIVE, ready=2, oldest=4 * SECOND), QueueInfo("empty", QueueState.PAUSED)],
    )
    families = {family.name: family for family in text_string_to_metric_families(text)}
    names = {name if name in families else name.removesuffix("_total") for name in METRICS}
    assert set(families) == names
    finished = families["pynenc_invocations_finished"].samples
    assert [(each.labels, each.value) for each in finished] == [({"status": "success", "task": STRANGE}, 1.0)]
    ages = {each.labels["queue"]: each.value for each in families["pynenc_queue_oldest_seconds"].samples}
    assert ages == {STRANGE: 6.0, "empty": 0.0}
    buckets = [each for each in families["pynenc_invocation_duration_seconds"].samples if each.name.endswith("_bucket")]
    assert [float(each.labels["le"]) for each in buckets] == [*BOUNDS, float("inf")]
    values = [each.value for each in buckets]
    assert values == sorted(values)
    assert values[-1] == 1.0


def test_metrics_without_a_sample_are_left_out() -> None:
    text = page(Numbers(), [])
    assert "pynenc_invocations_finished_total" not in text
    assert "pynenc_queue_ready" not in text
    assert list(text_string_to_metric_families(text))
