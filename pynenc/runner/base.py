"""What all runners share: identity, settings, signals."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import iscoroutinefunction
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any, Protocol

from pynenc.core.outcome import SECOND
from pynenc.core.queueing import QueuePolicy
from pynenc.core.records import Beat
from pynenc.engine import Engine, upkeep
from pynenc.exceptions import RunnerError, RunnerNotExecutableError, StoreGoneError
from pynenc.runner.launch import engine_of, when_there
from pynenc.runner.settings import WorkerSettings

if TYPE_CHECKING:
    from pynenc.runner.health import Watched

logger = logging.getLogger("pynenc.runner")

#: Seconds that claimed work may wait for a slot before others get it, at most; ``max_pending_seconds`` may say less.
STALE = 0.2
#: Exit code of a runner that was told twice to stop and left work unfinished.
EXIT_FORCED = 3


class Host(Protocol):
    """What a runner needs of the app."""

    @property
    def app_id(self) -> str: ...

    @property
    def conf(self) -> Any: ...

    @property
    def engine(self) -> Engine: ...

    def import_tasks(self) -> tuple[str, ...]:
        """Import the modules that define tasks; the keys of all tasks that are known then."""

    def launch_payload(self) -> bytes:
        """What a child process needs to build the same app."""


class BaseRunner:
    """Executes invocations until it is stopped.

    ``run`` blocks. In the main thread of a process SIGTERM and SIGINT stop it gracefully: claimed work that has not
    started is given back, running tasks get ``shutdown_timeout`` seconds, what is left is handed back for a new
    attempt. A second signal does not wait.
    """

    #: Whether it needs a store that several processes can share.
    needs_shared_store = False

    def __init__(self, app: Host) -> None:
        self.app = app
        self.conf = app.conf.runner
        self.runner_id = self._new_id()
        self.was_forced = False
        #: Where the health port can be asked, while it is at work.
        self.health_url = ""
        self._signals = 0
        self._is_stopped = False
        self._thread: Thread | None = None
        self._has_ended = Event()

    def _new_id(self) -> str:
        """One for each run: the store does not take back what has signed off, and forked processes may run the same object."""
        return f"{self.conf.name or type(self).__name__}@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    # -- public -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Work until stopped.

        :raises RunnerNotExecutableError: the store cannot be shared with the processes that this runner starts.
        :raises RunnerError: it is at work already.
        :raises StoreGoneError: the file of the store was removed or replaced meanwhile.
        """
        # Of a thread of the process that forked this one, nothing is here.
        if self._thread is not None and self._thread.is_alive():
            raise RunnerError(
                f"{self.runner_id} is at work already, in {self._thread.name}: end it with stop_runner_loop(), or make another app.runner"
            )
        self.runner_id = self._new_id()
        previous = self._install_signals()
        self._has_ended.clear()
        self._thread = current_thread()
        try:
            engine = engine_of(self.app, lambda: self._is_stopped)
            if engine is not None:
                self._check_store(engine)
                tasks = self.app.import_tasks()
                when_there(partial(upkeep.declare_triggers, engine), lambda: self._is_stopped)
                self._run(engine, tasks)
        except StoreGoneError as error:
            logger.critical("the runner ends: %s", error)
            raise
        finally:
            self._thread = None
            self._restore_signals(previous)
            self._signals, self._is_stopped = 0, False
            self._has_ended.set()

    def _check_store(self, engine: Engine) -> None:
        if self.needs_shared_store and not engine.store.shared:
            raise RunnerNotExecutableError(
                f"{type(self).__name__} starts processes, which cannot meet in {engine.store.display_url}: "
                "use sqlite:///..., or ThreadRunner in the process that makes the calls"
            )

    def stop_runner_loop(self) -> None:
        """Begin a graceful stop; from any thread. ``run`` returns when it is done."""
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        """Whether :meth:`run` is at work in this process; not in a fork of it."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def close(self) -> None:
        """Stop gracefully and wait for the end, if it runs in another thread of this process."""
        if self.is_running and self._thread is not current_thread():
            self.stop_runner_loop()
            self._has_ended.wait()

    def _run(self, engine: Engine, tasks: tuple[str, ...]) -> None:
        raise NotImplementedError

    def _stop_now(self) -> None:
        raise NotImplementedError

    @contextmanager
    def _observed(self, engine: Engine, watched: Watched) -> Iterator[None]:
        """With the health port and the gauges of OpenTelemetry at work, if they are wanted."""
        conf = self.conf
        with ExitStack() as stack:
            if self.app.conf.otel:
                from pynenc.runner.gauges import Gauges

                stack.enter_context(Gauges(engine.store, watched.vital))
            if conf.health_port is not None:
                from pynenc.runner.health import Health, HealthServer

                health = Health(self.app.app_id, watched, engine.store, conf.health_timeout)
                server = stack.enter_context(HealthServer(conf.health_host, conf.health_port, health))
                stack.callback(setattr, self, "health_url", "")
                self.health_url = server.url
            yield

    # -- signals ------------------------------------------------------------------------------------------------------
    def _install_signals(self) -> dict[signal.Signals, Any]:
        if current_thread() is not main_thread():
            return {}
        return {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    @staticmethod
    def _restore_signals(previous: dict[signal.Signals, Any]) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        """A handler must not take locks that its own thread may hold: a thread does the work, and the talking."""
        self._signals += 1
        if self._signals > 1:
            self.was_forced = True
        Thread(target=self._react, args=(signal.Signals(number).name, self._signals > 1), daemon=True).start()

    def _react(self, name: str, is_forced: bool, /) -> None:  # noqa: FBT001
        if is_forced:
            logger.warning("%s again: stopping at once", name)
            self._stop_now()
        else:
            logger.info("%s: stopping; once more to stop at once", name)
            self.stop_runner_loop()

    # -- pieces -------------------------------------------------------------------------------------------------------
    def _beat(self, runner_id: str, tasks: tuple[str, ...], *, slots: int, supervised: bool) -> Beat:
        from pynenc.version import __version__

        return Beat(
            id=runner_id,
            group=self.runner_id,
            lease=int(self.conf.lease_seconds * SECOND),
            name=self.conf.name or "",
            kind=type(self).__name__,
            host=socket.gethostname(),
            pid=os.getpid(),
            supervised=supervised,
            queues=tuple(self.conf.queues),
            slots=slots,
            tasks=tasks,
            version=__version__,
        )

    def _worker_settings(self, slots: int) -> WorkerSettings:
        conf = self.conf
        has_async = any(iscoroutinefunction(task.func) for task in getattr(self.app, "tasks", {}).values())
        return WorkerSettings(
            slots=slots,
            coroutines=conf.coroutines if has_async else 0,
            queues=tuple(conf.queues),
            policy=QueuePolicy(conf.queue_policy, tuple(conf.queue_weights)),
            max_ahead=conf.max_claim_ahead,
            flush=conf.flush_ms / 1000,
            stale=min(STALE, self.app.conf.max_pending_seconds),
            poll=conf.poll_seconds,
            burst=conf.burst,
            max_tasks=conf.max_tasks_per_child,
            max_memory=conf.max_memory_per_child,
            shutdown_timeout=conf.shutdown_timeout,
            cancel_grace=conf.cancel_grace,
            is_measured=conf.health_port is not None,
        )
