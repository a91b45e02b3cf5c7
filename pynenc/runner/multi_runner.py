"""Runners with several worker processes under one supervisor."""

from __future__ import annotations

import os

from pynenc.core.records import Beat
from pynenc.engine import Engine
from pynenc.runner.base import BaseRunner
from pynenc.runner.supervisor import Supervisor


class MultiThreadRunner(BaseRunner):
    """The default: ``processes`` worker processes (0: one a CPU) of ``threads`` threads each, and an event loop in
    each.
    """

    needs_shared_store = True
    _supervisor: Supervisor | None = None

    def threads(self) -> int:
        """Threads in each process."""
        return int(self.conf.threads)

    def processes(self) -> int:
        """Worker processes."""
        return int(self.conf.processes or os.cpu_count() or 1)

    def _run(self, engine: Engine, tasks: tuple[str, ...]) -> None:
        def make_beat(runner_id: str) -> Beat:
            return self._beat(runner_id, tasks, slots=self.threads(), supervised=True)

        group = self._beat(self.runner_id, (), slots=0, supervised=False)
        self._supervisor = Supervisor(
            engine,
            group,
            make_beat,
            self._worker_settings(self.threads()),
            self.processes(),
            self.app.launch_payload(),
            self.conf.heartbeat_seconds,
        )
        if self._is_stopped:
            self._supervisor.stop()
        with self._observed(engine, self._supervisor):
            self._supervisor.run()

    def stop_runner_loop(self) -> None:
        """Begin a graceful stop."""
        self._is_stopped = True
        if self._supervisor:
            self._supervisor.stop()

    def _stop_now(self) -> None:
        if self._supervisor:
            self._supervisor.stop(now=True)


class PersistentProcessRunner(MultiThreadRunner):
    """``processes`` worker processes that run one sync task at a time each, beside an event loop, and live on: for CPU-bound tasks."""

    def threads(self) -> int:
        """One."""
        return 1
