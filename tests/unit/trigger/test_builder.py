"""What a TriggerBuilder takes, what it refuses and how, and what its conditions and filters decide."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynenc import InvocationStatus, Pynenc
from pynenc.exceptions import TriggerError
from pynenc.trigger import (
    TriggerBuilder,
    on_any_result,
    on_cron,
    on_event,
    on_exception,
    on_interval,
    on_result,
    on_status,
)
from pynenc.trigger.arguments import ArgumentProvider, make_filter
from pynenc.trigger.conditions.base import TriggerContext
from pynenc.trigger.conditions.composite import CompositeCondition, missing, satisfied
from pynenc.trigger.conditions.cron import CronContext
from pynenc.trigger.conditions.event import EventCondition, EventContext
from pynenc.trigger.conditions.exception import ExceptionContext
from pynenc.trigger.conditions.result import ResultContext
from pynenc.trigger.conditions.status import StatusContext
from tests.api import functions

S = InvocationStatus
app = Pynenc(app_id="builder", store="memory://")
plus = app.task(functions.plus)


def is_large(value):
    return value["n"] > 10


def arguments(context):
    return {"n": 1}


async def slow(value):
    return True


def cause(**fields):
    return SimpleNamespace(**{"kind": "event", "id": "c", "leaf": -1} | fields)


def change(**fields):
    values = {
        "kind": "change",
        "task": plus.task_id.key,
        "status": S.SUCCESS,
        "invocation_id": "i",
        "call_id": "k",
        "result": 3,
    }
    return cause(**values | {"arguments": SimpleNamespace(kwargs={"x": 1, "y": 2})} | fields)


# -- functions ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make",
    [
        lambda f: on_event("e", f),
        lambda f: on_status(plus, call_arguments=f),
        lambda f: on_result(plus, f),
        lambda f: on_event("e").with_args_from_event(f),
        lambda f: on_event("e").with_args_from_status(f),
        lambda f: on_event("e").with_args_from_result(f),
        lambda f: on_event("e").with_args_from_exception(f),
        lambda f: on_event("e").with_args_from_trigger_context(f),
        lambda f: on_event("e").debounce(1, key=f),
    ],
)
def test_only_module_level_functions_are_taken(make):
    def nested(value):
        return value

    make(is_large)
    for function in (lambda value: value, nested, slow, SimpleNamespace().__init__):
        with pytest.raises(TriggerError, match=r"top level of a module|is async"):
            make(function)


def test_functions_of_main_are_refused(monkeypatch):
    monkeypatch.setattr(is_large, "__module__", "__main__")
    with pytest.raises(TriggerError, match="top level of a module other than __main__"):
        on_event("e", is_large)


# -- statuses and names ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["registered", "pending", S.RUNNING, "concurrency_controlled"])
def test_statuses_that_pass_by_are_refused_with_the_reason(status):
    with pytest.raises(TriggerError, match="exactly once; use one of CANCELLED"):
        on_status(plus, [S.SUCCESS, status])


def test_unknown_statuses_are_refused():
    with pytest.raises(TriggerError, match="no status 'done'"):
        on_status(plus, "done")
    with pytest.raises(TriggerError, match="at least one status"):
        on_status(plus, [])


def test_a_task_may_be_given_by_name():
    for task in (plus, plus.task_id, plus.task_id.key):
        assert on_status(task).condition().task == plus.task_id.key
    with pytest.raises(TriggerError, match=r"module\.function"):
        on_status("plus")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: on_cron("0 6 * * *", misfire="maybe"), "misfire is one of skip, once, all"),
        (lambda: on_event(""), "printable text"),
        (lambda: TriggerBuilder().build("m.f"), "needs a condition"),
        (lambda: on_event("a").with_logic("xor"), "'and' or 'or'"),
        (lambda: on_event("a").with_logic("and", within=0), "positive number of seconds"),
        (lambda: on_event("a").debounce(0), "positive number of seconds"),
        (lambda: on_event("a").throttle(0, 1), "positive number of firings"),
        (lambda: on_event("a").with_args_static([1]), "a dict by name"),
        (lambda: on_event("a").with_args_provider(arguments), "ArgumentProvider"),
        (lambda: on_event("a").add_condition("b"), "TriggerBuilder is needed"),
        (lambda: on_event("a").add_condition(on_event("b").debounce(1)), "brings conditions only"),
        (lambda: on_event("a").named("not a name"), "identifier"),
        (lambda: on_exception(plus, [3]), "exception classes or their names"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(TriggerError, match=message):
        make()


def test_the_option_takes_builders_only():
    with pytest.raises(Exception, match="TriggerBuilder"):
        app.task(triggers=["0 6 * * *"])(functions.plus)


def test_a_key_that_is_no_parameter_is_refused():
    for builder in (on_event("a").debounce(1, key="z"), on_event("a").throttle(1, 1, key="z")):
        with pytest.raises(
            TriggerError, match=r"per z.* is no parameter of tests\.api\.functions\.plus.*valid names: x, y"
        ):
            Pynenc(app_id="keys", store="memory://").task(triggers=builder)(functions.plus)


# -- identity and description --------------------------------------------------------------------------------------------
def test_a_trigger_is_named_after_its_task():
    assert on_event("a").build("m.f").id == "m.f.trigger1"
    assert on_event("a").build("m.f", 3).id == "m.f.trigger3"
    assert on_event("a").named("nightly").build(plus.task_id).id == f"{plus.task_id.key}.nightly"


def test_a_trigger_is_described_in_words():
    built = (
        on_event("order.paid", {"country": "ES"})
        .add_condition(on_cron("0 6 * * *").on_interval(30).with_logic("or"))
        .with_logic("and", within=60)
        .with_args_static({"x": 1})
        .debounce(5, key="x")
        .throttle(3, 60)
        .build("m.f")
    )
    assert built.describe() == {
        "id": "m.f.trigger1",
        "task": "m.f",
        "condition": "(event order.paid where country='ES' and (cron 0 6 * * * (UTC, misfire once) or every 30 s (misfire once))) within 60 s",
        "arguments": ["static: x"],
        "limits": ["debounce 5 s per x", "at most 3 in 60 s"],
    }
    assert (built.has_state, built.joins, built.events) == (True, True, ("order.paid",))
    assert [leaf for leaf, _ in built.schedules] == [1, 2]


def test_one_condition_needs_no_state():
    assert not on_event("a").build("m.f").has_state
    assert not on_event("a").on_event("b").with_logic("or").build("m.f").has_state
    assert on_event("a").on_event("b").build("m.f").has_state


# -- conditions ------------------------------------------------------------------------------------------------------------
def test_an_event_by_code_and_payload():
    condition = on_event("paid", {"n": 3, "ok": True}).condition()
    assert not condition.hears(cause(code="other"))
    assert condition.hears(cause(code="paid"))
    assert condition.judge(cause(code="paid", payload={"n": 3, "ok": True, "more": 1})) == EventContext(
        "c", "paid", {"n": 3, "ok": True, "more": 1}
    )
    assert (
        condition.judge(cause(code="paid", payload={"n": 4, "ok": True})) == "the payload is not wanted: n is 4, not 3"
    )
    assert condition.judge(cause(code="paid", payload={"n": 3})) == "the payload is not wanted: ok is missing"
    assert (
        condition.judge(cause(code="paid", payload=None))
        == "the payload is not wanted: it is a NoneType, not a mapping"
    )


def test_an_event_by_function():
    condition = on_event("paid", is_large).condition()
    assert isinstance(condition.judge(cause(code="paid", payload={"n": 11})), EventContext)
    assert "is_large says no" in condition.judge(cause(code="paid", payload={"n": 9}))


def test_a_status():
    condition = on_status(plus, [S.FAILED, "cancelled"], {"x": 1}).condition()
    assert not condition.hears(change())
    assert not condition.hears(change(task="other.task", status=S.FAILED))
    assert condition.hears(change(status=S.FAILED))
    assert condition.judge(change(status=S.FAILED)) == StatusContext(
        "i", "k", SimpleNamespace(kwargs={"x": 1, "y": 2}), S.FAILED
    )
    assert "x is 5, not 1" in condition.judge(change(status=S.FAILED, arguments=SimpleNamespace(kwargs={"x": 5})))
    assert condition.changes() == ((plus.task_id.key, S.CANCELLED), (plus.task_id.key, S.FAILED))


@pytest.mark.parametrize(
    ("wanted", "result", "is_met"),
    [
        (3, 3, True),
        (3, 4, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, [1], False),
        (is_large, {"n": 11}, True),
        ([1], [1], True),
    ],
)
def test_a_result(wanted, result, is_met):
    judged = on_result(plus, wanted).condition().judge(change(result=result))
    assert isinstance(judged, ResultContext) is is_met
    assert is_met is False or judged.result == result


def test_any_result():
    assert on_any_result(plus).condition().judge(change(result=None)).result is None


class BaseError(Exception):
    pass


class DerivedError(BaseError):
    pass


@pytest.mark.parametrize(
    ("wanted", "is_met"),
    [
        (None, True),
        (BaseError, True),
        (DerivedError, True),
        ("BaseError", True),
        ([ValueError, f"{__name__}.BaseError"], True),
        (ValueError, False),
        ("rror", False),
    ],
)
def test_an_exception_by_its_class_or_a_base(wanted, is_met):
    failure = SimpleNamespace(type=f"{__name__}.DerivedError", message="no", bases=(f"{__name__}.BaseError",))
    judged = on_exception(plus, wanted).condition().judge(change(status=S.FAILED, failure=failure))
    assert isinstance(judged, ExceptionContext) is is_met
    if is_met:
        assert (judged.exception_type, judged.exception_message) == ("DerivedError", "no")
    else:
        assert f"{__name__}.DerivedError, which is no" in judged


def test_a_tick():
    context = on_cron("0 0 * * *").condition().judge(cause(kind="tick", at=86_400_000_000, last=0))
    assert context == CronContext(context.timestamp, None)
    assert context.timestamp.isoformat() == "1970-01-02T00:00:00+00:00"
    assert (
        on_interval(60)
        .condition()
        .judge(cause(kind="tick", at=86_400_000_000, last=1_000_000))
        .last_execution.timestamp()
        == 1
    )


def test_a_filter_of_nothing():
    assert make_filter(None, "filter") is None


# -- arguments ---------------------------------------------------------------------------------------------------------
class Own(ArgumentProvider):
    def get_arguments(self, context):
        return {"own": context.trigger_id}


def bad(context):
    return 3


def test_arguments_are_merged_and_only_from_what_there_is():
    built = (
        on_event("a")
        .with_args_static({"n": 0, "m": 2})
        .with_args_from_event(arguments)
        .with_args_from_result(bad)
        .with_args_provider(Own())
        .build("m.f")
    )
    told = TriggerContext(built.id, (EventContext("e", "a", {}),))
    merged = {}
    for provider in built.providers:
        merged |= provider.get_arguments(told)
    assert merged == {"n": 1, "m": 2, "own": "m.f.trigger1"}


def test_the_class_of_a_provider_is_at_the_top_level_of_a_module():
    class Hidden(ArgumentProvider):
        def get_arguments(self, context): ...

    with pytest.raises(TriggerError, match="Hidden cannot be used as argument provider"):
        on_event("a").with_args_provider(Hidden())


def test_a_provider_must_return_a_dict():
    (provider,) = on_event("a").with_args_from_trigger_context(bad).build("m.f").providers
    with pytest.raises(TriggerError, match="returned 3"):
        provider.get_arguments(TriggerContext("t"))


def test_a_status_provider_hears_of_results_too():
    (provider,) = on_any_result(plus).with_args_from_status(arguments).build("m.f").providers
    assert provider.get_arguments(TriggerContext("t", (ResultContext("i", "k", None, S.SUCCESS, 3),))) == {"n": 1}


# -- composites ----------------------------------------------------------------------------------------------------------
def both(*conditions, logic="and", within=None):
    return CompositeCondition(logic, conditions, within)


A, B, C = (EventCondition(code) for code in "abc")


@pytest.mark.parametrize(
    ("condition", "times", "used"),
    [
        (A, {}, set()),
        (A, {0: 5}, {0}),
        (both(A, B), {0: 5}, set()),
        (both(A, B), {0: 5, 1: 900}, {0, 1}),
        (both(A, B, within=10), {0: 5, 1: 15}, {0, 1}),
        (both(A, B, within=10), {0: 5, 1: 15.1}, set()),
        (both(A, B, logic="or"), {1: 7}, {1}),
        (both(A, B, logic="or"), {0: 3, 1: 7}, {1}),
        (both(A, both(B, C, logic="or")), {0: 1, 2: 2}, {0, 2}),
        (both(A, both(B, C, logic="or")), {1: 1, 2: 2}, set()),
        (both(both(A, B), C, logic="or"), {0: 1}, set()),
        (both(both(A, B), C, logic="or"), {0: 1, 1: 1, 2: 0}, {0, 1}),
        (both(both(A, B, within=1), C, within=100), {0: 1, 1: 3, 2: 3}, set()),
        (both(A, both(both(B, C), EventCondition("d"), logic="or"), within=10), {0: 101, 1: 0, 2: 100, 3: 99}, {0, 3}),
    ],
)
def test_what_satisfies_a_composite(condition, times, used):
    assert satisfied(condition, times) == used


def test_what_is_missing_is_said_in_words():
    tree = both(A, both(B, C, logic="or"), within=5)
    assert missing(tree, {}) == ["event a", "(event b or event c)"]
    assert missing(tree, {2: 1}) == ["event a"]
    assert missing(tree, {0: 1}) == ["(event b or event c)"]
    assert missing(tree, {0: 1, 2: 99}) == []


def joined(parts):
    lists = st.lists(parts, min_size=1, max_size=3)
    return st.builds(lambda logic, parts: both(*parts, logic=logic), logics, lists)


logics = st.sampled_from(["and", "or"])
trees = st.recursive(st.just(A), joined, max_leaves=8)


def truth(condition, held, leaf):
    """Whether a tree is true, the obvious way; and the position after it."""
    if not isinstance(condition, CompositeCondition):
        return leaf in held, leaf + 1
    values = []
    for each in condition.conditions:
        value, leaf = truth(each, held, leaf)
        values.append(value)
    return (all if condition.logic == "and" else any)(values), leaf


@given(trees, st.sets(st.integers(0, 7)))
def test_a_composite_is_satisfied_when_it_is_true(tree, held):
    count = len(list(tree.leaves()))
    held = {leaf for leaf in held if leaf < count}
    used = satisfied(tree, dict.fromkeys(held, 1.0))
    assert bool(used) is truth(tree, held, 0)[0]
    assert used <= held
    assert not used or truth(tree, used, 0)[0], "what was used is enough by itself"
