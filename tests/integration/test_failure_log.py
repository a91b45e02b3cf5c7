"""What the log says of a failed task: one line, and the traceback below it with every formatter."""

from __future__ import annotations

import logging

import pytest

from pynenc import Pynenc
from pynenc.logs import TextFormatter
from pynenc.testing import InlineRunner
from tests.integration.apps import basic


def test_the_traceback_stands_below_the_line(idle_app: Pynenc, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="pynenc"), InlineRunner(idle_app) as runner:
        basic.fail_builtin("no\nway")
        runner.drain()
    (record,) = [record for record in caplog.records if "failed" in record.getMessage()]
    for formatter in (TextFormatter(), logging.Formatter()):
        lines = formatter.format(record).splitlines()
        assert "fail_builtin" in lines[0]
        assert "Traceback (most recent call last):" in (line.strip() for line in lines[1:])
        assert any("basic.py" in line for line in lines[1:])
