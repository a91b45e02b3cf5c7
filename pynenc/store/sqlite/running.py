"""Runners: leases, orders, what becomes of the work of those that are gone and of what none came to in time; and leadership of chores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from pynenc.core.records import Beat, Microseconds, Orders, Recovered, RunnerInfo
from pynenc.store.base import Clock
from pynenc.store.sqlite import life, schema
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.row import ALL_BEHIND, IS_OVERDUE, OVERDUE, OWNED, Row, load, rows
from pynenc.store.sqlite.schema import BEHIND_TASK, STATUSES

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Beat).decode

#: What ``death`` says of a runner whose work is being taken back.
OVER, KILLED, SETTLED = "its lease is over", "its process died", "gone"

RUNNER = "SELECT beat, death, boot, since, until FROM $runner WHERE id = ?"
REGISTER = "INSERT INTO $runner (id, beat, started, seen, boot, since, until, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
ANY_SUSPECT = "SELECT 1 FROM $inv WHERE why = 4 AND why > 0 LIMIT 1"
RENEW = "UPDATE $runner SET beat = ?, seen = ?, boot = ?, since = ?, until = ?, lease = ? WHERE id = ?"
ORDERS = "SELECT id FROM $inv INDEXED BY $owned WHERE place = 3 AND runner = ? AND cancel = 1"
UNKNOWN_TASKS = "SELECT DISTINCT behind FROM $inv WHERE why = 3 AND why > 0"
ALL = "SELECT id, beat, death, started, seen, boot, until FROM $runner WHERE death IS NULL ORDER BY started, id"
OTHERS = "SELECT id, beat, death, boot, until FROM $runner WHERE id != ? AND death IS NOT 'gone' ORDER BY id"
SWEEPER = "SELECT boot, since, until, lease FROM $runner WHERE id = ? AND death IS NULL"
LIVING = "SELECT beat FROM $runner WHERE id != ? AND death IS NULL AND boot = ? AND until > ?"
MARK = "UPDATE $runner SET death = ? WHERE id = ?"
STILL_OWNS = "SELECT 1 FROM $inv INDEXED BY $owned WHERE place = 3 AND runner = ? LIMIT 1"
WAITERS = "SELECT DISTINCT waiter FROM $edge WHERE waiter IN (SELECT id FROM $inv INDEXED BY $owned WHERE place = 3 AND runner = ?)"
OWING = "SELECT beat FROM $runner WHERE death IS NOT NULL AND death != 'gone'"
ANY_OVERDUE = f"SELECT 1 FROM {IS_OVERDUE} LIMIT 1"
LEASE = "SELECT owner, boot, until FROM $lease WHERE name = ?"
TAKE_LEASE = (
    "INSERT INTO $lease (name, owner, boot, until) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, boot = excluded.boot, until = excluded.until"
)
DROP_LEASE = "DELETE FROM $lease WHERE name = ? AND owner = ?"


# -- sign of life ----------------------------------------------------------------------------------------------------------
def heartbeat(tx: Tx, beats: Sequence[Beat], clock: Clock) -> list[Orders]:
    """Renew leases; the orders of each runner."""
    has_suspects = tx.one(ANY_SUSPECT) is not None
    return [_beat(tx, beat, clock, has_suspects=has_suspects) for beat in beats]


def _beat(tx: Tx, beat: Beat, clock: Clock, *, has_suspects: bool) -> Orders:
    now, boot = clock.lease(), clock.boot_id()
    until = now + beat.lease
    known = tx.one(RUNNER, beat.id)
    if known is None:
        tx.run(REGISTER, beat.id, _encode(beat), tx.now, tx.now, boot, now, until, beat.lease)
    else:
        before, death, its_boot, since, its_until = known
        if death is not None:
            return Orders(alive=False)
        is_over = its_boot != boot or its_until <= now
        kept = beat if beat.tasks else msgspec.structs.replace(beat, tasks=_decode(before).tasks)
        tx.run(RENEW, _encode(kept), tx.now, boot, now if is_over else since, until, beat.lease, beat.id)
    if beat.tasks:
        _admit_known(tx, set(beat.tasks))
    return Orders(True, tuple(name for (name,) in tx.all(ORDERS, beat.id)), has_suspects)


def _admit_known(tx: Tx, tasks: set[str]) -> None:
    """What was parked for a task that nobody knew can be claimed now."""
    for (task,) in tx.all(UNKNOWN_TASKS):
        if task in tasks:
            for row in rows(tx, ALL_BEHIND, BEHIND_TASK, task):
                row.reason = ""
                life.settle(tx, row)
                row.save(tx)


def is_known(tx: Tx, task: str, runner: str, clock: Clock) -> bool:
    """Whether another runner that lives knows a task."""
    return any(task in _decode(beat).tasks for (beat,) in tx.all(LIVING, runner, clock.boot_id(), clock.lease()))


def runners(tx: Tx, clock: Clock) -> list[RunnerInfo]:
    """All that have registered and are not known to be gone."""
    now, boot = clock.lease(), clock.boot_id()
    return [
        RunnerInfo(beat=_decode(beat), started=started, seen=seen, alive=its_boot == boot and until > now)
        for _, beat, _, started, seen, its_boot, until in tx.all(ALL)
    ]


# -- taking back -------------------------------------------------------------------------------------------------------------
class Victim(NamedTuple):
    """A runner that is gone."""

    id: str
    group: str
    death: str
    is_certain: bool


def victims(tx: Tx, by: str, clock: Clock, is_dead: Callable[[str], bool]) -> list[Victim]:
    """The runners whose death is certain, and those whose lease is over if the sweeper may judge that."""
    now, boot = clock.lease(), clock.boot_id()
    sweeper = tx.one(SWEEPER, by)
    if sweeper is None:
        return []
    its_boot, since, until, lease = sweeper
    may_judge = its_boot == boot and until > now and now - since >= lease
    found = []
    for name, raw, known, boot_of, until_of in tx.all(OTHERS, by):
        beat = _decode(raw)
        is_over = may_judge and (boot_of != boot or until_of <= now)
        death = known or (KILLED if is_dead(beat.group) else OVER if is_over else None)
        if death is not None:
            found.append(Victim(name, beat.group, death, death == KILLED and not beat.supervised))
    return found


def recover(tx: Tx, found: Sequence[Victim], limit: int, error: bytes) -> list[Recovered]:
    """Take back, at most ``limit``, what victims own."""
    recovered: list[Recovered] = []
    for victim in found:
        tx.run(MARK, victim.death, victim.id)
        innocent = {name for (name,) in tx.all(WAITERS, victim.id)} if victim.is_certain else set()
        for row in rows(tx, OWNED, victim.id, limit - len(recovered)):
            is_suspect = victim.is_certain and row.id not in innocent
            status = _take_back(tx, row, victim, error, is_suspect=is_suspect)
            recovered.append(Recovered(row.id, victim.id, STATUSES[status]))
        if not tx.one(STILL_OWNS, victim.id):
            tx.run(MARK, SETTLED, victim.id)
    return recovered


def _take_back(tx: Tx, row: Row, victim: Victim, error: bytes, *, is_suspect: bool) -> int:
    """One row of a runner that is gone: uncounted, unless it ran alone in a process that certainly died."""
    if is_suspect:
        row.crashes += row.alone
        if row.alone and row.crashes >= row.max_crashes:
            life.end(
                tx,
                row,
                schema.FAILED,
                f"crash {row.crashes} of {max(1, row.max_crashes)}: its process died",
                payload=error,
            )
            return schema.FAILED
        row.alone = 1
    return life.lose_owner(tx, row, f"runner {victim.id} is gone: {victim.death}")


def retire(tx: Tx, names: Sequence[str]) -> int:
    """Deregister runners that stop; how much of their work went back."""
    count = 0
    for name in names:
        for row in rows(tx, OWNED, name, -1):
            life.lose_owner(tx, row, "runner stopped")
            count += 1
        tx.run(MARK, SETTLED, name)
    return count


def groups_that_owe(tx: Tx) -> set[str]:
    """The groups of runners whose work has not been taken back completely."""
    return {_decode(beat).group for (beat,) in tx.all(OWING)}


# -- what was not claimed in time ----------------------------------------------------------------------------------------------
def expire(tx: Tx, limit: int) -> int:
    """End, at most ``limit``, what is overdue and was never claimed; how many."""
    overdue = [row.id for row in rows(tx, OVERDUE, tx.now, limit)]
    for row in (load(tx, name) for name in overdue):  # the end of one may have changed the next
        if row is not None:
            life.end(tx, row, schema.CANCELLED, "expired")
    return len(overdue)


# -- chores ------------------------------------------------------------------------------------------------------------------
def lease(tx: Tx, name: str, owner: str, ttl: Microseconds, clock: Clock) -> bool:
    """Take, renew or give back the leadership of a chore."""
    if ttl <= 0:
        return tx.run(DROP_LEASE, name, owner).rowcount > 0
    now, boot = clock.lease(), clock.boot_id()
    held = tx.one(LEASE, name)
    if held and held[0] != owner and held[1] == boot and held[2] > now:
        return False
    tx.run(TAKE_LEASE, name, owner, boot, now + ttl)
    return True
