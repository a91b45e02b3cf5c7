"""The pytest plug-in: fixtures for projects that use pynenc. Found by pytest wherever pynenc is installed; imports nothing until a fixture is asked for.

``pynenc_app``         the app of the project (setting ``pynenc_app`` of pytest: ``module:attribute``), or a fresh one, on a store of its own
``pynenc_runner``      the same app with its runner at work
``assert_submitted``   asserts that a task was called

The marker ``pynenc(store=..., runner=..., app=..., **settings)`` chooses for one test, class or module: ``store`` is ``"memory"`` (the default), ``"sqlite"``
(a file of the test's own) or a URL, ``runner`` the name of a runner class (``ThreadRunner``), and settings are those of the runner (``threads=1``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from pynenc.app import Pynenc
    from pynenc.arguments import Arguments
    from pynenc.invocation import BaseInvocation
    from pynenc.runner import BaseRunner
    from pynenc.task import Task

    AssertSubmitted = Callable[..., list[BaseInvocation[Any, Any]]]

#: Seconds that a runner gets to stop.
STOP_TIMEOUT = 30.0
#: Most calls that a failed assertion lists.
LISTED = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting."""
    parser.addini("pynenc_app", "the app that the fixture pynenc_app isolates: module:attribute", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", "pynenc(store='memory', runner='ThreadRunner', app=None, **settings): how pynenc_app is set up"
    )


# -- the app -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def pynenc_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """An app on a store that no other test sees, with ``ThreadRunner`` as its runner; see the marker ``pynenc``.

    It is the app of the project with its store exchanged for the time of the test, so tasks are called as they are.
    Without the setting ``pynenc_app`` it is a new app, which makes tasks of functions of the test module: ``pynenc_app.task(function)``.
    """
    chosen = _choices(request)
    spec = chosen.pop("app", None) or request.config.getini("pynenc_app")
    app = _find_app(spec) if spec else _new_app()
    _check_settings(chosen, app)
    url = _store_url(chosen.pop("store", "memory"), tmp_path)
    runner_cls = chosen.pop("runner", "ThreadRunner")
    app.close()
    before = app.conf.store, app.conf.runner_cls, app.conf.dev_mode_force_sync_tasks
    settings = {name: getattr(app.conf.runner, name) for name in chosen}
    try:
        app.conf.store, app.conf.runner_cls, app.conf.dev_mode_force_sync_tasks = url, runner_cls, False
        for name, value in chosen.items():
            setattr(app.conf.runner, name, value)
        app._runner = None  # made from the settings when it is asked for
        yield app
    finally:
        app.close()
        for name, value in settings.items():
            setattr(app.conf.runner, name, value)
        app.conf.store, app.conf.runner_cls, app.conf.dev_mode_force_sync_tasks = before
        app._runner = None


def _choices(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the markers say, the closest one first."""
    chosen: dict[str, Any] = {}
    for marker in request.node.iter_markers("pynenc"):
        chosen = {**marker.kwargs, **chosen}
    return chosen


def _check_settings(chosen: dict[str, Any], app: Pynenc) -> None:
    """Refuse what neither the marker nor a runner knows, before the app is touched."""
    from pynenc.conf.values import suggestion

    known = ("store", "runner", "app", *app.conf.runner.names)
    for name in chosen:
        if name not in known:
            raise pytest.UsageError(f"the marker pynenc takes no {name!r}{suggestion(name, known)}")


def _new_app() -> Pynenc:
    from pynenc.app import Pynenc

    return Pynenc(app_id=f"test-{os.getpid()}", store="memory://")


def _find_app(spec: object) -> Pynenc:
    """The app itself, or the one that ``module:attribute`` names."""
    from importlib import import_module

    from pynenc.app import Pynenc

    if isinstance(spec, Pynenc):
        return spec
    module, colon, attribute = str(spec).partition(":")
    found = getattr(import_module(module), attribute, None) if colon else None
    if not isinstance(found, Pynenc):
        raise pytest.UsageError(f"pynenc_app = {spec!r} names no app: write module:attribute, e.g. shop.tasks:app")
    return found


def _store_url(store: str, folder: Path) -> str:
    return {"memory": "memory://", "sqlite": f"sqlite:///{folder / 'pynenc.db'}"}.get(store, store)


# -- the runner ------------------------------------------------------------------------------------------------------------
class _Threaded(threading.Thread):
    """A runner at work; keeps what it raised."""

    def __init__(self, runner: BaseRunner) -> None:
        super().__init__(name="pynenc-runner", daemon=True)
        self.runner = runner
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.runner.run()
        except BaseException as error:
            self.error = error


@pytest.fixture
def pynenc_runner(pynenc_app: Pynenc) -> Iterator[BaseRunner]:
    """The runner of ``pynenc_app``, at work in a thread until the test ends.

    The test fails in its teardown when the runner broke or does not stop within 30 seconds.
    """
    thread = _Threaded(pynenc_app.runner)
    thread.runner._check_store(pynenc_app.engine)  # a test that waited for it would wait for ever
    thread.start()
    yield thread.runner
    thread.runner.stop_runner_loop()
    thread.join(STOP_TIMEOUT)
    is_late = thread.is_alive()
    if is_late:
        thread.runner._stop_now()
    if thread.error is not None:
        raise thread.error
    if is_late:
        pytest.fail(f"the runner did not stop within {STOP_TIMEOUT:g} s: a task is still running", pytrace=False)


# -- what was submitted ----------------------------------------------------------------------------------------------------
@pytest.fixture
def assert_submitted(pynenc_app: Pynenc) -> AssertSubmitted:
    """``assert_submitted(task, arguments=None, *, times=None)``: asserts that a task was called, and returns the invocations.

    ``arguments`` are given as to ``parallelize``: a tuple, a dict or ``task.args(...)``; without them any call counts. Without ``times`` one call is enough.
    """

    def check(
        task: Task[Any, Any] | Callable[..., Any],
        arguments: tuple[Any, ...] | dict[str, Any] | Arguments | None = None,
        *,
        times: int | None = None,
    ) -> list[BaseInvocation[Any, Any]]:
        __tracebackhide__ = True
        task = getattr(task, "__pynenc_task__", task)
        calls = _calls(pynenc_app, task)
        expected = None if arguments is None else _bound(task, arguments)
        found = [call for call in calls if expected is None or call.arguments.kwargs == expected]
        if len(found) != times if times is not None else not found:
            pytest.fail(_complaint(pynenc_app, task, expected, times, found, calls), pytrace=False)
        return found

    return check


def _calls(app: Pynenc, task: Any) -> list[BaseInvocation[Any, Any]]:
    """All invocations of a task, oldest first."""
    return app.find_invocations(tasks=(task.task_id.key,), limit=100_000, oldest_first=True)


def _bound(task: Any, arguments: Any) -> dict[str, Any]:
    from pynenc.arguments import Arguments

    if isinstance(arguments, Arguments):
        return arguments.kwargs
    bound = task.args(**arguments) if isinstance(arguments, dict) else task.args(*arguments)
    kwargs: dict[str, Any] = bound.kwargs
    return kwargs


def _complaint(app: Pynenc, task: Any, expected: Any, times: int | None, found: list[Any], calls: list[Any]) -> str:
    """What was expected, and what there is instead."""
    wanted = "at least once" if times is None else _times(times)
    with_what = "" if expected is None else f" with {expected!r}"
    lines = [
        f"{task.task_id.key} should have been submitted {wanted}{with_what}, but was {_times(len(found)) if found else 'not'}"
    ]
    if calls and expected is not None:
        lines.append("its calls, oldest first:")
        lines += [f"  {call.arguments.kwargs!r}" for call in calls[:LISTED]]
        lines += [f"  ... and {len(calls) - LISTED} more"] if len(calls) > LISTED else []
    others = {key: n for key, n in app.store.count(_everything(), by="task").items() if key != task.task_id.key}
    lines.append("other tasks: " + (", ".join(f"{key} {_times(n)}" for key, n in sorted(others.items())) or "none"))
    return "\n".join(lines)


def _everything() -> Any:
    from pynenc.core.records import Filter

    return Filter()


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
