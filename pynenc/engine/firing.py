"""The body of a firing: what a trigger makes of one cause.

Theory of operation
-------------------
A firing is an invocation of an internal task, one for each trigger (``pynenc.trigger.<trigger>``). Its row is the cause, written in the unit in which that
happened: by ``emit_event``, by the store as a reaction to a change of status, by the tick before. So causes wait while no runner lives, are taken
over when one dies, and are kept and shown like any call. The body decides, and submits the triggered call under an id *derived* from the trigger and
the cause: run twice, it ends in "already there".

============ ==================================================================================================================
kind         what the body does
============ ==================================================================================================================
``event``    judges the conditions that hear of the event
``change``   the same for a change of status
``tick``     the same for the ticks that are due, and submits the next tick with what it fires, in one step
``backfill`` the same for one tick of the past, without a next one
``settle``   fires what was debounced, if nothing came since
``manual``   fires without conditions
============ ==================================================================================================================

Triggers that join several causes, debounce or throttle have a *state*, one value under their scope. Their firings share a running key, so the store runs
them one at a time, and nothing needs a lock. A body writes the state, and what it will submit by that, before it submits: later attempts do just that, and one
that woke up after others had gone on cannot write, so it submits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from pynenc import context
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.core.ids import derived_id
from pynenc.core.outcome import SECOND
from pynenc.core.records import Microseconds, New, Owner
from pynenc.engine.causes import Event, Happened, StatusChange, Tick, as_cause
from pynenc.engine.codec import Codec
from pynenc.engine.firing_state import State, state_scope
from pynenc.engine.spec import TaskSpec
from pynenc.engine.submit import Submitter
from pynenc.engine.suspension import GivenUp
from pynenc.exceptions import InvocationNotFoundError, TriggerError
from pynenc.store.base import Store
from pynenc.trigger.conditions.base import ConditionContext, TriggerContext
from pynenc.trigger.conditions.composite import missing, satisfied
from pynenc.trigger.conditions.cron import ScheduleCondition
from pynenc.trigger.schedule import due_ticks, is_tick, next_tick
from pynenc.trigger.trigger import Trigger

#: The scope of values that says which triggers are paused.
PAUSED = "pynenc.triggers.paused"
#: A condition that holds because of a cause: position, kind, id and data of the cause.
Part = tuple[int, str, str, Any]


def events_scope(code: str) -> str:
    """Where the triggers of an event are kept."""
    return f"pynenc.event:{code}"


class Firing:
    """The body of the firings of one trigger; called like the function of a task.

    :param spec: of the internal task. :param target: of the triggered task.
    """

    def __init__(self, trigger: Trigger, spec: Callable[[], TaskSpec], target: Callable[[], TaskSpec]) -> None:
        self.trigger = trigger
        self.spec = spec
        self.target = target

    def fire(self, kind: str, cause: str, data: Any = None) -> dict[str, Any]:
        """Decide about a cause; what was fired, and why what was not."""
        running = context.current()
        assert running is not None
        return Decision(self, running).decide(kind, cause, data)


class Decision:
    """One run of a body."""

    def __init__(self, firing: Firing, running: context.Running) -> None:
        engine = running.engine
        self._firing = firing
        self._trigger = firing.trigger
        self._running = running
        self._owner = Owner(running.id, running.attempt, running.runner)
        self._store: Store = engine.store
        self._codec: Codec = engine.codec
        self._submitter: Submitter = engine.submitter
        self._conf: ConfigPynenc = engine.conf
        self._resolve = engine.executor.resolve
        self._now: Microseconds = engine.store.clock.now()
        self._rows: list[New] = []
        self._targets: set[str] = set()
        self._why: list[str] = []
        self._last: dict[str, bytes] = {}
        #: Makes a backfill that was asked for once more another cause.
        self._salt = ""
        self._state = State(self._trigger, self._store, self._codec)

    def decide(self, kind: str, cause: str, data: Any) -> dict[str, Any]:
        """Do what the kind asks for, or what an earlier attempt has decided."""
        try:
            return self._decide_and_carry_out(kind, cause, data)
        except Exception:
            self._set_aside()
            raise

    def _set_aside(self) -> None:
        """The firing fails: what it had decided waits with it, not in the state of the others, for somebody who retries it."""
        if decided := self._state.decided.pop(self._running.id, None):
            own = self._running.id
            self._store.remember(own, {"decided": self._codec.encode_value(decided, own, "decided")}, by=self._owner)
            self._keep(self._state.changed())

    def _decided(self) -> dict[str, Any]:
        """What an earlier attempt has decided, or one before a person's retry."""
        own = self._running.id
        if own not in self._state.decided and self._state.is_used and self._running.claimed.round:
            kept = self._store.recall(own, ["decided"])
            return dict(self._codec.decode_value(kept["decided"], own, "decided")) if kept else {}
        return self._state.decided.get(own, {})

    def _decide_and_carry_out(self, kind: str, cause: str, data: Any) -> dict[str, Any]:
        decided = self._decided()
        if decided and "rows" in decided:
            self._rows = msgspec.msgpack.decode(decided["rows"], type=list[New])
            self._targets, self._why = set(decided["targets"]), list(decided["why"])
        elif decided:
            self._fire_joined(decided["parts"], {}, cause)
        elif kind == "tick":
            self._tick(Tick(cause), data or {})
        elif kind == "manual":
            self._fire((), [cause], given=data)
        elif self._is_paused():
            self._why.append("the trigger is paused")
        elif kind == "settle":
            self._settle(cause, data)
        else:
            self._consider(self._cause(kind, cause, data), data)
        return self._carry_out()

    def _carry_out(self) -> dict[str, Any]:
        """Submit, then remember; with a state the other way round first."""
        if self._state.is_used and self._rows:
            rows = msgspec.msgpack.encode(self._rows)
            self._decide(rows=rows, targets=sorted(self._targets), why=self._why)
        fired = []
        for row, answer in zip(self._rows, self._submitter.send(self._rows) if self._rows else (), strict=True):
            if row.id in self._targets:
                fired.append(answer.id)
                if answer.existing:
                    self._why.append(f"{answer.id} had been fired already")
        self._state.decided.pop(self._running.id, None)
        self._keep(self._last | self._state.changed())
        return {"fired": fired, "why": "; ".join(self._why)}

    def _decide(self, **what: Any) -> None:
        """Keep what was decided before it is carried out: a later attempt finds a state that others have changed."""
        self._state.decided[self._running.id] = what
        self._keep(self._last | self._state.changed())

    def _keep(self, items: Mapping[str, bytes]) -> None:
        """Write what later firings must know, as long as this attempt owns the firing (else ``GivenUp``): one that woke up too late undoes nothing."""
        if items and not self._store.remember(state_scope(self._trigger.id), items, by=self._owner):
            raise GivenUp

    def _is_paused(self) -> bool:
        return bool(self._store.recall(PAUSED, [self._trigger.id]).get(self._trigger.id))

    # -- causes --------------------------------------------------------------------------------------------------------
    def _cause(self, kind: str, cause: str, data: Any) -> Happened:
        if kind == "event":
            return Event(cause, data)
        if kind == "change":
            return StatusChange(cause, self._store, self._codec, self._resolve)
        if kind == "tick":
            return Tick(cause, int((data or {}).get("last", 0)))
        raise TriggerError(f"this version of pynenc knows no firings of kind {kind!r}: upgrade this runner")

    def _consider(self, cause: Happened, data: Any) -> None:
        """Judge the conditions that hear of a cause, and fire if that is enough."""
        contexts: dict[int, ConditionContext] = {}
        heard = False
        for leaf, condition in enumerate(self._trigger.leaves):
            if cause.leaf not in (-1, leaf) or not condition.hears(as_cause(cause)):
                continue
            heard = True
            judged = condition.judge(as_cause(cause))
            if isinstance(judged, str):
                self._why.append(judged)
            else:
                contexts[leaf] = judged
        if not contexts:
            self._why += [] if heard else ["the trigger does not hear of this any more"]
        elif self._trigger.joins:
            self._join(cause, data, contexts)
        else:
            self._limit([(leaf, cause.kind, cause.id, data) for leaf in contexts], tuple(contexts.values()))

    def _join(self, cause: Happened, data: Any, contexts: dict[int, ConditionContext]) -> None:
        """Note the cause, and fire if all that is needed has come. An attempt whose note was written, and whose end was not, may come again after that."""
        is_again = self._running.attempt > 1 and not (self._running.claimed.round or self._salt)
        if is_again and self._state.was_joined(cause.id):
            self._why.append("it has been joined with others")
            return
        leaves = self._state.leaves
        at = (cause.at or self._running.claimed.created) / SECOND
        for leaf in contexts:
            leaves[str(leaf)] = (at, cause.kind, cause.id, data)
        times = {int(leaf): kept[0] for leaf, kept in leaves.items()}
        used = sorted(satisfied(self._trigger.condition, times))
        if not used:
            lacking = missing(self._trigger.condition, times)
            self._why.append(f"waits for {' and '.join(lacking)}" if lacking else "the causes lie too far apart")
            return
        parts = [(leaf, *leaves[str(leaf)]) for leaf in used]
        self._state.use_up(used, self._now)
        if cause.kind != "tick":  # which is decided together with the next one
            self._decide(parts=parts)
        self._fire_joined(parts, contexts, cause.id)

    def _fire_joined(self, kept: list[Any], contexts: Mapping[int, ConditionContext], cause_id: str) -> None:
        """Fire for causes that have come together: (leaf, time, kind, id, data) of each; unless a condition does not hold for its cause any more."""
        parts: list[Part] = [(leaf, *rest) for leaf, _, *rest in kept]
        joined = {part[0]: contexts.get(part[0]) or self._again(part) for part in parts}
        if gone := [leaf for leaf, found in joined.items() if found is None]:
            for leaf, *noted in kept:
                if leaf not in gone and noted[2] == cause_id:
                    self._state.leaves[str(leaf)] = noted
            self._hold_no_more(gone)
        else:
            self._limit(parts, tuple(found for found in joined.values() if found is not None))

    def _again(self, part: Any) -> ConditionContext | None:
        """The context of a cause that was noted earlier; None if the condition does not hold for it any more, or the invocation was purged since."""
        leaf, kind, cause_id, data = part
        try:
            judged = self._trigger.leaves[leaf].judge(as_cause(self._cause(kind, cause_id, data)))
        except InvocationNotFoundError:
            return None
        return None if isinstance(judged, str) else judged

    def _hold_no_more(self, leaves: Iterable[int]) -> None:
        self._why.append(f"{' and '.join(self._trigger.leaves[leaf].describe() for leaf in leaves)}: holds no more")

    # -- time ----------------------------------------------------------------------------------------------------------
    def _tick(self, tick: Tick, data: dict[str, Any]) -> None:
        """Fire for the ticks that are due. The next one is submitted whatever happens; a person's retry or a backfill has none."""
        condition = self._trigger.leaves[tick.leaf] if tick.leaf < len(self._trigger.leaves) else None
        if not isinstance(condition, ScheduleCondition) or not is_tick(condition.schedule, tick.at):
            self._why.append("the schedule has changed since")
            return
        if data.get("backfill"):
            self._salt = str(data.get("again", ""))
            self._consider(Tick(tick.id), {"last": 0})  # a tick of now did not come before one of the past
            return
        if self._running.claimed.round:
            self._fire_ticks(tick.leaf, [tick.at])
            return
        upcoming = next_tick(condition.schedule, max(self._now, tick.at))
        following = [] if upcoming is None else [tick_row(self._firing, self._parts, tick.leaf, upcoming)]
        try:
            due = due_ticks(
                condition.schedule,
                tick.at,
                max(self._now, tick.at),
                condition.misfire,
                int(self._conf.trigger_tolerance * SECOND),
                self._conf.trigger_catch_up,
            )
            if not due:
                self._why.append(f"it came too late, by {(self._now - tick.at) / SECOND:.0f} s (misfire skip)")
            if self._is_paused():
                self._why.append("the trigger is paused")
            else:
                self._fire_ticks(tick.leaf, due)
        except BaseException:
            self._submitter.send(following)
            raise
        self._rows += following

    def _fire_ticks(self, leaf: int, due: list[Microseconds]) -> None:
        key = f"last:{leaf}"
        kept = self._store.recall(state_scope(self._trigger.id), [key]).get(key)
        last = int(kept) if kept else 0
        for at in due:
            self._consider(Tick(f"{leaf}:{at}", last), {"last": last})
            last = max(last, at)
        if due:
            self._last[key] = str(last).encode()

    @property
    def _parts(self) -> tuple[ConfigPynenc, Codec]:
        return self._conf, self._codec

    # -- firing --------------------------------------------------------------------------------------------------------
    def _limit(self, parts: list[Part], contexts: tuple[ConditionContext, ...]) -> None:
        """Fire, or wait until it is quiet."""
        debounce = self._trigger.debounce
        if debounce is None:
            self._fire(contexts, [part[2] for part in parts])
            return
        told = TriggerContext(self._trigger.id, contexts)
        key = debounce.key.of(told, self._arguments(told))
        cause = _joined(part[2] for part in parts)
        self._state.latest[key] = cause
        due = self._now + int(debounce.seconds * SECOND)
        row_id = derived_id(self._conf.app_id, self._trigger.id, "settle", cause)
        self._rows.append(
            firing_row(self._firing, self._parts, row_id, "settle", cause, {"key": key, "parts": parts}, due=due)
        )
        self._why.append(f"waits for {debounce.seconds:g} s of quiet")

    def _settle(self, cause: str, data: dict[str, Any]) -> None:
        if self._state.latest.get(data["key"]) != cause:
            self._why.append("a later cause came")
            return
        found = {part[0]: self._again(part) for part in data["parts"]}
        del self._state.latest[data["key"]]
        if gone := [leaf for leaf, context in found.items() if context is None]:
            self._hold_no_more(gone)
        else:
            contexts = tuple(context for context in found.values() if context is not None)
            self._fire(contexts, [part[2] for part in data["parts"]])

    def _fire(
        self, contexts: tuple[ConditionContext, ...], causes: list[str], given: Mapping[str, Any] | None = None
    ) -> None:
        """Word the triggered call, if the throttle lets it pass."""
        told = TriggerContext(self._trigger.id, contexts)
        arguments = dict(given) if given is not None else self._arguments(told)
        parts = (self._trigger.id, *sorted(set(causes)), *filter(None, [self._salt]))
        target_id = derived_id(self._conf.app_id, *parts)
        throttle = self._trigger.throttle
        if throttle is not None and contexts:
            key = throttle.key.of(told, arguments)
            if not self._state.may_pass(key, target_id, self._now, throttle.n, int(throttle.seconds * SECOND)):
                self._why.append(throttle.describe())
                return
        spec = self._firing.target()
        self._rows.append(self._submitter.word(spec, spec.binder.bind((), arguments), target_id))
        self._targets.add(target_id)

    def _arguments(self, told: TriggerContext) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for provider in self._trigger.providers:
            merged |= provider.get_arguments(told)
        return merged


# -- rows ----------------------------------------------------------------------------------------------------------------
def template(trigger: Trigger, conf: ConfigPynenc, target: TaskSpec) -> New:
    """The record of a firing without id and arguments."""
    return New(
        id="",
        task=trigger.key,
        args=b"",
        queue=target.conf.queue,
        priority=target.conf.priority,
        running_key=trigger.key if trigger.has_state else None,
        result_ttl=int(conf.trigger_ttl * SECOND),
    )


def firing_row(
    firing: Firing,
    parts: tuple[ConfigPynenc, Codec],
    row_id: str,
    kind: str,
    cause: str,
    data: Any,
    *,
    due: Microseconds = 0,
) -> New:
    """The record of a firing."""
    conf, codec = parts
    return fill(
        template(firing.trigger, conf, firing.target()), firing.spec(), codec, row_id, kind, cause, data, due=due
    )


def fill(
    new: New, spec: TaskSpec, codec: Codec, row_id: str, kind: str, cause: str, data: Any, *, due: Microseconds = 0
) -> New:
    """A template with id, arguments and time."""
    call = codec.encode(spec, {"kind": kind, "cause": cause, "data": data})
    return msgspec.structs.replace(new, id=row_id, args=call.payload, blobs=call.blobs, due=due)


def tick_row(firing: Firing, parts: tuple[ConfigPynenc, Codec], leaf: int, at: Microseconds) -> New:
    """The record of a tick, claimable at its time; its id depends on nothing else."""
    cause = f"{leaf}:{at}"
    row_id = derived_id(parts[0].app_id, firing.trigger.id, "tick", cause)
    return firing_row(firing, parts, row_id, "tick", cause, None, due=at)


def _joined(causes: Any) -> str:
    return " ".join(sorted(set(causes)))
