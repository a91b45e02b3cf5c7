"""Names that every store keeps unchanged. The engine asks here, at the call, as each store would say something else."""

from __future__ import annotations


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
