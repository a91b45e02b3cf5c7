"""Why an invocation does not run: the answer to the commonest question, read from the store."""

from __future__ import annotations

from shlex import quote

from pynenc.cli.output import ago, duration
from pynenc.core.records import UNKNOWN_TASK, Filter, Invocation, Page, QueueState
from pynenc.core.status import InvocationStatus, Place
from pynenc.engine.suspension import DIFFERS, FOR_SIGNAL
from pynenc.store.base import Store


def explain(store: Store, row: Invocation) -> list[str]:
    """Sentences that say what the invocation waits for and what would help."""
    now = store.clock.now()
    if row.status.is_final():
        reasons = [f"it ended {row.status} {ago(row.ended, now)}" + (f": {row.reason}" if row.reason else "")]
        is_late = row.cancel_requested and row.status is not InvocationStatus.CANCELLED
        return reasons + (["somebody asked it to stop; its body ended by itself"] if is_late else [])
    if row.place is Place.CLAIMED:
        return _claimed(row, now)
    if row.place is Place.WAITING:
        return _suspended(row, now)
    if row.place is Place.PARKED:
        return _parked(store, row)
    reasons = [f"it is not due: {ago(row.due, now)}"] if row.place is Place.LATER and row.due > now else []
    return reasons + _unclaimed(store, row)


def _suspended(row: Invocation, now: int) -> list[str]:
    reasons = [f"it is suspended{f': {row.reason}' if row.reason else ''}"]
    if row.due:
        reasons.append(f"it goes on {ago(row.due, now)}")
    if row.waiting_for:
        reasons.append(f"it goes on when one of these ends: {', '.join(row.waiting_for[:5])}")
    if row.reason.startswith(DIFFERS):
        reasons.append(f"put its code back or mend it, then let it try again: pynenc workflows resume {row.id}")
    elif row.reason.startswith(FOR_SIGNAL) and "; " not in row.reason:
        name = quote(row.reason.removeprefix(FOR_SIGNAL))
        reasons.append(f"send it: pynenc workflows signal {row.id} {name} VALUE")
    elif not (row.due or row.waiting_for):
        or_signal = ", or send the signal that it waits for" if FOR_SIGNAL in row.reason else ""
        reasons.append(f"let it go on: pynenc workflows resume {row.id} VALUE{or_signal}")
    return reasons


def _claimed(row: Invocation, now: int) -> list[str]:
    reasons = [f"runner {row.runner} has it since {ago(row.claimed, now)} (attempt {row.attempt})"]
    if row.waiting_for:
        reasons.append(f"its body waits for {', '.join(row.waiting_for[:5])}")
    if row.cancel_requested:
        reasons.append(
            f"somebody asked it to stop{f' ({row.reason})' if row.reason else ''}; its body has not ended yet"
        )
    return reasons


def _parked(store: Store, row: Invocation) -> list[str]:
    if row.reason == UNKNOWN_TASK:
        return [f"{UNKNOWN_TASK} ({row.task})"]
    if row.running_key:
        holders = store.find(
            Filter(
                running_key=row.running_key,
                statuses=(
                    InvocationStatus.PENDING,
                    InvocationStatus.RUNNING,
                    InvocationStatus.REGISTERED,
                    InvocationStatus.RETRY,
                ),
            ),
            Page(limit=5),
        )
        names = ", ".join(f"{holder.id} ({holder.status})" for holder in holders.invocations if holder.id != row.id)
        if names:
            return [f"concurrency key {row.running_key} (limit {row.running_limit}) is held by {names}"]
    if row.rate:
        return [f"rate {row.rate.n} per {duration(row.rate.period / 1e6)} of {row.rate.key} is used up"]
    return [f"it is set aside: {row.reason or 'its key is held'}"]


def _unclaimed(store: Store, row: Invocation) -> list[str]:
    queue = next((q for q in store.queues() if q.name == row.queue), None)
    if queue and queue.state is QueueState.PAUSED:
        return [f"queue {row.queue} is paused: pynenc queues resume {row.queue}"]
    serving = [r for r in store.runners() if r.alive and (not r.beat.queues or row.queue in r.beat.queues)]
    if not serving:
        return [
            f"no live runner serves queue {row.queue}: pynenc runner start"
            + (f" --queues {row.queue}" if row.queue != "default" else "")
        ]
    if row.alone:
        return ["it is suspected of having killed its process and waits to be run alone"]
    busy = sum(r.beat.running for r in serving)
    slots = sum(r.beat.slots for r in serving)
    ahead = queue.ready - 1 if queue else 0
    return [
        f"{len(serving)} runner(s) serve its queue, {busy} of {slots} slots busy, {max(0, ahead)} other(s) are ready in it; its rank is {row.rank:g}"
    ]
