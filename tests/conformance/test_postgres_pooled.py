"""The PostgreSQL store honours the contract behind a pooler that gives each transaction to another server process: the clauses in which that could show."""

from __future__ import annotations

import pytest

from pynenc.store.postgres import database
from pynenc.testing import store_suite as suite
from pynenc.testing.servers.pgbouncer import pooled
from pynenc.testing.servers.postgres import empty_url
from tests.conformance.test_postgres import TestPostgresStore as Direct


class TestPooledPostgresStore(
    suite.Joining,
    suite.Sharing,
    suite.Submitting,
    suite.Claiming,
    suite.Finishing,
    suite.Fencing,
    suite.Waiting,
    suite.Watching,
    suite.Listening,
    suite.Beating,
    suite.Recovering,
    suite.Remembering,
    suite.Keeping,
    suite.Racing,
    suite.Closing,
):
    kill_group, connect = Direct.kill_group, Direct.connect

    def make_url(self) -> str:
        return pooled(empty_url())


def test_a_store_that_insists_on_its_session_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not give up its prepared statements."""
    monkeypatch.setattr(database, "UNPREPARED", frozenset())
    ((_, error),) = suite.run_suite(TestPooledPostgresStore, "test_submit_answers_in_order_with_the_ids")
    assert "prepared statement" in str(error)
