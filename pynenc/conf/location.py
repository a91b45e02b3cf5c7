"""Where an app's database lives, and store URLs as settings.

The default is a file of the *project*, found from the module that builds the app: two working directories never mean two databases.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pynenc.conf.values import nearest

SCHEMES = ("memory", "sqlite", "postgresql", "postgres", "redis", "rediss", "valkey", "valkeys")
#: Modules that build apps on behalf of others.
_BUILDERS = frozenset({"pynenc.app", "pynenc.builder"})
MARKERS = ("pyproject.toml", "pynenc.toml")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
#: Greedy, because people forget to escape their passwords; hiding too much is the better error.
_CREDENTIALS = re.compile(r"^([^/?#:]*:).*@", re.DOTALL)
_SECRET_QUERY = re.compile(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*", re.IGNORECASE)


def store_url(value: object) -> str:
    """A store URL; the parser of the setting ``store``."""
    match = _URL.fullmatch(value.strip()) if isinstance(value, str) and value.isprintable() else None
    if not match:
        raise ValueError("a store URL such as sqlite:///path/app.db, memory:// or postgresql://host/db")
    scheme = match[1].lower()
    if scheme not in SCHEMES and not _is_plugin(scheme):
        close = nearest(scheme, SCHEMES)
        hint = f"; did you mean {close}://?" if close else ""
        raise ValueError(f"a URL of a known store ({', '.join(SCHEMES)}){hint}")
    return f"{scheme}://{match[2]}"


def _is_plugin(scheme: str) -> bool:
    from importlib.metadata import entry_points

    return any(found.name == scheme for found in entry_points(group="pynenc.stores"))


def start_folder(app_file: str | None) -> Path:
    """The folder of the module that builds the app; in a REPL the current directory."""
    return Path(app_file).resolve().parent if app_file else Path.cwd()


def upward(start: Path) -> Iterator[Path]:
    """The folder and all above it."""
    yield start
    yield from start.parents


def project_folder(app_file: str | None) -> Path:
    """The folder of the nearest ``pyproject.toml`` or ``pynenc.toml`` above the module that builds the app, else its own."""
    start = start_folder(app_file)
    if app_file is None:
        return start
    return next((each for each in upward(start) if any((each / name).is_file() for name in MARKERS)), start)


def default_store_url(app_id: str, app_file: str | None) -> str:
    """``sqlite:////…/.pynenc/<app_id>.db`` in the project's folder."""
    return sqlite_url(project_folder(app_file) / ".pynenc" / f"{_file_name(app_id)}.db")


def _file_name(app_id: str) -> str:
    """The app id with characters escaped that file systems refuse."""
    return quote(app_id, safe=" ,@+=()[]")


def sqlite_url(path: Path) -> str:
    """The URL of a database file; an absolute path has four slashes."""
    escaped = str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    return f"sqlite:///{escaped}"


def anchored(url: str, base: Path) -> str:
    """A SQLite URL with a relative path (``sqlite:///app.db``) made absolute from ``base``; other URLs as they are."""
    match = re.fullmatch(r"sqlite:///([^/?#:][^?#]*)(.*)", url)
    if not match or re.match(r"[A-Za-z]:[\\/]", match[1]):
        return url
    return sqlite_url(Path(base, unquote(match[1])).resolve()) + match[2]


def redact_url(url: str) -> str:
    """The URL without its password and secret parameters, fit to print."""
    match = _URL.fullmatch(url)
    if not match or match[1].lower() == "sqlite":
        return url
    rest = _CREDENTIALS.sub(r"\1***@", match[2])
    return _SECRET_QUERY.sub(r"\1***", f"{match[1]}://{rest}")


def calling_module() -> dict[str, Any]:
    """The globals of the module that builds the app."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BUILDERS:
        frame = frame.f_back
    return frame.f_globals
