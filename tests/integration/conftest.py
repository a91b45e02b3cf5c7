"""Real runners over real stores: every test that asks for ``app`` runs on each combination."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pynenc import Pynenc
from tests.integration.apps import basic

#: Seconds that no test should need.
LONG = 60.0

#: store, runner class, settings
SETTINGS = {
    "memory-threads": ("memory", "ThreadRunner", {"threads": 4}),
    "sqlite-threads": ("sqlite", "ThreadRunner", {"threads": 4}),
    "sqlite-processes": ("sqlite", "PersistentProcessRunner", {"processes": 2}),
    "sqlite-multi": ("sqlite", "MultiThreadRunner", {"processes": 2, "threads": 3}),
    "sqlite-fork": ("sqlite", "ProcessRunner", {"processes": 2}),
}


@contextmanager
def configured(store: str, runner_cls: str, settings: dict[str, object], folder: Path) -> Iterator[Pynenc]:
    """The app of the tests on another store and runner."""
    app = basic.app
    app.close()
    app.conf.store = "memory://" if store == "memory" else f"sqlite:///{folder / 'test.db'}"
    app.conf.runner_cls = runner_cls
    before = {name: getattr(app.conf.runner, name) for name in settings}
    for name, value in settings.items():
        setattr(app.conf.runner, name, value)
    app.runner = None  # type: ignore[assignment]
    try:
        yield app
    finally:
        app.close()
        for name, value in before.items():
            setattr(app.conf.runner, name, value)
        app.conf.store = "memory://"


@contextmanager
def running(app: Pynenc) -> Iterator[threading.Thread]:
    """The app's runner at work in a thread of this process."""
    runner = app.runner
    thread = threading.Thread(target=runner.run, name="runner-under-test")
    thread.start()
    try:
        yield thread
    finally:
        runner.stop_runner_loop()
        thread.join(LONG)
        assert not thread.is_alive(), "the runner did not stop"
        app.runner = None  # type: ignore[assignment]


@pytest.fixture(params=list(SETTINGS))
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """The app with a runner at work, on each store and with each runner."""
    store, runner_cls, settings = SETTINGS[request.param]
    with configured(store, runner_cls, settings, tmp_path) as app, running(app):
        yield app


@pytest.fixture(params=["memory", "sqlite"])
def idle_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """The app on each store, without a runner."""
    with configured(request.param, "ThreadRunner", {"threads": 2}, tmp_path) as app:
        yield app


@pytest.fixture(params=["memory", "sqlite"])
def one_slot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """The app on each store with a single slot."""
    with configured(request.param, "ThreadRunner", {"threads": 1, "coroutines": 1}, tmp_path) as app, running(app):
        yield app
