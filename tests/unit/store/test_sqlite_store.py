"""What is special about the SQLite store: its file, its durability, its signs of life, forks, and callers that meet."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from pynenc.core.outcome import released
from pynenc.core.reaction import Reaction
from pynenc.core.records import (
    UNKNOWN_TASK,
    Beat,
    Blob,
    Change,
    ChangeKind,
    ClaimRequest,
    Filter,
    New,
    Outcome,
    Page,
    Purge,
    Rate,
)
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, QueueFullError, SchemaError, StoreError
from pynenc.store.base import SystemClock
from pynenc.store.sqlite import SqliteStore
from pynenc.store.sqlite.board import WAITS, Board, bits_of
from pynenc.store.sqlite.damage import BROKEN
from pynenc.store.sqlite.signs import Signs
from pynenc.testing.clock import SECOND, VirtualClock

LEASE = 15_000_000
DAY = 86_400 * SECOND


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db", "app")
    store.open()
    yield store
    store.close()


def new(name: str, **fields: object) -> New:
    return New(id=name, task="m.t", args=b"{}", **fields)  # type: ignore[arg-type]


# -- the URL and the file ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite://host/a.db", "sqlite:///a.db?mode=ro", "sqlite:///a.db?synchronous=maybe"],
)
def test_a_url_that_names_no_file_or_unknown_options_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite"):
        SqliteStore(url, "app")


def test_a_relative_url_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert SqliteStore("sqlite:///sub/with%20space.db", "app").path == tmp_path / "sub" / "with space.db"


def test_only_the_owner_can_read_the_file_and_enter_its_folder(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/new/a.db", "app")
    store.open()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    store.close()


@pytest.mark.parametrize(
    ("option", "level"), [("", 1), ("?synchronous=full", 2), ("?synchronous=off", 0), ("?synchronous=FULL", 2)]
)
def test_durability_is_what_the_url_says(tmp_path: Path, option: str, level: int) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db{option}", "app")
    store.open()
    found = store._database.write(lambda tx: tx.value("PRAGMA synchronous"))
    assert found == level
    store.close()


def test_full_is_kept_for_what_was_accepted_and_not_for_claims(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db?synchronous=full", "app")
    store.open()
    seen = [
        store._database.write(lambda tx: tx.value("PRAGMA synchronous"), durable=durable)
        for durable in (True, False, False, True)
    ]
    assert seen == [2, 1, 1, 2]
    store.close()


def test_the_setting_reaches_the_store(tmp_path: Path) -> None:
    from pynenc import Pynenc

    app = Pynenc({"sqlite": {"synchronous": "full"}}, app_id="durable", store=f"sqlite:///{tmp_path}/a.db")
    assert app.store.display_url.endswith("?synchronous=full")
    app.close()


def test_a_later_schema_is_refused(store: SqliteStore) -> None:
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaError, match=r"version 99.*upgrade"):
        store.open()


def test_a_file_of_before_there_were_reactions_gets_what_it_lacks(store: SqliteStore) -> None:
    store.submit([new("a")])
    store.close()
    with closing(sqlite3.connect(store.path)) as file:
        file.execute("DROP TABLE a1_reaction")
    store.open()
    store.subscribe("o", [Reaction("m.t", InvocationStatus.CANCELLED, new(""), b"")])
    store.amend(["a"], Change(ChangeKind.CANCEL))
    assert store.get(["o~a~cancelled~0~0"])


def test_a_file_from_before_there_was_an_index_of_what_expires(store: SqliteStore) -> None:
    store.submit([new("a", expires=store.clock.now() - 1_000_000), new("b")])
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DROP INDEX a1_expiring")
    store.open()
    assert (store.expire(10), [row.status.value for row in store.get(["a", "b"])]) == (1, ["cancelled", "registered"])


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(SchemaError, match="another program"):
        SqliteStore(f"sqlite:///{tmp_path}/other.db", "app").open()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("a letter to a friend, long enough to be no empty file\n" * 100)
    with pytest.raises(StoreError, match="no sound SQLite database"):
        SqliteStore(f"sqlite:///{tmp_path}/text.db", "app").open()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        SqliteStore(f"sqlite:///{tmp_path}/file/a.db", "app").open()


# -- several processes -------------------------------------------------------------------------------------------------
HOLDER = """
import sys
import time
from pynenc.core.records import Beat
from pynenc.store.sqlite import SqliteStore
from pynenc.store.sqlite.damage import BROKEN
store = SqliteStore(sys.argv[1], "app")
store.open()
store.heartbeat([Beat(id="victim", group="victim", lease=10**9, tasks=("m.t",))])
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_death_of_a_process_is_certain_at_once(store: SqliteStore) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.display_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    store.submit([new("a")])
    store.heartbeat([Beat(id="me", group="me", lease=LEASE, tasks=("m.t",))])
    store.claim(ClaimRequest("victim", 1))
    assert store.recover("me", 10, b"lost") == []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [(found.id, found.runner) for found in store.recover("me", 10, b"lost")] == [("a", "victim")]
    process.stdin.close()  # type: ignore[union-attr]
    process.stdout.close()


def test_a_sign_of_life_goes_with_its_group(tmp_path: Path) -> None:
    mine, other = Signs(tmp_path, "app"), Signs(tmp_path, "app")
    mine.hold("g")
    assert not other.is_dead("g")
    mine.release("g")
    assert other.is_dead("g")
    other.forget("g")
    assert not other.is_dead("g")
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_opens_the_store_for_itself(store: SqliteStore) -> None:
    store.submit([new("parent")])
    child = os.fork()
    if child == 0:
        try:
            store.submit([new("child")])
            found = {row.id for row in store.find(Filter()).invocations}
            os._exit(0 if found == {"parent", "child"} else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.submit([new("after")])
    assert {row.id for row in store.find(Filter()).invocations} == {"parent", "child", "after"}
    assert store.check() == []


def test_what_a_forked_child_writes_outlives_the_parents_store(store: SqliteStore, tmp_path: Path) -> None:
    """SQLite would take the parent's locks for the child's own: who closes last then removes the log that the child goes on writing."""
    store.submit([new("parent")])
    (is_open, opened), (is_closed, closed) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            store.submit([new("child")])
            os.write(opened, b"x")
            os.read(is_closed, 1)
            store.submit([new("after")])
            os._exit(0)
        finally:
            os._exit(2)
    os.read(is_open, 1)
    store.close()
    os.write(closed, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.open()
    assert {row.id for row in store.find(Filter()).invocations} == {"parent", "child", "after"}


@pytest.mark.parametrize("does", ["writes", "reads"])
def test_a_fork_waits_for_what_another_thread_does(store: SqliteStore, does: str) -> None:
    """What is locked within SQLite would stay so for ever in the child."""
    begun, may_end, ended = Event(), Event(), Event()

    def work(_tx: object) -> None:
        begun.set()
        assert may_end.wait(20)
        ended.set()

    def fork() -> bool:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                store.submit([new("child")])
                os._exit(store.find(Filter(), Page(1)).invocations[0].id != "child")
            finally:
                os._exit(2)
        return ended.is_set() and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    act = store._database.write if does == "writes" else store._database.read
    with ThreadPoolExecutor(2) as pool:
        acting = pool.submit(act, work)
        assert begun.wait(20)
        forking = pool.submit(fork)
        with pytest.raises(TimeoutError):
            forking.result(0.2)
        may_end.set()
        acting.result(20)
        assert forking.result(20)


@pytest.mark.filterwarnings("ignore:Exception ignored in")
def test_a_fork_that_a_signal_interrupts_leaves_the_store_usable(store: SqliteStore) -> None:
    """Python forks all the same, and says nothing to anybody."""
    begun, may_end = Event(), Event()

    def work(_tx: object) -> None:
        begun.set()
        assert may_end.wait(20)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt_the_fork() -> None:
        while not store._database._making.locked():
            time.sleep(0.001)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(2) as pool:
            reading = pool.submit(store._database.read, work)
            assert begun.wait(20)
            pool.submit(interrupt_the_fork)
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert not reading.done()
            may_end.set()
            reading.result(20)
            pool.submit(store.submit, [new("after")]).result(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert store.check() == []


def test_forks_beside_threads_that_read_and_write(store: SqliteStore) -> None:
    is_over = Event()

    def act() -> None:
        while not is_over.is_set():
            store.submit([new(os.urandom(8).hex())])
            store.find(Filter(), Page(1))

    with ThreadPoolExecutor(2) as pool:
        acting = [pool.submit(act) for _ in range(2)]
        for index in range(20):
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(20)
                    store.submit([new(f"child {index}")])
                    os._exit(0)
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        is_over.set()
        for each in acting:
            each.result(20)
    assert store.check() == []


# -- callers that meet -------------------------------------------------------------------------------------------------
def test_callers_that_meet_are_served_together_and_fail_alone(store: SqliteStore) -> None:
    barrier = Barrier(16)

    def call(index: int) -> str:
        barrier.wait()
        try:
            return store.submit([new(f"n{index:02}")], max_queue_length=10)[0].id
        except QueueFullError:
            return "refused"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(16)))
    accepted = sorted(answer for answer in answers if answer != "refused")
    assert len(accepted) == 10
    assert sorted(row.id for row in store.find(Filter()).invocations) == accepted
    assert store.check() == []


# -- the rows ----------------------------------------------------------------------------------------------------------
def test_the_usual_way_of_a_call_writes_no_history(store: SqliteStore) -> None:
    store.heartbeat([Beat(id="me", group="me", lease=LEASE, tasks=("m.t",))])
    store.submit([new("a")])
    (claimed,) = store.claim(ClaimRequest("me", 1)).batch
    started = SystemClock().now()
    store.finish("me", [Outcome(id="a", attempt=1, status=InvocationStatus.SUCCESS, payload=b"1", started=started)])
    assert claimed.attempt == 1
    assert store._database.read(lambda tx: tx.value("SELECT count(*) FROM $hist")) == 0
    assert [entry.status for entry in store.history(["a"])] == ["registered", "pending", "running", "success"]


def test_large_arguments_are_not_written_again_with_every_change(store: SqliteStore) -> None:
    args = b"x" * 100_000
    store.submit([New(id="a", task="m.t", args=args)])
    assert store._database.read(lambda tx: tx.value("SELECT args FROM $inv")) is None
    store.heartbeat([Beat(id="me", group="me", lease=LEASE, tasks=("m.t",))])
    assert [claimed.args for claimed in store.claim(ClaimRequest("me", 1)).batch] == [args]
    assert [claimed.args for claimed in store.owned("me")] == [args]
    assert store.get(["a"])[0].args == args


def test_a_slot_of_the_board_that_was_used_before_waits_for_nothing_special(tmp_path: Path) -> None:
    """Whoever knows no filters only says that he waits: then he is woken for any id."""
    board = Board(tmp_path)
    taken = board.take_slot()
    assert taken is not None
    slot, receiver = taken
    board.wait(slot, bits_of(["x"]))
    assert (board.waiting(["x"]), board.waiting(["y"])) == ([slot], [])
    board.free(slot)
    board.marks[WAITS + slot] = 1
    assert board.waiting(["y"]) == [slot]
    receiver.close()
    board.close()


# -- rows that cannot be read ------------------------------------------------------------------------------------------
def write_by_hand(store: SqliteStore, name: str, change: str) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE a1_inv SET {change} WHERE id = ?", (name,))


@pytest.mark.parametrize(
    "change",
    [
        "tags = '{{{'",
        "tags = '{}'",
        "blobs = x'ff'",
        "special = 1, expires = 'soon'",
        "special = 2",
        "attempt = 'x'",
        "attempt = 'x', args = NULL, task = x'ff00', timeout = 'x', priority = 'high', running_key = x'00', status = 77, tags = 5",
    ],
)
def test_a_row_that_cannot_be_read_fails_and_stands_in_nobodys_way(store: SqliteStore, change: str) -> None:
    store.heartbeat([Beat(id="r", group="r", lease=LEASE, tasks=("m.t",))])
    store.submit([new("a", running_key="k", registration_key="r"), new("b", running_key="k"), new("c"), new("w")])
    (waiter,) = store.claim(ClaimRequest("r", 1, ids=("w",))).batch
    store.finish("r", [Outcome(id="w", attempt=waiter.attempt, status=InvocationStatus.PAUSED, awaits=("a",), ended=1)])
    write_by_hand(store, "a", change)
    assert any(problem.startswith("a cannot be read") for problem in store.check())
    assert {claimed.id for claimed in store.claim(ClaimRequest("r", 9)).batch} == {"b", "c", "w"}
    (row,) = store.get(["a"])
    assert (row.status, row.reason) == (InvocationStatus.FAILED, "its row in the store cannot be read")
    assert store.check() == []
    assert store.submit([new("d", registration_key="r")])[0].id == "d"


@pytest.mark.parametrize("change", ["entries = 'x'", "entries = 'x', tags = '[1]'", "result_ttl = 'x'"])
def test_damaged_rows_wherever_they_are_stop_no_operation(store: SqliteStore, change: str) -> None:
    store.heartbeat([Beat(id="r", group="r", lease=LEASE), Beat(id="dead", group="dead", lease=LEASE)])
    store.submit([new(name) for name in ("claimed", "suspended", "awaited", "retired", "sound", "unknown")])
    past = store.clock.now() - 1
    store.submit([new("overdue", expires=past), new("overdue too", expires=past), new("cancelled")])
    for name, runner in (("claimed", "dead"), ("retired", "r"), ("suspended", "r"), ("awaited", "r"), ("unknown", "r")):
        (claimed,) = store.claim(ClaimRequest(runner, 1, ids=(name,))).batch
        if name == "suspended":
            ended = Outcome(id=name, attempt=1, status=InvocationStatus.PAUSED, awaits=("awaited",), ended=1)
            assert not store.finish(runner, [ended]).lost
        if name == "unknown":
            assert not store.finish(runner, [released(claimed, UNKNOWN_TASK)]).lost

    write_by_hand(store, "unknown", change)
    store.heartbeat([Beat(id="knows", group="knows", lease=LEASE, tasks=("m.t",))])
    write_by_hand(store, "overdue", change)
    store.expire(10)
    assert store.get(["overdue too"])[0].status is InvocationStatus.CANCELLED
    write_by_hand(store, "claimed", change)
    store.declare_dead("dead")
    store.recover("r", 10, b"")
    write_by_hand(store, "suspended", change)
    assert not store.finish("r", [Outcome(id="awaited", attempt=1, status=InvocationStatus.SUCCESS, ended=1)]).lost
    write_by_hand(store, "retired", change)
    store.owned("r")
    store.retire(["r"])
    write_by_hand(store, "cancelled", change)
    store.amend(["cancelled"], Change(ChangeKind.CANCEL))
    assert store._database.query(BROKEN) == [], "nothing that can stop anybody is left"
    assert [claimed.id for claimed in store.claim(ClaimRequest("knows", 9)).batch][:1] == ["sound"]


def test_claims_of_rates_are_forgotten_with_their_rows_or_a_month_later(tmp_path: Path) -> None:
    clock = VirtualClock()
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db", "app", clock)
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=100 * DAY)])
    store.submit(
        [
            new("a", rate=Rate("short", 1, SECOND)),
            new("b", rate=Rate("long", 1, DAY)),
            new("c", rate=Rate("long", 2, SECOND)),
        ]
    )
    while claimed := store.claim(ClaimRequest("r", 3)).batch:
        store.finish(
            "r", [Outcome(id=each.id, attempt=each.attempt, status=InvocationStatus.SUCCESS) for each in claimed]
        )

    def purged(seconds: int) -> list[str]:
        clock.advance(seconds)
        store.purge(Purge(ended_before=clock.now()))
        with closing(sqlite3.connect(store.path)) as connection:
            return [key for (key,) in connection.execute("SELECT key FROM a1_rate")]

    assert purged(10) == ["long", "long"]
    assert purged(DAY // SECOND) == ["long", "long"], "their rows are gone already"
    assert purged(30 * DAY // SECOND) == []
    store.close()


def test_a_purge_looks_once_for_the_claims_of_a_rate(tmp_path: Path) -> None:
    clock, instructions = VirtualClock(), []
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db", "app", clock)
    store.open()
    store.heartbeat([Beat(id="r", group="r", lease=100 * DAY)])
    for count in (50, 200):
        store.submit([new(f"{n} of {count}", rate=Rate("k", count, SECOND)) for n in range(count)])
        while claimed := store.claim(ClaimRequest("r", count)).batch:
            store.finish(
                "r", [Outcome(id=each.id, attempt=each.attempt, status=InvocationStatus.SUCCESS) for each in claimed]
            )
        clock.advance(2)
        done: list[None] = []
        writer: Any = store._database._writer
        writer.set_progress_handler(lambda done=done: done.append(None), 1)
        assert store.purge(Purge(ended_before=clock.now())).invocations == count
        instructions.append(len(done))
    assert instructions[1] < 6 * instructions[0]
    store.close()


def test_the_end_of_a_damaged_row_is_reacted_to_and_lets_go_of_its_blobs(store: SqliteStore) -> None:
    store.heartbeat([Beat(id="r", group="r", lease=LEASE)])
    store.subscribe("o", [Reaction("m.t", InvocationStatus.FAILED, new(""), b"")])
    store.submit([new("a", blobs=("b",)), new("kept", blobs=("c",))], [Blob("b", b"x", 1), Blob("c", b"y", 1)])
    write_by_hand(store, "a", "blobs = '{{{'")
    write_by_hand(store, "kept", "tags = '{{{'")
    assert [claimed.id for claimed in store.claim(ClaimRequest("r", 9)).batch] == [
        "o~a~failed~0~0",
        "o~kept~failed~0~0",
    ]
    assert store.purge(Purge(blob_grace=-1)).blobs == 1
    assert list(store.get_blobs(["b", "c"])) == ["c"]


@pytest.mark.parametrize("wanted", [Purge(blob_grace=-1), Purge(ended_before=2**60), Purge(everything=True)])
@pytest.mark.parametrize(
    "change", ["blobs = '{{{'", "blobs = '[1]'", "blobs = 5", "blobs = x'ff'", "tags = '{{{'", "reason = x'ff'"]
)
def test_a_damaged_final_keeps_no_purge_from_its_end(
    store: SqliteStore, change: str, wanted: Purge, caplog: pytest.LogCaptureFixture
) -> None:
    store.submit([new("a", blobs=("b",), result_ttl=1), new("sound", result_ttl=1)], [Blob("b", b"x", 1)])
    assert len(store.amend(["a", "sound"], Change(ChangeKind.CANCEL))) == 2
    write_by_hand(store, "a", change)
    while store.purge(wanted).more:
        pass
    store.purge(Purge(blob_grace=-1))
    assert store.find(Filter()).invocations == ()
    assert store.get_blobs(["b"]) == {}
    assert caplog.messages == (
        ["removed although their rows in the store were damaged: a"] if "blobs" in change else []
    )


def test_a_search_that_does_not_help_is_not_repeated_at_once(store: SqliteStore) -> None:
    attempts: list[int] = []

    def broken(_: object) -> None:
        attempts.append(1)
        raise ValueError("a defect")

    for expected in (2, 3, 4):
        with pytest.raises(ValueError, match="a defect"):
            store._careful(broken)
        assert len(attempts) == expected


def test_a_row_that_another_process_ended_meanwhile_stops_nobody(store: SqliteStore) -> None:
    store.submit([new("a")])
    write_by_hand(store, "a", "entries = 'x'")
    attempts: list[int] = []

    def meanwhile(_: object) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("damaged")
        return "done"

    assert store._careful(meanwhile) == "done"
    attempts.clear()
    assert store._careful(meanwhile) == "done", "nothing was found, as it had ended"


def test_a_row_that_cannot_be_shown_is_named(store: SqliteStore) -> None:
    store.submit([new("a"), new("b")])
    write_by_hand(store, "a", "place = 99")
    with pytest.raises(StoreError, match=r"invocation a cannot be read.*store check"):
        store.find(Filter())
    assert [row.id for row in store.get(["b"])] == ["b"]
    assert "a cannot be read" in store.check()[0]


def test_a_library_that_is_too_old_is_refused_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    store = SqliteStore(f"sqlite:///{tmp_path}/new/a.db", "a")
    with pytest.raises(StoreError, match=r"SQLite 3\.34\.1.*3\.35\.0 is the least") as raised:
        store.open()
    assert not raised.value.retryable
    assert list(tmp_path.iterdir()) == []
