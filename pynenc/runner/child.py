"""Entry point of a worker process: ``python -m pynenc.runner.child SOCKET_FD BOARD_FD``, started by a supervisor only."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from threading import Thread

from pynenc.runner.board import MmapBoard
from pynenc.runner.launch import die_with_parent, receive_launch
from pynenc.runner.worker import Worker


def main(socket_fd: int, board_fd: int) -> int:
    """Build the app that the supervisor describes and work until told to stop."""
    connection = socket.socket(fileno=socket_fd)
    launch = receive_launch(connection)
    die_with_parent(launch.supervisor)
    app = pickle.loads(launch.app)
    app.import_tasks()
    board = MmapBoard(board_fd)
    worker = Worker(
        app.engine, launch.settings, launch.beat, beats=lambda w: board.count(w.slots.busy, w.finished), board=board
    )
    Thread(target=_obey, args=(connection, worker), name="pynenc-control", daemon=True).start()
    worker.run()
    app.close()
    return 0


def _obey(connection: socket.socket, worker: Worker) -> None:
    """Read orders, a line each; without a supervisor there is no reason to live."""
    for line in connection.makefile("r"):
        order, _, subject = line.strip().partition(" ")
        if order == "stop":
            worker.stop()
        elif order == "cancel":
            worker.cancel(subject)
    os._exit(1)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of tasks that never end must not keep the process.
    os._exit(code)
