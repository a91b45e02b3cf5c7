"""What the log says of a failed task: one line, and the traceback below it with every formatter; and of nothing to do: nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pynenc import Pynenc
from pynenc.logs import TextFormatter
from pynenc.testing import InlineRunner
from tests.integration.apps import basic
from tests.integration.conftest import configured, eventually, running, url_of


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


@pytest.mark.parametrize(("store", "kind"), [("memory", "ThreadRunner"), ("sqlite", "MultiThreadRunner")])
def test_an_idle_runner_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture, store: str, kind: str) -> None:
    settings = {"poll_seconds": 0.05, "heartbeat_seconds": 0.05, "processes": 1}
    with configured(url_of(store, tmp_path), kind, **settings) as app, running(app):
        assert basic.add(1, 2).get_result(60) == 3
        with caplog.at_level(logging.DEBUG, logger="pynenc"):
            for _ in range(5):
                before = [info.seen for info in app.store.runners()]
                eventually(lambda: [info.seen for info in app.store.runners()] != before, "a heartbeat")  # noqa: B023
            assert caplog.messages == []
