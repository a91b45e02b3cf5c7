"""Reading: nothing here changes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pynenc.core.records import (
    Filter,
    Final,
    Found,
    HistoryEntry,
    Invocation,
    Microseconds,
    Page,
    QueueInfo,
    QueueState,
)
from pynenc.core.status import STATUSES_OF_PLACE
from pynenc.exceptions import InvocationNotFoundError
from pynenc.store.postgres import record
from pynenc.store.postgres.database import Database, Rows
from pynenc.store.postgres.schema import CODES, PLACES, STATUSES
from pynenc.store.postgres.wire import Numbers, Texts

_COLUMNS = ", ".join(record.READ_NAMES)
FINALS = "SELECT id, status, task, payload, round, reason, place FROM @inv WHERE app = $1 AND id = ANY ($2)"
ANY_FINAL = "SELECT EXISTS (SELECT 1 FROM @inv WHERE app = $1 AND id = ANY ($2) AND place = P_FINAL), @time($3)"
ALL_FINAL = "SELECT id FROM @inv WHERE app = $1 AND id = ANY ($2) AND place = P_FINAL"
GET = f"SELECT {_COLUMNS} FROM @inv WHERE app = $1 AND id = ANY ($2)"
EDGES = "SELECT waiter, awaited FROM @edge WHERE app = $1 AND waiter = ANY ($2) ORDER BY awaited"
HISTORY = (
    "SELECT i.id, h.n, h.status, h.at, h.runner, h.attempt, h.round, h.reason, h.payload FROM @inv i JOIN @hist h ON h.seq = i.seq "
    "WHERE i.app = $1 AND i.id = ANY ($2) UNION ALL "
    "SELECT i.id, t.n, t.status, t.at, t.runner, t.attempt, t.round, t.reason, t.payload FROM @inv i, LATERAL @trail(i) t "
    "WHERE i.app = $1 AND i.id = ANY ($2) ORDER BY 1, 2"
)
QUEUES = (
    "SELECT q.name, q.state, "
    "(SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND place = P_READY AND rank = 0 AND boost = 0 AND NOT alone) "
    "+ (SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone) "
    "+ (SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND place = P_READY AND alone), "
    "(SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND timer IS NOT NULL AND place = P_LATER), "
    "(SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND place = P_PARKED), "
    "(SELECT count(*) FROM @inv WHERE app = $1 AND queue = q.name AND place = P_CLAIMED), "
    "(SELECT min(greatest(x.created, x.due)) FROM ("
    "(SELECT created, due FROM @inv WHERE app = $1 AND queue = q.name AND place = P_READY AND rank = 0 AND boost = 0 AND NOT alone ORDER BY seq LIMIT 1) "
    "UNION ALL "
    "(SELECT created, due FROM @inv WHERE app = $1 AND queue = q.name AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone "
    "ORDER BY seq LIMIT 1)) x) "
    "FROM @queue q WHERE q.app = $1 ORDER BY q.name"
)


class Reading:
    """The readings of one store object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _all(self, text: str, *values: Any) -> Rows:
        return self._database.call(text, self._database.app, *values)

    def finals(self, ids: Sequence[str]) -> list[Final]:
        """Those of ``ids`` that are final, in their order.

        :raises InvocationNotFoundError: one is unknown.
        """
        rows = {row[0]: row for row in self._all(FINALS, Texts(ids))}
        answers = []
        for name in ids:
            row = rows.get(name)
            if row is None:
                raise InvocationNotFoundError(f"no invocation {name}: it was purged, or belongs to another app", name)
            if PLACES[row[6]].name == "FINAL":
                answers.append(Final(name, STATUSES[row[1]], row[2], row[3] or b"", row[4], row[5]))
        return answers

    def any_final(self, ids: Sequence[str], at: Microseconds) -> tuple[bool, Microseconds]:
        """Whether one of some ids is final, and what time it is, unless it is given."""
        is_any, now = self._all(ANY_FINAL, Texts(ids), at)[0]
        return is_any, now

    def finals_among(self, ids: Sequence[str]) -> list[str]:
        """Those of some ids that are final."""
        return [name for (name,) in self._all(ALL_FINAL, Texts(ids))]

    def get(self, ids: Sequence[str]) -> list[Invocation]:
        """The invocations that exist, in the order of ``ids``."""
        found = {each.id: each for each in self._records(self._all(GET, Texts(ids)))}
        return [found[name] for name in ids if name in found]

    def _records(self, rows: Rows) -> list[Invocation]:
        waiting: dict[str, list[str]] = defaultdict(list)
        claimed = [row[1] for row in rows if record.may_wait(row)]
        for waiter, awaited in self._all(EDGES, Texts(claimed)) if claimed else ():
            waiting[waiter].append(awaited)
        return [record.invocation(row, tuple(waiting.get(row[1], ()))) for row in rows]

    def find(self, where: Filter, page: Page) -> Found:
        """One page, by submission."""
        conditions = _Conditions(where)
        if page.cursor:
            conditions.add("seq > {}" if page.oldest_first else "seq < {}", int(page.cursor))
        order = "ASC" if page.oldest_first else "DESC"
        text = f"SELECT {_COLUMNS} FROM @inv i WHERE app = $1{conditions.text} ORDER BY seq {order} LIMIT {int(page.limit) + 1}"
        found = self._all(text, *conditions.values)
        cursor = str(found[page.limit - 1][0]) if len(found) > page.limit else ""
        return Found(tuple(self._records(found[: page.limit])), cursor)

    def count(self, where: Filter, by: str) -> dict[str, int]:
        """Counts by status, task or queue."""
        if by not in ("status", "task", "queue"):
            raise ValueError(f"cannot count by {by!r}: use status, task or queue")
        conditions = _Conditions(where)
        found = self._all(
            f"SELECT {by}, count(*) FROM @inv i WHERE app = $1{conditions.text} GROUP BY {by}", *conditions.values
        )
        return {STATUSES[name].value if by == "status" else name: number for name, number in found}

    def history(self, ids: Sequence[str]) -> list[HistoryEntry]:
        """All changes of status: those that were kept, then those that follow from the row."""
        entries: dict[str, list[HistoryEntry]] = defaultdict(list)
        for name, *row in self._all(HISTORY, Texts(dict.fromkeys(ids))):
            entries[name].append(record.history_entry(name, tuple(row)))
        return [entry for name in ids for entry in entries.get(name, ())]

    def queues(self) -> list[QueueInfo]:
        """All queues by name, counted through the indices of what is not final."""
        return [
            QueueInfo(
                name, QueueState(state), ready=ready, later=later, parked=parked, claimed=claimed, oldest=oldest or 0
            )
            for name, state, ready, later, parked, claimed, oldest in self._all(QUEUES)
        ]

    def check(self) -> list[str]:
        """Everything that is not as it must be."""
        problems = []
        call, app = self._database.call_patiently, self._database.app
        for place, statuses in STATUSES_OF_PLACE.items():
            codes = Numbers(CODES[status] for status in statuses)
            for name, status in call(WRONG_STATUS, app, int(place), codes):
                problems.append(f"{name} is {STATUSES[status]} in place {place.name}")
        for text, query in PROBLEMS.items():
            problems += [text.format(*row) for row in call(f"{query} LIMIT 20", app)]
        return problems


class _Conditions:
    """The conditions of a filter; the texts are ours, the values are bound."""

    def __init__(self, where: Filter) -> None:
        self.text = ""
        self.values: list[Any] = []
        for column, wanted in (("id", where.ids), ("task", where.tasks), ("queue", where.queues)):
            if wanted:
                self.add(f"{column} = ANY ({{}})", Texts(map(str, wanted)))
        if where.statuses:
            self.add("status = ANY ({})", Numbers(CODES[status] for status in where.statuses))
        if where.tags:
            self.add("tags @> {}", Texts(where.tags))
        if where.workflow is not None:
            self.add("(workflow = {0} OR (id = {0} AND workflow IS NULL))", where.workflow)
        for column, text in (("parent", where.parent), ("running_key", where.running_key), ("runner", where.runner)):
            if text is not None:
                self.add(f"{column} = {{}}", text)
        if where.created_from:
            self.add("created >= {}", where.created_from)
        if where.created_until:
            self.add("created < {}", where.created_until)
        if where.text:
            self.add("(strpos(task, {0}) > 0 OR starts_with(id, {0}))", where.text)

    def add(self, text: str, value: Any) -> None:
        """One more; ``{}`` stands for its value."""
        self.values.append(value)
        self.text += f" AND {text.format(f'${len(self.values) + 1}')}"


# -- invariants ---------------------------------------------------------------------------------------------------------------
WRONG_STATUS = "SELECT id, status FROM @inv WHERE app = $1 AND place = $2 AND status <> ALL ($3)"
#: What must not be found: a sentence for each query, with the columns of its rows filled in.
PROBLEMS = {
    "{0} is claimed by nobody": "SELECT id FROM @inv WHERE app = $1 AND place = P_CLAIMED AND runner IS NULL",
    "{0} is not claimed but has an owner": "SELECT id FROM @inv WHERE app = $1 AND place NOT IN (P_CLAIMED, P_FINAL) AND runner IS NOT NULL",
    "{0} is parked behind nothing, or stands behind something without being parked": (
        "SELECT id FROM @inv WHERE app = $1 AND ((place = P_PARKED) <> (why > 0) OR (why > 0) <> (behind IS NOT NULL))"
    ),
    "{0} has a timer that it should not have, or lacks one": (
        "SELECT id FROM @inv WHERE app = $1 AND (place = P_LATER AND timer IS NULL OR timer IS NOT NULL AND place NOT IN (P_LATER, P_WAITING))"
    ),
    "{0} can run without holding its running key": (
        "SELECT id FROM @inv WHERE app = $1 AND place IN (P_READY, P_CLAIMED) AND running_key IS NOT NULL AND NOT drop_blocked "
        "AND held IS DISTINCT FROM running_key"
    ),
    "{0} holds a running key that it has no use for": (
        "SELECT id FROM @inv WHERE app = $1 AND held IS NOT NULL AND (place IN (P_WAITING, P_FINAL) OR why IN (W_KEY, W_TASK))"
    ),
    "running key {0} is held by {1}, more than its limit": (
        "SELECT held, count(*) FROM @inv WHERE app = $1 AND held IS NOT NULL GROUP BY held HAVING count(*) > max(running_limit)"
    ),
    "{0} is parked while running key {1} has room": (
        "SELECT i.id, i.behind FROM @inv i WHERE i.app = $1 AND i.why = W_KEY "
        "AND (SELECT count(*) FROM @inv h WHERE h.app = $1 AND h.held = i.behind) < i.running_limit"
    ),
    "rate {0} has {1} heads": (
        "SELECT rated, count(*) FROM @inv WHERE app = $1 AND rated IS NOT NULL GROUP BY rated HAVING count(*) > 1"
    ),
    "{0} waits in line for rate {1}, which has no head": (
        "SELECT i.id, i.behind FROM @inv i WHERE i.app = $1 AND i.why = W_RATE AND NOT EXISTS (SELECT 1 FROM @inv h WHERE h.app = $1 AND h.rated = i.behind)"
    ),
    "{0} waits for {1} but is neither claimed nor suspended": (
        "SELECT e.waiter, e.awaited FROM @edge e LEFT JOIN @inv i ON i.app = e.app AND i.id = e.waiter "
        "WHERE e.app = $1 AND (i.place IS NULL OR i.place <> CASE WHEN e.asleep THEN P_WAITING ELSE P_CLAIMED END)"
    ),
    "{0} waits for signals but is not suspended": "SELECT id FROM @inv WHERE app = $1 AND seen IS NOT NULL AND place <> P_WAITING",
    "{0} waits for {1}, which is final or purged": (
        "SELECT e.waiter, e.awaited FROM @edge e LEFT JOIN @inv i ON i.app = e.app AND i.id = e.awaited "
        "WHERE e.app = $1 AND (i.place IS NULL OR i.place = P_FINAL)"
    ),
    "registration key {0} is held by an invocation that has been claimed or is gone": (
        "SELECT r.key FROM @registration r LEFT JOIN @inv i ON i.app = r.app AND i.seq = r.seq "
        "WHERE r.app = $1 AND (i.attempt IS DISTINCT FROM 0 OR i.place = P_FINAL)"
    ),
    "row {0} has a history but is gone": (
        "SELECT DISTINCT h.seq FROM @hist h LEFT JOIN @inv i ON i.app = h.app AND i.seq = h.seq WHERE h.app = $1 AND i.seq IS NULL"
    ),
    "the history of {0} has gaps": (
        "SELECT i.id FROM @inv i WHERE i.app = $1 AND i.entries <> (SELECT count(*) FROM @hist h WHERE h.app = i.app AND h.seq = i.seq)"
    ),
    "{0} is owned by a runner that is gone": (
        "SELECT i.id FROM @inv i WHERE i.app = $1 AND i.place = P_CLAIMED "
        "AND NOT EXISTS (SELECT 1 FROM @runner r WHERE r.app = i.app AND r.id = i.runner AND r.death IS DISTINCT FROM 'gone')"
    ),
}
