"""``kill -9`` during commits: a process that works on one SQLite file is killed at a random instant; what it was told must hold.

Theory of operation
-------------------
Every round forks a child from a warm process. The child opens the file (the first rounds also create its schema), then submits, claims, finishes,
cancels and remembers in a loop, and writes two lines to a pipe for each step: what it is about to do, and that it was done. It is killed
after a random time. Then the file is opened again: it must be sound, everything that was done must be there, and what was only begun must be there
entirely or not at all. The work of the dead must come back at once, since the kernel knows that it is dead.
"""

from __future__ import annotations

import os
import random
import select
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree

from pynenc.core.outcome import SECOND, succeeded
from pynenc.core.records import Beat, Change, ChangeKind, Claimed, ClaimRequest, Invocation, New
from pynenc.core.status import FINAL, InvocationStatus, Place
from pynenc.store import open_store
from pynenc.store.base import Store
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.report import Progress, Report

S = InvocationStatus

#: Rounds on one file, and rounds that a process carries out before it reports.
ROUNDS_PER_FILE, CHUNK = 25, 25
#: Seconds within which a child is killed, from its fork and from its first line.
FIRST, LATER = 0.03, 0.06
LEASE = 3600 * SECOND
APP_ID = "kills"


def run_kills(rounds: int, seed: int, progress: Progress, processes: int = 2) -> Report:
    """Carry out so many rounds in several processes."""
    started = time.monotonic()
    report = Report("kill", str(seed))
    sizes = [min(CHUNK, rounds - at) for at in range(0, rounds, CHUNK)]
    totals = {"rounds": 0, "acknowledged": 0, "cut": 0}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        chunks = [pool.submit(run_chunk, seed * 1000 + number, size) for number, size in enumerate(sizes)]
        for future in as_completed(chunks):
            violations, counts = future.result()
            report.violations += [Violation(Kind(kind), text) for kind, text in violations]
            totals = {name: total + counts[name] for name, total in totals.items()}
            progress("kill", totals["rounds"], rounds)
    report.figures.update(totals)
    report.seconds = time.monotonic() - started
    return report


def run_chunk(seed: int, rounds: int) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Some rounds, on a file of their own."""
    folder = Path(tempfile.mkdtemp(prefix="pynenc-kills-"))
    draw = random.Random(seed)
    counts = {"rounds": 0, "acknowledged": 0, "cut": 0}
    violations: list[tuple[str, str]] = []
    try:
        for number in range(rounds):
            url = f"sqlite:///{folder / f'{number // ROUNDS_PER_FILE}.db'}"
            told = Told(_kill_one(url, f"{seed}-{number}", draw))
            violations += [(kind, f"chunk {seed}, round {number}: {text}") for kind, text in examine(url, told)]
            counts["rounds"] += 1
            counts["acknowledged"] += told.done
            counts["cut"] += bool(told.open)
    finally:
        rmtree(folder)
    return violations, counts


def _kill_one(url: str, name: str, draw: random.Random) -> list[str]:
    """Fork a child, kill it after a random time, and return what it said."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(url, name, writer, draw.getrandbits(32))
    os.close(writer)
    is_early = draw.random() < 0.15
    select.select([reader], [], [], draw.random() * FIRST if is_early else 10.0)
    if not is_early:
        time.sleep(draw.random() * LATER)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode().splitlines()


# -- the child -------------------------------------------------------------------------------------------------------------
def _work(url: str, name: str, pipe: int, seed: int) -> None:
    """Work until killed; an error is the last thing said."""
    try:
        store = open_store(url, APP_ID)
        store.open()
        Child(store, name, pipe, seed).run()
    except BaseException as error:
        os.write(pipe, f"! {type(error).__name__}: {error}\n".encode())
    os._exit(1)


class Child:
    """Steps of a runner and a client in one."""

    def __init__(self, store: Store, name: str, pipe: int, seed: int) -> None:
        self._store = store
        self._name = name
        self._pipe = pipe
        self._random = random.Random(seed)
        self._count = 0
        self._claimed: list[Claimed] = []

    def run(self) -> None:
        """Never ends."""
        self._store.heartbeat([Beat(id=self._name, group=self._name, lease=LEASE, tasks=("kill.task",))])
        self._say("up")
        while True:
            self._random.choice((self._submit, self._submit, self._turn, self._turn, self._cancel, self._remember))()

    def _say(self, *words: str) -> None:
        os.write(self._pipe, (" ".join(words) + "\n").encode())

    def _submit(self) -> None:
        """``+`` ids: submitted together."""
        batch = [self._new() for _ in range(self._random.choice((1, 2, 20)))]
        ids = [row.id for row in batch]
        self._say("+", *ids)
        self._store.submit(batch)
        self._say("done")

    def _new(self) -> New:
        self._count += 1
        key = self._random.choice((None, None, "key"))
        return New(
            id=f"{self._name}.{self._count}",
            task="kill.task",
            args=b"a" * self._random.choice((10, 2000)),
            running_key=key,
            running_limit=2,
        )

    def _turn(self) -> None:
        """``=`` ids: finished together, with the next claim in the same transaction."""
        now = self._store.clock.now()
        outcomes = [succeeded(claimed, b"result of " + claimed.id.encode(), now, now) for claimed in self._claimed]
        self._say("=", *(claimed.id for claimed in self._claimed))
        request = ClaimRequest(self._name, self._random.choice((1, 5, 30)))
        finished = self._store.finish(self._name, outcomes, request)
        self._say("done", *finished.lost)
        self._claimed = list(finished.claim.batch)

    def _cancel(self) -> None:
        """``-`` id: cancelled, unless it was claimed before."""
        name = f"{self._name}.{self._count}"
        if self._count and all(claimed.id != name for claimed in self._claimed):
            self._say("-", name)
            (answer,) = self._store.amend([name], Change(ChangeKind.CANCEL))
            self._say("done", *([] if answer.accepted else [name]))

    def _remember(self) -> None:
        """``:`` scope: a value, written once."""
        self._count += 1
        scope = f"{self._name}.{self._count}"
        self._say(":", scope)
        self._store.remember(scope, {"value": scope.encode()}, once=True)
        self._say("done")


# -- afterwards ------------------------------------------------------------------------------------------------------------
class Told:
    """What a child said: steps that were done, and the one that was cut."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.error = ""
        self.steps: list[tuple[str, frozenset[str]]] = []
        self.open: tuple[str, frozenset[str]] | None = None
        for line in lines:
            word, *ids = line.split(" ")
            if word == "!":
                self.error = line
            elif word == "done" and self.open is not None:
                self.steps.append((self.open[0], self.open[1] - set(ids)))
                self.open = None
            elif word != "up":
                self.open = (word, frozenset(ids))

    @property
    def done(self) -> int:
        """How many steps were acknowledged."""
        return len(self.steps)

    def ids(self, *words: str) -> frozenset[str]:
        """What was acknowledged by these words."""
        return frozenset().union(*(ids for word, ids in self.steps if word in words))


def examine(url: str, told: Told) -> Iterator[tuple[str, str]]:
    """Open the file again; everything that is wrong with it."""
    if told.error:
        yield Kind.UNSOUND, f"the child failed: {told.error}"
    store = open_store(url, APP_ID)
    store.open()
    try:
        for problem in store.check():
            yield Kind.UNSOUND, problem
        yield from _check_rows(store, told)
        yield from _check_values(store, told)
        yield from _check_recovery(store)
    finally:
        store.close()


def _check_rows(store: Store, told: Told) -> Iterator[tuple[str, str]]:
    cut = told.open[1] if told.open else frozenset()
    known = told.ids("+", "=", "-")
    rows = {row.id: row for row in store.get(sorted(known | cut))}
    for name in sorted(known - rows.keys()):
        yield Kind.LOST, f"{name} was accepted and is gone"
    for name in sorted(told.ids("=") & rows.keys()):
        if (rows[name].status, rows[name].payload) != (S.SUCCESS, b"result of " + name.encode()):
            yield Kind.LOST, f"{name} was finished and is {rows[name].status}, with {rows[name].payload!r}"
    for name in sorted(told.ids("-") & rows.keys()):
        if rows[name].status is not S.CANCELLED:
            yield Kind.LOST, f"{name} was cancelled and is {rows[name].status}"
    if told.open and len({_is_done(rows.get(name), told.open[0]) for name in cut}) > 1:
        yield Kind.UNSOUND, f"only a part of {told.open} was done"


def _is_done(row: Invocation | None, word: str) -> bool:
    """Whether a step that was cut was carried out for a row."""
    return row is not None and (word == "+" or row.status in FINAL)


def _check_values(store: Store, told: Told) -> Iterator[tuple[str, str]]:
    for scope in sorted(told.ids(":")):
        if store.recall(scope) != {"value": scope.encode()}:
            yield Kind.LOST, f"the value of {scope} was remembered and is {store.recall(scope)}"


def _check_recovery(store: Store) -> Iterator[tuple[str, str]]:
    """The dead own nothing any more, once somebody has looked."""
    examiner = f"examiner-{store.clock.now()}"
    store.heartbeat([Beat(id=examiner, group=examiner, lease=LEASE)])
    dead = [info.beat.id for info in store.runners() if info.beat.id != examiner]
    owned = {claimed.id for runner in dead for claimed in store.owned(runner)}
    back = {item.id for item in store.recover(examiner, 10_000, b"worker lost")}
    for name in sorted(owned - back):
        yield Kind.STUCK, f"{name} is still owned by a process that is dead"
    for row in store.get(sorted(back)):
        if row.place is Place.CLAIMED:
            yield Kind.STUCK, f"{row.id} was taken back and is still claimed"
    store.retire([examiner])
