"""The offline checker of triggers: causes and what came of them, compared by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pynenc.testing.checker import Kind, Violation


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
