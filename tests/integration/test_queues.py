"""Queues, priorities and retention."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pynenc import Pynenc
from pynenc.core.records import Purge, QueueState
from pynenc.engine import results
from pynenc.exceptions import InvocationCancelledError, InvocationNotFoundError, QueueFullError, TaskRoutingError
from tests.integration.apps import basic
from tests.integration.conftest import LONG, configured, eventually, running


def order_of(path: Path) -> list[str]:
    """What the recording tasks wrote."""
    return path.read_text().split()


def serve(app: Pynenc, path: Path, count: int, **settings: object) -> list[str]:
    """Let one slot work until a witness file has so many lines."""
    with configured(app.conf.store, keep=True, threads=1, max_claim_ahead=0, **settings), running(app):
        eventually(lambda: path.exists() and len(order_of(path)) >= count, "all have run")
    return order_of(path)


def fill(path: Path, **counts: int) -> None:
    """So many calls in each queue, the queues one after the other."""
    for queue, count in counts.items():
        basic.record.options(queue=queue).parallelize([(str(path), queue)] * count)


def test_ordered_queues_are_served_in_their_order(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    fill(path, low=4, high=4)
    assert serve(idle_app, path, 8, queues=("high", "low")) == ["high"] * 4 + ["low"] * 4


def test_a_runner_leaves_other_queues_alone(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    fill(path, other=2, mine=2)
    assert serve(idle_app, path, 2, queues=("mine",)) == ["mine"] * 2
    assert {info.name: info.ready for info in idle_app.store.queues()}["other"] == 2


def test_round_robin_alternates(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    fill(path, a=6, b=6, c=6)
    order = serve(idle_app, path, 18, queues=("a", "b", "c"), queue_policy="round_robin")
    assert [set(order[at : at + 3]) for at in range(0, 18, 3)] == [{"a", "b", "c"}] * 6


def test_weights_are_shares(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    fill(path, a=40, b=40)
    order = serve(idle_app, path, 40, queues=("a", "b"), queue_policy="weighted", queue_weights=(3.0, 1.0))
    assert 25 <= order[:40].count("a") <= 35


def test_higher_priorities_come_first_and_ties_in_order_of_submission(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    for name, priority in (("a", 0), ("b", 5), ("c", 5), ("d", -1)):
        basic.record.options(priority=priority)(str(path), name)
    assert serve(idle_app, path, 4) == ["b", "c", "a", "d"]


def test_low_priorities_do_not_starve(idle_app: Pynenc, tmp_path: Path) -> None:
    path = tmp_path / "order"
    basic.record.options(priority=-100)(str(path), "low")
    basic.record.options(priority=100).parallelize([(str(path), "high")] * 60)
    order = serve(idle_app, path, 61)
    assert order.index("low") <= 17, "every 16th claim goes by age"


def test_run_at_waits_for_its_time(app: Pynenc) -> None:
    when = datetime.now(UTC) + timedelta(seconds=0.3)
    call = basic.add.options(run_at=when)(1, 2)
    assert call.get_result(LONG) == 3
    row = app.store.get([call.invocation_id])[0]
    assert row.claimed >= when.timestamp() * 1_000_000


def test_a_paused_queue_accepts_and_does_not_serve(app: Pynenc) -> None:
    app.store.set_queue("pausing", QueueState.PAUSED)
    call = basic.add.options(queue="pausing")(1, 2)
    assert basic.add(1, 1).get_result(LONG) == 2
    assert call.status == "registered"
    app.store.set_queue("pausing", QueueState.ACTIVE)
    assert call.get_result(LONG) == 3


def test_a_draining_queue_serves_and_does_not_accept(app: Pynenc) -> None:
    app.store.set_queue("draining", QueueState.PAUSED)
    call = basic.add.options(queue="draining")(1, 2)
    app.store.set_queue("draining", QueueState.DRAINING)
    with pytest.raises(TaskRoutingError, match="draining"):
        basic.add.options(queue="draining")(1, 2)
    assert call.get_result(LONG) == 3
    app.store.set_queue("draining", QueueState.ACTIVE)
    assert basic.add.options(queue="draining")(1, 2).get_result(LONG) == 3


def test_a_full_queue_refuses(idle_app: Pynenc) -> None:
    idle_app.conf.max_queue_length = 3
    try:
        group = basic.add.parallelize([(i, 0) for i in range(3)])
        with pytest.raises(QueueFullError) as caught:
            basic.add(1, 1)
        assert caught.value.accepted == ()
        assert basic.add.options(queue="another")(1, 1).status == "registered"
        assert group.cancel() == 3
        assert basic.add(1, 1).status == "registered"
    finally:
        idle_app.conf.max_queue_length = 0


def test_a_full_queue_holds_the_caller_back_if_the_settings_say_so(idle_app: Pynenc) -> None:
    idle_app.conf.max_queue_length, idle_app.conf.queue_full = 2, "block"
    try:
        basic.add.parallelize([(1, 0), (2, 0)])
        done = threading.Event()
        found: list[object] = []

        def call() -> None:
            found.append(basic.add(3, 0))
            done.set()

        threading.Thread(target=call, daemon=True).start()
        assert not done.wait(0.1)
        with running(idle_app):
            assert done.wait(LONG)
            assert found[0].get_result(LONG) == 3  # type: ignore[attr-defined]
    finally:
        idle_app.conf.max_queue_length, idle_app.conf.queue_full = 0, "raise"


def test_waiting_for_a_queue_that_nobody_serves_is_explained(
    idle_app: Pynenc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(results, "HINT_AFTER", 0.01)
    monkeypatch.setattr(results, "SAFETY_POLL", 0.02)
    with configured(idle_app.conf.store, keep=True, queues=("somebody",)), running(idle_app):
        call = basic.served_by_nobody()
        with caplog.at_level(logging.WARNING, logger="pynenc"):
            assert not call.wait(0.3)
    assert caplog.text.count("no live runner serves queue 'nobody'") == 1
    assert "--queues nobody" in caplog.text


def test_what_is_not_started_in_time_expires(idle_app: Pynenc) -> None:
    call = basic.expires_soon()
    eventually(
        lambda: idle_app.store.clock.now() > idle_app.store.get([call.invocation_id])[0].expires, "it is too late"
    )
    with running(idle_app), pytest.raises(InvocationCancelledError, match="expired"):
        call.get_result(LONG)
    assert call.status == "cancelled"


@pytest.mark.parametrize("state", [QueueState.PAUSED, QueueState.ACTIVE])
def test_what_no_runner_comes_to_expires_in_time(idle_app: Pynenc, state: QueueState) -> None:
    idle_app.store.set_queue("default", state)
    with configured(idle_app.conf.store, keep=True, queues=("other",)), running(idle_app):
        call = basic.expires_soon()
        with pytest.raises(InvocationCancelledError, match="expired"):
            call.get_result(LONG)
    (row,) = idle_app.store.get([call.invocation_id])
    assert row.ended < row.expires + 5_000_000, "half a second after its time, on a machine that is not busy"


def test_finals_are_kept_for_their_time(app: Pynenc) -> None:
    forgotten, kept = basic.soon_forgotten(), basic.add(1, 1)
    assert forgotten.get_result(LONG) == 1
    assert kept.get_result(LONG) == 2
    ended = app.store.get([forgotten.invocation_id])[0].ended
    eventually(lambda: app.store.clock.now() > ended + 10_000, "its time is over")
    while app.store.purge(Purge()).more:
        pass
    with pytest.raises(InvocationNotFoundError, match="purged"):
        app.get_invocation(forgotten.invocation_id)
    assert app.get_invocation(kept.invocation_id).result == 2


def test_an_app_can_be_emptied(idle_app: Pynenc) -> None:
    basic.add.parallelize([(i, 0) for i in range(10)])
    idle_app.purge()
    assert idle_app.orchestrator.count_invocations() == 0
    assert idle_app.store.check() == []


def test_calls_of_an_event_loop_do_not_block_it(app: Pynenc) -> None:
    async def main() -> list[int]:
        group = await asyncio.to_thread(basic.add.parallelize, [(i, 0) for i in range(20)])
        return [value async for value in group.async_results()]

    assert asyncio.run(main()) == list(range(20))


def test_as_completed_yields_what_ends_first(app: Pynenc, tmp_path: Path) -> None:
    go = tmp_path / "go"
    group = basic.wait_until.parallelize([(str(go),), (__file__,)])
    first = next(iter(group.as_completed(LONG)))
    assert first == group[1]
    assert not group[0].done()
    go.touch()
    assert group.wait(LONG)


def test_a_group_can_be_cancelled(idle_app: Pynenc) -> None:
    group = basic.add.parallelize([(i, 0) for i in range(5)])
    assert group.cancel() == 5
    assert group.cancel() == 0
    assert all(isinstance(value, InvocationCancelledError) for value in group.get_results(1, return_exceptions=True))
