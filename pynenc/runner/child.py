"""Entry point of a worker process: ``python -m pynenc.runner.child SOCKET_FD BOARD_FD``, started by a supervisor only.

It obeys lines that come down its socket (``stop``, ``cancel ID``) and says two things itself: ``recycling`` when it
will end and wants a successor now, and ``done`` as its last word, by which the supervisor knows a clean end from a task
that called ``os._exit(0)``.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from threading import Thread

from pynenc.runner.board import MmapBoard
from pynenc.runner.launch import die_with_parent, engine_of, receive_launch
from pynenc.runner.numbers import Measures
from pynenc.runner.worker import Worker

#: Longest pause of the counts on the board, in seconds.
PUBLISH_EVERY = 1.0


def main(socket_fd: int, board_fd: int) -> int:
    """Build the app that the supervisor describes and work until told to stop."""
    connection = socket.socket(fileno=socket_fd)
    for descriptor in (socket_fd, board_fd):
        os.set_inheritable(descriptor, False)
    launch = receive_launch(connection)
    die_with_parent(launch.supervisor)
    app = pickle.loads(launch.app)
    app.import_tasks()
    board = MmapBoard(board_fd)

    measures = Measures() if launch.settings.is_measured else None

    def publish(worker: Worker) -> float:
        board.count(worker.slots.busy, worker.turns.finished, worker.moved())
        if measures:
            board.publish(measures.encode())
        return PUBLISH_EVERY

    engine = engine_of(app)
    assert engine is not None  # nothing ends this before it answers
    worker = Worker(
        engine,
        launch.settings,
        launch.beat,
        keep_up=publish,
        board=board,
        on_recycling=lambda: connection.sendall(b"recycling\n"),
    )
    worker.turns.measures = measures
    Thread(target=_obey, args=(connection, worker), name="pynenc-control", daemon=True).start()
    worker.run()
    publish(worker)
    app.engine.flush_telemetry()  # this process ends without the handlers that would do it
    app.close()
    connection.sendall(b"drained\n" if worker.turns.is_drained else b"done\n")
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
