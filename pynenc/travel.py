"""How an app travels in a pickle: as its settings, the modules of its tasks, and a token by which it is found again where it was made."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from pynenc.conf.config_pynenc import ConfigPynenc

#: The apps of this process by token, so that an app that comes back from a pickle is the same object.
_apps: WeakValueDictionary[str, Any] = WeakValueDictionary()

#: Make an app known under its token.
remember = _apps.__setitem__


class Launched:
    """An app on its way to a child process: unpickled, it is the app, with the same log."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __reduce__(self) -> tuple[Any, ...]:
        return _launched, (self._app, self._app._shows_log)


def _launched(app: Any, shows_log: bool) -> Any:  # noqa: FBT001  # pickle calls it
    if shows_log:
        app.configure_logging()
    return app


def restore(
    kind: Any,
    token: str,
    module: str,
    file: str | None,
    conf: dict[str, Any],
    modules: list[str],
    assigned: dict[str, dict[str, Any]],
) -> Any:
    """The app of a pickle: this process's own if it made it, else the one that its module defines, else one built alike.

    :param kind: its class. :param assigned: the options of tasks that were assigned at run time.
    """
    if (app := _apps.get(token)) is not None:
        return app
    app = _of_module(kind, module, conf) if module != "__main__" else None
    if app is not None:
        _apps[token] = app
        for name in modules:
            import_module(name)
    else:
        app = kind.__new__(kind)
        app._token, app._module, app._file = token, module, file
        app._set_up(ConfigPynenc.from_dict(conf))
        for name in modules:
            app._adopt(import_module(name))
    for key, options in assigned.items():
        app.get_task(key).conf.assign(options)
    return app


def _of_module(kind: Any, module: str, conf: dict[str, Any]) -> Any:
    """The app that a module defines under the same id, with these settings; None if there is none."""
    found = next(
        (v for v in vars(import_module(module)).values() if isinstance(v, kind) and v.app_id == conf["app_id"]), None
    )
    if found is not None:
        found.conf.update(conf)
    return found
