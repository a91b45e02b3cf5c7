"""The check of a claim: what was given out must be what the request may get."""

from __future__ import annotations

from collections.abc import Sequence

from pynenc.core.records import Alone, Claimed, ClaimRequest, QueueState
from pynenc.core.status import Place
from pynenc.testing.model.row import Row
from pynenc.testing.model.state import Model


class ClaimCheck:
    """Checks claims against one model, which carries them out."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def check(self, request: ClaimRequest, batch: Sequence[Claimed]) -> None:
        """Check that ``batch`` is what the request may get, and carry it out."""
        self.model.admit_due()
        assert len(batch) <= request.limit
        assert len({claimed.id for claimed in batch}) == len(batch), "a row was given out twice"
        rest = list(batch)
        room = min(request.limit, 1) if request.alone is Alone.ONLY else request.limit
        for queue, most in request.shares or ((None, request.limit),):
            part: list[Claimed] = []
            while rest and (queue is None or rest[0].queue == queue) and len(part) < most:
                part.append(rest.pop(0))
            self._check_part(request, queue, part, min(most, room))
            room -= len(part)
        assert not rest, f"not asked for: {[claimed.id for claimed in rest]}"

    def _check_part(self, request: ClaimRequest, queue: str | None, part: Sequence[Claimed], most: int) -> None:
        """One share: the strict rows of ``part`` are the first of all strict rows, and none is left out while there is room."""
        assert len(part) <= most
        candidates = [row for row in self.model.rows.values() if self._is_asked(row, request, queue)]
        taken = [claimed.id for claimed in part]
        # What an end by this very claim (expired, dropped) has let go may be given out as well.
        freed = [row for name in taken if (row := self.model.rows[name]) not in candidates]
        sure = [
            row.new.id
            for name in taken
            if (row := self.model.rows[name]) in candidates and not self._is_unsure(row, request)
        ]
        wanted = len(sure) if len(taken) == most else len(candidates)
        expected: list[str] = []
        for row in sorted(candidates, key=self._aged if request.aged else self._order):
            is_before_the_last = len(expected) < wanted
            if self._is_unsure(row, request):
                if row.new.id in taken:
                    self.model.take(row, request.runner)
            elif status := self.model.passed_over(row):
                self.model.pass_over(row, status, is_sure=is_before_the_last)
            elif is_before_the_last:
                expected.append(row.new.id)
                self.model.take(row, request.runner)
        assert sure == expected, f"claimed {taken}, expected {expected}"
        for row in freed:
            assert self._is_asked(row, request, queue), f"claimed {taken}, but {row.new.id} is {row.place.name}"
            self.model.take(row, request.runner)
        for claimed in part:
            self._check_claimed(claimed, self.model.rows[claimed.id])

    def _is_asked(self, row: Row, request: ClaimRequest, queue: str | None) -> bool:
        """Whether a claim may give ``row`` out."""
        may = row.place is Place.READY or (
            row.place is Place.PARKED and self.model.is_open_key(row.key) and not row.is_unknown
        )
        active = self.model.queues.get(row.new.queue) is not QueueState.PAUSED
        fits = (queue is None or row.new.queue == queue) and (not request.ids or row.new.id in request.ids)
        return may and active and fits and row.alone == (request.alone is Alone.ONLY)

    def _is_unsure(self, row: Row, request: ClaimRequest) -> bool:
        return self.model.is_open_key(row.key) or self.model.may_expire(row) or (row.is_fuzzy and not request.aged)

    @staticmethod
    def _order(row: Row) -> tuple[float, int, int]:
        return (-row.rank, -row.boost, row.seq)

    @staticmethod
    def _aged(row: Row) -> tuple[float, int, int]:
        return (0.0, 0, row.seq)

    def _check_claimed(self, claimed: Claimed, row: Row) -> None:
        new = row.new
        seen = (
            claimed.task,
            claimed.args,
            claimed.attempt,
            claimed.queue,
            claimed.priority,
            claimed.retries,
            claimed.crashes,
            claimed.round,
        )
        assert seen == (new.task, new.args, row.attempt, new.queue, row.priority, row.retries, row.crashes, row.round)
        assert (claimed.created, claimed.claimed, claimed.alone) == (row.created, self.model.clock.now(), row.alone)
