"""Triggers from the cause to the call, in virtual time, on each store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pynenc.core.reaction import DEFINITIONS
from pynenc.core.records import ChangeKind, Filter, Purge
from pynenc.engine.firing import Decision, events_scope
from pynenc.engine.firing_state import state_scope
from pynenc.engine.submit import Submitter
from pynenc.engine.suspension import GivenUp
from pynenc.exceptions import StoreError, TriggerError
from pynenc.testing import InlineRunner, VirtualClock
from tests.integration.apps import triggered
from tests.integration.conftest import url_of

app = triggered.app
MODULE = triggered.__name__
#: Noon of a day, on the clock of the tests.
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


#: Days of virtual time with thousands of ticks: on stores that need no server.
many_ticks = pytest.mark.parametrize("runner", ["memory", "sqlite"], indirect=True)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets a task lose its triggers, as a new version of the code would."""

    def lose(task: str) -> None:
        for key in [key for key in app._firing_tasks if key.startswith(f"pynenc.trigger.{MODULE}.{task}.")]:
            monkeypatch.delitem(app._firing_tasks, key)
            monkeypatch.delitem(app._by_key, key)

    return lose


@pytest.fixture(params=["memory", "sqlite", "valkey"])
def runner(request: pytest.FixtureRequest, tmp_path: Path, without: Callable[[str], None]) -> Iterator[InlineRunner]:
    """A runner of virtual time, a second past noon; hours have too many seconds for what ticks each second."""
    without("each_second")
    app.close()
    app.conf.store = url_of(request.param, tmp_path)
    clock = VirtualClock()
    clock.jump(NOON.timestamp() + 1 - clock.now() / 1e6)
    with InlineRunner(app, clock) as runner:
        yield runner
    app.conf.store = "memory://"


#: What the store itself does about a change is tried on all of them; the many ticks of virtual hours are not.
on_each_store = pytest.mark.parametrize("runner", ["memory", "sqlite", "valkey", "postgres"], indirect=True)


def calls(task: Any) -> list[Any]:
    """The results of a task's calls, oldest first."""
    found = app.find_invocations(tasks=task.task_id.key, oldest_first=True, limit=500)
    return [call.get_result(0) if call.done() else "not yet" for call in found]


def reasons(trigger: str) -> list[str]:
    """What a trigger decided, oldest first."""
    return [each["why"] for each in reversed(app.trigger.firings(trigger))]


def emit(code: str, **payload: Any) -> str:
    return app.trigger.emit_event(code, payload)


def minutes(count: float) -> float:
    return 60 * count


# -- events ------------------------------------------------------------------------------------------------------------
@on_each_store
def test_an_event_with_a_dict_filter(runner: InlineRunner) -> None:
    emit("paid", country="ES", n=1)
    emit("paid", country="FR", n=2)
    runner.drain()
    assert calls(triggered.paid) == [1]
    assert reasons("paid.trigger1") == ["", "the payload is not wanted: country is 'FR', not 'ES'"]


def test_an_event_with_a_function_and_several_triggers_of_a_task(runner: InlineRunner) -> None:
    for n in range(4):
        emit("even", n=n)
    emit("other")
    runner.drain()
    assert calls(triggered.even) == [0, 2, "static"]


def test_an_event_that_nobody_hears_has_an_id_and_costs_nothing(runner: InlineRunner) -> None:
    before = app.store.count(Filter())
    assert emit("unheard", n=1) != emit("unheard", n=1)
    assert app.store.count(Filter()) == before


def test_the_payload_of_an_event_keeps_its_types(runner: InlineRunner) -> None:
    emit("paid", country="ES", n={"when": NOON, "tuple": (1, 2)})
    runner.drain()
    assert calls(triggered.paid) == [{"when": NOON, "tuple": (1, 2)}]


def test_a_large_payload(runner: InlineRunner) -> None:
    emit("paid", country="ES", n="x" * 2_000_000)
    runner.drain()
    assert [len(value) for value in calls(triggered.paid)] == [2_000_000]


@on_each_store
def test_the_call_of_a_trigger_is_a_child_of_its_decision(runner: InlineRunner) -> None:
    emit("paid", country="ES", n=1)
    runner.drain()
    (call,) = app.find_invocations(tasks=triggered.paid.task_id.key)
    (decision,) = app.trigger.firings("paid.trigger1")
    assert decision["fired"] == [call.invocation_id]
    assert call.parent_invocation_id == decision["id"]
    assert app.store.get([call.invocation_id])[0].workflow is None


# -- changes of status ---------------------------------------------------------------------------------------------------
@on_each_store
def test_statuses_results_and_exceptions(runner: InlineRunner) -> None:
    for value in (5, 1, -1, 7):
        triggered.work(value)
    runner.drain()
    assert calls(triggered.ended) == [[5, "success"], [1, "success"], [-1, "failed"], [7, "success"]]
    assert sorted(calls(triggered.returned)) == [[1, 10], [5, 50]]
    assert calls(triggered.refused) == [["PaymentError", "refused -1"]]
    assert calls(triggered.never) == []
    assert reasons("never.trigger1") == [f"it failed with {MODULE}.PaymentError, which is no ValueError"]


@on_each_store
def test_each_retry(runner: InlineRunner) -> None:
    triggered.flaky(2)
    runner.drain()
    assert calls(triggered.retried) == [[2, "retry"], [2, "retry"]]


@on_each_store
def test_a_cancelled_call_that_was_retried_fires_for_what_it_was(runner: InlineRunner) -> None:
    """The result that fires is that of the round that it ended, even if the next one is over when it is looked at."""
    call = triggered.work(5)
    runner._runner._run_next((call.invocation_id,))
    app.engine.amend([call.invocation_id], ChangeKind.REQUEUE, "again")
    runner._runner._run_next((call.invocation_id,))
    runner.drain()
    assert calls(triggered.returned) == [[5, 50], [5, 50]]


# -- time --------------------------------------------------------------------------------------------------------------
@many_ticks
def test_a_cron_ticks_at_its_times(runner: InlineRunner) -> None:
    runner.advance(minutes(130))
    assert calls(triggered.hourly) == [
        ["2026-03-02T13:00:00+00:00", None],
        ["2026-03-02T14:00:00+00:00", "2026-03-02T13:00:00+00:00"],
    ]
    assert len(calls(triggered.often)) == 13


@many_ticks
def test_missed_ticks_by_policy(runner: InlineRunner) -> None:
    runner.clock.advance(minutes(60 * 5 + 30))
    runner.drain()
    assert calls(triggered.hourly) == [["2026-03-02T17:00:00+00:00", None]]
    hours = [f"2026-03-02T{hour}:00:00+00:00" for hour in range(13, 18)]
    assert calls(triggered.every_hour) == [[hour, last] for hour, last in zip(hours, [None, *hours], strict=False)]
    assert calls(triggered.in_time) == []
    assert "it came too late, by" in reasons("in_time.trigger1")[0]
    runner.advance(minutes(40))
    assert [value[0] for value in calls(triggered.in_time)] == ["2026-03-02T18:00:00+00:00"]


def test_what_is_made_up_for_is_bounded(runner: InlineRunner) -> None:
    before, app.conf.trigger_catch_up = app.conf.trigger_catch_up, 3
    try:
        runner.clock.advance(minutes(60 * 24))
        runner.drain()
    finally:
        app.conf.trigger_catch_up = before
    assert [value[0][11:13] for value in calls(triggered.every_hour)] == ["10", "11", "12"]


@many_ticks
def test_a_second_declaration_adds_no_tick(runner: InlineRunner) -> None:
    app.trigger.declare()
    app.trigger.renew()
    runner.advance(minutes(61))
    assert len(calls(triggered.hourly)) == 1


@many_ticks
def test_a_lost_tick_is_made_again(runner: InlineRunner) -> None:
    (tick,) = app.store.find(Filter(tasks=(f"pynenc.trigger.{MODULE}.hourly.hourly",))).invocations
    app.engine.amend([tick.id], ChangeKind.CANCEL, "by mistake")
    runner.advance(minutes(61))
    assert calls(triggered.hourly) == []
    app.trigger.renew()
    runner.advance(minutes(60))
    assert [value[0][11:13] for value in calls(triggered.hourly)] == ["14"]


@many_ticks
def test_a_backfill_fires_each_tick_once(runner: InlineRunner) -> None:
    runner.advance(minutes(61))
    start, end = datetime(2026, 3, 2, 10, tzinfo=UTC), datetime(2026, 3, 2, 13, tzinfo=UTC)
    assert app.trigger.backfill("hourly.hourly", start, end) == 4
    assert app.trigger.backfill("hourly.hourly", start, end) == 0
    runner.drain()
    assert sorted(value[0][11:13] for value in calls(triggered.hourly)) == ["10", "11", "12", "13"]
    assert all(last is None or last < at for at, last in calls(triggered.hourly)), "no later tick came before"
    app.trigger.backfill("hourly.hourly", start, start, again=True)
    runner.drain()
    assert sorted(value[0][11:13] for value in calls(triggered.hourly)) == ["10", "10", "11", "12", "13"]


def test_a_backfill_needs_a_schedule_and_time_zones(runner: InlineRunner) -> None:
    with pytest.raises(TriggerError, match="no schedule"):
        app.trigger.backfill("paid.trigger1", NOON, NOON)
    with pytest.raises(TriggerError, match="need a time zone"):
        app.trigger.backfill("hourly.hourly", datetime(2026, 1, 1), NOON)
    with pytest.raises(TriggerError, match="ends before it begins"):
        app.trigger.backfill("hourly.hourly", NOON, NOON - timedelta(seconds=1))


# -- composites ------------------------------------------------------------------------------------------------------------
def test_all_of_several_within_a_window(runner: InlineRunner) -> None:
    emit("left", n=1)
    runner.drain()
    assert reasons("joined.trigger1") == ["waits for event right"]
    runner.advance(50)
    emit("right", n=2)
    runner.drain()
    assert calls(triggered.joined) == [[1, 2]]
    emit("right", n=3)
    runner.drain()
    assert calls(triggered.joined) == [[1, 2]], "a cause is used once"
    runner.advance(61)
    emit("left", n=4)
    runner.drain()
    assert reasons("joined.trigger1")[-1] == "the causes lie too far apart"
    emit("right", n=5)
    runner.drain()
    assert calls(triggered.joined) == [[1, 2], [4, 5]]


def test_a_tick_counts_from_its_own_time(runner: InlineRunner) -> None:
    runner.advance(minutes(61))
    emit("open")
    runner.drain()
    assert calls(triggered.opened) == [["2026-03-02T13:00:00+00:00", None]]
    runner.advance(minutes(65))
    emit("open")
    runner.drain()
    assert len(calls(triggered.opened)) == 1


def test_any_within_all(runner: InlineRunner) -> None:
    emit("one", n=1)
    runner.advance(1)
    emit("two", n=2)
    runner.drain()
    assert calls(triggered.nested) == []
    emit("base", n=3)
    runner.drain()
    assert calls(triggered.nested) == [[2, 3]]


def test_a_cause_that_was_purged_does_not_stop_a_trigger(runner: InlineRunner) -> None:
    triggered.work(77)
    runner.drain()
    assert reasons("released.trigger1") == ["waits for event release"]
    runner.advance(1)
    app.store.purge(Purge(ended_before=runner.clock.now()))
    emit("release", n=1)
    runner.drain()
    assert "holds no more" in reasons("released.trigger1")[-1]
    triggered.work(77)
    runner.drain()
    assert calls(triggered.released) == [[77, 770]]


# -- limits --------------------------------------------------------------------------------------------------------------
def test_a_debounce_fires_for_the_last_cause_of_each_key(runner: InlineRunner) -> None:
    for second in range(5):
        emit("typed", n=1, at=second)
        runner.advance(4)
    emit("typed", n=2)
    runner.advance(5)
    assert calls(triggered.quiet) == []
    runner.advance(20)
    assert sorted(calls(triggered.quiet)) == [1, 2]
    assert reasons("quiet.trigger1").count("a later cause came") == 4


def test_a_throttle_lets_so_many_pass_for_each_key(runner: InlineRunner) -> None:
    for _ in range(4):
        emit("rung", n=1)
    emit("rung", n=2)
    runner.drain()
    assert sorted(calls(triggered.limited)) == [1, 1, 2]
    assert reasons("limited.trigger1").count("at most 2 in 60 s per value") == 2
    runner.advance(61)
    emit("rung", n=1)
    runner.drain()
    assert sorted(calls(triggered.limited)) == [1, 1, 1, 2]


@on_each_store
@pytest.mark.parametrize(
    "task", [triggered.joined, triggered.quiet, triggered.limited], ids=["join", "debounce", "throttle"]
)
def test_what_was_decided_with_a_state_is_kept_before_it_is_submitted(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    """A firing that dies in between is carried out by its next attempt, whatever the state is then."""
    send, died = Submitter.send, []

    def die_first(self: Submitter, rows: list[Any]) -> Any:
        if any(row.task == task.task_id.key for row in rows) and not died:
            died.append(rows[0].id)
            raise GivenUp
        return send(self, rows)

    monkeypatch.setattr(Submitter, "send", die_first)
    for code in ("left", "right", "typed", "rung", "rung", "rung"):
        emit(code, n=1, at=0)
    runner.advance(25)
    assert len(died) == 1
    assert calls(task) == {"joined": [[1, 1]], "quiet": [1], "limited": [1, 1]}[task.func.__name__]
    trigger = f"{task.func.__name__}.trigger1"
    fired = [name for each in app.trigger.firings(trigger) for name in each["fired"]]
    assert len(fired) == len(set(fired)) == len(calls(task))
    kept = app.store.recall(state_scope(app.trigger.get(trigger).id), ["state"])["state"]
    assert b'"decided":{}' in kept


@on_each_store
def test_causes_that_have_come_together_stay_so_when_the_decision_dies(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others come before it is decided again."""
    arguments, died = Decision._arguments, []

    def die_first(self: Decision, told: Any) -> Any:
        if not died:
            died.append(self)
            raise GivenUp
        return arguments(self, told)

    monkeypatch.setattr(Decision, "_arguments", die_first)
    for number in (1, 2):
        emit("left", n=number)
        emit("right", n=number)
    runner.drain()
    assert sorted(calls(triggered.joined)) == [[1, 1], [2, 2]]


@on_each_store
def test_a_cause_that_was_noted_and_joined_is_not_noted_again(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to its note is lost, and its firing comes again when others have used it."""
    keep, lost = Decision._keep, []

    def lose_first(self: Decision, items: Any) -> None:
        keep(self, items)
        if not lost:
            lost.append(self)
            raise StoreError("the answer was lost")

    monkeypatch.setattr(Decision, "_keep", lose_first)
    emit("left", n=1)
    emit("right", n=1)
    runner.drain()
    assert calls(triggered.joined) == [[1, 1]]
    runner.advance(10)
    assert "it has been joined with others" in reasons("joined.trigger1")
    emit("right", n=2)
    runner.drain()
    assert calls(triggered.joined) == [[1, 1]]


@on_each_store
def test_a_joining_decision_that_failed_is_fired_again_by_hand(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, failed = Decision._arguments, []

    def fail_first(self: Decision, told: Any) -> Any:
        if not failed:
            failed.append(self)
            raise ValueError("the provider")
        return arguments(self, told)

    monkeypatch.setattr(Decision, "_arguments", fail_first)
    for number in (1, 2):
        emit("left", n=number)
        emit("right", n=number)
        runner.drain()
    assert calls(triggered.joined) == [[2, 2]]
    (broken,) = [each for each in app.trigger.firings("joined.trigger1") if each["status"] == "failed"]
    kept = app.store.recall(state_scope(app.trigger.get("joined.trigger1").id), ["state"])["state"]
    assert b'"decided":{}' in kept, "nothing of it is left with the others"
    app.get_invocation(broken["id"]).retry()
    runner.drain()
    assert calls(triggered.joined) == [[2, 2], [1, 1]]


# -- failures and people ---------------------------------------------------------------------------------------------------
def test_a_failing_provider_harms_nobody_and_is_fired_again_by_hand(runner: InlineRunner, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    emit("broken", n=1, mended=str(mended))
    emit("paid", country="ES", n=2)
    runner.drain()
    assert calls(triggered.paid) == [2]
    (decision,) = app.trigger.firings("broken.trigger1")
    assert (decision["status"], decision["fired"]) == ("failed", [])
    assert decision["why"] == f"{MODULE}.ShopError: the provider is broken"
    assert "in fails" in decision["traceback"]
    mended.touch()
    app.get_invocation(decision["id"]).retry()
    runner.drain()
    assert calls(triggered.broken) == [1]


@on_each_store
def test_what_was_fired_is_not_fired_again_by_a_retry(runner: InlineRunner) -> None:
    emit("paid", country="ES", n=1)
    runner.drain()
    (decision,) = app.trigger.firings("paid.trigger1")
    app.get_invocation(decision["id"]).retry()
    runner.drain()
    assert calls(triggered.paid) == [1]
    assert "had been fired already" in app.trigger.firings("paid.trigger1")[0]["why"]


@many_ticks
def test_a_tick_that_failed_is_fired_again_and_did_not_stop_the_schedule(
    runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = triggered.hourly.spec
    before, spec.binder.bind = spec.binder.bind, _refuse
    try:
        runner.advance(minutes(61))
    finally:
        spec.binder.bind = before
    assert calls(triggered.hourly) == []
    failed = next(each for each in app.trigger.firings("hourly.hourly") if each["status"] == "failed")
    runner.advance(minutes(60))
    app.get_invocation(failed["id"]).retry()
    runner.drain()
    assert sorted(value[0][11:13] for value in calls(triggered.hourly)) == ["13", "14"]


def _refuse(*_: object) -> Any:
    raise TypeError("no such argument")


@many_ticks
def test_pause_and_resume(runner: InlineRunner) -> None:
    assert app.trigger.pause("paid.trigger1") == f"{MODULE}.paid.trigger1"
    app.trigger.pause("hourly.hourly")
    emit("paid", country="ES", n=1)
    runner.advance(minutes(61))
    assert calls(triggered.paid) == calls(triggered.hourly) == []
    assert reasons("paid.trigger1") == ["the trigger is paused"]
    assert app.trigger.get("paid.trigger1").is_paused
    app.trigger.resume("paid.trigger1")
    app.trigger.resume("hourly.hourly")
    emit("paid", country="ES", n=2)
    runner.advance(minutes(60))
    assert calls(triggered.paid) == [2]
    assert [value[0][11:13] for value in calls(triggered.hourly)] == ["14"]


def test_fire_by_hand(runner: InlineRunner) -> None:
    app.trigger.pause("paid.trigger1")
    firing = app.trigger.fire("paid.trigger1", {"value": "by hand"})
    app.trigger.fire(f"{MODULE}.even.trigger2")
    runner.drain()
    assert calls(triggered.paid) == ["by hand"]
    assert calls(triggered.even) == ["static"]
    assert app.trigger.decision(firing)["fired"]


def test_triggers_are_found_by_a_part_of_their_name(runner: InlineRunner) -> None:
    assert app.trigger.get(triggered.hourly.task_id.key).id == f"{MODULE}.hourly.hourly"
    with pytest.raises(TriggerError, match=r"several triggers .*even\.trigger1, .*even\.trigger2"):
        app.trigger.get("even")
    with pytest.raises(TriggerError, match="no trigger is called 'x'"):
        app.trigger.get("x")


def test_a_trigger_is_listed_with_its_next_tick(runner: InlineRunner) -> None:
    listed = {each.id.removeprefix(f"{MODULE}."): each for each in app.trigger.list()}
    assert listed["hourly.hourly"].next_tick / 1e6 == datetime(2026, 3, 2, 13, tzinfo=UTC).timestamp()
    assert listed["joined.trigger1"].condition == "(event left and event right) within 60 s"
    assert listed["paid.trigger1"].arguments == (f"event: {MODULE}.from_event",)


# -- definitions -----------------------------------------------------------------------------------------------------------
@many_ticks
def test_a_trigger_that_its_task_has_lost_is_gone(runner: InlineRunner, without: Callable[[str], None]) -> None:
    for task in ("paid", "ended", "hourly"):
        without(task)
    app.trigger.declare()
    emit("paid", country="ES", n=1)
    triggered.work(5)
    runner.advance(minutes(61))
    assert calls(triggered.paid) == calls(triggered.ended) == calls(triggered.hourly) == []
    assert calls(triggered.returned) == [[5, 50]]
    gone = {each.id.removeprefix(f"{MODULE}.") for each in app.trigger.list() if each.is_gone}
    assert gone == {"paid.trigger1", "ended.trigger1", "hourly.hourly"}


def test_a_trigger_that_comes_back_is_declared_again(
    runner: InlineRunner, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("paid")
    app.trigger.declare()
    monkeypatch.undo()
    app.trigger.declare()
    emit("paid", country="ES", n=1)
    runner.drain()
    assert calls(triggered.paid) == [1]
    assert not app.trigger.get("paid.trigger1").is_gone


def test_a_trigger_that_another_version_took_back_is_declared_again(
    runner: InlineRunner, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        for key in [key for key in app._firing_tasks if ".paid." in key]:
            other.delitem(app._firing_tasks, key)
            other.delitem(app._by_key, key)
        app.trigger.declare()  # as a runner does that starts with older code
        assert app.trigger.get("paid.trigger1").is_gone
    emit("paid", country="ES", n=1)
    runner.drain()
    assert len(calls(triggered.paid)) == 1, "who knows the trigger has it fired"
    app.trigger.renew()
    assert not app.trigger.get("paid.trigger1").is_gone


def test_after_a_purge_events_and_changes_go_on(runner: InlineRunner) -> None:
    app.purge()
    emit("paid", country="ES", n=1)
    triggered.work(5)
    runner.drain()
    assert calls(triggered.paid) == [1]
    assert calls(triggered.returned) == [[5, 50]]


def test_decisions_are_removed_by_retention(runner: InlineRunner) -> None:
    emit("paid", country="FR", n=1)
    runner.drain()
    assert len(app.trigger.firings("paid.trigger1")) == 1
    runner.clock.advance(app.conf.trigger_ttl + 1)
    app.store.purge(Purge())
    assert app.trigger.firings("paid.trigger1") == ()


def test_triggers_with_signed_values(runner: InlineRunner) -> None:
    url = app.conf.store
    app.close()
    before, app.conf.signing_keys = app.conf.signing_keys, (b"secret",)
    try:
        with InlineRunner(app, runner.clock) as signed:
            emit("paid", country="ES", n=1)
            emit("left", n=1)
            emit("right", n=2)
            triggered.work(5)
            signed.drain()
            assert (calls(triggered.paid), calls(triggered.joined)) == ([1], [[1, 2]])
            assert calls(triggered.returned) == [[5, 50]]
    finally:
        app.conf.signing_keys = before
        app.conf.store = url


def test_development_mode_fires_at_once(tmp_path: Path) -> None:
    app.conf.dev_mode_force_sync_tasks = True
    try:
        emit("paid", country="ES", n=1)
        triggered.work(5)
        assert calls(triggered.paid) == [1]
        assert calls(triggered.returned) == [[5, 50]]
        assert calls(triggered.hourly) == []
    finally:
        app.conf.dev_mode_force_sync_tasks = False
        app.close()


def test_firings_are_found_like_any_invocation(runner: InlineRunner, without: Callable[[str], None]) -> None:
    emit("paid", country="ES", n=1)
    runner.drain()
    without("paid")
    app._unknown.clear()
    (decision,) = app.find_invocations(tasks=f"pynenc.trigger.{MODULE}.paid.trigger1")
    assert decision.result["fired"]
    assert decision.arguments.kwargs["kind"] == "event"
    assert app.get_invocation(decision.invocation_id).task.task_id.func_name == "trigger1"


@on_each_store
def test_what_another_process_has_purged_is_declared_again(runner: InlineRunner) -> None:
    emit("paid", country="ES", n=1)
    while app.store.purge(Purge(everything=True)).more:
        pass
    emit("paid", country="ES", n=2)
    runner.drain()
    assert calls(triggered.paid) == [2]


def test_a_definition_that_cannot_be_read_stops_no_other_and_is_mended(
    runner: InlineRunner, caplog: pytest.LogCaptureFixture
) -> None:
    app.trigger.declare()
    names = [each.id for each in app.trigger.list()]
    event = next(each.id for each in app.trigger.list() if "even" in each.condition)
    app.store.remember(DEFINITIONS, {event: b"{{{", "of.nobody": b"[]"})
    app.store.remember(events_scope("even"), {event: b"{{{"})
    runner.drain()
    assert [each.id for each in app.trigger.list()] == [name for name in names if name != event]
    assert [each.id for each in app.trigger.list()] == [name for name in names if name != event]
    told = [record.getMessage() for record in caplog.records if "the definition of trigger" in record.getMessage()]
    assert len(told) == 2
    assert all(name in " ".join(told) for name in (event, "of.nobody"))
    app.trigger.emit_event("even", 2)
    app.trigger.declare()
    assert [each.id for each in app.trigger.list()] == names
