"""The app: parts that can be replaced, invocations found again, hooks, and what its runner does with bad results."""

import threading

import pytest

from pynenc import InvocationStatus, Pynenc
from pynenc.core.records import Filter, Page
from pynenc.exceptions import ConfigError, InvocationNotFoundError, SerializationError
from pynenc.runner import DummyRunner, MultiThreadRunner, ThreadRunner
from pynenc.runner.inline import InlineRunner
from tests.api import functions


@pytest.fixture
def app():
    """A fresh app."""
    app = Pynenc(app_id="whole", store="memory://")
    yield app
    app.close()


def drain(app):
    """Run everything that is there."""
    InlineRunner(app.engine).drain()


# -- settings --------------------------------------------------------------------------------------------------------------------
def test_settings_come_from_values_and_keywords():
    app = Pynenc({"runner": {"threads": 3}, "max_result": 5}, app_id="set", store="memory://", max_arguments=7)
    assert (app.app_id, app.conf.runner.threads, app.conf.max_result, app.conf.max_arguments) == ("set", 3, 5, 7)


def test_settings_come_from_a_file(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('app_id = "filed"\nstore = "memory://"\n[task."tests.api.functions.plus"]\nmax_retries = 4\n')
    app = Pynenc(config_filepath=str(file))
    assert app.app_id == "filed"
    assert app.task(max_retries=1)(functions.plus).conf.max_retries == 4


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({}, 8),
        ({"threads": 3}, 3),
        ({"threads": 3, "min_threads": 5}, 5),
        ({"min_threads": 2, "max_threads": 4}, 4),
    ],
)
def test_the_threads_of_a_thread_runner(app, settings, slots):
    app.conf.runner.assign(settings)
    assert ThreadRunner(app).slots() == slots


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ThreadRunner", ThreadRunner),
        ("MultiThreadRunner", MultiThreadRunner),
        ("DummyRunner", DummyRunner),
        ("tests.api.functions.OwnRunner", functions.OwnRunner),
    ],
)
def test_the_runner_class_is_a_setting(app, name, kind):
    app.conf.runner_cls = name
    assert type(app.runner) is kind
    assert app.runner is app.runner


@pytest.mark.parametrize(
    ("name", "text"), [("no.such.Runner", "cannot be imported"), ("tests.api.functions.Box", "is no BaseRunner")]
)
def test_a_wrong_runner_class_is_a_clear_error(app, name, text):
    app.conf.runner_cls = name
    with pytest.raises(ConfigError, match=text):
        app.runner  # noqa: B018


def test_what_is_assigned_later_counts(app, tmp_path):
    call = app.task(functions.plus)(1)
    assert type(app.runner) is MultiThreadRunner
    app.conf.runner_cls = "ThreadRunner"
    assert type(app.runner) is ThreadRunner
    app.conf.store = f"sqlite:///{tmp_path / 'later.db'}"
    assert app.find_invocations() == []
    app.conf.store = "memory://"
    with pytest.raises(InvocationNotFoundError):
        app.get_invocation(call.invocation_id)


def test_the_runner_can_be_set_runs_until_it_is_stopped_and_fires_hooks(app):
    seen = []
    app.on("before_task", lambda invocation: seen.append(("before", invocation.invocation_id)))
    app.on("after_task", lambda invocation: seen.append(("after", invocation.invocation_id)))
    app.on("on_failure", lambda invocation, error: seen.append((str(error), invocation.invocation_id)))
    app.runner = ThreadRunner(app)
    thread = threading.Thread(target=app.runner.run)
    good, bad = app.task(functions.plus)(1), app.task(functions.broken)()
    thread.start()
    assert good.get_result(60) == 11
    with pytest.raises(KeyError):
        bad.get_result(60)
    app.runner.stop_runner_loop()
    thread.join(60)
    assert not thread.is_alive()
    assert {("before", good.invocation_id), ("after", good.invocation_id), ("'gone'", bad.invocation_id)} <= set(seen)


def test_closing_the_app_stops_its_runner_first(app, caplog):
    app.runner = ThreadRunner(app)
    begun = threading.Event()
    app.on("worker_start", begun.set)
    for i in range(2):
        thread = threading.Thread(target=app.runner.run)
        thread.start()
        assert begun.wait(60)
        app.close()
        assert i or caplog.messages == []
        thread.join(60)
        assert not thread.is_alive()
        begun.clear()
        app.on("worker_stop", app.close)  # in the thread of the runner: it does not wait for itself


def test_an_unknown_hook_is_refused(app):
    with pytest.raises(ValueError, match="no such event 'before'"):
        app.on("before", print)


# -- invocations -------------------------------------------------------------------------------------------------------------------
def test_invocations_are_found_again(app):
    good, bad = app.task(functions.plus)(1), app.task(functions.broken)()
    drain(app)
    assert app.get_invocation(good.invocation_id) == good
    assert app.get_invocation(good.invocation_id).result == 11
    assert app.find_invocations(statuses=("failed",)) == app.find_invocations(statuses="failed") == [bad]
    with pytest.raises(ValueError, match="'bogus' is not a valid InvocationStatus"):
        app.find_invocations(statuses=("bogus",))
    assert app.find_invocations(oldest_first=True) == [good, bad]
    assert len(app.find_invocations(limit=1)) == 1
    with pytest.raises(InvocationNotFoundError, match="no invocation nope"):
        app.get_invocation("nope")


def test_purge_removes_everything(app):
    app.task(functions.measure)("a" * 300_000, 1)
    app.purge()
    assert app.store.find(Filter(), Page()).invocations == ()


def test_a_closed_app_opens_again(app):
    task = app.task(functions.plus)
    app.close()
    assert task(1).status is InvocationStatus.REGISTERED


# -- what bodies return and raise ----------------------------------------------------------------------------------------------------
def test_a_result_that_cannot_be_encoded_fails_the_invocation_and_nothing_else(app):
    bad, good = app.task(functions.unsendable)(), app.task(functions.plus)(1)
    drain(app)
    assert (bad.status, good.result) == ("failed", 11)
    with pytest.raises(SerializationError, match="the result is of type function"):
        bad.result  # noqa: B018


def test_a_result_that_is_too_large_fails_the_invocation(app):
    app.conf.max_result = 1000
    task = app.task(functions.keep_text)
    small, large = task("a" * 900), task("a" * 1100)
    drain(app)
    assert small.result == "a" * 900
    with pytest.raises(SerializationError, match="'max_result' allows"):
        large.result  # noqa: B018


def test_invocations_travel_as_arguments_and_results(app):
    first = app.task(functions.plus)(1)
    second = app.task(functions.hand_on)(first)
    drain(app)
    assert second.result == first
    assert second.result.result == 11


def test_an_invocation_of_another_app_is_refused(app):
    other = Pynenc(app_id="another", store="memory://")
    with pytest.raises(SerializationError, match="belongs to app 'another'"):
        app.task(functions.hand_on)(other.task(functions.plus)(1))
