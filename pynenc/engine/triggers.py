"""``app.trigger``: emit events; declare, list, pause, resume, fire and backfill triggers.

A trigger is *declared* when the store knows it: its reactions are subscribed to, who emits its event finds it, and its next tick waits. Runners declare the
triggers of the tasks that they import, when they start and now and then; clients those that they know, before the first event. All steps are
idempotent, and the definition is written last: whoever dies in between is made up for by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from threading import Lock
from typing import Any, Protocol

import msgspec

from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.config_task import ConfigTask
from pynenc.core.ids import derived_id
from pynenc.core.outcome import SECOND
from pynenc.core.reaction import CHANGE_HEAD, CHANGE_TAIL, DEFINITIONS, FIRING, Reaction
from pynenc.core.records import Change, ChangeKind, Filter, Invocation, Microseconds, New, Page
from pynenc.core.status import InvocationStatus
from pynenc.core.storable import check_storable
from pynenc.engine.codec import Codec
from pynenc.engine.firing import PAUSED, Firing, events_scope, fill, firing_row, template, tick_row
from pynenc.engine.newid import new_id
from pynenc.engine.spec import TaskSpec
from pynenc.engine.submit import Submitter
from pynenc.engine.transaction import connection_for, refuse_inside
from pynenc.exceptions import TriggerError
from pynenc.store.base import Store
from pynenc.trigger.schedule import next_tick, ticks_between

logger = logging.getLogger("pynenc")

#: Most ticks of one backfill, and rows in one of its transactions.
MOST_TICKS, TICKS_AT_ONCE = 100_000, 500

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_FIELDS = ("task", "condition", "arguments", "limits", "ticks", "events", "queue", "priority", "ttl")
_encode_new = msgspec.msgpack.encode
_decode_new = msgspec.msgpack.Decoder(New).decode


def _told(data: bytes) -> dict[str, Any] | None:
    """What a definition says; None when it cannot be read."""
    try:
        told = _decode(data)
    except msgspec.DecodeError:
        return None
    return told if all(name in told for name in _FIELDS) else None


def _new(data: bytes) -> New | None:
    """The call that an event makes; None when it cannot be read."""
    try:
        return _decode_new(data)
    except msgspec.DecodeError:
        return None


class Known(Protocol):
    """What an app knows of a trigger of one of its tasks."""

    @property
    def firing(self) -> Firing: ...


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger as people see it. Times in microseconds, 0 for none.

    :ivar condition: ``arguments`` and ``limits``: one line of text each. :ivar is_gone: its task does not have it any more.
    """

    id: str
    task: str
    condition: str
    arguments: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    is_paused: bool = False
    is_gone: bool = False
    next_tick: Microseconds = 0


class Triggers:
    """The triggers of one app over one store.

    :param known: the triggers of the tasks that this process has imported, by the name of their internal task.
    :param owns: whether this process has imported a task.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        submitter: Submitter,
        conf: ConfigPynenc,
        known: Mapping[str, Known],
        owns: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._codec = codec
        self._submitter = submitter
        self._conf = conf
        self._known = known
        self._owns = owns
        self._declared: set[str] = set()
        self._damaged: set[str] = set()
        self._lock = Lock()
        #: Development mode: runs what was submitted, at once. Time makes nothing true there.
        self.run_inline: Callable[[str], None] | None = None

    # -- events --------------------------------------------------------------------------------------------------------
    def emit_event(self, code: str, payload: Any = None) -> str:
        """Tell the triggers of an event; returns its id. Durable when it returns: what it triggers runs as soon as a runner is there.

        Within ``app.transaction(connection)`` the event is a part of the transaction. An event that no declared trigger hears of is not kept.

        :raises SerializationError: the payload cannot be encoded. :raises ValueError: the code is no text that can be stored.
        """
        check_storable(code, "the code of an event")
        if connection_for(self._store) is None:
            self.declare_known()
        event_id = new_id()
        told = {name: _new(data) for name, data in self._store.recall(events_scope(code)).items() if data}
        hearing = {name: new for name, new in told.items() if new is not None}
        # What this process knows and the store does not: declared by nobody yet, forgotten in a purge, or taken back by a runner of another version.
        hearing |= self._missing(code, hearing)
        rows = [self._event_row(new, name, event_id, code, payload) for name, new in sorted(hearing.items())]
        if rows:
            self._submitter.send(rows)
        for row in rows if self.run_inline else ():
            self.run_inline(row.id)  # type: ignore[misc]  # checked in the line before
        return event_id

    def _missing(self, code: str, there: Mapping[str, New]) -> dict[str, New]:
        """The triggers of this process that hear of an event and are not there, with their templates."""
        firings = [found.firing for found in list(self._known.values())]
        return {
            firing.trigger.id: template(firing.trigger, self._conf, firing.target())
            for firing in firings
            if code in firing.trigger.events and firing.trigger.id not in there
        }

    def _event_row(self, new: New, name: str, event_id: str, code: str, payload: Any) -> New:
        row_id = derived_id(self._conf.app_id, name, "event", event_id)
        spec = self.spec(new.task)
        return fill(new, spec, self._codec, row_id, "event", event_id, {"code": code, "payload": payload})

    def spec(self, key: str) -> TaskSpec:
        """What is needed to read and write the values of firings, whose trigger need not be known here."""
        if found := self._known.get(key):
            return found.firing.spec()
        return TaskSpec(key, _signature, ConfigTask(), self._codec.gate, ())

    # -- declaring -----------------------------------------------------------------------------------------------------
    def declare_known(self) -> None:
        """Declare what this process knows and has not declared yet."""
        if self._declared.issuperset(self._known):
            return
        with self._lock:
            fresh = [found for key, found in list(self._known.items()) if key not in self._declared]
            self._declare([found.firing for found in fresh])
            self._declared.update(found.firing.trigger.key for found in fresh)

    def declare(self) -> None:
        """What a runner does when it starts: declare everything, and note which triggers its tasks have lost."""
        firings = [found.firing for found in list(self._known.values())]
        self._declare(firings)
        self._declared.update(firing.trigger.key for firing in firings)
        self._note_lost({firing.trigger.id for firing in firings})

    def renew(self) -> None:
        """What runners do now and then: declare what the store has lost, and ticks that are missing."""
        firings = [found.firing for found in list(self._known.values())]
        if firings:
            there = {name for name, told in self._definitions().items() if not told.get("gone")}
            self._declare([firing for firing in firings if firing.trigger.id not in there])
            self._seed(firings)

    def forget_declared(self) -> None:
        """The store was emptied."""
        self._declared.clear()

    def _declare(self, firings: list[Firing]) -> None:
        if not firings:
            return
        refuse_inside(self._store, "declaring triggers")
        there = self._store.recall(DEFINITIONS, [firing.trigger.id for firing in firings])
        changed = [firing for firing in firings if there.get(firing.trigger.id) != self._definition(firing)]
        for firing in changed:
            self._declare_one(firing, there.get(firing.trigger.id))
        self._seed(firings)
        if changed:
            self._store.remember(DEFINITIONS, {each.trigger.id: self._definition(each) for each in changed})

    def _definition(self, firing: Firing) -> bytes:
        """What is stored of a trigger: for people, and to see whether it has changed."""
        row = template(firing.trigger, self._conf, firing.target())
        trigger = firing.trigger
        told = {**trigger.describe(), "events": list(trigger.events), "ticks": any(trigger.schedules)}
        return _encode({**told, "queue": row.queue, "priority": row.priority, "ttl": row.result_ttl})

    def _declare_one(self, firing: Firing, before: bytes | None) -> None:
        trigger = firing.trigger
        row = template(trigger, self._conf, firing.target())
        change = msgspec.structs.replace(row, args=CHANGE_HEAD)
        reactions = [Reaction(task, status, change, CHANGE_TAIL) for task, status in trigger.changes]
        self._store.subscribe(trigger.id, reactions)
        past = set((_told(before) or {}).get("events", ())) if before else set()
        for code in sorted(past | set(trigger.events)):
            self._store.remember(events_scope(code), {trigger.id: _encode_new(row) if code in trigger.events else b""})

    def _seed(self, firings: list[Firing]) -> None:
        """Submit the next tick of each schedule, where it is not there already."""
        if self.run_inline:
            return
        now = self._store.clock.now()
        rows = [
            tick_row(firing, (self._conf, self._codec), leaf, upcoming)
            for firing in firings
            for leaf, condition in firing.trigger.schedules
            if (upcoming := next_tick(condition.schedule, now)) is not None
        ]
        if rows:
            self._submitter.send(rows)

    def _note_lost(self, current: set[str]) -> None:
        """Take back what tasks that this runner has imported do not declare any more."""
        for name, told in self._definitions().items():
            if name in current or told.get("gone") or not self._owns(told["task"]):
                continue
            self._store.subscribe(name, ())
            for code in told["events"]:
                self._store.remember(events_scope(code), {name: b""})
            waiting = Filter(tasks=(FIRING + name,), statuses=(InvocationStatus.REGISTERED,))
            ticks = [row.id for row in self._all(waiting) if row.due]
            self._store.amend(ticks, Change(ChangeKind.CANCEL, "its trigger is gone"))
            self._store.remember(DEFINITIONS, {name: _encode({**told, "gone": True})})

    def _definitions(self) -> dict[str, dict[str, Any]]:
        """What the store knows of all triggers. A definition that cannot be read is passed by, until a runner that has its task writes it again."""
        found = {name: _told(data) for name, data in self._store.recall(DEFINITIONS).items()}
        for name in [name for name, told in found.items() if told is None and name not in self._damaged]:
            self._damaged.add(name)
            logger.error(
                "the definition of trigger %s in %s cannot be read, and is passed by", name, self._store.display_url
            )
        return {name: told for name, told in found.items() if told is not None}

    def _all(self, where: Filter) -> Iterator[Invocation]:
        page = Page(500)
        while True:
            found = self._store.find(where, page)
            yield from found.invocations
            if not found.cursor:
                return
            page = Page(500, found.cursor)

    # -- people --------------------------------------------------------------------------------------------------------
    def list(self) -> tuple[Described, ...]:
        """All triggers that were ever declared, by id."""
        paused = self._store.recall(PAUSED)
        return tuple(
            self._described(name, told, is_paused=bool(paused.get(name)))
            for name, told in sorted(self._definitions().items())
        )

    def _described(self, name: str, told: dict[str, Any], *, is_paused: bool) -> Described:
        return Described(
            id=name,
            task=told["task"],
            condition=told["condition"],
            arguments=tuple(told["arguments"]),
            limits=tuple(told["limits"]),
            is_paused=is_paused,
            is_gone=bool(told.get("gone")),
            next_tick=0 if told.get("gone") or not told["ticks"] else self._next_tick(name),
        )

    def _next_tick(self, name: str) -> Microseconds:
        """By the schedule where that is known here, else by the latest ticks that wait."""
        if found := self._known.get(FIRING + name):
            now = self._store.clock.now()
            upcoming = [next_tick(condition.schedule, now) for _, condition in found.firing.trigger.schedules]
        else:
            waiting = Filter(tasks=(FIRING + name,), statuses=(InvocationStatus.REGISTERED,))
            upcoming = [row.due for row in self._store.find(waiting, Page(100)).invocations]
        return min((tick for tick in upcoming if tick), default=0)

    def get(self, name: str) -> Described:
        """One trigger, by its id or the end of it.

        :raises TriggerError: there is none, or several.
        """
        found = self._named(name)
        return self._described(found, self._definitions()[found], is_paused=self.is_paused(found))

    def _named(self, name: str) -> str:
        there = sorted(self._definitions())
        matching = [name] if name in there else [each for each in there if each.endswith(f".{name}")]
        matching = matching or [each for each in there if each.startswith(f"{name}.") or f".{name}." in each]
        if len(matching) == 1:
            return matching[0]
        known = ", ".join(matching or there) or "none; a runner declares them when it starts"
        raise TriggerError(f"{'several triggers are' if matching else 'no trigger is'} called {name!r}: {known}")

    def is_paused(self, name: str) -> bool:
        """Whether a trigger is paused."""
        return bool(self._store.recall(PAUSED, [name]).get(name))

    def pause(self, name: str) -> str:
        """Fire no more until it is resumed; what comes meanwhile is noted and not fired. Returns the id.

        :raises TriggerError: there is no such trigger.
        """
        return self._set_paused(name, b"1")

    def resume(self, name: str) -> str:
        """Fire again.

        :raises TriggerError: there is no such trigger.
        """
        return self._set_paused(name, b"")

    def _set_paused(self, name: str, value: bytes) -> str:
        refuse_inside(self._store, "pausing or resuming a trigger")
        found = self._named(name)
        self._store.remember(PAUSED, {found: value})
        return found

    def fire(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Fire by hand, whatever the conditions, limits and a pause say; returns the id of the firing, whose result names the call.

        :param arguments: of the triggered task; by default those that the trigger has without a cause, such as static ones.
        :raises TriggerError: there is no such trigger. :raises TypeError: its task cannot be called like this (noticed here if this process has imported it).
        """
        firing_id = new_id()
        key = FIRING + self._named(name)
        if arguments is not None and (known := self._known.get(key)):
            known.firing.target().binder.bind((), dict(arguments))
        new = self._template(key)
        data = dict(arguments) if arguments is not None else None
        self._submitter.send([fill(new, self.spec(key), self._codec, firing_id, "manual", firing_id, data)])
        if self.run_inline:
            self.run_inline(firing_id)
        return firing_id

    def _template(self, key: str) -> New:
        told = self._definitions()[key.removeprefix(FIRING)]
        return New(id="", task=key, args=b"", queue=told["queue"], priority=told["priority"], result_ttl=told["ttl"])

    def backfill(self, name: str, start: datetime, end: datetime, *, again: bool = False) -> int:
        """Fire for all ticks of a schedule from ``start`` to ``end``, both included and with a time zone; returns how many were not asked for before.

        A tick that was fired, in time or by an earlier backfill, is not fired twice as long as its call is kept.

        :param again: fire those too.
        :raises TriggerError: it has no schedule, this process has not imported its task, or there are too many ticks.
        """
        firing = self._firing(self._named(name))
        if start.tzinfo is None or end.tzinfo is None:
            raise TriggerError("the start and the end of a backfill need a time zone, such as 2026-01-01T00:00+00:00")
        if start > end:
            raise TriggerError(f"a backfill from {start} to {end} ends before it begins")
        rows = self._backfill_rows(firing, start, end, new_id() if again else "")
        accepted = 0
        while batch := [*islice(rows, TICKS_AT_ONCE)]:
            accepted += sum(not answer.existing for answer in self._submitter.send(batch))
        return accepted

    def _firing(self, name: str) -> Firing:
        if (found := self._known.get(FIRING + name)) is None:
            raise TriggerError(
                f"this process does not know trigger {name}: import the module of its task (setting `imports`)"
            )
        return found.firing

    def _backfill_rows(self, firing: Firing, start: datetime, end: datetime, again: str) -> Iterator[New]:
        first, last = (round(each.timestamp() * SECOND) for each in (start, end))
        pairs = [
            (leaf, at)
            for leaf, condition in firing.trigger.schedules
            for at in islice(ticks_between(condition.schedule, first, last), MOST_TICKS + 1)
        ]
        if not any(firing.trigger.schedules):
            raise TriggerError(f"{firing.trigger.id} has no schedule, so there is nothing to backfill")
        if len(pairs) > MOST_TICKS:
            raise TriggerError(f"more than {MOST_TICKS} ticks lie between {start} and {end}: backfill in parts")
        return (self._backfill_row(firing, f"{leaf}:{at}", again) for leaf, at in pairs)

    def _backfill_row(self, firing: Firing, cause: str, again: str) -> New:
        row_id = derived_id(self._conf.app_id, firing.trigger.id, "backfill", cause, again)
        data = {"backfill": True, "again": again}
        return firing_row(firing, (self._conf, self._codec), row_id, "tick", cause, data)

    # -- explaining ----------------------------------------------------------------------------------------------------
    def firings(self, name: str, limit: int = 20) -> tuple[dict[str, Any], ...]:
        """The latest decisions of a trigger, newest first: id, time, cause, status, what was fired, and why what was not.

        :raises TriggerError: there is no such trigger.
        """
        key = FIRING + self._named(name)
        return tuple(self._decision(row) for row in self._store.find(Filter(tasks=(key,)), Page(limit)).invocations)

    def decision(self, firing_id: str) -> dict[str, Any]:
        """The same for one firing.

        :raises TriggerError: there is none with this id.
        """
        found = self._store.get([firing_id])
        if not found or not found[0].task.startswith(FIRING):
            raise TriggerError(f"{firing_id} is no decision of a trigger, or is kept no more (setting 'trigger_ttl')")
        return self._decision(found[0])

    def _decision(self, row: Invocation) -> dict[str, Any]:
        """What became of one cause."""
        spec = self.spec(row.task)
        told: dict[str, Any] = {"id": row.id, "at": row.ended or row.due or row.created, "status": row.status.value}
        told |= {"fired": [], "why": "", "traceback": ""}
        try:
            call = self._codec.decode(spec, row)
            told |= {"kind": call["kind"], "cause": call["cause"]}
            if row.status is InvocationStatus.SUCCESS:
                told |= self._codec.decode_result(spec, row)
            elif row.status is InvocationStatus.FAILED:
                shown = self._codec.describe_row(row)
                told |= {"why": shown.get("error", ""), "traceback": shown.get("traceback", "")}
            else:
                told["why"] = row.reason
        except Exception as error:  # damaged or signed with another key: shown, and no reason to show nothing
            told["why"] = f"cannot be read: {error}"
        return told


def _signature(kind: str, cause: str, data: Any = None) -> None:
    """The parameters of a firing."""
