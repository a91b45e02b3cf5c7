"""Waiting of one invocation for others: edges, and circles that are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pynenc.core.records import ClaimRequest, Microseconds, Ref
from pynenc.core.waiting import find_cycle, never_ending
from pynenc.store.postgres import record
from pynenc.store.postgres.database import Database, Rows
from pynenc.store.postgres.wire import Texts

WAIT = "SELECT * FROM @wait({})".format(", ".join(f"${n}" for n in range(1, 17)))
STOP = "SELECT @stop_waiting($1, $2, $3, $4)"
TURN = "SELECT @take_turn($1)"
UNFINISHED = "SELECT * FROM @unfinished($1, $2)"
AWAITED = "SELECT awaited FROM @edge WHERE app = $1 AND waiter = $2"
BEHIND = (
    "SELECT running_key, why = W_KEY, running_limit FROM @inv WHERE app = $1 AND id = $2 AND place < P_FINAL "
    "AND running_key IS NOT NULL AND held IS NULL AND NOT drop_blocked"
)
TASKS = "SELECT id, task FROM @inv WHERE app = $1 AND id = ANY ($2)"
HOLDERS = "SELECT id FROM @inv WHERE app = $1 AND held = $2"
ANY_EDGE = "SELECT EXISTS (SELECT 1 FROM @edge WHERE app = $1 AND waiter = $2 AND awaited = ANY ($3))"

Ask = Callable[..., Rows]


def wait(
    database: Database, at: Microseconds, waiter: Ref, ids: Sequence[str], request: ClaimRequest | None, me: str
) -> Rows:
    """Record that a claimed invocation waits for others, raise these, and claim; the rows of ``wait`` in ``sql/amend.sql``.

    :raises CycleDetectedError: the wait would never end; nothing is recorded.
    """
    first = (database.app, at, waiter.id, waiter.attempt, Texts(ids))
    last = (*record.claim_values(request), me)
    rows = database.call(WAIT, *first, False, *last, again=request is None)
    if rows[-1][1] != "blocked":
        return rows

    def work(ask: Ask) -> Rows:
        ask(TURN, database.app)
        _refuse_cycles(ask, database.app, waiter.id, ids)
        return ask(WAIT, *first, True, *last)

    return database.transaction(work)


def _refuse_cycles(ask: Ask, app: int, waiter: str, ids: Sequence[str]) -> None:
    """Search from those that wait for something themselves: a thousand fresh children cost nothing."""

    def edges(node: str) -> list[str]:
        return [name for (name,) in ask(AWAITED, app, node)]

    def holders(node: str) -> list[str]:
        for key, is_parked, limit in ask(BEHIND, app, node):
            found = [name for (name,) in ask(HOLDERS, app, key)]
            return found if is_parked or len(found) >= limit else []
        return []

    blocked: dict[str, bool] = dict(ask(UNFINISHED, app, Texts(ids)))
    for name in ids:
        if not blocked.get(name) and name != waiter:
            continue
        if cycle := find_cycle(waiter, name, edges, holders):
            raise never_ending(cycle, dict(ask(TASKS, app, Texts(cycle))))


def stop(database: Database, waiter: Ref, ids: Sequence[str]) -> None:
    """Forget the edges of a wait to what is not known to be final, if there are any."""
    if not database.is_open:
        return
    if database.call(ANY_EDGE, database.app, waiter.id, Texts(ids))[0][0]:
        database.call(STOP, database.app, waiter.id, waiter.attempt, Texts(ids))
