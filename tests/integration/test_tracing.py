"""Spans of real processes: a client, and runners of each kind, with the SDK writing to a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import LONG, ROOT

MODULE = "tests.integration.apps.traced"
KINDS = ["ThreadRunner", "MultiThreadRunner", "ProcessRunner"]


def environment(folder: Path) -> dict[str, str]:
    settings = {
        "PYNENC__STORE": f"sqlite:///{folder / 'test.db'}",
        "PYNENC__RUNNER__PROCESSES": "1",
        "PYNENC__RUNNER__THREADS": "4",
        "TRACED_FILE": str(folder / "spans"),
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **settings}


def run_all(folder: Path, kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the calls of the client, run them, stop gracefully; the spans and the log lines."""
    log = folder / "log"
    command = [sys.executable, "-m", "pynenc", "--app", f"{MODULE}:app", "runner", "start", "--runner-cls", kind]
    with log.open("w") as file:
        runner = subprocess.Popen(command, env=environment(folder), stderr=file, cwd=ROOT)
    try:
        client = f"from {MODULE} import client; client()"
        subprocess.run([sys.executable, "-c", client], env=environment(folder), cwd=ROOT, check=True, timeout=LONG)
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(LONG) == 0, log.read_text()
    finally:
        runner.kill()
        runner.wait()
    spans = [json.loads(line) for line in (folder / "spans").read_text().splitlines()]
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return spans, lines


@pytest.mark.parametrize("kind", KINDS)
def test_spans_of_client_and_runner_belong_together(tmp_path: Path, kind: str) -> None:
    spans, lines = run_all(tmp_path, kind)
    by_id = {span["context"]["span_id"]: span for span in spans}
    (request,) = [span for span in spans if span["name"] == "request"]
    sent = [
        span for span in spans if span["name"] == "send default" and span["parent_id"] == request["context"]["span_id"]
    ]
    assert len(sent) == 3
    for name, failed in (("outer", False), ("async_outer", False), ("fails", True)):
        (processed,) = [span for span in spans if span["name"] == f"process {MODULE}.{name}"]
        (link,) = processed["links"]
        producer = by_id[link["context"]["span_id"]]
        assert producer in sent
        assert producer["attributes"]["messaging.message.id"] == processed["attributes"]["messaging.message.id"]
        assert processed["parent_id"] is None
        assert (processed["status"]["status_code"] == "ERROR") is failed
        if name == "fails":
            assert processed["events"][0]["attributes"]["exception.message"] == "on purpose"
            continue
        children = [span for span in spans if span["parent_id"] == processed["context"]["span_id"]]
        assert [child["name"] for child in children] == ["send default"]
        (grandchild,) = [span for span in spans if span["parent_id"] == children[0]["context"]["span_id"]]
        assert grandchild["name"] == f"process {MODULE}.inner"
        assert grandchild["context"]["trace_id"] == processed["context"]["trace_id"]
        said = [line for line in lines if line.get("span_id") == grandchild["context"]["span_id"].removeprefix("0x")]
        assert [line["message"] for line in said] == ["inner runs"]
        assert said[0]["trace_id"] == grandchild["context"]["trace_id"].removeprefix("0x")
        assert said[0]["invocation_id"] == grandchild["attributes"]["messaging.message.id"]
        assert {"task", "attempt", "runner", "workflow_id"} <= said[0].keys()
