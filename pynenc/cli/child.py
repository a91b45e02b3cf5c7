"""A runner in a process of its own, for commands that show or measure something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds that the process gets to stop.
PATIENCE = 20


@contextmanager
def runner_process(module: str, *arguments: str, store: str | None = None) -> Iterator[None]:
    """``pynenc runner start`` for the app of a module while the body of ``with`` runs.

    :param arguments: further ones of the command. :param store: URL instead of the app's own.
    """
    command = [sys.executable, "-m", "pynenc", "--app", module, "runner", "start", "--log-level", "ERROR", *arguments]
    environment = os.environ if store is None else {**os.environ, "PYNENC__STORE": store}
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
