"""What travels: large and secret arguments, limits, signatures; hooks, names and logs; use from threads and after fork."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pynenc import Pynenc, Secret
from pynenc.exceptions import SerializationError, TaskFailedError
from pynenc.task import prepare_arguments
from tests.integration.apps import basic
from tests.integration.conftest import LONG, configured, eventually, running, url_of


def blobs_of(app: Pynenc, *calls: object) -> set[str]:
    """The blobs that the rows of some calls refer to."""
    rows = app.store.get([call.invocation_id for call in calls])  # type: ignore[attr-defined]
    return {key for row in rows for key in row.blobs}


@pytest.fixture
def conf_of(app: Pynenc) -> Iterator[Callable[..., None]]:
    """Assigns settings of the app for one test."""
    before: dict[str, object] = {}

    def assign(**settings: object) -> None:
        for name, value in settings.items():
            before.setdefault(name, getattr(app.conf, name))
            setattr(app.conf, name, value)

    yield assign
    for name, value in before.items():
        setattr(app.conf, name, value)


# -- arguments -------------------------------------------------------------------------------------------------------------
def test_a_large_argument_is_stored_once(app: Pynenc) -> None:
    text = f"{os.urandom(8).hex()}" * 50_000
    group = basic.measure.parallelize([{"index": i} for i in range(20)], {"text": text})
    alone = basic.measure(text, 20)
    assert group.get_results(LONG) == [len(text) + i for i in range(20)]
    assert alone.get_result(LONG) == len(text) + 20
    assert len(blobs_of(app, *group, alone)) == 1
    assert alone.arguments.kwargs["text"] == text


def test_an_argument_can_be_kept_out_of_the_data_store(app: Pynenc) -> None:
    text = "abc" * 100_000
    call = basic.measure_inline(text)
    assert call.get_result(LONG) == len(text)
    assert blobs_of(app, call) == set()


def test_sizes_have_limits(idle_app: Pynenc) -> None:
    before = idle_app.conf.max_arguments
    idle_app.conf.max_arguments = 100_000
    idle_app.close()
    try:
        with pytest.raises(SerializationError, match="max_arguments"):
            basic.measure_inline("x" * 200_000)
        assert idle_app.orchestrator.count_invocations() == 0
    finally:
        idle_app.conf.max_arguments = before


def test_a_result_that_is_too_large_is_an_error_of_the_task(tmp_path: Path) -> None:
    with configured(url_of("sqlite", tmp_path)) as app:
        before = app.conf.max_result
        app.conf.max_result = 10_000
        try:
            with running(app), pytest.raises(SerializationError, match="max_result"):
                basic.big_result(20_000).get_result(LONG)
        finally:
            app.conf.max_result = before


def test_payloads_are_signed_with_keys_and_others_are_refused(tmp_path: Path) -> None:
    with configured(url_of("sqlite", tmp_path)) as app:
        unsigned = basic.add(1, 2).invocation_id
        app.close()
        app.conf.signing_keys = ("new", "old")
        try:
            signed = basic.add(3, 4)
            with running(app):
                assert signed.get_result(LONG) == 7
                forged = app.get_invocation(unsigned)
                assert forged.wait(LONG)
                assert forged.status == "failed"
            app.close()
            app.conf.signing_keys = ("newer", "new")
            assert app.get_invocation(signed.invocation_id).get_result(1) == 7
        finally:
            app.conf.signing_keys = ()


def test_secrets_and_redacted_arguments_are_not_shown(
    app: Pynenc, caplog: pytest.LogCaptureFixture, conf_of: Callable[..., None]
) -> None:
    conf_of(redact=("iban",))
    call = basic.with_pin("pin-12345", "iban-12345", "ana")
    with pytest.raises(basic.ShopError, match="ana failed"):
        call.get_result(LONG)
    secret = basic.with_secret(Secret("pass-12345"))
    assert secret.get_result(LONG) == "pass-12345"
    assert secret.arguments.kwargs["password"] == Secret("pass-12345")
    bound = basic.with_pin.args("pin-12345", "iban-12345", "ana")
    (prepared,) = prepare_arguments(basic.with_pin, [("pin-12345", "iban-12345", "ana")])
    arguments = f"{call.arguments!r} {bound!r} {prepared!r} {secret.arguments!r} {pickle.loads(pickle.dumps(bound))!r}"
    shown = f"{arguments} {call!r} {call.traceback} {caplog.text}"
    assert "-12345" not in shown
    assert arguments.count("pin=***, iban=***, user='ana'") == 4
    assert '"card":{"PIN":"***"}' in basic.logs_a_pin("pin-12345").get_result(LONG)


# -- names and hooks -------------------------------------------------------------------------------------------------------
def test_a_former_name_still_runs(app: Pynenc) -> None:
    from pynenc.core.records import New

    payload = app.engine.codec.encode(basic.new_name.spec, {"x": 4}).payload
    row = New(id=os.urandom(16).hex(), task="tests.integration.apps.basic.old_name", args=payload)
    app.store.submit([row])
    assert app.get_invocation(row.id).get_result(LONG) == 5


@pytest.mark.parametrize("task", ["nowhere.at_all", "tests.integration.apps.broken.task"], ids=["unknown", "broken"])
def test_a_row_of_an_unknown_task_is_parked_and_explained(app: Pynenc, task: str) -> None:
    from pynenc.core.records import UNKNOWN_TASK, New

    row = New(id=os.urandom(16).hex(), task=task, args=b"{}")
    app.store.submit([row])
    eventually(lambda: app.store.get([row.id])[0].reason == UNKNOWN_TASK, "a runner looked at it")
    assert basic.add(1, 1).get_result(LONG) == 2
    assert not app.store.get([row.id])[0].status.is_final()


@pytest.mark.parametrize("app", ["memory-threads", "sqlite-threads"], indirect=True)
def test_hooks_see_the_life_of_tasks(app: Pynenc, tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []
    app.on("before_task", lambda inv: seen.append(("before", inv.invocation_id, basic.add.invocation == inv)))
    app.on("after_task", lambda inv: seen.append(("after", inv.invocation_id)))
    app.on("on_failure", lambda inv, error: seen.append(("failure", inv.invocation_id, str(error))))
    app.on("before_task", lambda _: 1 / 0)
    try:
        good, bad = basic.add(1, 2), basic.fail("no stock")
        retried = basic.flaky(str(tmp_path / "witness"), 1)
        assert good.get_result(LONG) == 3
        assert bad.wait(LONG)
        assert retried.wait(LONG)
    finally:
        for hooks in app.hooks._hooks.values():
            hooks.clear()
        app.hooks.around_tasks = False
    assert [event for event in seen if event[1] == good.invocation_id] == [
        ("before", good.invocation_id, True),
        ("after", good.invocation_id),
    ]
    assert [event[0] for event in seen if event[1] == bad.invocation_id] == ["before", "after", "failure"]
    assert [event[0] for event in seen if event[1] == retried.invocation_id] == ["before", "after"] * 2
    assert ("failure", bad.invocation_id, "no stock") in seen
    with pytest.raises(ValueError, match="before_task"):
        app.on("before_lunch", print)


def test_hooks_see_the_life_of_workers(idle_app: Pynenc) -> None:
    seen: list[str] = []
    idle_app.on("worker_start", lambda: seen.append("start"))
    idle_app.on("worker_stop", lambda: seen.append("stop"))
    try:
        with running(idle_app):
            assert basic.add(1, 1).get_result(LONG) == 2
            assert seen == ["start"]
        assert seen == ["start", "stop"]
    finally:
        for hooks in idle_app.hooks._hooks.values():
            hooks.clear()


def test_log_lines_of_a_body_say_where_they_come_from(app: Pynenc, tmp_path: Path) -> None:
    call = basic.logs_a_line(str(tmp_path / "unused"))
    assert call.get_result(LONG) == {
        "invocation_id": call.invocation_id,
        "task": "tests.integration.apps.basic.logs_a_line",
        "attempt": 1,
        "workflow_id": call.invocation_id,
    }


# -- many users of one app -------------------------------------------------------------------------------------------------
def test_one_app_serves_many_threads(app: Pynenc) -> None:
    def work(number: int) -> list[int]:
        group = basic.add.parallelize([(number, i) for i in range(5)])
        return [*group.get_results(LONG), basic.add(number, 5).get_result(LONG)]  # type: ignore[list-item]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [[number + i for i in range(6)] for number in range(16)]


@pytest.mark.parametrize("app", ["sqlite-threads", "sqlite-multi"], indirect=True)
def test_an_app_works_after_fork(app: Pynenc, tmp_path: Path) -> None:
    assert basic.add(1, 1).get_result(LONG) == 2
    answer = tmp_path / "answer"
    child = os.fork()
    if child == 0:
        try:
            answer.write_text(str(basic.add(20, 22).get_result(LONG)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert answer.read_text() == "42"
    assert basic.add(2, 2).get_result(LONG) == 4


def test_failures_of_decoding_are_failures_of_the_task(app: Pynenc) -> None:
    from pynenc.core.records import New

    row = New(id=os.urandom(16).hex(), task="tests.integration.apps.basic.add", args=b"\xff\xfe nonsense")
    app.store.submit([row])
    eventually(lambda: app.store.get([row.id])[0].status.is_final(), "it has ended")
    with pytest.raises((SerializationError, TaskFailedError)):
        app.get_invocation(row.id).get_result(1)
    assert basic.add(1, 1).get_result(LONG) == 2


def test_threads_of_a_stopped_runner_are_gone(tmp_path: Path) -> None:
    with configured(url_of("memory", tmp_path), threads=4):
        with running(basic.app):
            assert basic.fib(6).get_result(LONG) == 8
        eventually(
            lambda: not [t for t in threading.enumerate() if t.name in ("pynenc-slot", "pynenc-loop")], "all have ended"
        )
