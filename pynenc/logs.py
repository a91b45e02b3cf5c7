"""Log lines that say which invocation they belong to.

The library logs through the standard :mod:`logging` and configures nothing when it is imported. Its loggers are ``pynenc``,
``pynenc.<app_id>``, ``pynenc.runner`` and ``pynenc.task.<module.function>``. ``pynenc runner start`` calls :func:`configure`; other programs that want the
same lines may call it too, or put :class:`ContextFilter` and one of the formatters into a configuration of their own.

Text of users is data: control characters in it are escaped, so no message can forge a line or drive a terminal; messages and
tracebacks have a longest length; passwords in URLs are left out.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from pynenc.core.printing import HIDDEN, escape_control, is_secret_name, redact_urls, render_value

__all__ = ["FIELDS", "ContextFilter", "JsonFormatter", "TextFormatter", "configure"]

#: What a record of a running invocation carries besides the usual attributes; empty texts outside of invocations, and the last two without OpenTelemetry.
FIELDS: Final = ("invocation_id", "task", "attempt", "workflow_id", "runner", "trace_id", "span_id")
#: Most characters of a message, of a traceback, and of one extra field.
MESSAGE_LENGTH: Final = 16 * 1024
TRACEBACK_LENGTH: Final = 64 * 1024
FIELD_LENGTH: Final = 4 * 1024

#: Answers with the :data:`FIELDS` of the invocation that runs in the current context, or None.
GetContext = Callable[[], Mapping[str, object] | None]

_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})


class ContextFilter(logging.Filter):
    """Puts the :data:`FIELDS` of the running invocation on each record; lets every record pass.

    It belongs on a *handler*, as filters of a logger do not see records of the loggers below it. What a record already has
    (from ``extra=``) stays.

    :param get_context: such as ``pynenc.context.log_fields``.
    """

    def __init__(self, get_context: GetContext) -> None:
        super().__init__()
        self._get_context = get_context

    def filter(self, record: logging.LogRecord) -> bool:
        context = self._get_context() or {}
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, context.get(name, ""))
        return True


# -- text ------------------------------------------------------------------------------------------------------------------
_DIM, _BOLD_RED, _RED, _YELLOW, _CYAN, _PLAIN = "\x1b[2m", "\x1b[1;31m", "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[0m"
_COLORS = {
    logging.DEBUG: _DIM,
    logging.INFO: "",
    logging.WARNING: _YELLOW,
    logging.ERROR: _RED,
    logging.CRITICAL: _BOLD_RED,
}


class TextFormatter(logging.Formatter):
    """Lines for people: local time, level, runner or process, task with the ends of ids, message.

    A line that begins without a time continues the one before it (tracebacks); it is indented, whatever it says.

    :param colors: write ANSI colours.
    """

    def __init__(self, *, colors: bool = False) -> None:
        super().__init__()
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{moment}.{int(record.msecs):03d}"
        level = self._paint(_COLORS.get(record.levelno, ""), f"{record.levelname:<8}")
        place = self._paint(_DIM, _shown(record, "runner") or escape_control(f"{record.processName}:{record.process}"))
        lines = [f"{self._paint(_DIM, head)} {level} {place} {self._subject(record)} {_message(record)}"]
        lines += (f"    {line}" for text in (_traceback(record), _stack(record)) for line in text)
        return "\n".join(lines)

    def _subject(self, record: logging.LogRecord) -> str:
        """The task with the last eight characters of its invocation's id (the first ones are the time), else the logger."""
        invocation = _shown(record, "invocation_id")
        if not invocation:
            return self._paint(_CYAN, f"[{escape_control(record.name)}]")
        return self._paint(_CYAN, f"[{_shown(record, 'task')} {invocation[-8:]}]")

    def _paint(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._colors and color else text


def _shown(record: logging.LogRecord, field: str) -> str:
    value = getattr(record, field, None)
    return _clip(escape_control(value), 256) if isinstance(value, str) else ""


def _message(record: logging.LogRecord) -> str:
    return _clip(escape_control(_raw_message(record)), MESSAGE_LENGTH + _LEFT_OUT)


def _raw_message(record: logging.LogRecord) -> str:
    """The message with its arguments filled in, cut before anything else looks at it."""
    try:
        text = record.getMessage()
    except Exception:
        text = f"{render_value(record.msg, length=1024)} with arguments that do not fit it: {render_value(record.args, length=1024)}"
    return redact_urls(_clip(text, MESSAGE_LENGTH))


def _traceback(record: logging.LogRecord) -> list[str]:
    """The lines of the exception, each harmless."""
    return (
        [escape_control(line) for line in _exception_text(record).split("\n")]
        if record.exc_info or record.exc_text
        else []
    )


def _stack(record: logging.LogRecord) -> list[str]:
    return [escape_control(line) for line in _stack_text(record).split("\n")] if record.stack_info else []


def _stack_text(record: logging.LogRecord) -> str:
    return redact_urls(_clip_middle(str(record.stack_info), TRACEBACK_LENGTH))


_formatter = logging.Formatter()


def _exception_text(record: logging.LogRecord) -> str:
    try:
        text = record.exc_text or (_formatter.formatException(record.exc_info) if record.exc_info else "")
    except Exception:
        text = "<the exception cannot be printed>"
    return redact_urls(_clip_middle(text, TRACEBACK_LENGTH))


#: Characters that may tell how much was left out.
_LEFT_OUT = 40


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text) - length} more characters)"


def _clip_middle(text: str, length: int) -> str:
    """Both ends of a long text: of a traceback they matter most."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}\n... ({len(text) - length} characters left out)\n{text[-length // 2 :]}"


# -- JSON ------------------------------------------------------------------------------------------------------------------
class JsonFormatter(logging.Formatter):
    """One JSON object a line, in UTF-8 and with times in UTC.

    Always there: ``time``, ``level``, ``logger``, ``message``, ``pid``. Where known: the :data:`FIELDS`, what was given as ``extra=`` (values of
    other types as shortened text, values under names of secrets as ``***``, names that are taken with ``extra_`` before them), ``exception_type``,
    ``exception_message``, ``traceback`` and ``stack``.

    :param get_secrets: answers with further names of secrets.
    """

    def __init__(self, get_secrets: Callable[[], Sequence[str]] = tuple) -> None:
        super().__init__()
        self._get_secrets = get_secrets

    def format(self, record: logging.LogRecord) -> str:
        try:
            return _encode(_fields(record, self._get_secrets()))
        except Exception as error:
            problem = f"<a record that cannot be printed: {type(error).__name__}>"
            return _encode({"level": str(record.levelname), "logger": str(record.name), "message": problem})


def _fields(record: logging.LogRecord, secrets: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": _raw_message(record),
        "pid": record.process,
    }
    fields |= {
        name: _plain(value) for name in FIELDS if (value := getattr(record, name, "")) != "" and value is not None
    }
    _add_exception(fields, record)
    for name, value in vars(record).items():
        if name not in _STANDARD and name not in FIELDS:
            shown = HIDDEN if is_secret_name(name, secrets) else _plain(value, secrets)
            fields[f"extra_{name}" if name in fields else name] = shown
    return fields


def _add_exception(fields: dict[str, object], record: logging.LogRecord) -> None:
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["exception_type"] = type(error).__qualname__
        fields["exception_message"] = _clip(redact_urls(_text_of(error)), MESSAGE_LENGTH)
    text = _exception_text(record)
    if text:
        fields["traceback"] = text
    if record.stack_info:
        fields["stack"] = _stack_text(record)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<the exception cannot be printed>"


_DEPTH, _ITEMS = 4, 100


def _plain(value: object, secrets: Sequence[str] = (), depth: int = 0) -> object:
    """``value`` as JSON has it where it is plain and small, else as text."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int and isinstance(value, int) and value.bit_length() <= 63:
        return value
    if kind is str and isinstance(value, str):
        return redact_urls(_clip(value, FIELD_LENGTH))
    if depth < _DEPTH and kind is dict and isinstance(value, dict) and len(value) <= _ITEMS:
        return {
            _name(key): HIDDEN if is_secret_name(key, secrets) else _plain(item, secrets, depth + 1)
            for key, item in value.items()
        }
    if depth < _DEPTH and kind in (list, tuple) and isinstance(value, list | tuple) and len(value) <= _ITEMS:
        return [_plain(item, secrets, depth + 1) for item in value]
    return render_value(value, length=FIELD_LENGTH, redact=secrets)


def _name(key: object) -> str:
    return _clip(str.__str__(key), 256) if isinstance(key, str) else render_value(key, length=256)


_UNSAFE = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
_SURROGATE = "[\ud800-\udfff]"


def _encode(fields: dict[str, object]) -> str:
    """One line of JSON; what JSON allows but terminals should not see is escaped as well."""
    try:
        text = msgspec.json.encode(fields).decode()
    except UnicodeEncodeError:
        text = msgspec.json.encode(_without_surrogates(fields)).decode()
    return re.sub(_UNSAFE, lambda match: f"\\u{ord(match[0]):04x}", text)


def _without_surrogates(value: object) -> object:
    """No encoding takes lone surrogates: they become readable escapes."""
    if isinstance(value, str):
        return re.sub(_SURROGATE, lambda match: f"\\u{ord(match[0]):04x}", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


# -- configuration -----------------------------------------------------------------------------------------------------------
class _Handler(logging.StreamHandler[TextIO]):
    """The handler that :func:`configure` installs, and knows again."""


def configure(
    level: str | int = "INFO",
    *,
    format: str = "text",  # noqa: A002  # the word that people look for
    colors: bool | None = None,
    stream: str | TextIO = "stderr",
    get_context: GetContext | None = None,
    get_secrets: Callable[[], Sequence[str]] = tuple,
) -> logging.Handler | None:
    """Make log lines of the library and of tasks visible; for programs, never called by the library on import.

    Without handlers on the root logger, one is installed there, so that loggers of tasks' own modules are seen too, and the root
    logger gets ``level``. A root logger that somebody configured is respected: its handlers only learn to put the
    :data:`FIELDS` on records, and ``level`` holds for the loggers of the library alone. Repeating the call replaces what the one before it did.

    :param level: name or number. :param format: ``text`` or ``json``. :param stream: ``stderr``, ``stdout`` or a text file.
    :param colors: None for colours on a terminal, unless ``NO_COLOR`` is set; ignored for JSON.
    :param get_secrets: answers with names whose values JSON lines do not show.
    :returns: the handler that was installed, or None where the root logger has others.
    :raises ValueError: an unknown level, format or stream.
    """
    number = _level(level)
    target = _stream(stream)
    formatter = _make_formatter(format, _has_colors(target) if colors is None else colors, get_secrets)
    root = logging.getLogger()
    is_ours = _undo(root)
    logging.getLogger("pynenc").setLevel(number)
    get_context = get_context or dict
    if root.handlers and not is_ours:
        for handler in root.handlers:
            handler.addFilter(_InstalledFilter(get_context))
        return None
    own = _Handler(target)
    own.setFormatter(formatter)
    own.addFilter(ContextFilter(get_context))
    root.addHandler(own)
    root.setLevel(number)
    return own


class _InstalledFilter(ContextFilter):
    """The filter that :func:`configure` adds to handlers of others, and takes away again."""


def _undo(root: logging.Logger) -> bool:
    """Take away what an earlier call did; whether it had installed a handler."""
    own = [handler for handler in root.handlers if isinstance(handler, _Handler)]
    for mine in own:
        root.removeHandler(mine)
    for handler in root.handlers:
        for each in [each for each in handler.filters if isinstance(each, _InstalledFilter)]:
            handler.removeFilter(each)
    return bool(own)


def _level(level: str | int) -> int:
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise ValueError(f"no logging level is called {level!r}: use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return number


def _stream(stream: str | TextIO) -> TextIO:
    if not isinstance(stream, str):
        return stream
    if stream not in ("stderr", "stdout"):
        raise ValueError(f"log lines go to 'stderr', 'stdout' or a text file, not to {stream!r}")
    return sys.stderr if stream == "stderr" else sys.stdout


def _make_formatter(
    format: str,  # noqa: A002  # as in configure
    colors: bool,  # noqa: FBT001
    get_secrets: Callable[[], Sequence[str]],
) -> logging.Formatter:
    chosen = str(format).lower()
    if chosen not in ("text", "json"):
        raise ValueError(f"log lines are written as 'text' or 'json', not as {format!r}")
    return JsonFormatter(get_secrets) if chosen == "json" else TextFormatter(colors=colors)


def _has_colors(stream: TextIO) -> bool:
    """Whether to colour unasked (see https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
