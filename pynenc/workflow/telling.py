"""Log lines of workflows: a body that runs again does not tell again what it told before."""

from __future__ import annotations

import logging

from pynenc import context


def tell_once(logger: logging.Logger) -> logging.Logger:
    """Let a logger drop the records of bodies that replay."""
    logger.addFilter(_is_new)
    return logger


def _is_new(_record: logging.LogRecord) -> bool:
    running = context.current()
    if running is None:
        return True
    flow = running.flow
    if flow is None:
        claimed = running.claimed
        if running.attempt <= 1 + claimed.retries + claimed.crashes:
            return True
        flow = running.engine.executor.flow(running)  # it may have been suspended
    return not flow.is_replaying
