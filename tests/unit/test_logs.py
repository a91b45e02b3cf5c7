"""Log lines: fields of the running invocation, both formats, what cannot break or forge them, and what ``configure`` changes."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynenc.core.records import Claimed
from pynenc.logs import (
    FIELD_LENGTH,
    FIELDS,
    MESSAGE_LENGTH,
    TRACEBACK_LENGTH,
    ContextFilter,
    JsonFormatter,
    TextFormatter,
    configure,
)

CONTEXT = {
    "invocation_id": "0192f0c1-aaaa-7bbb-8ccc-0123456789ab",
    "task": "shop.sell",
    "attempt": 2,
    "workflow_id": "w-1",
    "runner": "box-1",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
}


def make_record(message="hello %s", *args, level=logging.INFO, exc_info=None, **extra):
    record = logging.LogRecord(
        "pynenc.shop", level, __file__, 1, message, args or None if "%" not in message else args or ("you",), exc_info
    )
    vars(record).update(extra)
    return record


def in_context(record):
    ContextFilter(lambda: CONTEXT).filter(record)
    return record


def raised(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


def as_json(record):
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    return json.loads(line)


# -- fields ------------------------------------------------------------------------------------------------------------------
def test_a_record_gets_the_fields_of_its_invocation():
    record = in_context(make_record())
    assert {name: getattr(record, name) for name in FIELDS} == CONTEXT


def test_outside_of_invocations_the_fields_are_there_and_empty():
    record = make_record()
    assert ContextFilter(lambda: None).filter(record)
    assert {getattr(record, name) for name in FIELDS} == {""}
    assert logging.Formatter("%(task)s|%(message)s").format(record) == "|hello you"


def test_what_a_record_says_itself_stays():
    assert in_context(make_record(task="my own")).task == "my own"


def test_the_context_of_the_moment_counts():
    running: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar("running", default=None)
    filter_ = ContextFilter(running.get)
    inside, outside = make_record(), make_record()
    context = contextvars.copy_context()
    context.run(running.set, CONTEXT)
    context.run(filter_.filter, inside)
    filter_.filter(outside)
    assert (inside.attempt, outside.attempt) == (2, "")


class Span:
    """What tracing puts on a running invocation."""

    def ids(self):
        return {"trace_id": CONTEXT["trace_id"], "span_id": CONTEXT["span_id"]}


def test_the_fields_of_the_library_fit():
    from pynenc import context

    claimed = Claimed(id="i-1", task="shop.sell", attempt=3, args=b"{}")
    running = context.Running(claimed, "box", None, None, str)

    def fields():
        context.set_running(running)
        return context.log_fields()

    without = contextvars.copy_context().run(fields)
    assert without.keys() == set(FIELDS) - {"trace_id", "span_id"}
    running.span = Span()
    assert contextvars.copy_context().run(fields) == without | Span().ids()
    assert context.log_fields() is None


# -- text ----------------------------------------------------------------------------------------------------------------------
def test_a_text_line_outside_of_invocations():
    record = make_record()
    head, _, rest = TextFormatter().format(record).partition(" INFO     ")
    assert rest == f"MainProcess:{record.process} [pynenc.shop] hello you"
    assert len(head) == len("2025-01-31 12:34:56.789")


def test_a_text_line_of_an_invocation_names_runner_task_and_the_end_of_the_id():
    line = TextFormatter().format(in_context(make_record()))
    assert line.endswith(" INFO     box-1 [shop.sell 456789ab] hello you")


def test_tracebacks_are_indented_so_that_no_text_can_pretend_to_be_a_line():
    error = ValueError("bad\n2025-01-01 00:00:00.000 CRITICAL forged\x1b[2J")
    lines = TextFormatter().format(make_record("failed", exc_info=raised(error))).split("\n")
    assert lines[0].endswith("failed")
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    2025-01-01 00:00:00.000 CRITICAL forged\\x1b[2J"
    assert all(line.startswith("    ") for line in lines[1:])


def test_the_stack_is_shown():
    record = make_record("here")
    record.stack_info = "Stack:\n  x"
    assert TextFormatter().format(record).endswith("here\n    Stack:\n      x")
    assert as_json(record)["stack"] == "Stack:\n  x"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_colours_only_when_told(level):
    record = make_record(level=level)
    assert "\x1b" not in TextFormatter().format(record)
    colored = TextFormatter(colors=True).format(record)
    assert f"m{logging.getLevelName(level):<8}\x1b[0m" in colored
    assert colored.endswith("hello you")


# -- JSON ------------------------------------------------------------------------------------------------------------------------
def test_a_json_line():
    record = in_context(make_record(order=7, password="x", nested={"token": "x", "items": [1, 2.5, None, True]}))
    record.created = 0.25
    assert as_json(record) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "pynenc.shop",
        "message": "hello you",
        "pid": record.process,
        **CONTEXT,
        "order": 7,
        "password": "***",
        "nested": {"token": "***", "items": [1, 2.5, None, True]},
    }


def test_json_outside_of_invocations_has_no_empty_fields():
    record = make_record()
    ContextFilter(lambda: None).filter(record)
    assert set(as_json(record)) == {"time", "level", "logger", "message", "pid"}


def test_extra_fields_do_not_replace_ours():
    shown = as_json(make_record(level_="x", time=5, traceback="mine"))
    assert shown["time"] != 5
    assert (shown["extra_time"], shown["level_"], shown["traceback"]) == (5, "x", "mine")


def test_exceptions_are_fields():
    shown = as_json(make_record("failed", exc_info=raised(KeyError("k"))))
    assert shown["exception_type"] == "KeyError"
    assert shown["exception_message"] == "'k'"
    assert shown["traceback"].startswith("Traceback (most recent call last):\n")
    assert shown["traceback"].endswith("KeyError: 'k'")


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class Word(str):
    __slots__ = ()


STRANGE = [
    Broken(), object(), {Broken(): Broken()}, {1: {2: {3: {4: {5: 6}}}}}, [[[[[[1]]]]]], 2**100, 10**6000, float("nan"), float("inf"), b"\xff",
    "\ud800", {"\ud800": ["\udfff"]}, Word("w"), {Word("k"): Word("v")}, {1, 2}, "x" * 10**6, list(range(1000)), dict.fromkeys(range(1000)),
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_strange_extra_fields_become_text(value):
    record = make_record(strange=value, runner=value)
    assert "strange" in as_json(record)
    assert len(JsonFormatter().format(record)) < 20 * FIELD_LENGTH
    assert TextFormatter().format(record).endswith("hello you")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize(
    ("message", "args"),
    [("%s", (Broken(),)), ("%d", ("x",)), ("%s %s", (1,)), ("\ud800", ()), (Broken(), ()), (None, ())],
)
def test_messages_that_cannot_be_made_are_described(formatter, message, args):
    record = logging.LogRecord("pynenc", logging.INFO, __file__, 1, message, args, None)
    line = formatter.format(record)
    line.encode()
    assert "pynenc" in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_exceptions_that_cannot_be_printed_are_described(formatter):
    line = formatter.format(make_record("failed", exc_info=raised(Broken())))
    assert "Broken" in line


def test_json_never_raises_even_for_a_record_that_is_none():
    record = make_record()
    record.created = "not a time"
    assert "cannot be printed" in as_json(record)["message"]


def test_json_hides_extra_values_under_names_of_secrets():
    record = make_record(pin="1234", card={"Pin": "1234", "kind": "visa"}, cards=[{"PIN": "1234"}], token="t")
    found = json.loads(JsonFormatter(lambda: ("pin",)).format(record))
    assert (found["pin"], found["card"], found["token"]) == ("***", {"Pin": "***", "kind": "visa"}, "***")
    assert found["cards"] == [{"PIN": "***"}]


# -- both ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@given(st.text(st.characters()))
def test_any_message_stays_on_one_line_without_control_characters(formatter, text):
    record = logging.LogRecord("pynenc", logging.INFO, __file__, 1, text, None, None)
    line = formatter.format(in_context(record))
    line.encode()
    assert len(line.splitlines()) == 1
    assert not any(ch < " " or "\x7f" <= ch <= "\x9f" or ch in "\u202e\u2066\u2028" for ch in line)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_loses_nothing_of_a_message(text):
    record = logging.LogRecord("pynenc", logging.INFO, __file__, 1, "%s", (text,), None)
    assert as_json(record)["message"] == text


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_long_messages_and_tracebacks_are_cut(formatter):
    line = formatter.format(make_record("x" * 10**6))
    assert len(line) < MESSAGE_LENGTH + 300
    assert f"... ({10**6 - MESSAGE_LENGTH} more characters)" in line
    line = formatter.format(make_record("failed", exc_info=raised(ValueError("y\n" * 10**6))))
    assert len(line) < 7 * TRACEBACK_LENGTH  # with indents and escapes
    assert "characters left out" in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_passwords_of_urls_are_left_out(formatter):
    url = "postgresql://ann:hunter2@host/db"
    line = formatter.format(make_record(f"to {url}", exc_info=raised(ValueError(url)), extra_url=url))
    assert "hunter2" not in line
    assert line.count("ann:***@host") >= 2


# -- configure -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def root(monkeypatch):
    """The root logger without handlers, also those of pytest, as a program finds it; as it was afterwards."""
    root, library = logging.getLogger(), logging.getLogger("pynenc")
    before = root.handlers[:], root.level, library.level
    root.handlers[:] = []
    add = root.addHandler
    monkeypatch.setattr(root, "addHandler", lambda each: type(each).__module__.startswith("_pytest") or add(each))
    yield root
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    library.setLevel(before[2])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_importing_configures_nothing():
    code = "import logging, pynenc, pynenc.logs; print(logging.getLogger().handlers, logging.getLogger('pynenc').handlers, logging.getLogger('pynenc').level)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] [] 0\n"


def test_configure_shows_the_library_and_the_modules_of_tasks(root):
    stream = io.StringIO()
    configure("info", stream=stream, get_context=lambda: CONTEXT)
    logging.getLogger("pynenc.task.shop.sell").info("one")
    logging.getLogger("shop").info("two")
    logging.getLogger("shop").debug("three")
    assert [line.split("] ")[1] for line in stream.getvalue().splitlines()] == ["one", "two"]
    assert stream.getvalue().count("[shop.sell 456789ab]") == 2


def test_configure_again_replaces_and_does_not_double(root):
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    other = logging.NullHandler()
    root.addHandler(other)  # somebody else's, after ours
    handler = configure("DEBUG", format="json", stream=second)
    assert root.handlers == [other, handler]
    logging.getLogger("pynenc").debug("once")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "once"


def test_a_configured_root_keeps_its_handlers_and_learns_the_fields(root):
    stream = io.StringIO()
    theirs = logging.StreamHandler(stream)
    theirs.setFormatter(logging.Formatter("%(task)s: %(message)s"))
    root.addHandler(theirs)
    root.setLevel(logging.ERROR)
    for _ in range(2):
        assert configure("INFO", get_context=lambda: CONTEXT) is None
    logging.getLogger("pynenc.runner").info("seen")
    logging.getLogger("shop").info("not seen")
    assert stream.getvalue() == "shop.sell: seen\n"
    assert root.handlers == [theirs]
    assert len(theirs.filters) == 1
    assert root.level == logging.ERROR


@pytest.mark.parametrize(
    ("stream", "environment", "colors", "expected"),
    [
        (Terminal, {}, None, True),
        (Terminal, {"NO_COLOR": "1"}, None, False),
        (Terminal, {"NO_COLOR": ""}, None, True),
        (Terminal, {"TERM": "dumb"}, None, False),
        (io.StringIO, {}, None, False),
        (io.StringIO, {}, True, True),
        (Terminal, {}, False, False),
    ],
)
def test_colours_are_for_terminals(root, monkeypatch, stream, environment, colors, expected):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    target = stream()
    configure(stream=target, colors=colors)
    logging.getLogger("pynenc").info("x")
    assert ("\x1b[" in target.getvalue()) is expected


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_streams_by_name(root, capsys, name):
    configure(stream=name)
    logging.getLogger("pynenc").info("x")
    captured = capsys.readouterr()
    assert getattr(
        captured, name.removeprefix("std") if name == "stdin" else {"stdout": "out", "stderr": "err"}[name]
    ).endswith("x\n")


def test_levels_are_names_or_numbers(root):
    configure(logging.WARNING, stream=io.StringIO())
    assert (root.level, logging.getLogger("pynenc").level) == (logging.WARNING, logging.WARNING)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"level": "loud"}, "DEBUG, INFO"),
        ({"format": "xml"}, "'text' or 'json'"),
        ({"stream": "printer"}, "'stderr', 'stdout'"),
    ],
)
def test_a_wrong_setting_changes_nothing(root, wrong, text):
    handler = configure(stream=io.StringIO())
    with pytest.raises(ValueError, match=text):
        configure(**wrong)
    assert root.handlers == [handler]


def test_the_formats_of_the_settings_are_known(root):
    from pynenc.conf.config_pynenc import LogFormat

    kinds = {format_: type(configure(format=format_, stream=io.StringIO()).formatter) for format_ in LogFormat}
    assert kinds == {LogFormat.TEXT: TextFormatter, LogFormat.JSON: JsonFormatter}


def test_outside_of_invocations_the_names_of_the_app_are_secret(root):
    from pynenc import Pynenc

    stream = io.StringIO()
    app = Pynenc(app_id="pins", store="memory://", redact=["pin"], log_format="json")
    app.configure_logging()
    (handler,) = root.handlers
    handler.setStream(stream)
    app.logger.warning("hello", extra={"pin": "1234"})
    assert json.loads(stream.getvalue())["pin"] == "***"
