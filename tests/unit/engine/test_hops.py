"""What one invocation costs above the store: our own Python functions that are entered, counted."""

import sys

import pytest

from pynenc import Pynenc
from pynenc.core.records import Beat, ClaimRequest
from tests.api import functions

# The budgets of a whole step are 25 and 45; the rest of them is the store's.
SUBMIT = 14
RUN = 17
RESULT = 8


@pytest.fixture
def app():
    """A fresh app."""
    app = Pynenc(app_id="hops", store="memory://")
    yield app
    app.close()


def entered(function):
    """The functions above the store that a call enters, once everything is warm."""
    names = []

    def note(frame, event, argument):
        module = frame.f_globals.get("__name__")
        is_ours = module is None or module.startswith("pynenc.")  # None: compiled for the parameters of a task
        is_function = not frame.f_code.co_name.startswith("<")  # comprehensions have frames before Python 3.12 only
        if event == "call" and is_ours and is_function and not (module or "").startswith("pynenc.store"):
            names.append(f"{module}:{frame.f_code.co_name}")

    function()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return names


def test_submitting_a_call(app):
    task = app.task(functions.plus)
    names = entered(lambda: task(1, 2))
    assert len(names) <= SUBMIT, names


def test_running_a_claimed_invocation(app):
    task = app.task(functions.plus)
    engine = app.engine
    task(1, 2)
    engine.store.heartbeat([Beat(id="r", group="r", lease=10**12)])
    (claimed,) = engine.store.claim(ClaimRequest("r", 1)).batch
    names = entered(lambda: engine.executor.run(claimed, engine.executor.running(claimed, "r", None)))
    assert len(names) <= RUN, names


def test_reading_a_result_that_is_there(app, monkeypatch):
    monkeypatch.setattr("pynenc.engine.results.FRESH", -1)  # it was called some time ago
    task = app.task(functions.plus)
    engine = app.engine
    engine.store.heartbeat([Beat(id="r", group="r", lease=10**12)])
    invocations = [task(1, 2), task(1, 2)]
    batch = engine.store.claim(ClaimRequest("r", 2)).batch
    engine.store.finish("r", [engine.executor.run(each, engine.executor.running(each, "r", None)) for each in batch])
    names = entered(lambda: invocations.pop().result)
    assert len(names) <= RESULT, names
