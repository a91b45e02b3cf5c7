"""The schema: its versions, how it is created, and how it is changed beside running workers.

The SQL lies in ``sql/``: ``tables.sql`` makes version 1, each later version is a step in :data:`STEPS`, and the functions in the other files are replaced
whenever a step is taken. ``@`` in front of a name stands for the schema; names in capitals for the numbers that statuses and places are stored as.

A version has two numbers. Workers of the same major version understand one another's schema: a step to a later *minor* version only adds what older
code does not look at. A function whose parameters change gets a new name, so older workers go on with the one they know.
"""

from __future__ import annotations

import re
from importlib.resources import files

from pynenc.core.reaction import FIRING
from pynenc.core.status import FINAL, InvocationStatus, Place

#: What this code needs: (major, minor).
VERSION = (1, 1)
DEFAULT = "pynenc"
#: The first of the two numbers of the advisory locks: of an app's turn, of its board, of migrations.
LOCKS = {"LOCK_TURN": 0x70796E01, "LOCK_BOARD": 0x70796E02, "LOCK_SCHEMA": 0x70796E03}

STATUSES = tuple(InvocationStatus)
CODES = {status: code for code, status in enumerate(STATUSES)}
PLACES = tuple(Place)

#: What a parked row stands behind.
BEHIND = {"W_KEY": 1, "W_RATE": 2, "W_TASK": 3}

_NUMBERS = {
    **{f"S_{status.name}": str(code) for status, code in CODES.items()},
    **{f"P_{place.name}": str(int(place)) for place in PLACES},
    **{name: str(number) for name, number in (*BEHIND.items(), *LOCKS.items())},
    "FINAL_STATUSES": ", ".join(str(CODES[status]) for status in sorted(FINAL)),
    "FIRING_TASKS": FIRING,
}
_TOKEN = re.compile(r"@(?=[a-z])|\b(?:S|P|W|LOCK)_[A-Z_]+\b|\bFINAL_STATUSES\b|\bFIRING_TASKS\b")

#: The steps from the version before: (major, minor) → the file that makes it.
STEPS: dict[tuple[int, int], str] = {(1, 0): "tables", (1, 1): "expiring"}
FUNCTIONS = ("life", "suspend", "react", "submit", "claim", "finish", "run", "amend", "purge")

#: ``id`` tells this schema from all others, wherever a connection leads.
VERSION_TABLE = (
    "CREATE TABLE @version (major integer NOT NULL, minor integer NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid())"
)
GET_VERSION = "SELECT major, minor FROM @version"
SET_VERSION = "INSERT INTO @version (major, minor) VALUES ({0}, {1})"
CHANGE_VERSION = "UPDATE @version SET major = {0}, minor = {1}"


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"{}"'.format(name.replace('"', '""'))


def render(text: str, schema: str) -> str:
    """SQL with the schema and the numbers filled in."""
    prefix = f"{quoted(schema)}."
    return _TOKEN.sub(lambda found: prefix if found[0] == "@" else _NUMBERS[found[0]], text)


def _read(name: str) -> str:
    return (files(__package__) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def statements(schema: str, present: tuple[int, int] | None) -> list[str]:
    """What leads from the version ``present`` (None: nothing is there) to that of this code."""
    missing = [version for version in sorted(STEPS) if present is None or version > present]
    if not missing:
        return []
    texts = [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}", VERSION_TABLE] if present is None else []
    texts += [_read(STEPS[version]) for version in missing]
    texts += [_read(name) for name in FUNCTIONS]
    texts.append((SET_VERSION if present is None else CHANGE_VERSION).format(*VERSION))
    return [render(text, schema) for text in texts]
