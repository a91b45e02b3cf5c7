"""The health port of real runners, asked over HTTP: ready, live, and what the metrics say."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pynenc.runner.exposition import METRICS
from tests.integration.apps import basic
from tests.integration.conftest import LONG, RunnerProgram, configured, eventually, running

Start = Callable[..., RunnerProgram]
KINDS = ["ThreadRunner", "PersistentProcessRunner", "MultiThreadRunner", "ProcessRunner"]
#: Seconds without a move that make the runners of these tests unready.
LIMIT = 2.5
QUICK = {"HEALTH_PORT": "0", "HEALTH_TIMEOUT": str(LIMIT), "POLL_SECONDS": "0.2", "HEARTBEAT_SECONDS": "0.5"}
_URL = re.compile(r"health and metrics are at http://127\.0\.0\.1:(\d+)")


class Port:
    """A health port that is asked."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def of(cls, program: RunnerProgram) -> Port:
        """That of a runner, once it listens."""
        eventually(lambda: _URL.search(program.log.read_text()), "the runner says where its health port is")
        found = _URL.search(program.log.read_text())
        assert found
        return cls(int(found[1]))

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of one request."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.number, timeout=LONG)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def is_ready(self) -> bool:
        return self.ask("/readyz")[0] == 200

    def is_live(self) -> bool:
        return self.ask("/livez")[0] == 200

    def problems(self) -> list[str]:
        """What /readyz complains about."""
        return json.loads(self.ask("/readyz")[1])["problems"]

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The metrics, as Prometheus would read them: (name, labels) → value."""
        status, text = self.ask("/metrics")
        assert status == 200
        families = list(text_string_to_metric_families(text))
        for family in families:
            name = family.name + ("_total" if family.type == "counter" else "")
            assert METRICS[name] == (family.type, family.documentation)
        return {(each.name, tuple(sorted(each.labels.items()))): each.value for f in families for each in f.samples}

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 for one that is not there."""
        return self.samples().get((name, tuple(sorted(labels.items()))), 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_runner_gets_ready_runs_and_is_counted(start_runner: Start, kind: str) -> None:
    program = start_runner(kind, PROCESSES="2", THREADS="2", **QUICK)
    port = Port.of(program)
    eventually(port.is_ready, "it is ready")
    assert port.ask("/livez")[0] == 200
    assert port.ask("/readyz", "HEAD") == (200, "")
    assert port.ask("/readyz", "POST")[0] == 405
    assert port.ask("/")[0] == 404
    group = basic.add.parallelize([(i, 0) for i in range(50)])
    assert group.get_results(LONG) == list(range(50))
    with pytest.raises(basic.ShopError):
        basic.fail("on purpose").get_result(LONG)
    task, failing = basic.add.task_id.key, basic.fail.task_id.key
    finished = "pynenc_invocations_finished_total"
    eventually(lambda: port.value(finished, task=failing, status="failed") == 1, "the failure is counted")
    eventually(lambda: port.value(finished, task=task, status="success") == 50, "all are counted")
    assert port.value("pynenc_invocation_duration_seconds_count", queue="default") == 51
    assert port.value("pynenc_invocation_duration_seconds_bucket", queue="default", le="+Inf") == 51
    assert port.value("pynenc_invocations_claimed_total") >= 51
    assert port.value("pynenc_claims_total") > 0
    assert port.value("pynenc_runner_slots") == {"MultiThreadRunner": 4}.get(kind, 2)
    assert port.value("pynenc_runner_ready") == 1
    assert port.value("pynenc_store_up") == 1
    assert program.stop() == 0, program.log.read_text()


def test_a_frozen_worker_makes_the_runner_unready_and_leaves_it_live(start_runner: Start) -> None:
    port = Port.of(start_runner(PROCESSES="2", THREADS="1", **QUICK))
    eventually(port.is_ready, "it is ready")
    worker = json.loads(port.ask("/readyz")[1])["workers"][1]["process"]
    os.kill(worker, signal.SIGSTOP)
    try:
        began = time.monotonic()
        eventually(lambda: not port.is_ready(), "it is not ready", within=LIMIT + 4)
        assert time.monotonic() - began < LIMIT + 4
        assert [f"(process {worker}) has not looked for work" in problem for problem in port.problems()] == [True]
        assert port.is_live()
    finally:
        os.kill(worker, signal.SIGCONT)
    eventually(port.is_ready, "it is ready again")


def test_a_store_that_does_not_answer_makes_it_unready_and_leaves_it_live(start_runner: Start, tmp_path: Path) -> None:
    port = Port.of(start_runner(PROCESSES="1", THREADS="1", **QUICK))
    eventually(port.is_ready, "it is ready")
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write now
        eventually(lambda: not port.is_ready(), "it is not ready")
        eventually(lambda: any("the store has not answered for" in each for each in port.problems()), "it says why")
        assert port.is_live()
        other.execute("ROLLBACK")
    eventually(port.is_ready, "it is ready again")


def test_a_worker_whose_slots_are_all_taken_is_ready(start_runner: Start, tmp_path: Path) -> None:
    port = Port.of(start_runner(PROCESSES="1", THREADS="1", **QUICK))
    go, started = tmp_path / "go", tmp_path / "started"
    basic.runs_until(str(go), str(started))
    eventually(started.exists, "the task runs")
    waiting = basic.add(1, 2)
    eventually(port.is_ready, "it is ready")
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + LIMIT + 1 or not port.is_ready(), "time passes")
    assert port.problems() == []
    eventually(lambda: port.value("pynenc_queue_ready", queue="default") == 1, "one waits")
    assert 0 < port.value("pynenc_queue_oldest_seconds", queue="default") < LONG
    assert port.value("pynenc_runner_running") == 1
    go.touch()
    assert waiting.get_result(LONG) == 3


@pytest.mark.parametrize("kind", ["ThreadRunner", "MultiThreadRunner"])
def test_it_is_unready_at_once_when_it_stops_and_live_to_the_end(
    start_runner: Start, tmp_path: Path, kind: str
) -> None:
    program = start_runner(kind, PROCESSES="1", THREADS="1", **QUICK)
    port = Port.of(program)
    eventually(port.is_ready, "it is ready")
    go, started = tmp_path / "go", tmp_path / "started"
    last = basic.runs_until(str(go), str(started))
    eventually(started.exists, "the task runs")
    program.process.send_signal(signal.SIGTERM)
    eventually(lambda: not port.is_ready(), "it is not ready", within=3.0)
    assert "the runner is stopping" in port.problems()
    assert port.is_live()
    go.touch()
    assert last.get_result(LONG)
    assert program.wait() == 0


def test_totals_survive_the_workers_that_made_them(start_runner: Start, tmp_path: Path) -> None:
    port = Port.of(start_runner(PROCESSES="1", THREADS="1", MAX_TASKS_PER_CHILD="10", **QUICK))
    assert basic.add.parallelize([(i, 0) for i in range(35)]).get_results(LONG) == list(range(35))
    task = basic.add.task_id.key
    total = "pynenc_invocations_finished_total"
    eventually(lambda: port.value(total, task=task, status="success") == 35, "what recycled workers did is counted")
    eventually(port.is_ready, "it is ready")
    worker = json.loads(port.ask("/readyz")[1])["workers"][0]["process"]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: port.value("pynenc_worker_deaths_total") == 1, "the death is counted")
    eventually(port.is_ready, "another worker took its place")
    assert port.value(total, task=task, status="success") == 35


def test_what_the_supervisor_settles_is_counted_too(start_runner: Start, tmp_path: Path) -> None:
    port = Port.of(start_runner("PersistentProcessRunner", PROCESSES="1", CANCEL_GRACE="0.1", **QUICK))
    go, started = tmp_path / "go", tmp_path / "started"
    call = basic.runs_until.options(timeout=0.1)(str(go), str(started))
    assert call.wait(LONG)
    failed = call.status.value
    key = basic.runs_until.task_id.key
    eventually(lambda: port.value("pynenc_invocations_finished_total", task=key, status=failed) == 1, "it is counted")


def test_a_port_that_is_taken_is_an_error_in_one_line(start_runner: Start) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        program = start_runner(HEALTH_PORT=str(other.getsockname()[1]))
        assert program.wait() == 2
    assert "change the settings 'health_host' and 'health_port'" in program.log.read_text()
    assert "Traceback" not in program.log.read_text()


@contextmanager
def in_this_process() -> Iterator[Port]:
    """A thread runner of this process with a health port."""
    with configured("memory://", threads=1, health_port=0) as app, running(app):
        found: list[int] = []

        def listens() -> bool:
            server = getattr(app.runner, "health_url", "")
            found[:] = [int(server.rpartition(":")[2])] if server else []
            return bool(found)

        eventually(listens, "it listens")
        yield Port(found[0])


def test_a_program_can_ask_its_own_runner_where_its_port_is() -> None:
    with in_this_process() as port:
        eventually(port.is_ready, "it is ready")
        assert basic.add(1, 2).get_result(LONG) == 3
        assert port.value("pynenc_invocations_finished_total", task=basic.add.task_id.key, status="success") == 1


def test_a_slow_or_endless_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from pynenc.runner import health

    monkeypatch.setattr(health, "PATIENCE", 0.3)
    with in_this_process() as port:
        with closing(socket.create_connection(("127.0.0.1", port.number), timeout=LONG)) as slow:
            slow.sendall(b"GET /livez HTTP/1.1\r\n")
            assert slow.recv(100) == b""
        with closing(socket.create_connection(("127.0.0.1", port.number), timeout=LONG)) as long:
            long.sendall(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
            assert b"414" in long.recv(100)
        others = [socket.create_connection(("127.0.0.1", port.number), timeout=LONG) for _ in range(40)]
        eventually(port_answers(port), "it answers again")
        for other in others:
            other.close()


def port_answers(port: Port) -> Callable[[], bool]:
    """Whether it answers; while too many ask it does not."""

    def answers() -> bool:
        try:
            return port.is_live()
        except OSError:
            return False

    return answers
