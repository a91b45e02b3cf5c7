"""Turns: the only place that writes outcomes and claims work.

One turn is one store operation that writes the outbox and claims again. Threads make turns themselves, one at a time;
who waited for the lock meanwhile finds the buffer filled. How much is claimed ahead of the free slots follows the
measured duration of bodies: about ``AHEAD`` seconds of work, nothing at all while a body of this worker waits for
others (its children must come first, in the order that the store knows).

The store wakes whoever says that it is idle. A worker says so before the claim that may find nothing, so no work can
slip in between, and takes it back when a claim leaves no slot free. As long as claims come back full it says nothing at
all.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from pynenc.core import outcome
from pynenc.core.queueing import shares
from pynenc.core.records import Alone, Beat, Claim, Claimed, ClaimRequest, Finished, Outcome, Progress
from pynenc.core.status import FINAL
from pynenc.exceptions import RunnerLostError, StoreError
from pynenc.runner.numbers import Measures
from pynenc.runner.settings import WorkerSettings
from pynenc.runner.slots import Slots
from pynenc.store.base import IdleListener, Store, Watch

if TYPE_CHECKING:
    from pynenc.context import Running
    from pynenc.runner.coroutines import Coroutines

logger = logging.getLogger("pynenc.runner")

#: Seconds of work to claim ahead.
AHEAD = 0.05
#: Seconds after a wait in which nothing is claimed ahead: the next body may wait too, and all of it would have to go back.
CALM = 1.0
#: Seconds of work that make it worth to wake another thread.
SHARE = 0.005
#: A claim that brought at least so many, and all that were asked for, will be followed by another that finds something.
MANY = 16
#: Every so many turns the claim goes by age alone, so that low priorities move.
AGED_EVERY = 16
#: A worker without supervisor runs suspects when nothing else runs in it. While some wait, it takes nothing else for the
#: first ``SUSPECT_PATIENCE`` of each ``SUSPECT_PERIOD`` seconds.
SUSPECT_PERIOD, SUSPECT_PATIENCE = 60.0, 10.0
#: Seconds to wait at most before the store is tried again that did not answer, and never longer than for a poll.
LONGEST_PAUSE = 10.0


class Turns:
    """The buffer of claimed work and the outbox of outcomes of one worker.

    :param beat: the identity under which it claims. :param max_ahead: most to claim beyond free slots.
    :param on_lost: called when the store says that the lease of this identity was taken away.
    :ivar on_change: called after a claim that changed what has to be watched, while it is so.
    """

    def __init__(
        self,
        store: Store,
        settings: WorkerSettings,
        beat: Beat,
        slots: Slots,
        *,
        max_ahead: int,
        coroutines: Coroutines | None,
        on_lost: Callable[[], None],
    ) -> None:
        self.beat = beat
        self.settings = settings
        self.buffer: deque[Claimed] = deque()
        self.buffered_at = 0.0
        #: When the last claim was asked for, in monotonic seconds: what is in the buffer was owned then.
        self.asked_at = 0.0
        self.outbox: list[Outcome] = []
        self._last_words: list[Progress] = []
        #: What bodies of this worker wait for, if that alone decides when they go on.
        self.awaited: set[str] = set()
        self.oldest = 0.0
        self.mean = AHEAD
        self.claimed = 0
        self.finished = 0
        self.next_due = 0
        self.retry_at = 0.0
        self.is_closed = False
        self.on_change: Callable[[], None] = lambda: None
        #: Whether ``on_change`` is wanted.
        self.is_watched = True
        self.is_drained = False
        #: When a claim round was last completed, in monotonic seconds.
        self.moved = 0.0
        self.measures: Measures | None = None
        self.listener: IdleListener
        self._store = store
        self._slots = slots
        self._max_ahead = max_ahead
        self._coroutines = coroutines
        self._on_lost = on_lost
        self._lock = Lock()
        self.lease = beat.lease / outcome.SECOND
        self._count = 0
        self._failures = 0
        self._is_idle = False
        self._was_full = False
        self._calm_at = 0.0
        self._suspects_since = 0.0
        #: Tasks that were found not to be known here; others may know them.
        self._unknown: set[str] = set()
        #: The attempts that were claimed here and whose outcomes are not written yet.
        self._held: set[tuple[str, int]] = set()
        #: When to ask the store what it thinks is claimed here: at once after a claim whose answer never came, and again
        #: a lease later, in case it was carried out late.
        self._doubts: list[float] = []

    # -- what threads call -------------------------------------------------------------------------------------------------
    def put(self, ended: Outcome, seconds: float, now: float, running: Running | None = None) -> None:
        """Keep the outcome of a body that took ``seconds`` for the next turn, with what it has reported and the pump has not written yet."""
        self.mean += 0.1 * (seconds - self.mean)
        if running is not None and running.progress is not running.told:
            self._last_words.append(running.progress)
        if not self.outbox:
            self.oldest = now
        self.outbox.append(ended)

    def note_wake(self) -> None:
        """The store has woken this worker; it may not do so again before it hears that the worker is idle."""
        self._is_idle = False

    def is_overdue(self, now: float) -> bool:
        """Whether an outcome has waited long enough for company."""
        return bool(self.outbox) and now - self.oldest > self.settings.flush

    def make(self, *, claims: bool = True, tokens: int = 1) -> bool:
        """Write the outbox and claim again; whether there is something to run now.

        :param tokens: how many tokens the caller holds; none claims for the event loop alone.
        """
        with self._lock:
            now = time.monotonic()
            if now < self.retry_at or (claims and self.buffer and not self.is_overdue(now)):
                return bool(self.buffer)
            is_probe = not tokens
            if self.awaited:  # those who wait for what has a final now come back, and take the tokens
                tokens -= sum([ended.id in self.awaited and ended.status in FINAL for ended in self.outbox])
            request = None
            if claims and not self.is_closed:
                request = self._request(tokens, now, is_probe=is_probe)
                if request is None:
                    self.moved = now  # it looked, and can start nothing
            claim = self._write(request)
            if claim is not None and request is not None:
                if not claim.batch and not self._is_idle:
                    self._was_full = False
                    claim = self._write(request) or claim
                self._take(claim, request.runner, request.limit, tokens, now)
            return bool(self.buffer)

    def renew(self, beat: Beat) -> None:
        """Go on under another identity. What the old one has claimed, or claims at this moment, and nobody has started belongs to others."""
        self.beat = beat
        self.buffer.clear()
        if self._coroutines:
            self._coroutines.stale(math.inf)

    def watch(self, ids: Sequence[str], begin: Callable[[ClaimRequest | None], Watch]) -> Watch:
        """Begin the wait of a body for ``ids``, and claim for the token that it is about to give away in the same step."""
        with self._lock:
            self._make_way(ids)
            now = time.monotonic()
            self._calm_at = now + CALM
            is_ready = not (self.is_closed or self._doubts or self.buffer or now < self.retry_at)
            request = self._request(1, now) if is_ready else None
            if request is not None:
                request = msgspec.structs.replace(request, limit=1)
            try:
                watch = begin(request)
            except RunnerLostError:  # the next turn deals with that
                return begin(None)
            except StoreError as error:
                if request is None or not error.retryable:
                    raise
                self._doubt()  # the claim may have been carried out; the wait may be begun again
                return begin(None)
            if request is not None and watch.claim.batch:
                self._take(watch.claim, request.runner, request.limit, 1, now)
            return watch

    def make_way(self, ids: Sequence[str]) -> None:
        """A body waits for ``ids``: what is claimed and not started goes back, unless it is one of them and runs next."""
        with self._lock:
            self._make_way(ids)

    def _make_way(self, ids: Sequence[str]) -> None:
        if not self.buffer:
            return
        taken = self.empty_buffer()
        self.buffer.extend(kept := [claimed for claimed in taken if claimed.id in ids])
        if len(kept) < len(taken):
            self.release([claimed for claimed in taken if claimed.id not in ids], "a running task waits for others")
            self._write(None)

    def give_back(self, reason: str) -> None:
        """Release what is claimed and not started, together with the outcomes that wait."""
        self.release(self.empty_buffer(), reason)
        if self.outbox:
            self.make(claims=False)

    def empty_buffer(self) -> list[Claimed]:
        """What is claimed and not started; it is the caller's now."""
        taken: list[Claimed] = []
        while self.buffer:
            try:
                taken.append(self.buffer.popleft())
            except IndexError:
                break
        return taken

    def release(self, taken: list[Claimed], reason: str) -> None:
        """Put claimed invocations that will not run here into the outbox; they go back at the next turn."""
        self._put_back([outcome.released(claimed, reason) for claimed in taken])

    def release_late(self, claimed: Claimed) -> bool:
        """The process stood still since the claim, for longer than a lease: another runner may have it by now, so it goes back."""
        self.release([claimed], "its runner stood still before it began")
        return True

    def hand_back(self, taken: list[Claimed]) -> None:
        """The same for what runs, when the runner stops."""
        self._put_back([outcome.handed_back(claimed) for claimed in taken])

    def _put_back(self, outcomes: list[Outcome]) -> None:
        self.claimed -= len(outcomes)
        self.finished -= len(outcomes)
        self.outbox += outcomes

    def flush(self, deadline: float) -> None:
        """Write the outbox, also to a store that does not answer at first; until ``deadline``, and once at least."""
        while True:
            self.retry_at = 0.0
            self.make(claims=False)
            left = min(self.retry_at, deadline) - time.monotonic()
            if not self.outbox or left <= 0:
                return
            time.sleep(left)

    def note_unknown(self, task: str) -> None:
        """No module that was imported here defines a task: leave it to others."""
        self._unknown.add(task)

    def note_suspects(self, *, has_suspects: bool) -> None:
        """The store says whether invocations wait to be run alone."""
        if has_suspects:
            self._suspects_since = self._suspects_since or time.monotonic()

    def is_quiet(self, tokens: int) -> bool:
        """Whether no body computes here, apart from the tokens that the caller holds."""
        return (
            self._slots.busy <= tokens
            and not self.buffer
            and not (self._coroutines and self._coroutines.active > self._coroutines.parked)
        )

    # -- one turn, under the lock ------------------------------------------------------------------------------------------
    def _write(self, request: ClaimRequest | None) -> Claim | None:
        """One store operation; None when there was nothing to do or the store did not do it."""
        outbox = self.outbox[:]
        if request is not None:
            self._slots.calls = 0  # all calls until now are answered by what this claim finds
            if not (self._is_idle or self._was_full):
                self._is_idle = True
                self.listener.idle(True)
        elif not outbox:
            return None
        try:
            if self._doubts and request is not None and time.monotonic() >= self._doubts[0]:
                self._reconcile()
            if self._last_words:
                self._report_last_words()
            if outbox:
                finished = self._store.finish(self.beat.id, outbox, request)
            else:
                assert request is not None
                finished = Finished(claim=self._store.claim(request))
        except RunnerLostError:
            del self.outbox[: len(outbox)]
            self.buffer.clear()
            self._held.clear()
            self._doubts.clear()
            if self.measures:
                self.measures.forget()
            self._on_lost()
            return None
        except StoreError as error:
            self.hold(error)
            if request is not None:
                self._doubt()
            return None
        del self.outbox[: len(outbox)]
        self._held.difference_update([(ended.id, ended.attempt) for ended in outbox])
        self.finished += len(outbox)
        if self.measures and outbox:
            self.measures.note_written(outbox, finished.lost)
        for invocation_id in finished.lost:
            logger.warning("the result of %s came too late and was dropped: another attempt owns it", invocation_id)
        self._failures = 0
        return finished.claim

    def _report_last_words(self) -> None:
        """What bodies reported before they ended: it must be written before their outcomes. What the store refuses keeps no outcome from its way."""
        words = self._last_words[:]
        try:
            self._store.report(self.beat.id, words)
        except StoreError as error:
            if error.retryable:
                raise
            logger.warning("the store refused what tasks have reported: %s", error)
        del self._last_words[: len(words)]

    def _doubt(self) -> None:
        """A claim had no answer."""
        now = time.monotonic()
        self._doubts = [now, now + self.beat.lease / outcome.SECOND]

    def _reconcile(self) -> None:
        """Take over what was claimed without an answer: nobody else will run it while this worker lives."""
        asked, now = self.beat.id, time.monotonic()
        owned = self._store.owned(asked)
        del self._doubts[0]
        unknown = [claimed for claimed in owned if (claimed.id, claimed.attempt) not in self._held]
        if unknown:
            logger.warning("%d invocation(s) had been claimed without an answer and are taken over", len(unknown))
            self._take(Claim(tuple(unknown)), asked, MANY, 0, now)

    def hold(self, error: StoreError) -> None:
        """The store did not answer: keep the outcomes and try again after a jittered backoff."""
        self._failures += 1
        if self.measures:
            self.measures.note_error()
        longest = min(LONGEST_PAUSE, self.settings.poll)
        pause = min(0.05 * 2 ** min(self._failures, 8), longest) * (0.5 + random.random() / 2)
        self.retry_at = time.monotonic() + pause
        logger.warning(
            "the store did not answer (%s); %d outcome(s) held, next try in %.1f s", error, len(self.outbox), pause
        )
        if not error.retryable:
            logger.error("this will not heal by itself: %s", error)

    def _take(self, claim: Claim, runner: str, limit: int, tokens: int, asked_at: float) -> None:
        """Put a claim of ``runner`` into the buffer and wake threads for all but the one that this thread runs itself."""
        if runner != self.beat.id:
            return
        count = len(claim.batch)
        self.moved = time.monotonic()
        if self.measures:
            self.measures.note_claim(claim.batch)
        self._was_full = count >= max(limit, MANY)
        self._suspects_since = (self._suspects_since or time.monotonic()) if claim.suspects else 0.0
        self.next_due = claim.next_due
        if not count:
            self.is_drained = self.settings.burst and self._is_over(claim, tokens)
            if self.is_watched and (self.is_drained or self.next_due):
                self.on_change()
            return
        self._held.update([(claimed.id, claimed.attempt) for claimed in claim.batch])
        self.claimed += count
        self.asked_at = asked_at
        self.buffer.extend(claim.batch)
        if runner != self.beat.id:  # the pump has renewed it in this moment
            self.buffer.clear()
        self.buffered_at = time.monotonic()
        if self._coroutines:
            self._coroutines.learn(claim.batch)
        waiting = len(self.buffer) - tokens
        if helpers := min(self._slots.free, waiting, int(count * self.mean / SHARE)):
            self._slots.call(helpers)
        if waiting >= self._slots.free and self._is_idle and not (self._coroutines and self._coroutines.room()):
            self._is_idle = False
            self.listener.idle(False)
        if self.is_watched or self.settings.max_tasks:
            self.on_change()

    def _is_over(self, claim: Claim, tokens: int) -> bool:
        """Whether nothing is left to do, apart from what is due in a distant future."""
        is_due_soon = 0 < claim.next_due < self._store.clock.now() + self.settings.poll * outcome.SECOND
        is_waiting = self._slots.parked or (self._coroutines and self._coroutines.active)
        return not (is_due_soon or is_waiting or claim.suspects or self.outbox) and self.is_quiet(tokens)

    # -- what to claim -----------------------------------------------------------------------------------------------------
    def _request(self, tokens: int, now: float, *, is_probe: bool = False) -> ClaimRequest | None:
        """What to claim now; None when nothing can be started.

        :param is_probe: one at least, for the event loop.
        """
        settings = self.settings
        if settings.alone is Alone.ONLY or (self._suspects_since and not self.beat.supervised):
            if self.is_quiet(tokens):
                queues = tuple((queue, 1) for queue in settings.queues)
                return ClaimRequest(self.beat.id, 1, queues, alone=Alone.ONLY, without=tuple(self._unknown))
            if settings.alone is Alone.ONLY or (now - self._suspects_since) % SUSPECT_PERIOD < SUSPECT_PATIENCE:
                return None
        limit = self._slots.free + tokens - len(self.buffer)
        if self._max_ahead and not self._slots.parked and now > self._calm_at:
            limit += min(self._max_ahead, int(AHEAD / max(self.mean, 1e-6)) * settings.slots)
        if self._coroutines:
            limit = max(1, self._coroutines.room()) if is_probe else limit + self._coroutines.room()
        if settings.max_tasks:
            limit = min(limit, settings.max_tasks - self.claimed)
        if limit <= 0:
            return None
        self._count += 1
        return ClaimRequest(
            self.beat.id,
            limit,
            shares(settings.policy, settings.queues, limit, self._count) if settings.queues else (),
            aged=self._count % AGED_EVERY == 0,
            without=tuple(self._unknown),
        )
