"""Code and record that differ: the body is left where it does something else than it did, and the run waits for a person.

Nothing is compensated, and nothing of the record is lost: after a roll-back, or with code that is mended, the run goes on from it. What it waited for before
is found again when it does: times are recorded, finals stay final, signals queue up. The attempts at which this happened are noted, since what a person lets
them go on with is no answer to a pause of the body.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from pynenc.engine.suspension import Departure, Differs
from pynenc.exceptions import NonDeterminismError
from pynenc.workflow.replay import ADVICE, DIFFERENCE, Record, encode_record, position_of

if TYPE_CHECKING:
    from pynenc.workflow.flow import Flow

logger = logging.getLogger("pynenc.workflow")
#: The errors of code that was broken by a change. Others may come of what a body meets, at whatever point it is then.
BROKEN = (ImportError, NameError, AttributeError, TypeError, SyntaxError)


def stop(flow: Flow, error: NonDeterminismError) -> Departure:
    """The body is left since it does something else than recorded; to be raised."""
    way = Differs(str(error).removesuffix(f": {ADVICE}"), error)
    departure = flow.leave(way)
    if not flow.is_checked:
        position = position_of(DIFFERENCE, flow.running.attempt)
        note = Record("differs", "", flow.encode(way.reason, position))
        flow.remember(flow.scope, {position: encode_record(note)})
        logger.error("workflow %s %s waits for a person: %s: %s", flow.running.task, flow.id, way.reason, ADVICE)
    return departure


def not_all_met(left: str) -> NonDeterminismError:
    """The error of a body that returns before it came to all that it did."""
    return NonDeterminismError(f"the workflow returns, but recorded is {left}: {ADVICE}", "", "to return", left, "")


def raised_early(told: str, error: BaseException, left: str) -> NonDeterminismError:
    """The error of a body that raises (in words: without secrets) one of :data:`BROKEN` before it came to all that it did."""
    frames = [each for each in traceback.walk_tb(error.__traceback__) if not _is_ours(each[0].f_globals)]
    where = f"{frames[-1][0].f_code.co_filename}:{frames[-1][1]}" if frames else "unknown"
    difference = f"the workflow raises {told} ({where}), but recorded is {left}"
    return NonDeterminismError(f"{difference}: {ADVICE}", "", f"to raise {told}", left, where)


def _is_ours(names: dict[str, Any]) -> bool:
    name = str(names.get("__name__", ""))
    return name == "pynenc" or name.startswith("pynenc.")


def other_count(position: str, name: str, asked: int, recorded: int) -> NonDeterminismError:
    """The error of a body that makes another number of calls at once."""
    where, now, before = caller(), f"{asked} call(s) of {name}", f"{recorded} call(s) of {name}"
    difference = f"at position {position} the workflow makes {now} ({where}), but recorded are {before}"
    return NonDeterminismError(f"{difference}: {ADVICE}", position, now, before, where)


def caller() -> str:
    """The line of the user's code that is at work, as ``file:line``."""
    frame = sys._getframe(1)
    while frame is not None:
        if not _is_ours(frame.f_globals):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "unknown"
