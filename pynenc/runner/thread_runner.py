"""``ThreadRunner``: all slots are threads of this process, which is its own supervisor."""

from __future__ import annotations

import logging
import os
import time
from functools import partial

import msgspec

from pynenc.engine import Engine, upkeep
from pynenc.exceptions import StoreError
from pynenc.runner.base import BaseRunner
from pynenc.runner.keeper import Keeper
from pynenc.runner.numbers import Measures, Numbers, decode
from pynenc.runner.settings import WorkerSettings, at_once
from pynenc.runner.vital import Loop, Vital
from pynenc.runner.worker import Execute, Worker

logger = logging.getLogger("pynenc.runner")


class ThreadRunner(BaseRunner):
    """Runs tasks on threads of the calling process (``max_threads``, else ``threads`` but at least ``min_threads``).

    Its limits: a task that holds the GIL for longer than the lease starves the heartbeats, and a task that kills its
    process ends the runner; others take its work over.
    """

    _worker: Worker | None = None
    _keeper: Keeper
    _registered = ""
    _turned = 0.0

    def slots(self) -> int:
        """How many tasks run at once."""
        return int(self.conf.max_threads or max(self.conf.threads, self.conf.min_threads))

    def _execute(self) -> Execute | None:
        return None

    def _settings(self) -> WorkerSettings:
        """What its worker is told; the limits of child processes are not for it."""
        return msgspec.structs.replace(self._worker_settings(self.slots()), max_tasks=0, max_memory=0)

    def _run(self, engine: Engine, tasks: tuple[str, ...]) -> None:
        beat = self._beat(self.runner_id, tasks, slots=self.slots(), supervised=False)
        self._keeper = Keeper(engine.store, self.conf.heartbeat_seconds, partial(upkeep.renew_triggers, engine))
        self._keeper.beat([beat])
        self._turned = time.monotonic()
        self._registered = beat.id
        self._worker = worker = Worker(engine, self._settings(), beat, keep_up=self._keep_up, execute=self._execute())
        worker.turns.measures = Measures() if worker.settings.is_measured else None
        if self._is_stopped:
            worker.stop()
        try:
            with self._observed(engine, self):
                worker.run()
        finally:
            try:
                engine.store.retire([worker.beat.id])
            except StoreError as error:
                logger.warning("runner %s could not sign off: %s", worker.beat.id, error)

    def _keep_up(self, worker: Worker) -> float:
        """The worker's pump calls this now and then."""
        self._turned = time.monotonic()
        beat = worker.beat
        is_new = beat.id != self._registered
        if worker.was_woken or is_new:
            worker.was_woken = False
            self._keeper.hurry()
        # Always with its tasks: work that another runner gave back because it did not know the task goes on then.
        now = msgspec.structs.replace(beat, running=worker.slots.busy, finished=worker.turns.finished)
        for orders in self._keeper.beat([now]):
            self._registered = beat.id
            if not orders.alive:
                worker.renew_identity()
            for invocation_id in orders.cancel:
                worker.cancel(invocation_id)
            worker.turns.note_suspects(has_suspects=orders.suspects)
        self._keeper.keep_up(worker.beat.id)
        return self._keeper.pause()

    # -- what the health port asks, from other threads -----------------------------------------------------------------
    def vital(self) -> Vital:
        """Its signs of life."""
        worker, keeper = self._worker, self._keeper
        assert worker is not None
        return Vital(
            turned=self._turned,
            asked=keeper.asked,
            answered=keeper.answered,
            is_stopping=self._is_stopped or worker.is_stopping,
            loops=(Loop(worker.beat.id, os.getpid(), worker.moved()),),
            slots=worker.settings.slots,
            running=worker.slots.busy,
        )

    def numbers(self) -> Numbers:
        """Its totals."""
        measures = self._worker.turns.measures if self._worker else None
        numbers = decode(measures.encode()) if measures else Numbers()
        numbers.store_errors += self._keeper.errors
        return numbers

    def stop_runner_loop(self) -> None:
        """Begin a graceful stop."""
        self._is_stopped = True
        if self._worker:
            self._worker.stop()

    def _stop_now(self) -> None:
        if self._worker:
            self._worker.settings = at_once(self._worker.settings)
            self._worker.stop()
