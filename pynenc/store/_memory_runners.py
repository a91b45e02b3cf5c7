"""Runners of a memory store: signs of life, leases, and whose death is known."""

from __future__ import annotations

import msgspec

from pynenc.core.records import Beat, Microseconds
from pynenc.store._memory_rows import RunnerRow
from pynenc.store.base import Clock

#: A runner without a sign of life for so long is forgotten, and so is the id of one whose lease was taken away.
LONG_GONE: Microseconds = 24 * 3600 * 1_000_000


class Runners:
    """All runners that are known. Every method works inside the store's unit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._dead_groups: set[str] = set()
        self._refused: dict[str, Microseconds] = {}
        self.rows: dict[str, RunnerRow] = {}

    def beat(self, beat: Beat) -> RunnerRow | None:
        """Renew a lease, or begin one; None when it was taken away.

        ``held_since`` is when the current lease began: it begins anew when it had run out in between.
        """
        if beat.id in self._refused:
            return None
        now, lease = self._clock.now(), self._clock.lease()
        row = self.rows.get(beat.id)
        if row is None:
            row = self.rows[beat.id] = RunnerRow(beat, now, now, lease + beat.lease, lease, self._clock.boot_id())
            return row
        if self.is_over(row):
            row.held_since = lease
        row.beat = beat if beat.tasks else msgspec.structs.replace(beat, tasks=row.beat.tasks)
        row.seen, row.until, row.boot = now, lease + beat.lease, self._clock.boot_id()
        return row

    def know(self, task: str, *, but: str) -> bool:
        """Whether a runner that lives, other than ``but``, knows a task."""
        return any(name != but and task in row.beat.tasks and not self.is_over(row) for name, row in self.rows.items())

    def is_over(self, row: RunnerRow) -> bool:
        """Whether the lease of a runner has run out."""
        return row.until <= self._clock.lease() or row.boot != self._clock.boot_id()

    def is_dead(self, row: RunnerRow) -> bool:
        """Whether the death of a runner is certain."""
        return row.beat.group in self._dead_groups

    def declare_dead(self, group: str) -> None:
        """The process behind a group is gone for sure."""
        self._dead_groups.add(group)

    def gone(self, by: str) -> list[RunnerRow]:
        """The runners that are gone, as far as the sweeper ``by`` may judge."""
        sweeper = self.rows.get(by)
        judges = sweeper is not None and self._may_judge(sweeper)
        others = (row for row in self.rows.values() if row is not sweeper)
        return [row for row in others if self.is_dead(row) or (judges and self.is_over(row))]

    def _may_judge(self, sweeper: RunnerRow) -> bool:
        """After an outage every lease looks dead: only who has held its own for one full term may take those of others."""
        return not self.is_over(sweeper) and self._clock.lease() - sweeper.held_since >= sweeper.beat.lease

    def forget(self, runner: str) -> None:
        """Refuse this id from now on."""
        group = self.rows.pop(runner).beat.group
        self._refused[runner] = self._clock.now()
        if all(row.beat.group != group for row in self.rows.values()):
            self._dead_groups.discard(group)

    def purge(self, limit: int) -> list[str]:
        """The runners that are long gone and own nothing; at most ``limit``. Refused ids of that age are dropped."""
        border = self._clock.now() - LONG_GONE
        self._refused = {name: since for name, since in self._refused.items() if since > border}
        idle = (name for name, row in self.rows.items() if row.seen < border and not row.owned and self.is_over(row))
        return [name for _, name in zip(range(limit), idle, strict=False)]
