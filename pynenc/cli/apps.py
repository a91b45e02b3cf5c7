"""Which app a command means: from ``--app``, the environment, the project file, or the current directory."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pynenc.app import Pynenc
from pynenc.exceptions import ConfigError

_HELP = 'name it with --app module:attribute (or PYNENC__APP, or `app = "module:attribute"` under [tool.pynenc] in pyproject.toml)'

#: What makes an app.
_MAKERS = frozenset({"Pynenc", "PynencBuilder"})


def load_app(spec: str | None) -> Pynenc:
    """The app that ``spec`` names (``module``, ``module.attr``, ``module:attr`` or a file); without one, what the surroundings say.

    :raises ConfigError: there is none, there are several, or its module cannot be imported.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = spec or os.environ.get("PYNENC__APP") or _from_project(Path(folder))
    return _from_spec(spec) if spec else _from_folder(Path(folder))


def _from_project(folder: Path) -> str | None:
    """The ``app`` of the nearest project file."""
    for parent in (folder, *folder.parents):
        for name, path in (("pynenc.toml", ("pynenc",)), ("pyproject.toml", ("tool", "pynenc"))):
            file = parent / name
            if file.is_file():
                table = _read(file)
                inner = table
                for key in path:
                    inner = inner.get(key, {})
                found = inner.get("app") or (table.get("app") if name == "pynenc.toml" else None)
                if found:
                    return str(found)
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error


def _from_spec(spec: str) -> Pynenc:
    if spec.endswith(".py") or os.sep in spec:
        return _only_app(_import_file(Path(spec)), spec)
    module_name, colon, attribute = spec.partition(":")
    if colon:
        return _attribute(_import(module_name), attribute, spec)
    try:
        return _only_app(_import(spec), spec)
    except ConfigError:
        parent, dot, attribute = spec.rpartition(".")
        if not dot:
            raise
    return _attribute(_import(parent), attribute, spec)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"there is no module {name!r} here or on the Python path; {_HELP}") from error
        raise ConfigError(f"importing {name!r} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {name!r} failed: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under its dotted name from the first parent without ``__init__.py``."""
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    parts = [path.stem] if path.stem != "__init__" else []
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return _import(".".join(parts))


def _attribute(module: ModuleType, path: str, spec: str) -> Pynenc:
    value: object = module
    for name in path.split("."):
        value = getattr(value, name, None)
    if not isinstance(value, Pynenc):
        what = f"is a {type(value).__name__}, not an app" if value is not None else "does not exist"
        apps = ", ".join(name for name, each in vars(module).items() if isinstance(each, Pynenc))
        raise ConfigError(f"{spec!r} {what}; apps in {module.__name__}: {apps or 'none'}; {_HELP}")
    return value


def _apps_of(module: ModuleType) -> list[Pynenc]:
    return list({id(value): value for value in vars(module).values() if isinstance(value, Pynenc)}.values())


def _only_app(module: ModuleType, spec: str) -> Pynenc:
    apps = _apps_of(module)
    if len(apps) != 1:
        raise ConfigError(f"{spec!r} holds {len(apps) or 'no'} apps: {_HELP}")
    return apps[0]


def _makes_an_app(path: Path) -> bool:
    """Whether a file assigns an app at its top level, as far as can be seen without running it."""
    text = path.read_text(errors="replace")
    if "Pynenc" not in text or path.name.startswith("test_") or path.name == "conftest.py":
        return False
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return True  # importing it tells what is wrong
    defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    makers = _MAKERS | {node.name for node in defined if _MAKERS & _names_in(node)}
    values = [node.value for node in body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value]
    calls = [node for value in values for node in ast.walk(value) if isinstance(node, ast.Call)]
    return any(makers & _names_in(call.func) for call in calls)


def _names_in(node: ast.AST) -> set[str]:
    return {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}


def _from_folder(folder: Path) -> Pynenc:
    """The one app that the Python files of a folder define; where there is none, the demo that ran here.

    No other file is imported, since that would run it; nor are tests.
    """
    found: dict[int, tuple[Pynenc, Path]] = {}
    for path in filter(_makes_an_app, sorted(folder.glob("*.py"))):
        for app in _apps_of(_import_file(path)):
            found.setdefault(id(app), (app, path))
    if not found and (folder / ".pynenc" / "demo.db").is_file():
        return _from_spec("pynenc.cli.demo_tasks:app")
    if len(found) != 1:
        names = ", ".join(path.name for _, path in found.values())
        raise ConfigError(f"{'no app' if not found else f'several apps ({names})'} in {folder}: {_HELP}")
    return next(iter(found.values()))[0]
