"""Where the database lives, older settings that chose it, and what may be printed."""

from __future__ import annotations

import pytest

from pynenc.conf import resolve_app_conf
from pynenc.conf.location import anchored, default_store_url, redact_url
from pynenc.conf.show import rows
from pynenc.exceptions import ConfigError


def resolve(tmp_path, values=None, toml=None, **environ):
    (tmp_path / "pyproject.toml").write_text(toml or "")
    return resolve_app_conf(values, None, str(tmp_path / "src" / "app.py"), environ=environ)


@pytest.mark.parametrize("marker", ["pyproject.toml", "pynenc.toml"])
def test_beside_the_nearest_project_file(tmp_path, marker):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / marker).touch()
    (folder / "app.py").touch()
    assert default_store_url("x", str(folder / "app.py")) == f"sqlite:///{tmp_path}/.pynenc/x.db"


def test_in_a_repl_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_store_url("x", None) == f"sqlite:///{tmp_path}/.pynenc/x.db"


def test_the_working_directory_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    conf = resolve(tmp_path, {"app_id": "shop"})
    assert (conf.store, conf.origin("store")) == (f"sqlite:///{tmp_path}/.pynenc/shop.db", "default")


def test_an_app_id_never_leaves_the_folder(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    url = default_store_url("../../etc/x%?#", str(tmp_path / "app.py"))
    assert url.startswith(f"sqlite:///{tmp_path}/.pynenc/..%252F")
    assert not {"?", "#"} & set(url)


@pytest.mark.parametrize(
    ("values", "toml", "environ", "wanted"),
    [
        ({"store": "sqlite:///data/x.db"}, "", {}, "sqlite:///{root}/data/x.db"),
        ({}, "[tool.pynenc]\nstore = 'sqlite:///data/x.db'", {}, "sqlite:///{root}/data/x.db"),
        ({}, "", {"PYNENC__STORE": "sqlite:///x.db"}, "sqlite:///{root}/x.db"),
        ({"store": "sqlite:////var/x.db"}, "", {}, "sqlite:////var/x.db"),
        ({"store": "sqlite:///x.db?mode=ro"}, "", {}, "sqlite:///{root}/x.db?mode=ro"),
        ({"store": "sqlite://"}, "", {}, "sqlite:///{root}/.pynenc/pynenc.db"),
        ({"store": "MEMORY://"}, "", {}, "memory://"),
        ({"store": "postgresql://h/db"}, "", {}, "postgresql://h/db"),
    ],
)
def test_store_urls(tmp_path, values, toml, environ, wanted):
    assert resolve(tmp_path, values, toml, **environ).store == wanted.format(root=tmp_path)


def test_a_file_elsewhere_anchors_its_own_paths(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "p.toml").write_text("store = 'sqlite:///x.db'")
    conf = resolve_app_conf(None, str(tmp_path / "etc" / "p.toml"), str(tmp_path / "app.py"), environ={})
    assert conf.store == f"sqlite:///{tmp_path}/etc/x.db"


def test_in_memory_databases_have_no_folder(tmp_path):
    assert anchored("sqlite:///:memory:", tmp_path) == "sqlite:///:memory:"


# -- older settings ------------------------------------------------------------------------------------------------------

SQLITE = {
    "orchestrator_cls": "SQLiteOrchestrator",
    "broker_cls": "SQLiteBroker",
    "state_backend_cls": "SQLiteStateBackend",
    "client_data_store_cls": "SQLiteClientDataStore",
    "trigger_cls": "SQLiteTrigger",
}
MEM = {name: value.replace("SQLite", "Mem") for name, value in SQLITE.items()}
PATH = "[tool.pynenc.sqlite]\nsqlite_db_path = 'old.db'\n"


@pytest.mark.parametrize(
    ("values", "toml", "environ", "wanted", "origin"),
    [
        (SQLITE, "", {}, "sqlite:///{root}/.pynenc/pynenc.db", "constructor"),
        (MEM, "", {}, "memory://", "constructor"),
        ({"broker_cls": "RedisBroker"}, "", {}, "redis://localhost:6379/0", "constructor"),
        ({}, PATH, {}, "sqlite:///{root}/old.db", "file pyproject.toml [tool.pynenc.sqlite]"),
        (SQLITE, PATH, {}, "sqlite:///{root}/old.db", "constructor"),
        (MEM, PATH, {}, "memory://", "constructor"),
        ({}, "", {"PYNENC__ORCHESTRATOR_CLS": "MemOrchestrator"}, "memory://", "environment PYNENC__ORCHESTRATOR_CLS"),
        (
            {},
            "",
            {"PYNENC__SQLITE__SQLITE_DB_PATH": "/v/x.db"},
            "sqlite:////v/x.db",
            "environment PYNENC__SQLITE__SQLITE_DB_PATH",
        ),
        ({"store": "memory://"}, PATH, {}, "memory://", "constructor"),
        (MEM, "[tool.pynenc]\nstore = 'sqlite:///x.db'\n", {}, "memory://", "constructor"),
        ({**MEM, "store": "memory://"}, "", {}, "memory://", "constructor"),
    ],
)
def test_older_settings_become_a_store(tmp_path, values, toml, environ, wanted, origin):
    conf = resolve(tmp_path, values, toml, **environ)
    assert (conf.store, conf.origin("store")) == (wanted.format(root=tmp_path), origin)


@pytest.mark.parametrize(
    ("values", "toml", "parts"),
    [
        (
            {**MEM, "broker_cls": "SQLiteBroker"},
            "",
            ["one transaction", "broker_cls = SQLiteBroker (constructor)", "'store'"],
        ),
        ({"broker_cls": "RabbitBroker"}, "", ["'broker_cls'", "RabbitBroker", "'store'"]),
        ({**MEM, "store": "sqlite:///x.db"}, "", ["'store' (constructor)", "remove the older"]),
        ({}, PATH + "[tool.pynenc]\nbroker_cls = 'MemBroker'\n", ["sqlite_db_path", "contradicts the memory classes"]),
    ],
)
def test_mixtures_are_refused(tmp_path, values, toml, parts):
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, values, toml)
    for part in parts:
        assert part in str(caught.value)


def test_older_settings_cannot_be_assigned(tmp_path):
    conf = resolve(tmp_path)
    with pytest.raises(ConfigError, match="use 'store'"):
        conf.broker_cls = "MemBroker"


# -- showing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("postgresql://me:p@ss:w@host/db", "postgresql://me:***@host/db"),
        ("redis://:pa/ss@host/0", "redis://:***@host/0"),
        ("postgresql://host/db?user=me&password=hunter2&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////srv/me/a:b@c.db", "sqlite:////srv/me/a:b@c.db"),
        ("memory://", "memory://"),
        ("not a url", "not a url"),
    ],
)
def test_redaction(url, shown):
    assert redact_url(url) == shown


def test_show_has_every_setting_with_origin_and_no_secret(tmp_path):
    conf = resolve(
        tmp_path,
        {"store": "postgresql://me:hunter2@host/db", "signing_keys": ["hunter3", "hunter4"], "imports": ["a", "b"]},
        "[tool.pynenc.runner]\nthreads = 3\n",
    )
    conf.log_format = "json"
    found = {(row.section, row.field): row for row in rows(conf)}
    assert "hunter" not in str(found)
    assert "hunter" not in repr(conf)
    assert found["pynenc", "store"].value == "postgresql://me:***@host/db"
    assert found["pynenc", "signing_keys"].value == "*** (2)"
    assert found["pynenc", "imports"].value == "a, b"
    assert found["pynenc", "log_format"][2:4] == ("JSON", "assigned")
    assert found["runner", "threads"][2:4] == ("3", "file pyproject.toml [tool.pynenc.runner]")
    assert found["runner", "burst"][2:4] == ("false", "default")
    assert found["task", "retry_for"].value == "pynenc.exceptions.RetryError"
    assert found["task", "timeout"].value == "none"
    assert all(row.doc.endswith(".") for row in found.values())
    assert ("pynenc", "broker_cls") not in found
    assert ("task", "aliases") not in found
    assert {row.section for row in found.values()} == {"pynenc", "task", "runner", "client_data_store", "sqlite"}
