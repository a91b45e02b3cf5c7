"""The testing kit: for projects that use pynenc, an inline runner on a virtual clock and fixtures for pytest (:mod:`pynenc.testing.plugin`); for
authors of stores, the conformance suite and the model test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynenc.testing.clock import VirtualClock
    from pynenc.testing.inline import InlineRunner

__all__ = ["InlineRunner", "VirtualClock"]

_MODULES = {"InlineRunner": "pynenc.testing.inline", "VirtualClock": "pynenc.testing.clock"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the plug-in is loaded by every pytest that finds it installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
