"""What holds when a body runs again, and what is said when it does something else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from pynenc.cli.main import cli
from pynenc.core.records import Beat, ClaimRequest
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import NonDeterminismError
from pynenc.testing import InlineRunner
from pynenc.workflow import check
from tests.workflows.apps import shop

DAY = 24 * 3600


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InlineRunner]:
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    shop.app.close()
    shop.app.conf.store = f"sqlite:///{tmp_path / 'wf.db'}"
    with InlineRunner(shop.app) as runner:
        yield runner
        assert shop.app.store.check() == []
    shop.app.conf.store = "memory://"


@pytest.fixture
def done(tmp_path: Path):
    return lambda: (tmp_path / "witness").read_text().split()


# -- determinism --------------------------------------------------------------------------------------------------------------
def test_another_operation_is_named_with_its_line(runner, monkeypatch):
    invocation = shop.changing()
    runner.drain()
    monkeypatch.setattr(shop, "MODE", "other")
    with pytest.raises(NonDeterminismError) as raised:
        runner.result(invocation)
    text = str(raised.value)
    assert "'step refuse'" in text
    assert "'sleep'" in text
    line = next(n for n, text in enumerate(Path(shop.__file__).read_text().split("\n"), 1) if "unheard of" in text)
    assert f"shop.py:{line}" in text


def test_patched_keeps_the_old_way_for_runs_that_went_it(runner, monkeypatch, done):
    old = shop.changing()
    runner.drain()
    monkeypatch.setattr(shop, "MODE", "patched")
    new = shop.changing()
    runner.drain()
    assert (runner.result(old), runner.result(new)) == ("patched", "patched")
    assert done() == ["double", "1", "double", "1", "double", "2", "double", "3", "double", "3"]
    monkeypatch.setattr(shop, "MODE", "old")
    last = shop.changing()
    runner.drain()
    assert runner.result(last) == "old"


def test_random_and_uuid_are_the_same_again_and_differ_between_runs(runner):
    one, other = shop.draws(), shop.draws()
    first, second = runner.result(one), runner.result(other)
    assert len(set(map(str, [*first[:5], *second[:5]]))) == 10
    records = shop.app.store.recall(f"{one.invocation_id}/0")
    assert sorted(records) == ["00000001", "00000002"]
    assert one.retry()
    assert runner.result(one)[:5] != first[:5]


def test_lines_are_not_told_again(runner, caplog):
    with caplog.at_level(logging.WARNING):
        invocation = shop.talks()
        runner.drain()
        runner.advance(11)
        runner.advance(60)
    assert invocation.status is InvocationStatus.SUCCESS
    lines = [record.message for record in caplog.records if record.name.startswith("pynenc.")]
    assert lines == ["begin", "after the step", "after the sleep", "before the result", "end"]


def test_data_is_shared_by_the_members(runner):
    assert runner.result(shop.shares()) == ["nothing", "root", "child"]


def test_swallowed_suspension_is_no_end(runner, done):
    assert runner.result(shop.swallower()) == "slept"
    assert done() == ["swallowed"]


def test_replay_reads_twice_whatever_its_length(runner):
    shop.app.close()
    with InlineRunner(shop.app) as again:
        invocation = shop.long_flow(50)
        again.drain()
        store, reads = shop.app.store, []

        def counted(name):
            method = getattr(store, name)

            def call(*args):
                if args[0]:  # the runner asks for the finals of nothing
                    reads.append(name)
                return method(*args)

            return call

        store.recall, store.finals = counted("recall"), counted("finals")
        again.advance(20)
        assert invocation.status is InvocationStatus.SUCCESS
        assert reads == ["recall", "finals"]
        del store.recall, store.finals


# -- histories against today's code ---------------------------------------------------------------------------------------------
FLOWS = [
    lambda: shop.changing(),
    lambda: shop.survivor(),
    lambda: shop.catches(),
    lambda: shop.races(),
    lambda: shop.impatient(),
    lambda: shop.saga(["one", "two"]),
    lambda: shop.gathers(),
    lambda: shop.calls(),
    lambda: shop.main_wf_task({"approval": True}),
    lambda: shop.cuts_a_branch(),
    lambda: shop.second_try(),
]


@pytest.mark.parametrize("flow", FLOWS)
def test_histories_repeat_at_each_point(runner, flow, done):
    invocation = flow()
    for _ in range(30):
        runner.drain()
        work = done() if (Path(runner.app.store.path).parent / "witness").exists() else []
        story = check.read_story(check.write_story(check.tell(shop.app.engine, invocation.invocation_id)))
        verdict = check.check(shop.app.scratch_engine(), story)
        assert (verdict.problem, verdict.id) == ("", invocation.invocation_id)
        if work:
            assert done() == work
        if invocation.done():
            assert verdict.ended
            assert verdict.operations == len(
                [r for r in story.records.values() if r.kind not in ("mark", "failing", "begun")]
            ) - (2 if story.task.endswith("saga") else 0)
            return
        if shop.app.engine.get(invocation.invocation_id).reason in ("Waiting for approval", "ok?"):
            invocation.resume("fine")
        invocation.signal("go", 1)
        runner.advance(1000)
    pytest.fail("it does not end")


def test_a_branch_that_is_not_cancelled_any_more_is_compared(runner, monkeypatch):
    invocation = shop.cuts_a_branch()
    assert runner.result(invocation) == "cut"
    story = check.tell(shop.app.engine, invocation.invocation_id)
    for mode in ("other", "none"):
        monkeypatch.setattr(shop, "MODE", mode)
        assert "'step" in check.check(shop.app.scratch_engine(), story).problem


def test_a_history_of_a_run_that_goes_back_to_be_compensated_repeats(runner):
    invocation = shop.saga(["flight"])
    runner.drain()
    store = shop.app.store
    engine, row = shop.app.engine, shop.app.engine.get(invocation.invocation_id)
    story = replace(check.tell(engine, row.id), status="registered")
    assert story.records["c/00000000"].kind == "failing"
    assert check.check(shop.app.scratch_engine(), story).problem == ""
    assert store.check() == []


def test_changed_code_is_found(runner, monkeypatch):
    invocation = shop.changing()
    runner.drain()
    story = check.tell(shop.app.engine, invocation.invocation_id)
    monkeypatch.setattr(shop, "MODE", "other")
    assert "'step refuse'" in check.check(shop.app.scratch_engine(), story).problem
    monkeypatch.setattr(shop, "MODE", "patched")
    assert check.check(shop.app.scratch_engine(), story).problem == ""


def test_missing_operations_are_found(runner, monkeypatch):
    invocation = shop.changing()
    assert runner.result(invocation) == "old"
    story = check.tell(shop.app.engine, invocation.invocation_id)
    monkeypatch.setattr(shop.app.tasks[shop.changing.task_id], "func", lambda: shop.changing.wf.step(shop.double, 1))
    monkeypatch.setattr(shop.changing, "_spec", None)
    assert "are not made any more" in check.check(shop.app.scratch_engine(), story).problem


# -- the command line -----------------------------------------------------------------------------------------------------------
def run(*words: str) -> tuple[int, str]:
    from click.testing import CliRunner

    result = CliRunner().invoke(cli, ["--app", "tests.workflows.apps.shop", "workflows", *words])
    return result.exit_code, result.output


def why(invocation):
    from click.testing import CliRunner

    from pynenc.cli.main import cli

    words = ["--app", "tests.workflows.apps.shop", "invocations", "why", invocation.invocation_id]
    return CliRunner().invoke(cli, words).output


def test_command_line(runner, tmp_path, monkeypatch):
    paused, listening = shop.asks(), shop.listens(None)
    slept = shop.changing()
    runner.drain()
    code, text = run("list", "--json")
    assert code == 0
    assert {row["id"] for row in json.loads(text)} == {i.invocation_id for i in (paused, listening, slept)}
    code, text = run("list")
    assert "first?" in text
    assert "waits for signal a" in text
    assert f"\nlet it go on: pynenc workflows resume {paused.invocation_id} VALUE\n" in why(paused)
    assert f"\nsend it: pynenc workflows signal {listening.invocation_id} a VALUE\n" in why(listening)
    assert run("resume", paused.invocation_id, '{"a": 1}') == (0, f"{paused.invocation_id} goes on\n")
    assert run("resume", paused.invocation_id)[0] == 1
    answer = f"{listening.invocation_id} has got signal a\n"
    assert run("signal", listening.invocation_id, "a", "99.5") == (0, answer)
    runner.drain()
    code, text = run("show", paused.invocation_id)
    assert "pause" in text
    operations = json.loads(run("show", listening.invocation_id, "--json")[1])["operations"]
    assert [(each["operation"], each["value"]) for each in operations] == [
        ("wait_signal", 99.5),
        ("wait_signal b", "waits"),
    ]
    operations = json.loads(run("show", paused.invocation_id, "--json")[1])["operations"]
    assert operations[0]["value"] == {"a": 1}
    path = tmp_path / "history.json"
    assert run("replay", slept.invocation_id, "--save", str(path)) == (
        0,
        f"tests.workflows.apps.shop.changing {slept.invocation_id}: as recorded, 2 operation(s)\n",
    )
    assert run("replay", str(path), slept.invocation_id)[0] == 0
    monkeypatch.setattr(shop, "MODE", "other")
    code, text = run("replay", str(path))
    assert code == 4
    assert "recorded is 'sleep'" in text
    assert json.loads(run("replay", str(path), "--json")[1])[0]["operations"] == 2
    assert run("cancel", paused.invocation_id, "--yes") == (0, "1 of 1 accepted\n")
    assert paused.status is InvocationStatus.CANCELLED


def test_the_command_line_shows_calls_with_what_became_of_them(runner):
    invocation = shop.saga(["flight"])
    with pytest.raises(ValueError, match="payment"):
        runner.result(invocation)
    (child,) = shop.app.find_invocations(tasks=(shop.undo.task_id.key,))
    text = run("show", invocation.invocation_id)[1]
    assert f"{child.invocation_id} success" in text
    assert "raised ValueError: payment" in text
    operations = json.loads(run("show", invocation.invocation_id, "--json")[1])["operations"]
    (call,) = [each for each in operations if each["operation"] == "execute_task"]
    assert call["children"] == [{"id": child.invocation_id, "status": "success", "value": call["value"]}]
    assert [each["value"] for each in operations if each["operation"] == "step"] == [12, "ValueError: payment"]
    assert [each["value"] for each in operations if each["operation"] == "failing"] == ["ValueError: payment"]


# -- bodies that wake up too late ---------------------------------------------------------------------------------------------
def test_a_body_of_an_earlier_round_changes_nothing(runner, monkeypatch):
    """It stood still between two durable operations, longer than its lease; others ended the run meanwhile."""
    invocation = shop.rounds(3)
    engine, store = shop.app.engine, shop.app.store
    store.heartbeat([Beat(id="late", group="late", lease=10**9, tasks=(shop.rounds.task_id.key,))])
    (claimed,) = store.claim(ClaimRequest("late", 1)).batch

    def others_go_on() -> None:
        monkeypatch.setattr(shop, "MEANWHILE", bool)
        store.retire(["late"])
        others = Thread(target=runner.drain)
        others.start()
        others.join()

    monkeypatch.setattr(shop, "MEANWHILE", others_go_on)
    late = engine.executor.run(claimed, engine.executor.running(claimed, "late", None))
    assert (late.status, late.reason) == ("registered", "another attempt owns it")
    assert store.finish("late", [late]).lost == (claimed.id,)
    assert runner.result(invocation) == 3
    scope = f"{claimed.id}/state"
    assert engine.codec.decode_value(store.recall(scope)["state"], scope, "state") == 3
    assert [store.recall(f"{claimed.id}/{number}") for number in (0, 1)] == [{}, {}]
