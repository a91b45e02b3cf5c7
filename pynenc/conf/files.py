"""Configuration files: finding one and reading its table. Formats are imported when a file of theirs is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pynenc.conf.location import start_folder, upward
from pynenc.exceptions import ConfigError

FORMATS = (".toml", ".yaml", ".yml", ".json")


class ConfigFile(NamedTuple):
    """The table of a file; ``title`` says where it stands, for messages: ``file pyproject.toml [tool.pynenc]``."""

    path: Path
    table: Mapping[str, object]
    is_nested: bool

    def where(self, *keys: str) -> str:
        """``file pyproject.toml [tool.pynenc.task]``."""
        parts = (*(("tool", "pynenc") if self.is_nested else ()), *keys)
        table = ".".join(f'"{part}"' if "." in part else part for part in parts)
        return f"file {self.path.name}" + (f" [{table}]" if table else "")


def find_file(filepath: str | None, app_file: str | None) -> ConfigFile | None:
    """The named file, else the nearest ``pynenc.toml`` or ``pyproject.toml`` with a table for us.

    :raises ConfigError: a named file is missing, or a file cannot be read.
    """
    if filepath is not None:
        return read_file(_named(filepath, app_file))
    for folder in upward(start_folder(app_file)):
        for name in ("pynenc.toml", "pyproject.toml"):
            path = folder / name
            if path.is_file() and _mentions_us(path) and (found := read_file(path)).table:
                return found
    return None


def _mentions_us(path: Path) -> bool:
    """Whether it is worth parsing: most projects' ``pyproject.toml`` says nothing about us."""
    try:
        return path.name == "pynenc.toml" or b"pynenc" in path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror}") from error


def _named(filepath: str, app_file: str | None) -> Path:
    """A relative path is looked for beside the app's module, then in the current directory."""
    path = Path(filepath).expanduser()
    candidates = [path] if path.is_absolute() else [start_folder(app_file) / path, Path.cwd() / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(f"configuration file {filepath!r} does not exist (looked for {', '.join(map(str, candidates))})")


def read_file(path: Path) -> ConfigFile:
    """Read a file: its ``tool.pynenc`` table, or all of it when it has none and is no ``pyproject.toml``.

    :raises ConfigError: it cannot be read or is not made of tables.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"configuration file {path} must end in one of {', '.join(FORMATS)}")
    try:
        content = _parse(path.suffix.lower(), path.read_text("utf-8"), path)
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"configuration file {path} is not valid {path.suffix[1:]}: {error}") from error
    tool = content.get("tool")
    if path.name == "pyproject.toml" or (isinstance(tool, Mapping) and "pynenc" in tool):
        own = tool.get("pynenc", {}) if isinstance(tool, Mapping) else {}
        if not isinstance(own, Mapping):
            raise ConfigError(f"configuration file {path}: tool.pynenc must be a table")
        return ConfigFile(path, own, is_nested=True)
    return ConfigFile(path, content, is_nested=False)


def _parse(suffix: str, source: str, path: Path) -> Mapping[str, object]:
    if suffix == ".toml":
        import tomllib

        return tomllib.loads(source)
    import json  # takes long to import

    content = json.loads(source) if suffix == ".json" else _parse_yaml(source, path)
    if content is None:
        return {}
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"configuration file {path} must hold a table of settings")
    return content


def _parse_yaml(source: str, path: Path) -> object:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ConfigError(
            f"configuration file {path} is YAML, which needs PyYAML: pip install pyyaml, or write TOML or JSON"
        ) from None
    try:
        content: object = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file {path} is not valid YAML: {error}") from error
    return content
