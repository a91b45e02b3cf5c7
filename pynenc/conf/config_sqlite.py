"""The settings of the SQLite store: ``app.conf.sqlite``."""

from __future__ import annotations

from pynenc.conf.section import Section, setting
from pynenc.conf.values import choice, text

__all__ = ["ConfigSqlite"]


class ConfigSqlite(Section, section="sqlite"):
    """How the SQLite store writes."""

    synchronous: str = setting(
        "normal",
        choice("normal", "full", "off"),
        "normal: survives crashes of processes; full: of the machine too; off: neither.",
        flat=False,
    )
    sqlite_db_path: str = setting("", text(empty=True), "Older name for the file of the store; use 'store'.")
