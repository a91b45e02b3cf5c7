"""``pynenc.task`` as its founding page describes it: identity, options, calling, and development mode."""

import asyncio
import logging
import os
import pickle
import subprocess
import sys
from importlib import import_module, reload
from pathlib import Path
from types import FunctionType
from typing import Generic

import pytest

from pynenc import Pynenc, RetryError, Task
from pynenc.arguments import Arguments
from pynenc.call import Call, PreSerializedCall
from pynenc.conf.config_task import ConfigTask
from pynenc.exceptions import ConfigError, InvalidTaskOptionsError, SerializationError, TaskError
from pynenc.identifiers.task_id import TaskId
from pynenc.invocation import BaseInvocation, ConcurrentInvocation, DistributedInvocation
from pynenc.runner.inline import InlineRunner
from pynenc.task import WorkflowTask, _extract_task_from_wrapper
from tests.api import functions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def app():
    """A fresh app."""
    app = Pynenc(app_id="api", store="memory://")
    yield app
    app.close()


@pytest.fixture
def dev():
    """A fresh app in development mode."""
    app = Pynenc(app_id="dev", store="memory://", dev_mode_force_sync_tasks=True)
    yield app
    app.close()


def drain(app):
    """Run everything that is there."""
    InlineRunner(app.engine).drain()


def python(code, **environment):
    """What another process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- making ----------------------------------------------------------------------------------------------------------------------
def test_a_task_can_be_made_directly(app):
    task = Task(app, functions.plus, {"max_retries": 3})
    assert Generic in Task.__mro__
    assert (task.app, task.func, dict(task.options)) == (app, functions.plus, {"max_retries": 3})
    assert task.task_id == TaskId("tests.api.functions", "plus")
    assert task.task_id not in app.tasks


def test_the_decorator_works_bare_and_with_options(app):
    assert type(app.task(functions.plus)) is Task
    assert app.task(max_retries=5)(functions.plus).conf.max_retries == 5
    workflow = app.workflow(functions.measure)
    assert isinstance(workflow, WorkflowTask)
    assert workflow.conf.force_new_workflow is True
    assert set(app.tasks) == {TaskId("tests.api.functions", "plus"), TaskId("tests.api.functions", "measure")}


def test_functions_of_main_are_refused():
    code = """
from pynenc import Pynenc
app = Pynenc(app_id="main", store="memory://")
try:
    @app.task
    def task(): ...
except RuntimeError as error:
    print(error)
"""
    assert python(code).startswith("task is defined in __main__")


def test_functions_that_no_runner_can_import_are_refused(app):
    def nested(): ...

    for function in (nested, lambda: None, functions.Shim.__init__):
        with pytest.raises(ValueError, match="top level of a module"):
            app.task(function)


@pytest.mark.parametrize("decorator", ["task", "workflow", "direct_task"])
def test_only_functions_become_tasks(app, decorator):
    decorate = getattr(app, decorator)
    for wrong in (5, "name", int, functions.Box):
        with pytest.raises(TypeError, match="a task is made of a function, not of"):
            decorate(wrong)
    for task in (app.task(functions.plus), app.direct_task(functions.total)):
        with pytest.raises(TypeError, match="is a task already"):
            decorate(task)


def test_parameters_may_have_any_name(dev):
    task = dev.task(functions.owner)
    assert task.args(self="a").kwargs == {"self": "a", "fn": 0, "task": 0}
    assert task(self="a", fn=1, task=2).result == "a 1 2"
    assert task.options(priority=1)(self="a").result == "a 0 0"
    assert asyncio.run(task.async_call(self="a")).result == "a 0 0"
    assert asyncio.run(task.options(priority=1).async_call(self="a")).result == "a 0 0"


def test_all_invalid_options_are_listed_with_the_nearest_valid_name(app):
    with pytest.raises(InvalidTaskOptionsError) as caught:
        app.task(max_retires=1, max_retries=2, queu="x", nonsense=3)(functions.plus)
    assert caught.value.invalid == ("max_retires", "queu", "nonsense")
    assert caught.value.task_id == "tests.api.functions.plus"
    assert isinstance(caught.value, TaskError)
    for text in ("'max_retires' (did you mean 'max_retries'?)", "'queu' (did you mean 'queue'?)", "'nonsense'"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("key_arguments", "z"), ("key_arguments", "*"), ("disable_cache_args", "z"), ("redact", "z"), ("redact", "*")],
)
def test_options_that_name_arguments_name_some_that_there_are(app, option, wrong):
    right = app.task(registration_concurrency="keys", **{"key_arguments": ["x"], option: ["x", "y"]})(functions.plus)
    assert getattr(right.conf, option) == ("x", "y")
    with pytest.raises(
        ConfigError, match=rf"'{option}' \(decorator of tests.api.functions.plus\) names '.', which is no"
    ):
        app.task(**{option: ["x", wrong]})(functions.plus)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "billing.pay"}, {"name": "billing.pay"}),
        ({"name": "billing.pay"}, {"aliases": ("billing.pay",)}),
        ({"aliases": ("billing.pay",)}, {"name": "billing.pay"}),
        ({"aliases": ("billing.pay",)}, {"aliases": ("billing.pay",)}),
    ],
)
def test_a_task_does_not_take_the_name_of_another_function(dev, first, second):
    plus = dev.task(**first)(functions.plus)
    with pytest.raises(ConfigError, match=r"functions.measure cannot be .* 'billing.pay', which is .*functions.plus"):
        dev.task(**second)(functions.measure)
    assert dev.get_task("billing.pay") is plus
    assert list(dev.tasks.values()) == [plus]


def test_a_function_that_is_defined_again_keeps_or_gives_up_its_names(dev):
    dev.task(name="stable", aliases=("old", "older"))(functions.plus)
    again = FunctionType(functions.measure.__code__, {}, "plus")
    again.__module__, again.__qualname__ = functions.plus.__module__, "plus"
    task = dev.task(name="stable", aliases=("old",))(again)
    assert dev.get_task("old") is task
    assert task("abc", 1).result == 4
    assert dev.task(aliases=("older",))(functions.total)([1, 2]).result == 3


def test_a_module_can_be_loaded_again(dev, monkeypatch, tmp_path):
    functions.Box.current = dev
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loaded_again.py").write_text(
        "from tests.api.functions import Box\n@Box.current.task(name='loaded.again')\ndef number() -> int: return 1\n"
    )
    module = import_module("loaded_again")
    assert reload(module).number is dev.get_task("loaded.again")
    monkeypatch.delitem(sys.modules, "loaded_again")


def test_redact_may_spell_names_as_it_likes_and_name_keywords_that_are_taken(app):
    assert app.task(redact=["LARGE-data"])(functions.measure).conf.redact == ("LARGE-data",)
    assert app.task(redact=["pin"])(functions.anything).conf.redact == ("pin",)
    with pytest.raises(ConfigError, match=r"names 'indx', which is no parameter; did you mean 'index'\?"):
        app.task(redact=["indx"])(functions.measure)
    wide = Pynenc({"redact": ["pin"], "task": {"redact": ["iban"]}}, app_id="wide", store="memory://")
    assert wide.task(functions.plus).conf.redact == ("iban",)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"running_limit": 1}, "'running_limit' .*without 'running_concurrency'"),
        ({"running_limit": 1, "registration_concurrency": "task"}, "'running_limit' .*without 'running_concurrency'"),
        ({"key_arguments": ["x"]}, "'key_arguments' .*KEYS, or 'rate_limit'"),
        ({"key_arguments": ["x"], "running_concurrency": "task"}, "'key_arguments' .*KEYS, or 'rate_limit'"),
    ],
)
def test_options_without_effect_are_refused(app, options, missing):
    with pytest.raises(ConfigError, match=missing):
        app.task(**options)(functions.plus)


def test_options_have_their_effect_from_configuration_too(monkeypatch):
    limits = {"running_limit": 2, "key_arguments": ["x"]}
    plain = Pynenc({"task": limits}, app_id="plain", store="memory://")
    assert plain.task(functions.plus).conf.running_limit == 2
    wide = Pynenc({"task": {"running_concurrency": "task", "rate_limit": "1/s"}}, app_id="wide", store="memory://")
    assert wide.task(**limits)(functions.plus).conf.running_limit == 2
    monkeypatch.setenv("PYNENC__TASK__RUNNING_CONCURRENCY", "disabled")
    off = Pynenc(app_id="off", store="memory://").task(running_concurrency="keys", **limits)(functions.plus)
    assert off.conf.running_concurrency == "disabled"


def test_validate_options_looks_at_the_options_of_the_moment(app):
    task = app.task(functions.plus)
    task.validate_options()
    task.options["wrong"] = 1
    with pytest.raises(InvalidTaskOptionsError, match="wrong"):
        task.validate_options()


def test_options_become_the_configuration_which_is_assignable(app):
    task = app.task(max_retries=1)(functions.plus)
    assert isinstance(task.conf, ConfigTask)
    task.conf.max_retries = 7
    assert (task.conf.max_retries, task.spec.retry.max_retries) == (7, 7)


# -- what it knows -----------------------------------------------------------------------------------------------------------------
def test_str_and_repr(app):
    task = app.task(functions.plus)
    assert str(task) == "Task(func=plus)"
    assert repr(task) == "Task(func=plus, task_id=tests.api.functions.plus)"


def test_the_logger_is_one_of_the_task(app):
    logger = app.task(functions.plus).logger
    assert isinstance(logger, logging.Logger)
    assert logger.name == "pynenc.task.tests.api.functions.plus"


def test_retry_error_is_always_retriable(app):
    assert app.task(functions.plus).retriable_exceptions == (RetryError,)
    assert set(app.task(retry_for=(KeyError,))(functions.plus).retriable_exceptions) == {RetryError, KeyError}
    named = app.task(retry_for=("json.JSONDecodeError",))(functions.plus)
    assert {kind.__name__ for kind in named.retriable_exceptions} == {"RetryError", "JSONDecodeError"}


def test_the_invocation_is_the_one_that_runs_here(dev):
    functions.Box.current = task = dev.task(functions.who_am_i)
    invocation = task()
    assert invocation.result == invocation.invocation_id
    with pytest.raises(RuntimeError, match="no invocation runs here"):
        task.invocation  # noqa: B018


def test_workflow_data_and_identity(dev):
    functions.Box.current = task = dev.task(functions.keep)
    invocation = task({"a": 1})
    assert invocation.result == [{"a": 1}, "default", invocation.invocation_id]
    with pytest.raises(RuntimeError, match="inside a running task"):
        task.wf.identity  # noqa: B018


@pytest.mark.parametrize("key", [5, None, b"key", ("a", "b")])
def test_keys_of_workflow_data_are_text(dev, key):
    functions.Box.current = task = dev.workflow(functions.keep_under)
    for is_read in (False, True):
        with pytest.raises(TypeError, match="the key of workflow data is text, not"):
            task(key, is_read=is_read).result  # noqa: B018


def test_args_binds_names_and_applies_defaults(app):
    task = app.task(functions.plus)
    assert task.args(1) == Arguments({"x": 1, "y": 10})
    assert task.args(y=2, x=1).kwargs == {"x": 1, "y": 2}
    with pytest.raises(TypeError, match="missing 1 required"):
        task.args()


# -- identity ------------------------------------------------------------------------------------------------------------------------
def test_from_id_finds_the_registered_task(app):
    task = app.task(functions.plus)
    assert Task.from_id(app, task.task_id) is task
    assert app.get_task(task.task_id) is task
    assert app.get_task("tests.api.functions.plus") is task


def test_from_id_binds_a_new_task_to_the_given_app(app):
    found = Task.from_id(app, functions.add.task_id)
    assert found is not functions.add
    assert (found.app, functions.add.app) == (app, functions.app)
    assert (found.func, dict(found.options), found.conf.max_retries) == (
        functions.add.func,
        dict(functions.add.options),
        2,
    )
    assert Task.from_id(app, functions.add.task_id) is found
    assert functions.app.tasks[functions.add.task_id] is functions.add


def test_two_apps_with_one_function_do_not_meet(app):
    other = Pynenc(app_id="other", store="memory://")
    here, there = Task.from_id(app, functions.add.task_id), Task.from_id(other, functions.add.task_id)
    here.conf.queue = "here"
    here(1, 2)
    assert [tasks.orchestrator.count_invocations() for tasks in (app, other, functions.app)] == [1, 0, 0]
    assert there.conf.queue == functions.add.conf.queue == "default"


def test_from_id_unwraps_wrappers_and_keeps_the_kind_of_task(app):
    direct = Task.from_id(app, TaskId("tests.api.functions", "direct"))
    assert (direct.conf.queue, direct.app) == ("direct", app)
    assert Task.from_id(app, TaskId("tests.api.functions", "shim")).func is functions.add.func
    assert isinstance(Task.from_id(app, TaskId("tests.api.functions", "flow")), WorkflowTask)


def test_from_id_knows_stable_names(app):
    assert functions.renamed.task_id == TaskId("tests.api.functions", "stable_name")
    assert Task.from_id(app, functions.renamed.task_id).func is functions.renamed.func


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("no.such.module", "f", "no task no.such.module.f"),
        ("tests.api.functions", "missing", "no task tests.api.functions.missing"),
        ("tests.api.functions", "not_a_task", "is a int, not a task"),
        ("tests.api.functions", "plus", "is a function, not a task"),
    ],
)
def test_from_id_refuses_what_is_no_task(app, module, name, text):
    with pytest.raises(ValueError, match=text):
        Task.from_id(app, TaskId(module, name))


@pytest.mark.parametrize("source", ["{}['home']", "raise SystemExit(2)", "def f(:"])
def test_from_id_says_so_when_a_module_cannot_be_imported(app, monkeypatch, tmp_path, source):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "not_to_import.py").write_text(source)
    with pytest.raises(ValueError, match=r"no task not_to_import\.f: importing its module raised .*(home|2|invalid)"):
        Task.from_id(app, TaskId("not_to_import", "f"))


def test_get_from_task_id_returns_whatever_is_there():
    assert Task._get_from_task_id(TaskId("tests.api.functions", "add")) is functions.add
    assert Task._get_from_task_id(TaskId("tests.api.functions", "direct")) is functions.direct
    assert Task._get_from_task_id(TaskId("tests.api.functions", "plus")) is functions.plus


def test_tasks_are_found_in_any_wrapper():
    task = functions.add
    assert _extract_task_from_wrapper(functions.direct) is functions.direct.__pynenc_task__
    assert _extract_task_from_wrapper(functions.Shim(task)) is task
    assert _extract_task_from_wrapper(functions.SlottedShim(task)) is task
    assert _extract_task_from_wrapper(functions.Shim("no task")) is None
    assert _extract_task_from_wrapper(functions.plus) is None
    assert _extract_task_from_wrapper(3) is None


# -- travelling ----------------------------------------------------------------------------------------------------------------------
def test_tasks_are_pickled_by_app_and_id(app):
    task = app.task(functions.plus)
    assert task.__getstate__() == {"app": app, "task_id": task.task_id}
    again = pickle.loads(pickle.dumps(task))
    assert (type(again), again.app, again.task_id, again.func) == (Task, app, task.task_id, functions.plus)


def test_apps_come_back_as_themselves(app):
    assert pickle.loads(pickle.dumps(app)) is app


def test_tasks_and_apps_travel_to_other_processes(tmp_path):
    file = tmp_path / "pickle"
    app = Pynenc(app_id="travels", store="memory://", max_result=77)
    task = Task.from_id(app, functions.add.task_id)
    task.conf.queue = "assigned"
    file.write_bytes(pickle.dumps(task))
    code = f"""
import pickle, pathlib
task = pickle.loads(pathlib.Path({str(file)!r}).read_bytes())
print(task.task_id, task.app.app_id, task.app.conf.max_result, task.conf.max_retries, task.conf.queue, task.func(1, 2))
"""
    assert python(code) == "tests.api.functions.add travels 77 2 assigned 3"


def test_an_app_of_a_module_is_the_one_of_that_module_in_other_processes(tmp_path):
    file = tmp_path / "pickle"
    file.write_bytes(pickle.dumps(functions.app))
    code = f"""
import pickle, pathlib
app = pickle.loads(pathlib.Path({str(file)!r}).read_bytes())
from tests.api import functions
print(app is functions.app, len(app.tasks) > 3)
"""
    assert python(code) == "True True"


# -- calling -------------------------------------------------------------------------------------------------------------------------
def test_a_call_returns_its_invocation_at_once(app):
    invocation = app.task(functions.plus)(1)
    assert isinstance(invocation, BaseInvocation)
    assert type(invocation) is DistributedInvocation
    assert (invocation.status, invocation.arguments.kwargs) == ("registered", {"x": 1, "y": 10})
    drain(app)
    assert invocation.result == 11


def test_call_with_bound_arguments(app):
    task = app.task(functions.plus)
    invocation = task._call(task.args(1, y=5))
    drain(app)
    assert invocation.result == 6


def test_arguments_that_do_not_fit_raise_at_the_call(app):
    task = app.task(functions.plus)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        task(1, z=2)
    with pytest.raises(SerializationError, match=r"^x is of type function"):
        task(functions.plus)
    assert app.orchestrator.count_invocations() == 0


def test_async_functions_and_async_calls(app):
    task = app.task(functions.later)

    async def main():
        invocation = await task.async_call(1)
        drained = asyncio.to_thread(drain, app)
        await drained
        return await invocation.async_result()

    assert asyncio.run(main()) == 2


def test_calls_are_equal_by_task_and_arguments(app):
    plus, measure = app.task(functions.plus), app.task(functions.measure)
    call = Call(plus, plus.args(1, 2))
    assert call == Call(plus, plus.args(y=2, x=1))
    assert len({call, Call(plus, plus.args(1, 2)), Call(plus, plus.args(1, 3))}) == 2
    common = app.engine.codec.encode_common(measure.spec, {"large_data": "a" * 300_000})
    arguments = measure.args("a" * 300_000, 1)
    assert PreSerializedCall(measure, arguments, common) == Call(measure, arguments)


def test_the_orchestrator_routes_calls(app):
    plus, measure = app.task(functions.plus), app.task(functions.measure)
    one = app.orchestrator.route_call(Call(plus, plus.args(1, 2)))
    more = app.orchestrator.route_calls([Call(plus, plus.args(3, 4)), Call(measure, measure.args("abc", 1))])
    assert app.orchestrator.get_invocation_status(one.invocation_id) == "registered"
    drain(app)
    assert [invocation.result for invocation in (one, *more)] == [3, 7, 4]
    assert app.orchestrator.count_invocations(plus.task_id) == 2


# -- development mode ------------------------------------------------------------------------------------------------------------------
def test_in_development_mode_calls_run_when_they_are_made(dev):
    invocation = dev.task(functions.plus)(1, 2)
    assert type(invocation) is ConcurrentInvocation
    assert (invocation.status, invocation.result) == ("success", 3)


def test_development_mode_retries_without_waiting_and_raises_errors(dev):
    functions.attempts.clear()
    invocation = dev.task(max_retries=5, retry_delay=3600)(functions.flaky)(2)
    assert (invocation.result, invocation.num_retries) == (3, 2)
    failed = dev.task(functions.broken)()
    with pytest.raises(KeyError, match="gone"):
        failed.result  # noqa: B018


def test_development_mode_runs_async_functions_and_many_parameters(dev):
    assert dev.task(functions.later)(1).result == 2
    assert dev.task(functions.anything)(1, (2,), a={3}).result == [[1, (2,)], {"a": {3}}]


@pytest.mark.parametrize("name", ["PYNENC__DEV_MODE_FORCE_SYNC_TASKS", "PYNENC_DEV_MODE_FORCE_SYNC_TASK"])
@pytest.mark.parametrize(("value", "kind"), [("true", ConcurrentInvocation), ("0", DistributedInvocation)])
def test_the_environment_switches_development_mode(monkeypatch, name, value, kind):
    monkeypatch.setenv(name, value)
    app = Pynenc(app_id="environment", store="memory://")
    assert type(app.task(functions.plus)(1)) is kind


def test_development_mode_can_be_switched_on_the_live_app(app):
    task = app.task(functions.plus)
    assert type(task(1)) is DistributedInvocation
    app.conf.dev_mode_force_sync_tasks = True
    assert type(task(1)) is ConcurrentInvocation


# -- direct tasks ----------------------------------------------------------------------------------------------------------------------
def test_direct_tasks_hand_back_the_value(dev):
    plus = dev.direct_task(functions.plus)
    assert plus(1, y=2) == 3
    assert plus.__pynenc_task__.app is dev
    assert plus.__inner_function__ is functions.plus
    assert plus.__name__ == "plus"
    assert asyncio.run(dev.direct_task(functions.later)(1)) == 2


def test_direct_tasks_can_spread_their_calls(dev):
    total = dev.direct_task(parallel_func=functions.split, aggregate_func=sum)(functions.total)
    assert total([1, 2, 3]) == 6
    assert dev.direct_task(parallel_func=functions.split, aggregate_func=dev.task(functions.summed))(functions.total)(
        [1, 2, 3]
    ) == total([1, 2, 3]), "a task is called as the function that it is"
    plain = dev.direct_task(parallel_func=functions.split)(functions.total)
    assert plain([1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"'aggregate_func' .* without 'parallel_func'"):
        dev.direct_task(aggregate_func=sum)(functions.total)
    measure = dev.direct_task(parallel_func=functions.split_with_common, aggregate_func=list)(functions.measure)
    assert measure("abc", 0) == [4, 5]
