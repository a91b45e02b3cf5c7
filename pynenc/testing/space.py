"""No space, and no right to write: a clear error, nothing lost, and work goes on when the cause is gone.

Each case runs in a forked child, which limits itself: by the number of pages of the database, by the size of files (``RLIMIT_FSIZE``), or by giving up the
right to write. The child returns what is wrong as text.
"""

from __future__ import annotations

import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

from pynenc.core.outcome import SECOND, succeeded
from pynenc.core.records import Beat, ClaimRequest, New
from pynenc.core.status import InvocationStatus, Place
from pynenc.exceptions import StoreError
from pynenc.store import open_store
from pynenc.store.base import Store
from pynenc.store.sqlite.database import PAGE_SIZE
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.report import Progress, Report

Wrong = Iterator[tuple[str, str]]

APP_ID = "space"
#: Bytes of arguments of one invocation, and bytes that are left when space becomes scarce.
SIZE, LEFT = 20_000, 200_000
#: A user who owns nothing, for a process that could write everything.
NOBODY = 65534


def run_space(progress: Progress) -> Report:
    """Run all cases."""
    started = time.monotonic()
    report = Report("space", "-")
    cases = (_pages, _file_size, _read_only_file, _read_only_folder)
    for number, case in enumerate(cases):
        folder = Path(tempfile.mkdtemp(prefix="pynenc-space-"))
        try:
            name = case.__name__.strip("_").replace("_", " ")
            report.violations += [Violation(Kind(kind), f"{name}: {text}") for kind, text in in_child(case, folder)]
        finally:
            rmtree(folder)
        progress("space", number + 1, len(cases))
    report.figures["cases"] = len(cases)
    report.seconds = time.monotonic() - started
    return report


def in_child(case: Callable[[Path], Wrong], folder: Path) -> list[tuple[str, str]]:
    """Run one case in a forked process, so that its limits are its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = list(case(folder))
        except BaseException as error:
            found = [(Kind.UNSOUND.value, f"{type(error).__name__}: {error}")]
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(found))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    found = pickle.loads(answer) if answer else [(Kind.UNSOUND.value, "the process died")]
    return [(str(kind), text) for kind, text in found]


# -- cases -----------------------------------------------------------------------------------------------------------------
def _pages(folder: Path) -> Wrong:
    """The database may not grow any more."""
    store = _store(folder)
    writer: Any = store._database._writer  # type: ignore[attr-defined]
    pages = writer.execute("PRAGMA page_count").fetchone()[0]

    def limit() -> None:
        writer.execute(f"PRAGMA max_page_count={pages + LEFT // PAGE_SIZE}")

    def lift() -> None:
        writer.execute("PRAGMA max_page_count=1000000000")

    return _scarce(store, limit, lift)


def _file_size(folder: Path) -> Wrong:
    """No file may grow any more: what a full disk or a quota does."""
    store = _store(folder)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    most = max(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return _scarce(
        store,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most + LEFT, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)),
    )


def _scarce(store: Store, limit: Callable[[], None], lift: Callable[[], None]) -> Wrong:
    """Fill the space, look what still works, make room, and go on."""
    accepted = [f"before {number}" for number in range(20)]
    store.submit([_new(name) for name in accepted])
    limit()
    error = None
    for number in range(1000):
        try:
            store.submit([_new(f"scarce {number}")])
        except StoreError as raised:
            error = raised
            break
        accepted.append(f"scarce {number}")
    if error is None:
        yield Kind.UNSOUND, "nothing was refused"
    elif len(str(error)) < 20:
        yield Kind.UNSOUND, f"the error says too little: {error}"
    yield from _missing(store, accepted)
    _try_to_work(store)
    lift()
    yield from _sound(store, accepted)


def _try_to_work(store: Store) -> None:
    """What needs no or little space may work or not; it must not harm."""
    for _ in range(5):
        try:
            batch = store.claim(ClaimRequest("r", 5)).batch
            store.finish("r", [succeeded(claimed, b"x" * SIZE, 0, store.clock.now()) for claimed in batch])
        except StoreError:
            pass


def _read_only_file(folder: Path) -> Wrong:
    """The file of the database is not ours to write."""
    return _refused(folder, lambda: (folder / "space.db").chmod(0o444))


def _read_only_folder(folder: Path) -> Wrong:
    """Neither file nor folder is ours to write."""

    def protect() -> None:
        for path in (folder / "space.db", *folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)

    return _refused(folder, protect)


def _refused(folder: Path, protect: Callable[[], None]) -> Wrong:
    """Accept something, take the right to write away, and look how that is said; then all must be there still."""
    store = _store(folder)
    store.submit([_new("before")])
    store.close()
    protect()
    folder.chmod(0o555 if protect.__name__ == "protect" else 0o777)
    yield from in_child(_write_as_nobody, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    yield from _sound(_store(folder), ["before"])


def _write_as_nobody(folder: Path) -> Wrong:
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        store = open_store(f"sqlite:///{folder / 'space.db'}", APP_ID)
        store.open()
        store.submit([_new("forbidden")])
    except StoreError as error:
        if "permission" not in str(error):
            yield Kind.UNSOUND, f"the error does not name the cause: {error}"
    else:
        yield Kind.UNSOUND, "a database without the right to write was written"


# -- what all cases do -----------------------------------------------------------------------------------------------------
def _store(folder: Path) -> Store:
    store = open_store(f"sqlite:///{folder / 'space.db'}", APP_ID)
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=3600 * SECOND, tasks=("space.task",))])
    return store


def _new(name: str) -> New:
    return New(id=name, task="space.task", args=b"x" * SIZE)


def _missing(store: Store, accepted: list[str]) -> Wrong:
    there = {row.id for row in store.get(accepted)}
    for name in accepted:
        if name not in there:
            yield Kind.LOST, f"{name} was accepted and is gone"


def _sound(store: Store, accepted: list[str]) -> Wrong:
    """Everything accepted is there and can be finished; new work is accepted again."""
    yield from _missing(store, accepted)
    for problem in store.check():
        yield Kind.UNSOUND, problem
    store.submit([_new("after")])
    rest = list(store.owned("r"))
    while rest := rest or list(store.claim(ClaimRequest("r", 100)).batch):
        store.finish("r", [succeeded(claimed, b"done", 0, store.clock.now()) for claimed in rest])
        rest = []
    for row in store.get([*accepted, "after"]):
        if row.place is not Place.FINAL or row.status is not InvocationStatus.SUCCESS:
            yield Kind.STUCK, f"{row.id} is {row.status} in the end"
    store.close()
