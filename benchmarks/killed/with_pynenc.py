"""This library, with ``pynenc runner start``."""

from __future__ import annotations

import sys

from benchmarks.killed import witness
from benchmarks.killed.contender import Contender, Fate
from pynenc import InvocationStatus, Pynenc

app = Pynenc(app_id="killed", store="memory://")


@app.task
def work(index: int) -> int:
    return witness.work(index)


class Ours(Contender):
    """This library as it comes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        app.conf.store = url

    def submit(self, index: int) -> None:
        self.handles.append(work(index))

    def fates(self) -> list[Fate]:
        return [_fate(invocation.status) for invocation in self.handles]

    def command(self) -> list[str]:
        return [sys.executable, "-m", "pynenc", "--app", __name__, "runner", "start", "--log-level", "ERROR"]

    def environment(self) -> dict[str, str]:
        return {"PYNENC__STORE": self.options["url"]}

    def close(self) -> None:
        app.close()


def _fate(status: InvocationStatus) -> Fate:
    if status == InvocationStatus.SUCCESS:
        return Fate.ANSWERED
    return Fate.FAILED if status.is_final() else Fate.HELD
