"""The offline checker of triggers: causes and what came of them, compared by number and in time.

The firings of a trigger that joins or limits are decided one at a time, each in one of its attempts; which one is not known when there were
several. So nothing is called wrong that could have been right in one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pynenc.core.records import Microseconds
from pynenc.testing.checker import FOREVER, Kind, Violation


def check_causes(what: str, must: Counter[str], may: Counter[str], found: Counter[str]) -> Iterator[Violation]:
    """Each cause has led to what it should, once.

    :param what: what comes of a cause, for people. :param must: causes that are known to have happened, with how often.
    :param may: those that may have happened besides. :param found: of which causes there is something.
    """
    for cause, times in (must - found).items():
        yield Violation(Kind.LOST_FIRING, f"{what} is missing for {cause}, {times} of {must[cause]}")
    for cause, times in (found - must - may).items():
        if must[cause] + may[cause]:
            text = f"there are {found[cause]} of {what} for {cause}, {times} too many"
            yield Violation(Kind.DOUBLE_FIRING, text)
        else:
            yield Violation(Kind.PHANTOM, f"{what} is there for {cause}, which has not happened")


class Decided(NamedTuple):
    """A firing that is about a cause: when that came, when the attempts to decide it began, when it ended, and whether it ended well."""

    cause: str
    created: Microseconds
    begins: tuple[Microseconds, ...]
    end: Microseconds
    is_good: bool = True

    @property
    def is_simple(self) -> bool:
        """Whether it is known when it was decided."""
        return len(self.begins) == 1 and self.is_good


#: The clock of a process and that of its store are not read in the same moment.
SLACK: Microseconds = 50_000
#: Nobody decides for longer: those who stood still know that they own nothing any more.
LONGEST: Microseconds = 60_000_000


def check_pairs(
    what: str, firings: Sequence[Decided], calls: Sequence[tuple[str, ...]], window: Microseconds
) -> Iterator[Violation]:
    """Of two causes that come together, each is used once, in time; and of two that were decided one after the other, one is used.

    :param calls: the causes of each call. Causes of different sides begin differently, up to a colon.
    """
    created = {each.cause: each.created for each in firings}
    used = Counter(cause for call in calls for cause in call)
    for cause, times in used.items():
        if times > 1:
            yield Violation(Kind.DOUBLE_FIRING, f"{what} was called {times} times for {cause}")
    for call in calls:
        times_of = [created[cause] for cause in call if cause in created]
        if len(times_of) != 2 or max(times_of) - min(times_of) > window + SLACK:
            yield Violation(Kind.PHANTOM, f"{what} was called for {call}, which did not come together")
    for (_, one), (_, other) in pairwise(sorted((begin, each) for each in firings for begin in each.begins)):
        is_pair = one.cause.partition(":")[0] != other.cause.partition(":")[0]
        is_near = abs(one.created - other.created) < window - SLACK
        if is_pair and is_near and one.is_simple and other.is_simple and not (used[one.cause] or used[other.cause]):
            yield Violation(Kind.LOST_FIRING, f"{what} was not called for {one.cause} and {other.cause}")


def check_throttle(
    what: str, firings: Sequence[Decided], called: Collection[str], n: int, window: Microseconds
) -> Iterator[Violation]:
    """Never more than ``n`` in a window, and none is held back that had room."""
    fired = sorted((each for each in firings if each.cause in called), key=_begins)
    yield from _check_rate(what, fired, n, window)
    for each in firings:
        if each.is_simple and each.cause not in called:
            near = [one for one in fired if one.end > each.begins[0] - window - SLACK and one.begins < each.begins]
            if len(near) < n:
                yield Violation(Kind.LOST_FIRING, f"{what} was not called for {each.cause}, with {len(near)} before it")


def check_debounce(
    what: str, firings: Sequence[Decided], settled: Sequence[Decided], called: Counter[str], quiet: Microseconds
) -> Iterator[Violation]:
    """Never twice without quiet between, and none is lost that was the last one before it."""
    settlings = {each.cause: each for each in settled}
    begins = sorted((begin, each.cause) for each in firings for begin in each.begins)
    must, may = Counter[str](), Counter[str]()
    for each in firings:
        settling = settlings.get(each.cause)
        if settling is None and each.is_good:
            yield Violation(Kind.LOST_FIRING, f"{what} did not wait for quiet after {each.cause}")
        end = settling.end if settling else 0
        is_last = not any(each.begins[0] <= begin <= end and cause != each.cause for begin, cause in begins)
        (must if settling and settling.is_good and is_last else may)[each.cause] += 1
    yield from check_causes(f"the call by {what}", must, may, called)
    yield from _check_rate(what, sorted((each for each in settled if each.cause in called), key=_begins), 1, quiet)


class Misfire(NamedTuple):
    """The ticks of a schedule are all multiples of ``step``; one that is decided later than ``tolerance`` after its time is skipped."""

    step: Microseconds
    tolerance: Microseconds

    def latest(self, time: Microseconds) -> Microseconds:
        """The tick before ``time``, or at it."""
        return time // self.step * self.step


def check_misfires(
    what: str,
    ticks: Mapping[Microseconds, Decided],
    paused: Collection[Microseconds],
    called: Counter[Microseconds],
    policy: Misfire,
) -> Iterator[Violation]:
    """Of the ticks that are due when one of them is decided, the latest is fired, once, or skipped, if it is late; then the next one waits.

    :param ticks: the firings by their times. :param paused: those which were decided while the trigger was paused. :param called: for which ticks, how often.
    """
    may: set[Microseconds] = set()
    for at, each in ticks.items():
        for begin, end in pairwise((*each.begins, each.end or FOREVER)):
            may |= {tick for tick, least, _ in _ways(at, begin, end, policy) if least <= policy.tolerance}
        if not each.is_simple:
            continue
        ways = list(_ways(at, each.begins[0], each.end, policy))
        must = at not in paused and all(most <= policy.tolerance for *_, most in ways)
        if must and not any(called[tick] for tick, *_ in ways):
            yield Violation(Kind.LOST_FIRING, f"{what} was not called for {at}, nor for what was missed after it")
        if not any(tick + policy.step in ticks for tick, *_ in ways):
            yield Violation(Kind.LOST_FIRING, f"{what} does not go on after {at}")
    for tick, times in called.items():
        if tick not in may:
            yield Violation(Kind.PHANTOM, f"{what} was called for {tick}, which should have been skipped")
        elif times > 1:
            yield Violation(Kind.DOUBLE_FIRING, f"{what} was called {times} times for {tick}")


def _ways(
    at: Microseconds, begin: Microseconds, end: Microseconds, policy: Misfire
) -> Iterator[tuple[Microseconds, Microseconds, Microseconds]]:
    """What may have been the latest tick when ``at`` was decided, somewhen in a span; and by how much it was late, at least and at most."""
    begin, end = max(at, begin - SLACK), min(max(at, end + SLACK), begin + LONGEST)
    for tick in range(policy.latest(begin), end + 1, policy.step):
        yield tick, max(0, begin - tick), min(end - tick, policy.step)


def _begins(each: Decided) -> tuple[Microseconds, ...]:
    return each.begins


def _check_rate(what: str, fired: Sequence[Decided], n: int, window: Microseconds) -> Iterator[Violation]:
    """Those which are in order: no more than ``n`` in a window, whenever exactly they were decided."""
    for one, later in zip(fired, fired[n:], strict=False):
        if later.end - one.begins[0] < window - SLACK:
            yield Violation(Kind.OVER_RATE, f"{what} was called for {later.cause} too soon after {one.cause}")
