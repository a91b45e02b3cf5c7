"""Concurrency control is two texts: mode and arguments → the key that the store holds, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pynenc.core.ids import digest
from pynenc.core.options import ConcurrencyControlType


def control_key(
    mode: ConcurrencyControlType,
    task: str,
    key_arguments: Sequence[str],
    fragment: Callable[[str], bytes],
    args_digest: Callable[[], str],
) -> str | None:
    """The key under which calls of ``task`` exclude one another; None without control.

    :param fragment: the canonical encoding of one argument.
    :param args_digest: the digest of all arguments; only called for ARGUMENTS.
    """
    if mode is ConcurrencyControlType.DISABLED:
        return None
    if mode is ConcurrencyControlType.TASK:
        return task
    if mode is ConcurrencyControlType.ARGUMENTS:
        return f"{task}#{args_digest()}"
    return f"{task}#{digest(*(part for name in key_arguments for part in (name, fragment(name))))}"
