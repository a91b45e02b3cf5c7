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
from xdist.remote import Producer

from tests.grouping import Grouped

#: Modules with tests that take long.
LONG = ("tests/conformance/test_model_", "tests/chaos/", "tests/workflows/test_lives.py", "tests/docs/test_pages.py")

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


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Grouped:
    """How the tests are shared out to several test processes."""
    return Grouped(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins early, so that no test process is left alone with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


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
