"""What calls ask for beyond the options of their task: ``task.options(...)``, read as settings are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from pynenc.conf.config_task import ConfigTask, refuse_options
from pynenc.conf.section import shorten
from pynenc.conf.values import Parser, duration, several
from pynenc.core.storable import is_storable


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one call asks for, checked. Times in seconds; ``run_at`` knows its time zone."""

    delay: float | None = None
    run_at: datetime | None = None
    priority: float | None = None
    queue: str | None = None
    timeout: float | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()

    def with_more(self, given: Mapping[str, object], task_id: str) -> CallOptions:
        """These with others on top: the later wins, tags are added, and what is None is not given.

        :raises InvalidTaskOptionsError: some options do not exist; all of them are listed.
        :raises ValueError: a value makes no sense; names the option and what is wanted.
        """
        refuse_options(given, _PARSERS, f"a call of {task_id}", task_id)
        values = {name: _parse(name, value, task_id) for name, value in given.items() if value is not None}
        more = msgspec.structs.replace(self, **values)
        if more.delay is not None and more.run_at is not None:
            raise ValueError("give delay or run_at, not both")
        return msgspec.structs.replace(more, tags=tuple(dict.fromkeys(self.tags + more.tags)))


def _parse(name: str, value: object, task_id: str) -> object:
    try:
        return _PARSERS[name](value)
    except ValueError as error:
        raise ValueError(f"bad value for {name!r} (call of {task_id}): {shorten(value)}; it must be {error}") from None


def _moment(value: object) -> datetime:
    """A point in time, in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(
            "a datetime with its time zone: datetime(..., tzinfo=ZoneInfo('Europe/Madrid')) or datetime.now(UTC) + ..."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time from the year 1 to 9999 in UTC, as what reads it shows it there") from None


def _storable(value: object) -> str:
    """Text that every store keeps unchanged."""
    if not isinstance(value, str) or not value or not is_storable(value):
        raise ValueError("text that is not empty and can be stored: Unicode without NUL")
    return value


def _tags(value: object) -> tuple[str, ...]:
    """Texts, or one."""
    return (_storable(value),) if isinstance(value, str) else several(_storable)(value)


NO_OPTIONS = CallOptions()
_PARSERS: dict[str, Parser[object]] = {
    "delay": duration(),
    "run_at": _moment,
    **{name: ConfigTask.settings[name].parse for name in ("priority", "queue", "timeout")},
    "key": _storable,
    "tags": _tags,
}
