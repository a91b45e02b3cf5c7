"""Errors of tasks as data: type, message, arguments, attributes, traceback text, and the chain of causes.

Encoding never fails, whatever the exception does when it is printed. Decoding makes the original class where the gate lets it
in, and :class:`~pynenc.exceptions.TaskFailedError` elsewhere; either way with the text of the remote traceback as a note and as
the attribute ``remote_traceback``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import msgspec

from pynenc.exceptions import SerializationError, TaskFailedError
from pynenc.serializer import faults
from pynenc.serializer.gate import TypeGate, class_name
from pynenc.serializer.json_serializer import JsonSerializer

#: Bytes of traceback text that are kept.
MAX_TRACEBACK = 64 * 1024
# Bytes of a message, and of an argument or attribute, that are kept.
_MAX_MESSAGE = 16 * 1024
_MAX_PART = 64 * 1024
_MAX_CHAIN = 8
_MAX_GROUP = 64
# Frames at the start of a traceback that tell about the library only.
_OWN = ("pynenc.engine", "pynenc.core", "pynenc.runner")

Redact = Callable[[str], str]
_json = JsonSerializer()


class _Wire(msgspec.Struct, omit_defaults=True):
    """The stored form; ``args`` and ``state`` are fragments."""

    type: str
    message: str = ""
    args: list[msgspec.Raw] | None = None
    state: dict[str, msgspec.Raw] | None = None
    traceback: str = ""
    is_cause: bool = False
    before: _Wire | None = None
    group: list[_Wire] | None = None
    bases: list[str] | None = None


class ErrorInfo(msgspec.Struct, frozen=True):
    """A stored error as text, for those who only show it.

    :ivar type: dotted name of the exception class. :ivar message: its text. :ivar traceback: text of the traceback, causes
        included. :ivar causes: what led to it, nearest first; their tracebacks are part of the first one.
    :ivar bases: dotted names of the classes that its class is derived from, below ``Exception``.
    """

    type: str
    message: str
    traceback: str = ""
    causes: tuple[ErrorInfo, ...] = ()
    bases: tuple[str, ...] = ()


# -- encoding ------------------------------------------------------------------------------------------------------------
def encode_error(
    error: BaseException,
    *,
    redact: Redact | None = None,
    max_traceback: int = MAX_TRACEBACK,
    gate: TypeGate | None = None,
) -> bytes:
    """The stored form of an exception; never fails.

    :param gate: when given, arguments that it would not let back in are kept as their ``repr``.
    :param redact: replaces secrets in every text that is kept.
    :param max_traceback: bytes of traceback text that are kept, its beginning and its end.
    """
    teller = _Teller(redact or _same, gate)
    try:
        wire = teller.describe(error, _MAX_CHAIN)
    except BaseException:
        wire = _Wire(_clean(class_name(type(error))), teller.message(error))
    wire.bases = [_clean(class_name(base)) for base in type(error).__mro__[1:] if base not in _PLAIN] or None
    wire.traceback = _shorten(_clean(teller.hide(_traceback(error))), max_traceback)
    return msgspec.json.encode(wire)


#: Bases that every exception has.
_PLAIN = (Exception, BaseException, object)


def _same(text: str) -> str:
    return text


class _Teller:
    """Describes one exception and what belongs to it."""

    def __init__(self, hide: Redact, gate: TypeGate | None) -> None:
        self.hide = hide
        self._gate = gate

    def message(self, error: BaseException) -> str:
        """The text of an exception, as far as it has one."""
        return _shorten(_clean(self.hide(_safe(str, error))), _MAX_MESSAGE)

    def describe(self, error: BaseException, chain: int, levels: int = _MAX_CHAIN) -> _Wire:
        """The stored form without a traceback."""
        wire = _Wire(_clean(class_name(type(error))), self.message(error))
        try:
            args, state = faults.take_apart(error)
        except Exception:
            args, state = [wire.message], {}
        if isinstance(error, BaseExceptionGroup) and levels:
            wire.group = [self.describe(part, 0, levels - 1) for part in error.exceptions[:_MAX_GROUP]]
            args = args[:1]
        wire.args = [msgspec.Raw(self._fragment(arg) or self._text(_safe(repr, arg))) for arg in args]
        kept = {_clean(name): self._fragment(value) for name, value in state.items()}
        wire.state = {name: msgspec.Raw(fragment) for name, fragment in kept.items() if fragment} or None
        before, wire.is_cause = _before(error)
        if before is not None and chain:
            wire.before = self.describe(before, chain - 1, levels)
        return wire

    def _fragment(self, value: object) -> bytes | None:
        """The fragment of an argument or attribute; None when it does not travel, is too large, or would show what must be hidden."""
        if type(value) is str:
            return self._text(value)
        try:
            fragment = _json.dumps(value, self._gate)
        except Exception:
            return None
        if len(fragment) > _MAX_PART:
            return None
        texts = (
            fragment.decode(),
            _safe(repr, value),
        )  # the first one has other escapes than the second, and bytes as base64
        return fragment if all(self.hide(text) == text for text in texts) else None

    def _text(self, text: str) -> bytes:
        return msgspec.json.encode(_shorten(_clean(self.hide(text)), _MAX_PART))


def _before(error: BaseException) -> tuple[BaseException | None, bool]:
    """What led to an exception, and whether it is said to be the cause."""
    if error.__cause__ is not None:
        return error.__cause__, True
    return (None if error.__suppress_context__ else error.__context__), False


def _safe(show: Callable[[object], str], value: object) -> str:
    """The text of something that may fail, or lie, when it is printed."""
    try:
        text = show(value)
        return text if type(text) is str else str.__str__(text)
    except BaseException:
        return f"<{type(value).__qualname__} that cannot be printed>"


def _clean(text: str) -> str:
    """Text that JSON can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(text: str, limit: int) -> str:
    """At most ``limit`` bytes: the first quarter and the end."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head, tail = data[: limit // 4], data[len(data) - (limit - limit // 4) :]
    return f"{head.decode(errors='ignore')}\n... {len(data) - limit} bytes left out ...\n{tail.decode(errors='ignore')}"


# -- traceback text ------------------------------------------------------------------------------------------------------
def _traceback(error: BaseException) -> str:
    """The text that Python would print, without the frames of the library that led to the task."""
    try:
        return "".join(_tell(error, _MAX_CHAIN))
    except BaseException:
        return f"{class_name(type(error))}: {_safe(str, error)}\n"


def _tell(error: BaseException, chain: int) -> Iterator[str]:
    before, is_cause = _before(error)
    if before is not None and chain:
        yield from _tell(before, chain - 1)
        link = (
            "The above exception was the direct cause of"
            if is_cause
            else "During handling of the above exception, another exception occurred:"
        )
        yield f"\n{link} the following exception:\n\n" if is_cause else f"\n{link}\n\n"
    yield from traceback.format_exception(type(error), error, _users_part(error.__traceback__), chain=False)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    part = trace
    while part is not None and str(part.tb_frame.f_globals.get("__name__")).startswith(_OWN):
        part = part.tb_next
    return part or trace


# -- decoding ------------------------------------------------------------------------------------------------------------
def decode_error(data: bytes, gate: TypeGate, task_id: str | None = None) -> Exception:
    """The exception of a stored form: a new object at every call.

    :param task_id: the task that failed, for :class:`TaskFailedError`.
    """
    try:
        wire = msgspec.json.decode(data, type=_Wire)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return TaskFailedError(f"the stored error is damaged: {error}", task_id)
    found = _rebuild(wire, gate, task_id)
    if wire.traceback:
        found.__dict__[faults.REMOTE] = wire.traceback
        BaseException.add_note(found, f"{faults.REMOTE_NOTE}:\n{wire.traceback.rstrip()}")
    return found


def _rebuild(wire: _Wire, gate: TypeGate, task_id: str | None, depth: int = 0) -> Exception:
    try:
        found = _original(wire, gate, task_id, depth)
    except Exception:
        found = None
    if found is None:
        name = _dotted(wire.type)
        found = TaskFailedError(f"{name}: {wire.message}" if wire.message else name, task_id, name, wire.traceback)
    if wire.before is not None and depth < _MAX_CHAIN:
        before = _rebuild(wire.before, gate, task_id, depth + 1)
        if wire.is_cause:
            found.__cause__ = before
        else:
            found.__context__ = before
    return found


def _original(wire: _Wire, gate: TypeGate, task_id: str | None, depth: int) -> Exception | None:
    """The exception in its own class, when that is let in and takes the arguments."""
    cls = gate.resolve_exception(wire.type)
    if cls is None or wire.args is None or depth > _MAX_CHAIN:
        return None
    args = [_json.loads(bytes(arg), gate) for arg in wire.args]
    if wire.group is not None:
        args = [*args[:1], [_rebuild(part, gate, task_id, depth + 1) for part in wire.group]]
    return faults.put_together(cls, args, dict(_attributes(wire, gate)))


def _attributes(wire: _Wire, gate: TypeGate) -> Iterator[tuple[str, Any]]:
    for name, fragment in (wire.state or {}).items():
        try:
            yield name, _json.loads(bytes(fragment), gate)
        except SerializationError:
            continue


def _dotted(name: str) -> str:
    return name.removeprefix("builtins:").replace(":", ".")


# -- reading -------------------------------------------------------------------------------------------------------------
def read_error(data: bytes) -> ErrorInfo:
    """The texts of a stored error, without making an exception of it; damaged data says so in the message."""
    try:
        return _info(msgspec.json.decode(data, type=_Wire))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return ErrorInfo("", f"the stored error is damaged: {error}")


def _info(wire: _Wire) -> ErrorInfo:
    causes: list[ErrorInfo] = []
    before = wire.before
    while before is not None and len(causes) < _MAX_CHAIN:
        causes.append(ErrorInfo(_dotted(before.type), before.message))
        before = before.before
    return ErrorInfo(
        _dotted(wire.type), wire.message, wire.traceback, tuple(causes), tuple(map(_dotted, wire.bases or ()))
    )
