"""Names that every store keeps unchanged. The engine asks here, at the call, as each store would say something else."""

from __future__ import annotations

from typing import Any


def is_storable(text: str) -> bool:
    """Whether every store can keep a text: Unicode without NUL and lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_storable(text: str, what: str) -> None:
    """Refuse a name that not every store can keep.

    :raises ValueError: it is such a one.
    """
    if not is_storable(text):
        raise ValueError(f"{what} must be Unicode without NUL and lone surrogates, not {text!r:.80}")


def check_texts(named: dict[str, Any]) -> dict[str, Any]:
    """The same values by name, after a look at all texts among them and in their tuples.

    :raises ValueError: as of :func:`check_storable`.
    """
    for name, value in named.items():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, str):
                check_storable(each, repr(name))
    return named
