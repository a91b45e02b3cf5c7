"""For all tests: how long an example takes says something of the machine, not of the code; no test leaves a level of the log behind; and
a run that is terminated, as it hangs, names the tests that had begun.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

#: Modules whose tests share a fixture, besides those of ``tests/unit``.
WITH_FIXTURES = {
    "tests/chaos/test_chaos.py",
    "tests/docs/test_deploy.py",
    "tests/integration/test_lost_answers.py",
    "tests/integration/test_pooler.py",
}

settings.register_profile("pynenc", deadline=None)
settings.load_profile("pynenc")


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    logger = logging.getLogger("pynenc")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests are made, and stay: the collector need not look at them, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to start run in the same test process, so that it is started once; small ones go to one by module."""
    for item in items:
        module = item.path.relative_to(item.config.rootpath).as_posix()
        if module.startswith("tests/unit/") or module in WITH_FIXTURES:
            item.add_marker(pytest.mark.xdist_group(module))


_running: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, _end)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pytest.exit(f"terminated in {sorted(_running)}")


def pytest_runtest_logstart(nodeid: str) -> None:
    _running.add(nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    _running.discard(nodeid)
