"""Real runners over real stores: every test that asks for ``app`` runs on each combination.

Thread runners are started for each test in this process. Runners with processes are programs of their own, started when the first test needs them and
shared by all: the tests are told apart by their invocations and their files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pynenc import Pynenc
from pynenc.testing.servers import postgres
from tests.integration.apps import basic
from tests.servers import url_for

#: Seconds that no test should need.
LONG = 60.0
ROOT = Path(__file__).parents[2]

#: store, runner class, settings
THREADS = {
    "memory-threads": ("memory", "ThreadRunner", {"threads": 4}),
    "sqlite-threads": ("sqlite", "ThreadRunner", {"threads": 4}),
    "valkey-threads": ("valkey", "ThreadRunner", {"threads": 4}),
    "postgres-threads": ("postgres", "ThreadRunner", {"threads": 4}),
}
#: runner class, settings as environment; the name begins with the store
PROCESSES = {
    "sqlite-processes": ("PersistentProcessRunner", {"PROCESSES": "2"}),
    "sqlite-multi": ("MultiThreadRunner", {"PROCESSES": "2", "THREADS": "3"}),
    "sqlite-fork": ("ProcessRunner", {"PROCESSES": "2"}),
    "valkey-multi": ("MultiThreadRunner", {"PROCESSES": "2", "THREADS": "3"}),
    "postgres-processes": ("PersistentProcessRunner", {"PROCESSES": "2"}),
}


def eventually(condition: Callable[[], object], what: str = "", within: float = LONG) -> None:
    """Wait for what no signal tells; fail after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what or condition}"
        time.sleep(0.002)


# -- in this process -----------------------------------------------------------------------------------------------------
@contextmanager
def configured(
    url: str, runner_cls: str = "ThreadRunner", *, keep: bool = False, **settings: object
) -> Iterator[Pynenc]:
    """The app of the tests on another store, with other settings of its runner; ``keep`` leaves the store as it is, open."""
    app, runner = basic.app, basic.app.conf.runner
    if not keep:
        app.close()
        app.conf.store = url
    before_cls = app.conf.runner_cls
    app.conf.runner_cls = runner_cls
    before = {name: getattr(runner, name) for name in settings}
    for name, value in settings.items():
        setattr(runner, name, value)
    app.runner = None  # type: ignore[assignment]
    try:
        yield app
    finally:
        for name, value in reversed(before.items()):
            setattr(runner, name, value)
        app.conf.runner_cls = before_cls
        app.runner = None  # type: ignore[assignment]
        if not keep:
            app.close()
            app.conf.store = "memory://"


@contextmanager
def running(app: Pynenc) -> Iterator[threading.Thread]:
    """The app's runner at work in a thread of this process."""
    runner = app.runner
    failures: list[BaseException] = []

    def run() -> None:
        try:
            runner.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="runner-under-test")
    thread.start()
    try:
        yield thread
    finally:
        runner.stop_runner_loop()
        thread.join(LONG)
        assert not thread.is_alive(), "the runner did not stop"
        assert not failures, failures
        app.runner = None  # type: ignore[assignment]


def url_of(store: str, folder: Path) -> str:
    """The URL of a store for one test."""
    if store == "valkey":
        return url_for(folder)
    if store == "postgres":
        return postgres.empty_url()
    return "memory://" if store == "memory" else f"sqlite:///{folder / 'test.db'}"


# -- programs of their own -----------------------------------------------------------------------------------------------
class RunnerProgram:
    """``pynenc runner start`` in a process of its own."""

    def __init__(self, url: str, runner_cls: str, log: Path, **settings: str) -> None:
        self.log = log
        environment = {f"PYNENC__RUNNER__{name}": value for name, value in settings.items()}
        environment |= {"PYNENC__STORE": url, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pynenc", "--app", "tests.integration.apps.basic:app", "runner", "start"]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--runner-cls", runner_cls], env={**os.environ, **environment}, stderr=file, cwd=ROOT
            )

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(LONG)

    def stop(self) -> int:
        """End it gracefully; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the runner did not stop:\n{self.log.read_text()}") from None


@pytest.fixture
def start_runner(tmp_path: Path) -> Iterator[Callable[..., RunnerProgram]]:
    """Starts runners of one test in processes of their own, on one SQLite file; what still runs at its end is killed."""
    started: list[RunnerProgram] = []

    def start(runner_cls: str = "MultiThreadRunner", **settings: str) -> RunnerProgram:
        log = tmp_path / f"runner-{len(started)}.log"
        started.append(RunnerProgram(url_of("sqlite", tmp_path), runner_cls, log, **settings))
        return started[-1]

    with configured(url_of("sqlite", tmp_path)) as app:
        app.store.check()
        yield start
    for program in started:
        program.process.kill()
        program.process.wait()


@pytest.fixture(scope="session")
def shared_runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The runners that tests share: name of the combination → URL of the store that it serves."""
    programs: dict[str, tuple[str, RunnerProgram]] = {}

    def get(name: str) -> str:
        if name not in programs:
            folder = tmp_path_factory.mktemp(name)
            runner_cls, settings = PROCESSES[name]
            store = name.partition("-")[0]
            url = postgres.new_url() if store == "postgres" else url_of(store, folder)
            programs[name] = url, RunnerProgram(url, runner_cls, folder / "runner.log", CANCEL_GRACE="1", **settings)
        url, program = programs[name]
        assert program.process.poll() is None, program.log.read_text()
        return url

    yield get
    for _, program in programs.values():
        assert program.stop() == 0, program.log.read_text()


@pytest.hookimpl(tryfirst=True)  # before xdist looks
# -- what tests ask for --------------------------------------------------------------------------------------------------
@pytest.fixture(params=[*THREADS, *PROCESSES])
def app(request: pytest.FixtureRequest, tmp_path: Path, shared_runners: Callable[[str], str]) -> Iterator[Pynenc]:
    """The app with a runner at work, on each store and with each runner."""
    if request.param in PROCESSES:
        with configured(shared_runners(request.param)) as app:
            yield app
        return
    store, runner_cls, settings = THREADS[request.param]
    with configured(url_of(store, tmp_path), runner_cls, **settings) as app, running(app):
        yield app


@pytest.fixture(params=["memory", "sqlite", "valkey", "postgres"])
def idle_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """The app on each store, without a runner."""
    with configured(url_of(request.param, tmp_path), threads=2) as app:
        yield app


@pytest.fixture(params=["memory", "sqlite", "valkey", "postgres"])
def one_slot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pynenc]:
    """The app on each store with a single slot."""
    with configured(url_of(request.param, tmp_path), threads=1, coroutines=1) as app, running(app):
        yield app
