"""``ThreadRunner``: all slots are threads of this process, which is its own supervisor."""

from __future__ import annotations

import msgspec

from pynenc.engine import Engine
from pynenc.runner.base import BaseRunner, at_once
from pynenc.runner.keeper import Keeper
from pynenc.runner.worker import Execute, Worker


class ThreadRunner(BaseRunner):
    """Runs tasks on threads of the calling process (``max_threads``, else ``threads``).

    Its limits: a task that holds the GIL for longer than the lease starves the heartbeats, and a task that kills its process ends the runner; others take its work over.
    """

    _worker: Worker | None = None
    _keeper: Keeper

    def slots(self) -> int:
        """How many tasks run at once."""
        return int(self.conf.max_threads or self.conf.threads)

    def _execute(self) -> Execute | None:
        return None

    def _run(self, engine: Engine, tasks: tuple[str, ...]) -> None:
        beat = self._beat(self.runner_id, tasks, slots=self.slots(), supervised=False)
        self._keeper = Keeper(engine.store, self.conf.heartbeat_seconds)
        self._keeper.beat([beat])
        self._worker = Worker(
            engine, self._worker_settings(self.slots()), beat, beats=self._beats, execute=self._execute()
        )
        if self._signals:
            self._worker.stop()
        try:
            self._worker.run()
        finally:
            engine.store.retire([self._worker.beat.id])

    def _beats(self, worker: Worker) -> None:
        """The worker's pump calls this at every tick."""
        is_new = worker.beat.group != worker.beat.id
        if is_new:
            worker.beat = msgspec.structs.replace(worker.beat, group=worker.beat.id)
        urgent, worker.woken = worker.woken or is_new, False
        beat = msgspec.structs.replace(
            worker.beat, running=worker.slots.busy, finished=worker.finished, tasks=worker.beat.tasks if is_new else ()
        )
        for orders in self._keeper.beat([beat], is_urgent=urgent):
            if not orders.alive:
                worker.renew_identity()
            for invocation_id in orders.cancel:
                worker.cancel(invocation_id)
            worker.note_suspects(orders.suspects)
        self._keeper.keep_up(worker.beat.id)

    def stop_runner_loop(self) -> None:
        """Begin a graceful stop."""
        self._signals = max(self._signals, 1)
        if self._worker:
            self._worker.stop()

    def _stop_now(self) -> None:
        if self._worker:
            self._worker.settings = at_once(self._worker.settings)
            self._worker.stop()
