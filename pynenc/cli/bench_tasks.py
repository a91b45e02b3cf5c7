"""The task of ``pynenc bench``."""

from __future__ import annotations

from pynenc.app import Pynenc

app = Pynenc(app_id="bench", store="memory://")


@app.task
def nothing(x: int) -> int:
    """What it costs to run nothing."""
    return x
