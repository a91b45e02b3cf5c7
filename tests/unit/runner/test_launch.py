"""A child whose supervisor dies before it has said what to run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pynenc.runner.child", "pynenc.runner.zygote"])
def test_it_ends_with_one_line(module: str) -> None:
    ours, its = socket.socketpair()
    board = os.open(os.devnull, os.O_RDWR)
    ours.close()
    command = [sys.executable, "-m", module, str(its.fileno()), str(board)]
    done = subprocess.run(
        command, pass_fds=(its.fileno(), board), capture_output=True, text=True, timeout=60, check=False
    )
    its.close()
    os.close(board)
    assert (done.returncode, done.stderr) == (1, "the supervisor went away before it said what to run\n")
