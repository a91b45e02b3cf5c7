"""Older settings that chose a class for each part of the store, mapped to the one store URL of today.

One transaction covers what those parts did, so they can only be of one family.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pynenc.conf.location import sqlite_url
from pynenc.conf.section import Found
from pynenc.exceptions import ConfigError

PARTS = ("orchestrator_cls", "broker_cls", "state_backend_cls", "client_data_store_cls", "trigger_cls")
FAMILIES = {"mem": "memory", "sqlite": "sqlite", "redis": "redis"}
_PLAIN = {"memory": "memory://", "redis": "redis://localhost:6379/0"}


def legacy_store(found: Mapping[str, Found], path: Found | None, default_url: str, base: Path) -> Found | None:
    """The store that the older settings ask for; None when there are none.

    :param found: what is said about the app. :param path: ``sqlite_db_path``, if it is set. :param base: where a relative path starts.
    :raises ConfigError: the settings ask for several families, or for one that does not exist.
    """
    asked = {part: found[part] for part in PARTS if part in found and found[part].value}
    if path is not None and not path.value:
        path = None
    families = {part: _family(part, each) for part, each in asked.items()}
    if len(set(families.values())) > 1:
        listed = ", ".join(f"{part} = {asked[part].value} ({asked[part].origin})" for part in asked)
        raise ConfigError(
            f"one store keeps everything, because each step is one transaction, but these settings mix several: {listed}; "
            "replace them all by 'store', such as store = 'sqlite:///app.db'"
        )
    family = next(iter(families.values()), "sqlite" if path else None)
    if family is None:
        return None
    winner = max((*asked.values(), *((path,) if path and family == "sqlite" else ())), key=lambda each: each.level)
    if path is not None and family != "sqlite" and path.level >= winner.level:
        raise ConfigError(
            f"'sqlite_db_path' ({path.origin}) contradicts the {family} classes ({winner.origin}): "
            "replace both by 'store', such as store = 'sqlite:///app.db'"
        )
    url = _PLAIN.get(family, default_url)
    if path is not None and family == "sqlite":
        url = sqlite_url(Path(path.base or base, str(path.value)).resolve())
    return Found(url, winner.origin, winner.level, winner.base)


def _family(part: str, found: Found) -> str:
    name = str(found.value).rpartition(".")[2]
    family = next((FAMILIES[start] for start in FAMILIES if name.lower().startswith(start)), None)
    if family is None:
        raise ConfigError(
            f"{part!r} ({found.origin}) names {name!r}, which belongs to no store of this version "
            "(MemX, SQLiteX and RedisX are known): use 'store' with a URL"
        )
    return family


def choose_store(store: Found | None, legacy: Found | None) -> Found | None:
    """The one of ``store`` and the older settings that comes from higher up.

    :raises ConfigError: both come from the same height and differ.
    """
    if store is None or legacy is None:
        return store or legacy
    if store.level == legacy.level and store.value != legacy.value:
        raise ConfigError(
            f"'store' ({store.origin}) and the older settings ({legacy.origin}) ask for different stores: remove the older ones"
        )
    return store if store.level >= legacy.level else legacy
