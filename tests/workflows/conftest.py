"""What several modules of these tests begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pynenc.testing import InlineRunner
from tests.workflows.apps import differing


@pytest.fixture
def runner() -> Iterator[InlineRunner]:
    """Runs the workflows of :mod:`tests.workflows.apps.differing`, with the code that they had at first."""
    differing.changed.clear()
    differing.done.clear()
    with InlineRunner(differing.app) as runner:
        yield runner
