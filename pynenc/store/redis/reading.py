"""Reading: nothing here changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from struct import unpack_from
from typing import Any

import msgspec

from pynenc.core.records import (
    Beat,
    Claimed,
    Filter,
    Final,
    Found,
    HistoryEntry,
    Invocation,
    Page,
    QueueInfo,
    QueueState,
    RunnerInfo,
)
from pynenc.exceptions import InvocationNotFoundError
from pynenc.store.base import Clock
from pynenc.store.redis.codec import (
    STATUSES,
    claimed_of,
    filter_of,
    final_of,
    history_of,
    invocation_of,
)
from pynenc.store.redis.link import Link

#: Ids that one round trip asks for, and rows that one looks at in search of a filter.
CHUNK, LOOKS = 1000, 2000
_beat = msgspec.msgpack.Decoder(Beat).decode
_texts = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_record = msgspec.msgpack.Decoder(list[Any]).decode


def _chunks(values: Sequence[str]) -> Iterable[list[str]]:
    for at in range(0, len(values), CHUNK):
        yield [str(value) for value in values[at : at + CHUNK]]


def finals(link: Link, ids: Sequence[str]) -> list[Final]:
    """Those of ``ids`` that are final, in their order.

    :raises InvocationNotFoundError: one is unknown.
    """
    answers: list[Final] = []
    for names in _chunks(ids):
        states = link.run("finals", link.time(), *names)
        if isinstance(states, bytes):
            name = states.decode()
            raise InvocationNotFoundError(f"no invocation {name}: it was purged, or belongs to another app", name)
        found = map(final_of, names, states)
        answers += [final for final in found if final is not None]
    return answers


def get(link: Link, ids: Sequence[str]) -> list[Invocation]:
    """The invocations that exist, in the order of ``ids``."""
    return [invocation_of(each) for names in _chunks(ids) for each in link.run("read", link.time(), *names)]


def history(link: Link, ids: Sequence[str]) -> list[HistoryEntry]:
    """All changes of status, in the order of ``ids``."""
    found = (each for names in _chunks(ids) for each in link.run("history", link.time(), *names))
    return [entry for each in found for entry in history_of(each)]


def owned(link: Link, runner: str) -> list[Claimed]:
    """What a runner owns, as it was claimed."""
    names = [name.decode() for name in link.ask("SMEMBERS", link.prefix + b"own:" + runner.encode())]
    rows = (each for chunk in _chunks(names) for each in link.run("read", link.time(), *chunk))
    found = [(invocation_of(each), each) for each in rows]
    mine = [(row, each) for row, each in found if row.runner == runner and row.place.name == "CLAIMED"]
    return [claimed_of(each[0], each[1], each[2], row.claimed) for row, each in mine]


# -- filters ---------------------------------------------------------------------------------------------------------------
def find(link: Link, where: Filter, page: Page) -> Found:
    """One page, by submission."""
    if where.ids:
        return _find_ids(link, where, page)
    cursor = int(page.cursor) if page.cursor else 0
    if page.cursor:
        cursor += 1 if page.oldest_first else -1
        if cursor <= 0:
            return Found(())
    found: list[tuple[str, int]] = []
    more = True
    while more and len(found) <= page.limit:
        wanted = page.limit + 1 - len(found)
        order = int(page.oldest_first)
        answer = link.run("scan", link.time(), filter_of(where), cursor, order, wanted, LOOKS, "")
        cursor = answer[0]
        found += [(answer[i].decode(), answer[i + 1]) for i in range(1, len(answer), 2)]
        more = cursor > 0
    rows = get(link, [name for name, _ in found[: page.limit]])
    return Found(tuple(rows), str(found[page.limit - 1][1]) if len(found) > page.limit else "")


def _find_ids(link: Link, where: Filter, page: Page) -> Found:
    """A page of chosen invocations: few, so they are read and sorted here."""
    numbered = [
        (unpack_from(">Q", each[1])[0], invocation_of(each))
        for names in _chunks(list(dict.fromkeys(where.ids)))
        for each in link.run("read", link.time(), *names)
    ]
    numbered.sort(key=lambda pair: pair[0], reverse=not page.oldest_first)
    after = int(page.cursor or 0)
    fitting = [
        (seq, row)
        for seq, row in numbered
        if _fits(row, where) and (not page.cursor or (seq > after if page.oldest_first else seq < after))
    ]
    rows = tuple(row for _, row in fitting[: page.limit])
    return Found(rows, str(fitting[page.limit - 1][0]) if len(fitting) > page.limit else "")


def _fits(row: Invocation, where: Filter) -> bool:
    return (
        (not where.tasks or row.task in where.tasks)
        and (not where.statuses or row.status in where.statuses)
        and (not where.queues or row.queue in where.queues)
        and set(where.tags).issubset(row.tags)
        and (where.parent is None or row.parent == where.parent)
        and (where.workflow is None or where.workflow == (row.workflow.id if row.workflow else row.id))
        and (where.runner is None or row.runner == where.runner)
        and (where.running_key is None or row.running_key == where.running_key)
        and where.created_from <= row.created
        and (not where.created_until or row.created < where.created_until)
        and (not where.text or where.text in row.task or row.id.startswith(where.text))
    )


def count(link: Link, where: Filter, by: str) -> dict[str, int]:
    """Counts by status, task or queue."""
    if where.ids:
        rows = _find_ids(link, where, Page(len(where.ids))).invocations
        return dict(Counter(str(getattr(row, by)) for row in rows))
    if by not in ("status", "task", "queue"):
        raise ValueError(f"cannot count by {by!r}: use status, task or queue")
    totals: Counter[str] = Counter()
    counted = Filter(tasks=where.tasks, statuses=where.statuses, queues=where.queues)
    if where == counted:
        for name, number in _pairs(link.ask("HGETALL", link.prefix + b"tally")):
            status, queue, task = _kind(name)
            if _is_counted(where, status, queue, task):
                totals[{"status": STATUSES[status].value, "queue": queue, "task": task}[by]] += int(number)
        return dict(totals)
    cursor, more = 0, True
    while more:
        answer = link.run("scan", link.time(), filter_of(where), cursor, 1, 0, LOOKS, by)
        for i in range(1, len(answer), 2):
            kind = STATUSES[int(answer[i])].value if by == "status" else answer[i].decode()
            totals[kind] += answer[i + 1]
        cursor = answer[0]
        more = cursor > 0
    return dict(totals)


def _pairs(values: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(values[::2], values[1::2], strict=True)


def _kind(name: bytes) -> tuple[int, str, str]:
    """Status, queue and task of a count."""
    status, size = unpack_from(">BH", name)
    return status, name[3 : 3 + size].decode(), name[3 + size :].decode()


def _is_counted(where: Filter, status: int, queue: str, task: str) -> bool:
    return (
        (not where.tasks or task in where.tasks)
        and (not where.statuses or STATUSES[status] in where.statuses)
        and (not where.queues or queue in where.queues)
    )


# -- the rest ----------------------------------------------------------------------------------------------------------------
def queues(answer: Sequence[Any]) -> list[QueueInfo]:
    """All queues by name."""
    found = [
        QueueInfo(name.decode(), state_of_queue(state) or QueueState.ACTIVE, ready, later, parked, claimed, int(oldest))
        for name, state, ready, later, parked, claimed, oldest in answer
    ]
    return sorted(found, key=lambda queue: queue.name)


def state_of_queue(text: bytes) -> QueueState | None:
    """None for what nobody has written here; claims take it for active."""
    return next((state for state in QueueState if state.value.encode() == text), None)


def recall(link: Link, scope: str, keys: Iterable[str] | None) -> dict[str, bytes]:
    """The values of a scope."""
    name = link.prefix + b"val:" + scope.encode()
    if keys is None:
        return {key.decode(): value for key, value in _pairs(link.ask("HGETALL", name))}
    return _some(link, name, list(keys))


def get_blobs(link: Link, keys: Sequence[str]) -> dict[str, bytes]:
    """The data of the blobs that exist."""
    return _some(link, link.prefix + b"blob", list(keys))


def _some(link: Link, name: bytes, keys: list[str]) -> dict[str, bytes]:
    found = link.ask("HMGET", name, *keys) if keys else ()
    return {key: value for key, value in zip(keys, found, strict=True) if value is not None}


def runners(link: Link, clock: Clock) -> list[RunnerInfo]:
    """All runners that are known."""
    prefix = link.prefix
    answers = link.ask_all([("HGETALL", prefix + name) for name in (b"runners", b"beats", b"tasks", b"dead")])
    records, beats, tasks, dead = (dict(_pairs(answer)) for answer in answers)
    found = [_runner(_record(record), beats[name], tasks.get(name), dead, clock) for name, record in records.items()]
    return sorted(found, key=lambda info: (info.started, info.beat.id))


def _runner(record: list[Any], beat: bytes, tasks: bytes | None, dead: dict[bytes, bytes], clock: Clock) -> RunnerInfo:
    group, _, _, started, seen, boot, _, until = record[:8]
    is_alive = boot == clock.boot_id() and until > clock.lease() and group.encode() not in dead
    full = msgspec.structs.replace(_beat(beat), tasks=_texts(tasks)) if tasks else _beat(beat)
    return RunnerInfo(beat=full, started=started, seen=seen, alive=is_alive)
