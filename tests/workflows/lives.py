"""A runner that is killed again and again: ``python -m tests.workflows.lives FOLDER URL WHEN NAME ARGUMENTS``.

A warm process submits one workflow, then forks a runner for each life. In it every write to the store that this workflow has not been killed at yet kills the
process, just before it (``before``) or just after it (``after``). The last life ends the workflow; its result is printed as JSON, with the number of deaths.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from threading import Lock
from typing import Any

from pynenc.core.records import Outcome
from pynenc.core.status import FINAL
from pynenc.runner import thread_runner, worker  # noqa: F401  # once, not in each life
from pynenc.workflow.compensation import LAST_CHANCE
from tests.workflows.apps import shop

#: Lives after which something must be wrong.
MOST_LIVES = 200


class Deadly:
    """A store that kills the process at each write of the workflow, once for each."""

    def __init__(self, store: Any, folder: Path, invocation_id: str, *, is_after: bool) -> None:
        self._store = store
        self._id = invocation_id
        self._deaths = folder / "deaths"
        self._is_after = is_after
        self.lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _at(self, write: str, call: Any) -> Any:
        with self.lock:
            known = self._deaths.read_text().split("\n") if self._deaths.exists() else []
            if write in known:
                return call()
            with self._deaths.open("a") as file:
                file.write(write + "\n")
            if self._is_after:
                call()
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("it is dead")

    def remember(self, scope: str, items: Any, **options: Any) -> Any:
        if LAST_CHANCE in items:  # no step of the workflow: it counts crashes, of which one more is too many
            return self._store.remember(scope, items, **options)
        return self._at(f"remember {scope} {sorted(items)}", lambda: self._store.remember(scope, items, **options))

    def submit(self, new: Any, *args: Any, **options: Any) -> Any:
        return self._at(f"submit {[each.id for each in new]}", lambda: self._store.submit(new, *args, **options))

    def finish(self, runner: str, outcomes: Any, request: Any = None) -> Any:
        own = [ended for ended in outcomes if ended.id == self._id and is_end(ended)]
        if not own:
            return self._store.finish(runner, outcomes, request)
        ends = [f"{ended.status.value} {ended.reason}" for ended in own]
        return self._at(f"finish {ends}", lambda: self._store.finish(runner, outcomes, request))


def is_end(outcome: Outcome) -> bool:
    """Not only given back."""
    return outcome.status in FINAL or outcome.args is not None or outcome.status.value in ("paused", "retry")


def live(folder: Path, invocation_id: str, *, is_after: bool) -> None:
    """One life: run until the workflow has ended, or until death."""
    engine = shop.app.engine
    deadly = Deadly(engine.store, folder, invocation_id, is_after=is_after)
    engine.store = engine.submitter._store = engine.results._store = deadly
    shop.app.conf.runner_cls = "ThreadRunner"
    from threading import Thread

    Thread(target=end_with, args=(invocation_id, deadly), daemon=True).start()
    shop.app.runner.run()
    os._exit(1)


def end_with(invocation_id: str, deadly: Deadly) -> None:
    """End the process when the workflow has ended, unless it dies of that; meanwhile resume it whenever it is paused for a person."""
    invocation = shop.app.get_invocation(invocation_id)
    while not invocation.wait(0.02):
        row = shop.app.engine.get(invocation_id)
        if row.status.value == "paused" and not (row.due or row.waiting_for):
            if awaited := re.search(r"waits for signal (\w+)", row.reason):
                invocation.signal(awaited[1], 7)
            else:
                invocation.resume("yes")
    with deadly.lock:
        os._exit(0)


def report_dead() -> None:
    """Say that no runner lives, as a supervisor does; where the kernel does not tell it, nobody waits for leases to run out."""
    store: Any = shop.app.store
    if store.shared:
        for info in store.runners():
            store.declare_dead(info.beat.group)
    shop.app.close()


def main(folder: Path, url: str, when: str, name: str, arguments: list[Any]) -> None:
    os.environ["WITNESS"] = str(folder / "witness")
    shop.app.conf.store = url
    shop.app.import_tasks()
    invocation = getattr(shop, name)(*arguments)
    invocation_id = str(invocation.invocation_id)
    shop.app.close()
    deaths = 0
    started = time.monotonic()
    for _ in range(MOST_LIVES):
        pid = os.fork()
        if pid == 0:
            try:
                live(folder, invocation_id, is_after=when == "after")
            finally:
                os._exit(2)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"a life ended with {code}"
        deaths += 1
        report_dead()
    answer: dict[str, Any] = {"deaths": deaths, "seconds": time.monotonic() - started}
    try:
        answer["result"] = shop.app.get_invocation(invocation_id).get_result(0)
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer["crashes"] = shop.app.engine.get(invocation_id).crashes
    answer["check"] = shop.app.store.check()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], json.loads(sys.argv[5]))
