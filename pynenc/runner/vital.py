"""Is a runner alive, and is it ready? Decided here from signs that its loops leave; nothing here does anything.

*Live* means that the supervisor's own loop turns: a runner that is not live has to be started again. *Ready* means that invocations get
executed here: every worker's fetch loop has moved a short while ago, and the store has answered. A fetch loop moves when it completes a claim
round, found something or not, and it need not move while every slot runs a body. An idle worker looks for work once in ``poll_seconds`` too,
so it moves as well. A store that is down makes a runner unready and leaves it live: starting it again would mend nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

#: Seconds without a turn after which a supervisor is dead, and the same while it waits for an answer of the store.
DEAD_AFTER, DEAD_AFTER_ASKING = 60.0, 300.0


class Loop(NamedTuple):
    """The fetch loop of one worker; ``moved`` is when it last did, in seconds of the monotonic clock (0: never)."""

    worker: str
    pid: int
    moved: float


class Vital(msgspec.Struct, frozen=True, kw_only=True):
    """The signs, at one moment. Times are seconds of the monotonic clock.

    :ivar turned: when the supervisor's loop last turned. :ivar asked: since when it waits for the store (0: it does not).
    :ivar answered: when the store last answered it (0: never). :ivar expected: how many workers there should be.
    """

    turned: float
    asked: float = 0.0
    answered: float = 0.0
    is_stopping: bool = False
    expected: int = 1
    loops: tuple[Loop, ...] = ()
    slots: int = 0
    running: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """What the signs mean; ``problems`` say why it is not ready, or not live."""

    live: bool
    ready: bool
    problems: tuple[str, ...] = ()


def judge(vital: Vital, now: float, limit: float) -> Verdict:
    """Read the signs.

    :param now: seconds of the monotonic clock. :param limit: seconds without a move, or without an answer, that are too many.
    """
    rest = now - vital.turned
    live = rest <= (DEAD_AFTER_ASKING if vital.asked else DEAD_AFTER)
    problems = [] if live else [f"the loop of the supervisor has not turned for {rest:.1f} s"]
    if vital.is_stopping:
        problems.append("the runner is stopping")
    if not vital.answered:
        problems.append("the store has not answered yet")
    elif now - vital.answered > limit:
        problems.append(f"the store has not answered for {now - vital.answered:.1f} s")
    if len(vital.loops) < vital.expected and not vital.is_stopping:
        problems.append(f"{len(vital.loops)} of {vital.expected} workers run")
    problems += [problem for loop in vital.loops if (problem := _problem(loop, now, limit))]
    return Verdict(live, not problems, tuple(problems))


def _problem(loop: Loop, now: float, limit: float) -> str:
    if not loop.moved:
        return f"worker {loop.worker} (process {loop.pid}) has not looked for work yet"
    if now - loop.moved > limit:
        return f"worker {loop.worker} (process {loop.pid}) has not looked for work for {now - loop.moved:.1f} s"
    return ""
