"""A runner that stood still between a claim and the start of what it had claimed: another one has done that meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import eventually

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
LEASE = {"PYNENC__RUNNER__LEASE_SECONDS": str(LEASE_SECONDS), "PYNENC__RUNNER__HEARTBEAT_SECONDS": "0.2"}
RUN = "from tests.workflows.apps import shop; shop.app.conf.runner_cls = 'ThreadRunner'; shop.app.runner.run()"
STOPS = f"""
import signal, threading
from tests.workflows.apps import shop
store = shop.app.engine.store
claim, stopped = store.claim, []

def stop_after(request):
    found = claim(request)
    if found.batch and not stopped:
        stopped.append(1)
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # sent to the process, another thread would stop first
    return found

store.claim = stop_after
{RUN}
"""


def start(code: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    environment = (
        os.environ | LEASE | {"PYNENC__STORE": f"sqlite:///{tmp_path}/test.db", "WITNESS": str(tmp_path / "witness")}
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)


def test_what_was_claimed_a_lease_ago_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.workflows.apps import shop

    monkeypatch.setattr(shop.app.conf, "store", f"sqlite:///{tmp_path}/test.db")
    shop.app.close()
    invocation = shop.add(1, 2)
    first = start(STOPS, tmp_path)
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    stood = time.monotonic()
    second = start(RUN, tmp_path)
    try:
        assert invocation.get_result(30) == 3
        # Its lease began with a beat before the claim; what it checks is the time since that claim.
        eventually(lambda: time.monotonic() > stood + LEASE_SECONDS, "it stood still for a lease")
        os.kill(first.pid, signal.SIGCONT)
        another = [shop.add(number, 0) for number in range(3)]
        assert [each.get_result(30) for each in another] == [0, 1, 2]
        second.terminate()
        second.wait(30)
        assert shop.add(9, 0).get_result(30) == 9  # by the first one
        assert (tmp_path / "witness").read_text().count("add 1 2\n") == 1
    finally:
        first.send_signal(signal.SIGCONT)
        for process in (first, second):
            process.terminate()
            process.wait(30)
        shop.app.close()
