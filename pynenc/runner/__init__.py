"""Runners: where invocations are executed. One worker loop, in different surroundings."""

from pynenc.runner.base import BaseRunner
from pynenc.runner.multi_runner import MultiThreadRunner, PersistentProcessRunner
from pynenc.runner.process_runner import ProcessRunner
from pynenc.runner.thread_runner import ThreadRunner


class DummyRunner(BaseRunner):
    """Executes nothing: for processes that only submit."""

    def run(self) -> None:
        """:raises RunnerNotExecutableError: always."""
        from pynenc.exceptions import RunnerNotExecutableError

        raise RunnerNotExecutableError(
            "DummyRunner runs nothing, it is for programs that only make calls: "
            "choose another, as in `pynenc runner start --runner-cls MultiThreadRunner`"
        )

    def stop_runner_loop(self) -> None:
        """Nothing runs."""


RUNNERS: dict[str, type[BaseRunner]] = {
    kind.__name__: kind
    for kind in (ThreadRunner, ProcessRunner, MultiThreadRunner, PersistentProcessRunner, DummyRunner)
}

__all__ = [
    "RUNNERS",
    "BaseRunner",
    "DummyRunner",
    "MultiThreadRunner",
    "PersistentProcessRunner",
    "ProcessRunner",
    "ThreadRunner",
]
