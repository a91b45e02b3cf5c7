"""Many calls at once, and concurrency control at registration, as the founding page of ``pynenc.task`` describes them."""

import asyncio
import threading

import pytest

from pynenc import ConcurrencyControlType, Pynenc
from pynenc.arguments import Arguments
from pynenc.core.records import Filter, Page
from pynenc.exceptions import (
    InvocationConcurrencyWithDifferentArgumentsError,
    QueueFullError,
    ResultTimeoutError,
    SerializationError,
)
from pynenc.invocation import (
    ConcurrentInvocationGroup,
    DistributedInvocation,
    DistributedInvocationGroup,
    ReusedInvocation,
)
from pynenc.runner.inline import InlineRunner
from pynenc.task import can_batch_process, distribute_batch_calls, distribute_calls, prepare_arguments
from tests.api import functions


@pytest.fixture
def app():
    """A fresh app."""
    app = Pynenc(app_id="many", store="memory://")
    yield app
    app.close()


@pytest.fixture
def dev():
    """A fresh app in development mode."""
    app = Pynenc(app_id="dev", store="memory://", dev_mode_force_sync_tasks=True)
    yield app
    app.close()


@pytest.fixture
def submissions(app, monkeypatch):
    """How many calls each submission to the store held."""
    sizes = []
    submit = type(app.store).submit

    def counted(store, new, *args, **kwargs):
        sizes.append(len(new))
        return submit(store, new, *args, **kwargs)

    monkeypatch.setattr(type(app.store), "submit", counted)
    return sizes


def drain(app):
    """Run everything that is there."""
    InlineRunner(app.engine).drain()


# -- forms ---------------------------------------------------------------------------------------------------------------------
def forms(task):
    return [(1, 1), task.args(1, 2), {"x": 2, "y": 3}, (5,)]


def test_every_form_of_parameters(app):
    task = app.task(functions.plus)
    group = task.parallelize(forms(task))
    assert type(group) is DistributedInvocationGroup
    drain(app)
    assert list(group.results) == [2, 3, 5, 15]


def test_in_development_mode_the_group_has_run_already(dev):
    task = dev.task(functions.plus)
    group = task.parallelize(iter(forms(task)))
    assert type(group) is ConcurrentInvocationGroup
    assert [invocation.status for invocation in group] == ["success"] * 4
    assert list(group.results) == [2, 3, 5, 15]


def test_groups_are_sequences(app):
    group = app.task(functions.plus).parallelize((x, 0) for x in range(3))
    assert len(group) == 3
    assert [invocation.arguments.kwargs["x"] for invocation in group] == [0, 1, 2]
    assert group[2] == list(group)[2]
    assert repr(group) == "DistributedInvocationGroup(3 of tests.api.functions.plus)"


def test_a_group_that_is_late_says_how_long_was_waited(app):
    group = app.task(functions.plus).parallelize((x, 0) for x in range(3))
    with pytest.raises(ResultTimeoutError, match=r"within 0\.05 s"):
        group.get_results(timeout=0.05)
    assert group.wait(timeout=0.01) is False


def test_no_calls_make_an_empty_group(app, dev):
    for each in (app, dev):
        group = each.task(functions.plus).parallelize([])
        assert (len(group), list(group.results), group.wait(), group.cancel()) == (0, [], True, 0)


@pytest.mark.parametrize("wrong", [1, "ab", [1, 2], None])
def test_other_forms_are_refused(app, wrong):
    with pytest.raises(TypeError, match=r"is a tuple, a dict or plus.args"):
        app.task(functions.plus).parallelize([(1,), wrong])


def test_map_gives_each_value_as_the_first_argument(app):
    group = app.task(functions.plus).map([1, 2])
    drain(app)
    assert group.get_results() == [11, 12]


# -- common arguments ------------------------------------------------------------------------------------------------------------
def test_common_arguments_are_merged_and_a_single_call_wins(app, dev):
    text = "huge" * 100_000
    params = [*({"index": i} for i in range(3)), {"index": 3, "large_data": "x"}]
    for each in (app, dev):
        group = each.task(functions.measure).parallelize(params, {"large_data": text})
        if each is app:
            drain(app)
        assert group.get_results() == [len(text), len(text) + 1, len(text) + 2, 4]


def test_a_large_common_argument_is_stored_once(app):
    app.task(functions.measure).parallelize([{"index": i} for i in range(5)], {"large_data": "a" * 10**6})
    rows = app.store.find(Filter(), Page()).invocations
    assert len(rows) == 5
    assert len({row.blobs for row in rows}) == 1
    assert all(len(row.blobs) == 1 and len(row.args) < 200 for row in rows)


@pytest.mark.parametrize("batch", [1000, 0])
@pytest.mark.parametrize("other", [("x",), Arguments({"large_data": "a", "index": 1})])
def test_common_arguments_need_dicts(app, batch, other):
    task = app.task(parallel_batch_size=batch)(functions.measure)
    with pytest.raises(ValueError, match="with common_args each call is a dict"):
        task.parallelize([{"index": 1}, other], {"large_data": "a"})


@pytest.mark.parametrize("wrong", [[("y", 1)], "y", {"y"}, 1])
def test_common_arguments_are_a_dict(app, wrong):
    with pytest.raises(TypeError, match="common_args is a dict from names of parameters to values, not"):
        app.task(functions.plus).parallelize([{"x": 1}, {"x": 2}], wrong)


def test_common_arguments_may_belong_to_var_keywords(app):
    group = app.task(functions.anything).parallelize([{"a": 1}, {"a": 2, "b": 5}], {"b": 3})
    drain(app)
    assert group.get_results() == [[[], {"b": 3, "a": 1}], [[], {"b": 5, "a": 2}]]


def test_an_unknown_common_argument_is_refused(app):
    with pytest.raises(TypeError, match="largedata"):
        app.task(functions.measure).parallelize([{"index": 1, "large_data": ""}] * 2, {"largedata": "a"})


# -- batches ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "expected"), [(10, [10, 10, 5]), (1000, [25]), (0, [1] * 25)])
def test_batches_have_the_size_that_the_task_wants(app, submissions, size, expected):
    app.task(parallel_batch_size=size)(functions.plus).parallelize([(x,) for x in range(25)])
    assert submissions == expected


def test_a_batch_is_accepted_entirely_or_not_at_all_and_the_error_says_what_was(app):
    task = app.task(parallel_batch_size=2)(functions.plus)
    with pytest.raises(SerializationError, match=r"^x is of type module") as caught:
        task.parallelize([(0,), (1,), (2,), (pytest,)])
    assert [invocation.arguments.kwargs["x"] for invocation in caught.value.accepted] == [0, 1]
    assert app.orchestrator.count_invocations() == 2


def test_one_by_one_the_error_says_what_was_accepted_too(app):
    full = Pynenc(app_id="full", store="memory://", max_queue_length=2)
    task = full.task(parallel_batch_size=0)(functions.plus)
    with pytest.raises(QueueFullError) as caught:
        task.parallelize([(x,) for x in range(4)])
    assert len(caught.value.accepted) == 2


def test_a_full_queue_can_block_until_there_is_room(app, monkeypatch):
    refused = threading.Event()
    submit = type(app.store).submit

    def noted(*args, **kwargs):
        try:
            return submit(*args, **kwargs)
        except QueueFullError:
            refused.set()
            raise

    monkeypatch.setattr(type(app.store), "submit", noted)
    app.conf.max_queue_length, app.conf.queue_full = 2, "block"
    task = app.task(functions.plus)
    waiting = task.parallelize([(1,), (2,)])
    caller = threading.Thread(target=lambda: later.append(task(3)))
    later = []
    caller.start()
    assert refused.wait(60)
    waiting[0].cancel()
    caller.join(60)
    assert [invocation.arguments.kwargs["x"] for invocation in later] == [3]
    assert app.orchestrator.count_invocations(statuses=["registered"]) == 2
    with pytest.raises(QueueFullError):
        task.parallelize([(1,), (2,), (3,)])

    async def on_a_loop():
        return task(4)

    with pytest.raises(QueueFullError):
        asyncio.run(on_a_loop())


def test_whether_calls_can_be_batched(app, dev):
    disabled, by_task = ConcurrencyControlType.DISABLED, ConcurrencyControlType.TASK
    plain = app.task(functions.plus)
    assert can_batch_process(plain, 2) is True
    assert can_batch_process(plain, 1) is False
    assert can_batch_process(app.task(parallel_batch_size=0)(functions.plus), 2) is False
    assert can_batch_process(app.task(registration_concurrency=by_task)(functions.plus), 2) is False
    assert can_batch_process(
        app.task(running_concurrency=by_task, registration_concurrency=disabled)(functions.plus), 2
    )
    assert can_batch_process(dev.task(functions.plus), 2) is False


def test_prepare_arguments(app):
    task = app.task(functions.plus)
    assert prepare_arguments(task, iter(forms(task))) == [
        Arguments({"x": x, "y": y}) for x, y in ((1, 1), (1, 2), (2, 3), (5, 10))
    ]
    assert prepare_arguments(task, [{"x": 1}, {"x": 1, "y": 2}], {"y": 3}) == [
        Arguments({"x": 1, "y": 3}),
        Arguments({"x": 1, "y": 2}),
    ]
    with pytest.raises(ValueError, match="is a dict"):
        prepare_arguments(task, [(1,)], {"y": 3})


def test_distribute_calls_submits_one_by_one(app, dev, submissions):
    group = distribute_calls(app.task(functions.plus), [{"x": 1}, {"x": 2}], {"y": 5})
    assert submissions == [1, 1]
    drain(app)
    assert group.get_results() == [6, 7]
    assert type(distribute_calls(dev.task(functions.plus), [(1,)])) is ConcurrentInvocationGroup


def test_distribute_batch_calls_submits_in_batches(app, submissions):
    task = app.task(parallel_batch_size=2)(functions.plus)
    group = distribute_batch_calls(task, [{"x": 1}, {"x": 2}, {"x": 3}], {"y": 5})
    assert submissions == [2, 1]
    assert type(group) is DistributedInvocationGroup
    drain(app)
    assert group.get_results() == [6, 7, 8]


def test_distribute_batch_calls_loses_none_where_batches_are_off(app, submissions):
    group = distribute_batch_calls(app.task(parallel_batch_size=0)(functions.plus), [(1,), (2,)])
    assert submissions == [1, 1]
    drain(app)
    assert group.get_results() == [11, 12]


# -- control at registration -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("together", [True, False])
def test_a_registered_call_answers_for_its_like(app, together):
    task = app.task(registration_concurrency=ConcurrencyControlType.ARGUMENTS)(functions.plus)
    first, again, other = task.parallelize([(1,), (1,), (2,)]) if together else (task(1), task(1), task(2))
    assert [type(each) for each in (first, again, other)] == [
        DistributedInvocation,
        ReusedInvocation,
        DistributedInvocation,
    ]
    assert again == first
    assert again.diff_arg is None
    drain(app)
    assert again.result == 11
    assert type(task(1)) is DistributedInvocation


def test_a_reused_invocation_tells_what_was_not_submitted(app):
    task = app.task(registration_concurrency=ConcurrencyControlType.KEYS, key_arguments=("x",))(functions.plus)
    first, again = task(1, 2), task(1, 3)
    assert type(again) is ReusedInvocation
    assert (again, again.diff_arg, again.arguments) == (first, task.args(1, 3), task.args(1, 2))


def test_different_arguments_under_one_key_can_be_an_error(app):
    task = app.task(
        registration_concurrency=ConcurrencyControlType.KEYS, key_arguments=("index",), on_diff_non_key_args_raise=True
    )(functions.measure)
    long = "a" * 1000
    first = task(f"{long}1", 1)
    assert type(task(f"{long}1", 1)) is ReusedInvocation
    with pytest.raises(InvocationConcurrencyWithDifferentArgumentsError, match="changed large_data: 'aaa") as caught:
        task(f"{long}2", 1)
    assert caught.value.invocation_id == first.invocation_id
    assert list(caught.value.changed) == ["large_data"]
    assert (caught.value.added, caught.value.removed) == ({}, {})


def test_added_and_removed_arguments_are_told_apart(app):
    task = app.task(registration_concurrency=ConcurrencyControlType.TASK, on_diff_non_key_args_raise=True)(
        functions.anything
    )
    task(a=1, b=2)
    with pytest.raises(InvocationConcurrencyWithDifferentArgumentsError) as caught:
        task(b=3, c=4)
    assert (caught.value.changed, caught.value.added, caught.value.removed) == (
        {"b": ("2", "3")},
        {"c": "4"},
        {"a": "1"},
    )


def test_a_cached_result_answers_the_same_call(app):
    task = app.task(call_result_cache=True)(functions.plus)
    first = task(1)
    assert type(task(1)) is DistributedInvocation
    drain(app)
    assert type(again := task(1)) is ReusedInvocation
    assert again.result == first.result == 11
    assert type(task(2)) is DistributedInvocation


def test_arguments_of_another_task_are_refused(app):
    plus, measure = app.task(functions.plus), app.task(functions.measure)
    for calls in ([measure.args("abc", 1)], [plus.args(1), measure.args("abc", 1)]):
        with pytest.raises(TypeError, match=r"plus.. got an unexpected keyword argument 'large_data'"):
            plus.parallelize(calls)
    with pytest.raises(TypeError, match=r"plus.. missing 1 required argument: 'x'"):
        plus.parallelize([Arguments({"y": 1})])
    assert plus.parallelize([Arguments({"x": 1}), plus.args(1)]).invocations[0].arguments == plus.args(1)
