"""What commands print: tables for people, JSON for programs, one line for errors."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import click
import msgspec

from pynenc.core.duration import seconds as seconds_of
from pynenc.core.printing import CONTROL, escape_control
from pynenc.exceptions import ConfigError, PynencError

P = ParamSpec("P")
R = TypeVar("R")

#: Exit codes, documented in the reference of the command line.
EXIT_ERROR = 1
EXIT_CONFIG = 2
EXIT_FORCED = 3
EXIT_UNSOUND = 4
#: The last second that ISO 8601 tells in four digits.
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Turn errors of the library into one clear line and an exit code; ``--verbose`` shows the traceback."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (PynencError, ValueError, TypeError) as error:
            if click.get_current_context().find_root().params.get("verbose"):
                raise
            say(f"error: {error}", err=True)
            sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_ERROR)

    return call


def say(text: str, *, err: bool = False) -> None:
    """Print text in which there may be something of users: no character of it drives a terminal."""
    click.echo(harmless(text), err=err)


def harmless(text: str) -> str:
    """The same lines, with control characters escaped."""
    return "\n".join(map(escape_control, text.split("\n")))


def print_json(value: object) -> None:
    """One JSON document, in which no character drives a terminal either."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    click.echo(re.sub(CONTROL, lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or ``empty`` when there are no rows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(escape_control(str(cell))) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table if table.row_count else empty)


def ago(microseconds: int, now: int) -> str:
    """How long ago a time of the store was, in words."""
    if not microseconds:
        return "-"
    return (
        f"{duration((now - microseconds) / 1e6)} ago"
        if microseconds <= now
        else f"in {duration((microseconds - now) / 1e6)}"
    )


def duration(seconds: float) -> str:
    """A span of time with one or two units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def stamp(microseconds: int) -> str | None:
    """A time of the store in ISO 8601, UTC; what lies after the year 9999 is shown as its end."""
    if not microseconds:
        return None
    return datetime.fromtimestamp(min(microseconds / 1e6, LAST.timestamp()), UTC).isoformat()


def confirm(question: str, *, is_sure: bool) -> None:
    """Ask before something is destroyed, unless ``--yes`` was given."""
    if not is_sure:
        click.confirm(question, abort=True)


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several click decorators as one."""
    return lambda function: functools.reduce(lambda f, d: d(f), reversed(decorators), function)


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in older releases
    """Seconds, or text such as ``30s``, ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds_of(value)
        except ValueError as error:
            self.fail(f"{value!r} must be {error}.", param, ctx)


DURATION = Duration()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
reason_option = click.option("--reason", default="from the command line", help="Told by its error and its history.")
yes_option = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
