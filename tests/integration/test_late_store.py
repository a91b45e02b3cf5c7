"""A runner whose server does not answer yet waits for it."""

from __future__ import annotations

from pathlib import Path

from pynenc.testing.servers.redis import RedisServer
from tests.integration.apps import basic
from tests.integration.conftest import RunnerProgram, configured, eventually


def test_a_runner_waits_for_its_server(tmp_path: Path) -> None:
    server = RedisServer("valkey")
    program = RunnerProgram(server.url, "MultiThreadRunner", tmp_path / "runner.log", PROCESSES="1", THREADS="1")
    try:
        eventually(lambda: "does not answer" in program.log.read_text(), "a warning")
        server.start()
        with configured(server.url):
            assert basic.add(1, 2).get_result(30) == 3
    finally:
        program.stop()
        server.close()
