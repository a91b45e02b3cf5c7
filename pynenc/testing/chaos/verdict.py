"""The verdict over one run of the chaos test: the evidence is put together, checked, and measured."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pynenc.core.outcome import SECOND
from pynenc.core.records import Filter, HistoryEntry, Invocation, Microseconds, Page
from pynenc.core.status import InvocationStatus
from pynenc.store.base import Store
from pynenc.testing import checker
from pynenc.testing.chaos.books import Books, is_firing, is_upcoming
from pynenc.testing.chaos.fleet import Hit
from pynenc.testing.chaos.witness import Witnessed
from pynenc.testing.chaos.workflows import ENDINGS, vigil, watch
from pynenc.testing.checker import Evidence, Kind, Tenure, Violation
from pynenc.testing.report import Report, quantiles

_PAGE = 2000
#: Tasks whose ends are looked at elsewhere.
MAY_END_OTHERWISE = {*ENDINGS, vigil.task_id.key, watch.task_id.key}


def judge(
    report: Report, store: Store, seen: Witnessed, hits: Sequence[Hit], server_deaths: Sequence[Microseconds] = ()
) -> None:
    """Add violations and figures of a run that is over to its report."""
    rows = list(_rows(store))
    evidence = Evidence(
        acknowledged=frozenset(seen.acknowledged),
        is_intended=_Intentions(seen, {row.id for row in rows}),
        bodies=seen.bodies,
        rows=[row for row in rows if not is_upcoming(row)],
        history=list(_history(store, rows)),
        server_deaths=server_deaths,
        is_witnessed=lambda row: not is_firing(row),
    )
    report.violations += checker.check(evidence)
    books = Books(rows, evidence.history, seen)
    report.violations += books.check()
    books.close()
    report.violations += [Violation(Kind.UNSOUND, problem) for problem in store.check()]
    report.violations += [*_half_batches(seen, rows), *_unexplained(rows)]
    free = {row.id for row in rows if row.running_key is None}
    tenures = [t for each in checker.entries_by_id(evidence.history).values() for t in checker.tenures_of(each)]
    recoveries = list(_recoveries(hits, seen, [tenure for tenure in tenures if tenure.id in free]))
    report.figures |= {
        "invocations": len(rows),
        "acknowledged": len(seen.acknowledged),
        "bodies": len(seen.bodies),
        **books.figures(),
        "poisons": sum(row.task.endswith(".poison") for row in rows),
        "of undone claims": len(checker.undone(evidence, tenures)),
        "duplicates executed": checker.repeated(evidence),
        "killed": len(hits),
        **quantiles("taken back", [back for back, _ in recoveries]),
        **quantiles("recovery", [again for _, again in recoveries]),
    }


def _rows(store: Store) -> Iterator[Invocation]:
    cursor = ""
    while True:
        found = store.find(Filter(), Page(_PAGE, cursor, True))
        yield from found.invocations
        cursor = found.cursor
        if not cursor:
            return


def _history(store: Store, rows: Sequence[Invocation]) -> Iterator[HistoryEntry]:
    for at in range(0, len(rows), _PAGE):
        yield from store.history([row.id for row in rows[at : at + _PAGE]])


class _Intentions:
    """Whether some client, or a body of a stored invocation, meant to submit a row. Of firings their causes are compared instead."""

    def __init__(self, seen: Witnessed, stored: set[str]) -> None:
        self._seen = seen
        self._stored = stored

    def __call__(self, row: Invocation) -> bool:
        if is_firing(row):
            return True
        if row.parent is not None:
            return row.parent in self._stored
        return any(tag in self._seen.intended for tag in row.tags)


def _half_batches(seen: Witnessed, rows: Sequence[Invocation]) -> Iterator[Violation]:
    """A batch is stored entirely or not at all. Calls that others answer are counted with them."""
    stored = Counter(tag for row in rows for tag in row.tags)
    answered = {tag for row in rows if row.registration_key for tag in row.tags}
    for nonce, count in seen.intended.items():
        if stored[nonce] not in (0, count) and nonce not in answered:
            yield Violation(Kind.UNSOUND, f"{stored[nonce]} of the {count} invocations of batch {nonce} are stored")


def _unexplained(rows: Sequence[Invocation]) -> Iterator[Violation]:
    """Nothing here fails by itself: only what crashed alone too often may. How workflows end is looked at elsewhere."""
    for row in rows:
        if row.task in MAY_END_OTHERWISE:
            continue
        if row.status is not InvocationStatus.SUCCESS and row.crashes < row.max_crashes and row.status.is_final():
            yield Violation(
                Kind.UNSOUND,
                f"{row.id} ({row.task}) ended {row.status} after {row.crashes} crashes: {row.reason} {row.payload[:300]!r}",
            )


# -- figures ---------------------------------------------------------------------------------------------------------------
def _recoveries(hits: Sequence[Hit], seen: Witnessed, tenures: Sequence[Tenure]) -> Iterator[tuple[float, float]]:
    """For each kill and each invocation that the victim owned: seconds until it was taken back, and until its next attempt.

    Only of invocations without a running key: others may have to wait for their turn.
    """
    by_runner: dict[str, list[Tenure]] = defaultdict(list)
    by_id: dict[str, list[Tenure]] = defaultdict(list)
    for tenure in tenures:
        by_runner[tenure.runner].append(tenure)
        by_id[tenure.id].append(tenure)
    for hit in hits:
        for runner in _runners_of(hit, seen, by_runner):
            for tenure in by_runner[runner]:
                if tenure.begin <= hit.at < tenure.end:
                    after = [other.begin for other in by_id[tenure.id] if other.begin >= tenure.end]
                    yield (tenure.end - hit.at) / SECOND, (min(after, default=tenure.end) - hit.at) / SECOND


def _runners_of(hit: Hit, seen: Witnessed, known: dict[str, list[Tenure]]) -> list[str]:
    """The runners that lived in a process; those of a root bear its id in their names."""
    if hit.is_runner:
        return [runner for runner in known if re.search(rf"-{hit.pid}-[0-9a-f]+", runner)]
    return [runner for runner in seen.pids.get(hit.pid, ()) if runner in known]
