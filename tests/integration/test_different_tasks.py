"""Two runners of one app that know different tasks: each leaves the other's work alone, and nothing waits."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.integration.apps import first, second
from tests.integration.conftest import LONG, running


def test_runners_that_know_different_tasks_share_a_store(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for app in (first.app, second.app):
            app.close()
            app.conf.store = f"sqlite:///{tmp_path}/shared.db"
            app.conf.runner_cls = "ThreadRunner"
            app.conf.runner.threads = 2
            stack.callback(app.close)
            stack.enter_context(running(app))
        for turn in range(20):
            calls = [first.first(turn), second.second(turn)]
            assert [call.get_result(LONG) for call in calls] == [turn + 1, turn + 2]
        parked = [row for row in first.app.store.queues() if row.parked]
        assert parked == []
