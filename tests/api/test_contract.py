"""Names, signatures and defaults that the API promises, written down a second time."""

import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

import pynenc
from pynenc import ConcurrencyControlType, InvocationStatus, Pynenc, PynencBuilder, RetryError, exceptions, task
from pynenc.conf.config_task import ConfigTask
from pynenc.core.options import TaskOptions
from pynenc.invocation import BaseInvocation, BaseInvocationGroup
from tests.api import functions

DAY = 86400.0
OFF = ConcurrencyControlType.DISABLED
OPTIONS = {
    "parallel_batch_size": 1000, "retry_for": (RetryError,), "max_retries": 0, "retry_delay": 0.0, "retry_backoff": 2.0,
    "retry_max_delay": 3600.0, "retry_jitter": "full", "running_concurrency": OFF, "registration_concurrency": OFF,
    "key_arguments": (), "running_limit": 1, "rate_limit": None, "on_diff_non_key_args_raise": False,
    "reroute_on_concurrency_control": True, "call_result_cache": False, "result_ttl": 7 * DAY, "disable_cache_args": (),
    "queue": "default", "priority": 0.0, "timeout": None, "max_crashes": 3, "on_crash": "retry", "expires": None,
    "inline": False, "aliases": (), "force_new_workflow": False, "triggers": None, "name": None, "tags": (), "redact": (),
}  # fmt: skip


@pytest.fixture
def app():
    """A fresh app."""
    app = Pynenc(app_id="contract", store="memory://")
    yield app
    app.close()


def parameters(function):
    return [str(each).partition(":")[0] for each in inspect.signature(function).parameters.values()]


# -- names ---------------------------------------------------------------------------------------------------------------------
def test_what_can_be_imported_from_the_top():
    assert set(pynenc.__all__) == {
        "ConcurrencyControlType", "InvocationStatus", "Pynenc", "PynencBuilder", "RetryError", "Secret", "Task", "TriggerBuilder",
        "__version__", "on_cron", "on_event", "on_status",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Pynenc, ["config_values", "config_filepath", "app_id", "store", "**settings"]),
        (task.Task, ["app", "func", "options"]),
        (task.Task.from_id, ["app", "task_id"]),
        (task.Task._get_from_task_id, ["task_id"]),
        (task.Task._call, ["self", "arguments"]),
        (task.Task.args, ["self", "*args", "**kwargs"]),
        (task.Task.__call__, ["self", "*args", "**kwargs"]),
        (task.Task.parallelize, ["self", "param_iter", "common_args", "progress"]),
        (task._extract_task_from_wrapper, ["wrapper"]),
        (task.can_batch_process, ["task", "num_calls"]),
        (task.prepare_arguments, ["task", "param_iter", "common_args"]),
        (task.distribute_calls, ["task", "param_list", "common_args"]),
        (task.distribute_batch_calls, ["task", "param_list", "common_args"]),
        (BaseInvocation.get_result, ["self", "timeout"]),
        (BaseInvocation.async_result, ["self", "timeout"]),
        (BaseInvocation.wait, ["self", "timeout"]),
        (BaseInvocation.set_progress, ["self", "done", "total", "message"]),
        (BaseInvocationGroup.get_results, ["self", "timeout", "return_exceptions"]),
        (PynencBuilder.thread_runner, ["self", "min_threads", "max_threads"]),
        (PynencBuilder.persistent_process_runner, ["self", "num_processes"]),
    ],
)
def test_signatures(function, names):
    assert parameters(function) == names


def test_statuses_compare_to_their_names_and_answer_questions():
    names = {
        "registered", "pending", "running", "success", "failed", "retry", "paused", "cancelled", "concurrency_controlled",
        "concurrency_controlled_final",
    }  # fmt: skip
    assert set(InvocationStatus) == names
    assert {status for status in InvocationStatus if status.is_final()} == {
        "success", "failed", "cancelled", "concurrency_controlled_final"
    }  # fmt: skip
    assert {status for status in InvocationStatus if status.is_available_for_run()} == {"registered", "retry"}
    assert InvocationStatus.REGISTERED.can_transition_to(InvocationStatus.PENDING)
    assert not InvocationStatus.REGISTERED.can_transition_to(InvocationStatus.SUCCESS)


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("RetryError", "PynencError"), ("SerializationError", "PynencError"), ("ConfigError", "PynencError"),
        ("InvalidTaskOptionsError", "TaskError"), ("TaskRoutingError", "TaskError"),
        ("InvocationConcurrencyWithDifferentArgumentsError", "TaskRoutingError"), ("TaskTimeoutError", "TaskError"),
        ("TaskFailedError", "TaskError"), ("WorkerLostError", "TaskError"), ("InvocationNotFoundError", "InvocationError"),
        ("InvocationCancelledError", "InvocationError"), ("ConcurrencyControlledError", "InvocationError"),
        ("ResultTimeoutError", "InvocationError"), ("CycleDetectedError", "InvocationError"),
        ("RunnerNotExecutableError", "RunnerError"), ("WorkflowPauseError", "WorkflowError"),
        ("NonDeterminismError", "WorkflowError"), ("WorkflowMembershipError", "WorkflowError"), ("TriggerError", "PynencError"),
        ("InvocationStatusTransitionError", "InvocationStatusError"), ("InvocationStatusOwnershipError", "InvocationStatusError"),
    ],
)  # fmt: skip
def test_exceptions_form_one_tree(name, bases):
    kind = getattr(exceptions, name)
    assert issubclass(kind, getattr(exceptions, bases))
    assert issubclass(kind, exceptions.PynencError)


def test_timeouts_are_timeouts_of_python_too():
    assert issubclass(exceptions.ResultTimeoutError, TimeoutError)
    assert issubclass(exceptions.TaskTimeoutError, TimeoutError)


# -- options -------------------------------------------------------------------------------------------------------------------
def test_options_and_their_defaults():
    assert ConfigTask().values() == OPTIONS
    assert set(TaskOptions.__annotations__) == set(OPTIONS)


def test_workflows_set_one_option(app):
    assert app.workflow(functions.plus).conf.force_new_workflow is True
    assert app.workflow(force_new_workflow=False)(functions.measure).conf.force_new_workflow is False


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at.*time zone"),
        ({"delay": -1}, "delay"),
        ({"priority": 101}, "priority"),
        ({"timeout": 0}, "timeout"),
        ({"tags": (5,)}, "tags"),
    ],
)
def test_call_options_that_make_no_sense(app, options, text):
    with pytest.raises(ValueError, match=text):
        app.task(functions.plus).options(**options)


def test_call_options_reach_the_store(app):
    plus = app.task(tags=("own",), timeout=9)(functions.plus)
    soon = datetime.now(UTC) + timedelta(hours=1)
    one = plus.options(run_at=soon, priority=3, queue="fast", timeout=2.5, tags=("more",))(1)
    row = app.store.get([one.invocation_id])[0]
    assert (row.due, row.priority, row.queue, row.tags) == (int(soon.timestamp() * 1e6), 3.0, "fast", ("own", "more"))
    group = plus.options(queue="many").parallelize([(1,), (2,)])
    mapped = plus.options(queue="many", tags="single").map([1, 2])
    assert {app.store.get([each.invocation_id])[0].queue for each in (*group, *mapped)} == {"many"}
    assert app.find_invocations(tags="single", oldest_first=True) == list(mapped)


def test_call_options_add_up(app):
    plus = app.task(functions.plus)
    row = app.store.get(
        [plus.options(priority=1, tags="a").options(priority=2, queue="fast", tags="b")(1).invocation_id]
    )[0]
    assert (row.priority, row.queue, row.tags) == (2.0, "fast", ("a", "b"))


def test_call_options_that_do_not_exist_are_told_with_the_nearest(app):
    with pytest.raises(exceptions.InvalidTaskOptionsError, match="did you mean 'delay'"):
        app.task(functions.plus).options(delya=5)


def test_an_idempotency_key_stands_for_one_call(app):
    plus = app.task(functions.plus)
    first, again = plus.options(key="k")(1), plus.options(key="k")(1)
    assert first == again
    assert app.task(functions.measure).options(key="k")("a", 1) != first
    with pytest.raises(exceptions.IdempotencyKeyError, match="'k'"):
        plus.options(key="k")(2)
    with pytest.raises(ValueError, match="one call"):
        plus.options(key="k").parallelize([(1,)])


# -- the builder -----------------------------------------------------------------------------------------------------------------
def test_the_builder_makes_apps():
    app = (
        PynencBuilder()
        .app_id("built")
        .memory()
        .thread_runner(min_threads=2, max_threads=4)
        .concurrency_control(running_concurrency="task")
        .argument_print_mode("keys")
        .max_pending_seconds(2)
        .dev_mode()
        .custom_config(redact=["pin"])
        .build()
    )
    assert (app.app_id, app.conf.runner_cls, app.conf.runner.max_threads) == ("built", "ThreadRunner", 4)
    assert (app.conf.argument_print_mode, app.conf.max_pending_seconds, app.conf.redact) == ("keys", 2.0, ("pin",))
    assert app.task(functions.plus).conf.running_concurrency is ConcurrencyControlType.TASK
    assert app.task(functions.plus)(1).result == 11


def test_triggers_are_imported_from_the_package_only_when_asked_for() -> None:
    code = "import sys, pynenc; assert 'pynenc.trigger' not in sys.modules; from pynenc import TriggerBuilder, on_cron, on_event, on_status"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'on_nothing'"):
        _ = pynenc.on_nothing
