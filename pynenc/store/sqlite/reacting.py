"""Reactions: what is submitted because an invocation became final, RETRY or PAUSED, in the same transaction.

``life`` notes such changes in the transaction. Nobody looks whether there is a reaction to them before its end, or before the claim of a ``finish``: then
one query answers for all. The fast way of ``finish`` does not even note anything unless its look for edges has found that there are reactions at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pynenc.core.reaction import FIRING, Reaction, cause_of
from pynenc.core.records import Outcome
from pynenc.store.sqlite import submitting
from pynenc.store.sqlite.database import Tx
from pynenc.store.sqlite.schema import CODES, STATUSES, json_list

OF_TASKS = (
    "SELECT owner, task, status, data FROM $reaction WHERE task IN (SELECT value FROM json_each(?)) ORDER BY owner, n"
)
ENDED = "SELECT id, task, status, round, attempt FROM $inv WHERE id IN (SELECT value FROM json_each(?))"
FINALS = "SELECT id FROM $inv WHERE id IN (SELECT value FROM json_each(?)) AND place = 5"
DROP = "DELETE FROM $reaction WHERE owner = ?"
ADD = "INSERT INTO $reaction (owner, n, task, status, data) VALUES (?, ?, ?, ?, ?)"

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Reaction).decode


def subscribe(tx: Tx, owner: str, reactions: Sequence[Reaction]) -> None:
    """Replace the reactions of an owner."""
    tx.run(DROP, owner)
    tx.many(ADD, [(owner, n, each.task, CODES[each.status], _encode(each)) for n, each in enumerate(reactions)])


def finals_among(tx: Tx, outcomes: Sequence[Outcome]) -> frozenset[str]:
    """Those that are final already: their outcomes are sent again, and nobody reacts twice."""
    return frozenset(name for (name,) in tx.all(FINALS, json_list([each.id for each in outcomes])))


def note_finals(tx: Tx, outcomes: Sequence[Outcome]) -> None:
    """Note what the fast way of ``finish`` has written, in the order of the outcomes."""
    found = {row[0]: row for row in tx.all(ENDED, json_list([each.id for each in outcomes]))}
    for each in outcomes:
        tx.changes.append(found[each.id])


def react(tx: Tx) -> None:
    """Submit what the changes so far ask for."""
    changes, tx.changes = tx.changes, []
    tasks = {task for _, task, *_ in changes}
    reactions = tx.all(OF_TASKS, json_list(["", *tasks]))
    new = [
        _decode(data).answer(owner, cause_of(name, STATUSES[status], round_, attempt))
        for name, task, status, round_, attempt in changes
        for owner, wanted, to, data in reactions
        if to == status and (wanted == task if wanted else not task.startswith(FIRING))
    ]
    if new:
        submitting.submit(tx, new, (), 0, refuses_draining=False)
