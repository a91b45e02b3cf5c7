"""The model test of stores: random operations, compared after each with a plain model. Needs hypothesis."""

from __future__ import annotations

from pynenc.testing.model.machine import StoreMachine, model_settings

__all__ = ["StoreMachine", "model_settings"]
