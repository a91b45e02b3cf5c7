"""For all tests: how long an example takes says something of the machine, not of the code; and no test leaves a level of the log behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("pynenc", deadline=None)
settings.load_profile("pynenc")


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    logger = logging.getLogger("pynenc")
    before = logger.level
    yield
    logger.setLevel(before)
