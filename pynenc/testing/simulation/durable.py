"""Workflows and reactions at the end of a simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pynenc.core.reaction import Reaction, cause_of
from pynenc.core.records import Invocation, New
from pynenc.core.status import FINAL, InvocationStatus
from pynenc.store.base import Store
from pynenc.testing.causes import check_causes
from pynenc.testing.checker import Evidence, Kind, Violation, entries_by_id
from pynenc.testing.passes import Line, Passes
from pynenc.testing.simulation.ledger import Ledger
from pynenc.testing.simulation.script import ROUNDS

S = InvocationStatus
FLOW, ECHO = "t.flow", "t.echo"
#: The changes that the store answers with an ``echo``, whose arguments are the cause.
HEARD = {
    ("t.work", S.SUCCESS),
    ("t.work", S.CANCELLED),
    ("t.flaky", S.RETRY),
    ("t.fail", S.FAILED),
    ("t.pause", S.PAUSED),
    (FLOW, S.PAUSED),
}
REACTIONS = [Reaction(task, status, New(id="", task=ECHO, args=b"", result_ttl=0)) for task, status in sorted(HEARD)]


def check_echoes(evidence: Evidence) -> Iterator[Violation]:
    """Each change that is heard has one echo; what goes back to RETRY behind a key has not changed. Only where nothing is purged."""
    tasks = {row.id: row.task for row in evidence.rows}
    heard = [entry for entry in evidence.history if (tasks[entry.id], entry.status) in HEARD]
    must = Counter({cause_of(entry.id, entry.status, entry.round, entry.attempt) for entry in heard})
    found = Counter(row.args.decode() for row in evidence.rows if row.task == ECHO)
    yield from check_causes("the echo", must, Counter(), found)


def check_flows(store: Store, evidence: Evidence, lines: Sequence[Line], ledger: Ledger) -> Iterator[Violation]:
    """All passes saw the same, no accepted signal is missing, and the state counts the rounds. An id that was used again tells nothing."""
    yield from Passes([line for line in lines if line.id not in ledger.reborn]).violations
    entries = entries_by_id(evidence.history)
    for row in evidence.rows:
        if row.task != FLOW or row.id in ledger.reborn:
            continue
        yield from _check_signals(store, row, ledger.signals[row.id])
        if row.status is S.SUCCESS and sum(entry.status in FINAL for entry in entries[row.id]) == 1:
            rounds = store.recall(f"{row.id}/state").get("rounds")
            if rounds != b"%d" % ROUNDS or row.round + 1 != ROUNDS:
                text = f"{row.id} counted {rounds!r} rounds, and ended in round {row.round}, not {ROUNDS - 1}"
                yield Violation(Kind.WRONG_WORKFLOW, text)


def _check_signals(store: Store, row: Invocation, accepted: int) -> Iterator[Violation]:
    """The last of those that are left bears the number of those before it."""
    left = [int(key[7:]) for key in store.recall(row.id) if key.startswith("signal:")]
    if left and max(left) + 1 != accepted:
        text = f"{row.id} was sent {accepted} signals; the last that is left is number {max(left)}"
        yield Violation(Kind.WRONG_WORKFLOW, text)
