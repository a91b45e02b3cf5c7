"""What a workflow did so far, as people get to see it: each recorded operation with its value, and calls with what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from pynenc.app import Pynenc
from pynenc.cli.output import stamp
from pynenc.core.records import Final, Invocation
from pynenc.core.status import InvocationStatus
from pynenc.engine import RESUME_KEY, signal_key
from pynenc.exceptions import SerializationError
from pynenc.workflow import check
from pynenc.workflow.replay import BEGUN, CALL, MARK, TURNS, Record

#: Letters of a recorded value that are shown, and children of one operation.
SHOWN, CHILDREN = 60, 3
_decode = msgspec.msgpack.decode


def operations(app: Pynenc, story: check.Story) -> list[dict[str, Any]]:
    """The operations of a run. ``value`` is what the body got; calls have ``children``, each with its status and value."""
    calls = check.calls(app.engine, story)
    ids = [name for each in calls.values() for name in each]
    rows = {row.id: row for row in app.store.get(ids)} if ids else {}
    told = [position for position in sorted(story.records) if _is_told(story, position)]
    return [
        _operation(app, story, position, [rows.get(name, name) for name in calls.get(position, ())])
        for position in told
    ]


def as_row(operation: dict[str, Any]) -> tuple[str, str, str, str]:
    """An operation as a row of a table."""
    value = operation["value"]
    if "children" in operation:
        shown = _in_words(operation["children"])
    elif operation["raised"]:
        shown = f"raised {value}"
    else:
        shown = value if value == "waits" or operation["operation"] == "sleep" else short(value)
    return operation["position"], operation["operation"], operation["name"], shown


def short(value: object) -> str:
    """The beginning of a value."""
    shown = "" if value is None else repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"


def _is_told(story: check.Story, position: str) -> bool:
    """Whether a record is one that people look for: not a mark, nor the beginning of what has ended."""
    kind = story.records[position].kind
    if kind == MARK or position.startswith(TURNS):
        return False
    return kind != BEGUN or position.replace("b", "") not in story.records


def _operation(app: Pynenc, story: check.Story, position: str, children: Sequence[Invocation | str]) -> dict[str, Any]:
    record = story.records[position]
    shown: dict[str, Any] = {
        "position": position,
        "operation": record.kind,
        "name": record.name,
        "raised": record.failed,
    }
    if record.kind == BEGUN:
        return shown | {"operation": record.name, "name": "", "value": "waits"}
    if record.kind == CALL:
        told = [_child(app, child) for child in children]
        return shown | {"value": told[0]["value"] if len(told) == 1 else None, "children": told}
    try:
        return shown | {"value": _value(app, story, position, record)}
    except (SerializationError, msgspec.DecodeError):
        return shown | {"value": None}


def _value(app: Pynenc, story: check.Story, position: str, record: Record) -> Any:
    """What the body got from an operation; an exception in words."""
    codec = app.engine.codec
    if record.kind == "sleep":
        return f"until {stamp(_decode(record.payload))}"
    if record.failed or record.kind == "failing":
        return _error(app, Final(story.id, InvocationStatus.FAILED, story.task, record.payload))
    if record.kind == "pause":
        return codec.decode_value(_decode(record.payload)[1], story.id, RESUME_KEY)
    if record.kind == "wait_signal":
        number, payload = _decode(record.payload)
        return "none came in time" if number < 0 else codec.decode_value(payload, story.id, signal_key(record.name))
    if record.kind == "wait":
        return _decode(record.payload)
    return codec.decode_value(record.payload, f"{story.id}/{story.round}", position) if record.payload else None


def _error(app: Pynenc, final: Final) -> str:
    spec = app.engine.executor.resolve(final.task)
    if spec is None:
        return ""
    error = app.engine.codec.decode_error(spec, final)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _child(app: Pynenc, child: Invocation | str) -> dict[str, Any]:
    """One invocation that was called: gone ones have only their id."""
    if isinstance(child, str):
        return {"id": child, "status": "removed", "value": None}
    shown: dict[str, Any] = {"id": child.id, "status": child.status.value, "value": None}
    spec = app.engine.executor.resolve(child.task)
    if spec is None or not child.status.is_final():
        return shown
    final = Final(child.id, child.status, child.task, child.payload, child.round, child.reason)
    try:
        is_good = child.status is InvocationStatus.SUCCESS
        shown["value"] = app.engine.codec.decode_result(spec, final) if is_good else _error(app, final)
    except SerializationError:
        pass
    return shown


def _in_words(children: Sequence[dict[str, Any]]) -> str:
    if len(children) == 1:
        (child,) = children
        return f"{child['id']} {child['status']} {short(child['value'])}".rstrip()
    counts = ", ".join(f"{count} {status}" for status, count in Counter(each["status"] for each in children).items())
    names = ", ".join(each["id"] for each in children[:CHILDREN])
    return f"{counts}: {names}{', …' if len(children) > CHILDREN else ''}"
