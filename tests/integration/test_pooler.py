"""Real runners and clients behind a pooler that gives each transaction to another server process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pynenc import Pynenc
from pynenc.store.postgres.url import parse
from pynenc.testing.servers import postgres
from pynenc.testing.servers.pgbouncer import pooled
from tests.integration.apps import basic
from tests.integration.conftest import RunnerProgram, configured

RUNNERS = {"MultiThreadRunner": {"PROCESSES": "2", "THREADS": "3"}, "PersistentProcessRunner": {"PROCESSES": "2"}}


@pytest.fixture(scope="module")
def pooled_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pynenc]:
    url, folder = pooled(postgres.new_url()), tmp_path_factory.mktemp("pooled")
    programs = [RunnerProgram(url, name, folder / name, **settings) for name, settings in RUNNERS.items()]
    with configured(url) as app:
        yield app
    for program in programs:
        assert program.stop() == 0, program.log.read_text()


@pytest.mark.usefixtures("pooled_app")
class TestPooled:
    def test_calls_that_wait_for_calls(self) -> None:
        assert basic.fib_group(6).result == 8
        assert basic.fib(5).result == 5

    def test_retries_and_keys(self, tmp_path: Path) -> None:
        assert basic.flaky(str(tmp_path / "flaky"), 2).result == 3
        calls = [basic.two_at_once(str(tmp_path / "two"), "k", str(number)) for number in range(6)]
        assert [call.result for call in calls] == [None] * 6

    def test_a_workflow(self) -> None:
        run = basic.durable(5)
        run.signal("go", "gone")
        assert run.result == [32, 6, "gone"]

    def test_many(self) -> None:
        assert sorted(basic.add.parallelize([(number, 0) for number in range(500)]).results) == list(range(500))

    def test_a_call_in_a_transaction(self, pooled_app: Pynenc) -> None:
        with psycopg.connect(parse(pooled_app.conf.store).conninfo) as connection:
            with pooled_app.transaction(connection):
                call = basic.add(1, 2)
            connection.commit()
        assert call.result == 3

    def test_a_call_that_is_cancelled_while_it_runs(self, tmp_path: Path) -> None:
        call = basic.obeys_cancel(str(tmp_path / "started"))
        while not (tmp_path / "started").exists():
            assert not call.status.is_final()
        call.cancel()
        with pytest.raises(Exception, match="cancel"):
            _ = call.result
