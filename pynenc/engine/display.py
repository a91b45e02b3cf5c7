"""What people get to see of arguments, results and errors, and what they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from pynenc.conf.config_pynenc import ArgumentPrintMode, ConfigPynenc
from pynenc.core.printing import HIDDEN, is_secret_name, redact_text, render_fields, render_value
from pynenc.engine.spec import TaskSpec
from pynenc.secret import Secret

#: Texts of secrets that are shorter are not looked for in errors: they would be found everywhere.
SHORTEST = 4


class Display:
    """Shows data as the settings of an app ask for: they are read each time."""

    def __init__(self, conf: ConfigPynenc) -> None:
        self._conf = conf

    def hidden_names(self, spec: TaskSpec | None) -> tuple[str, ...]:
        """The names of arguments that are never shown, by the settings of the app and of the task."""
        return (*self._conf.redact, *(() if spec is None else spec.conf.redact))

    def arguments(self, spec: TaskSpec | None, bound: Mapping[str, Any]) -> dict[str, str]:
        """Arguments by name, as much as the setting ``argument_print_mode`` allows."""
        conf = self._conf
        return render_fields(
            bound,
            mode=conf.argument_print_mode,
            length=conf.truncate_arguments_length,
            redact=self.hidden_names(spec),
        )

    def value(self, spec: TaskSpec | None, value: Any) -> str:
        """A result."""
        if self._conf.argument_print_mode is ArgumentPrintMode.HIDDEN:
            return HIDDEN
        return render_value(value, redact=self.hidden_names(spec))

    def hider(self, spec: TaskSpec | None, bound: Callable[[], Mapping[str, Any]]) -> Callable[[str], str] | None:
        """What takes secrets out of the texts of an error; None when there are none.

        Hidden are the values of secret arguments wherever they appear, and ``name=value`` of the names that the settings hide.

        :param bound: the arguments of the call.
        """
        if spec is None:
            return None
        names = self.hidden_names(spec)
        found = {
            text
            for name, value in bound().items()
            for text in _secrets(value, names, is_secret=is_secret_name(name, names))
            if len(text) >= SHORTEST
        }
        texts = sorted(found, key=len, reverse=True)  # the longest first: one may be a part of another

        def hide(text: str) -> str:
            for secret in texts:
                text = text.replace(secret, HIDDEN)
            return redact_text(text, names) if names else text

        return hide if texts or names else None


def _secrets(value: object, names: tuple[str, ...], *, is_secret: bool) -> Iterator[str]:
    """The texts of what is secret in a value; ``names`` are further names of secrets."""
    if isinstance(value, Secret):
        yield from _secrets(value.reveal(), names, is_secret=True)
    elif (named := _named(value)) is not None:
        for name, item in named:
            yield from _secrets(item, names, is_secret=is_secret or is_secret_name(name, names))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _secrets(item, names, is_secret=is_secret)
    elif is_secret:
        yield from _texts(value)


def _named(value: object) -> Iterable[tuple[object, object]] | None:
    """What a value holds by name; None where nothing has a name."""
    if isinstance(value, Mapping):
        return value.items()
    kind = type(value)
    fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__struct_fields__", None)
    if fields is None and isinstance(value, tuple):
        fields = getattr(kind, "_fields", None)
    return None if fields is None else [(name, getattr(value, name, None)) for name in fields]


def _texts(value: object) -> Iterator[str]:
    """How a secret may read in the text of an error."""
    if isinstance(value, bytes | bytearray):
        yield from (repr(bytes(value))[2:-1], value.decode(errors="replace"))
    elif isinstance(value, str):
        yield from (value, repr(value)[1:-1])
    elif isinstance(value, int | float | Decimal | UUID) and not isinstance(value, bool):
        with suppress(ValueError):  # a number that is too long for a text is in none
            yield str(value)
