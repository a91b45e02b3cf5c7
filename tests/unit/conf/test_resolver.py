"""Which source wins, how the environment spells names, and what is refused at start."""

from __future__ import annotations

import json
import pickle
from itertools import combinations

import pytest

from pynenc.conf import resolve_app_conf, resolve_task_conf
from pynenc.conf.config_pynenc import ArgumentPrintMode, ConfigPynenc, LogFormat
from pynenc.conf.config_task import ConcurrencyControlType
from pynenc.exceptions import ConfigError


@pytest.fixture
def project(tmp_path):
    """Builds a configuration from a ``pyproject.toml``, constructor values and an environment."""

    def make(toml: str = "", values=None, filepath=None, **environ):
        (tmp_path / "pyproject.toml").write_text(toml)
        (tmp_path / "app.py").touch()
        return resolve_app_conf(values, filepath, str(tmp_path / "app.py"), environ=environ)

    make.path = tmp_path
    return make


# -- precedence ----------------------------------------------------------------------------------------------------------

APP_SOURCES = {  # low to high: what it adds, and the origin to be seen
    "top": ("[tool.pynenc]\nthreads = 1\n", {}, {}, "file pyproject.toml [tool.pynenc]"),
    "section": ("[tool.pynenc.runner]\nthreads = 2\n", {}, {}, "file pyproject.toml [tool.pynenc.runner]"),
    "class": (
        "[tool.pynenc.MultiThreadRunner]\nthreads = 3\n",
        {},
        {},
        "file pyproject.toml [tool.pynenc.MultiThreadRunner]",
    ),
    "code": ("", {"threads": 4}, {}, "constructor"),
    "code section": ("", {"runner": {"threads": 5}}, {}, "constructor [runner]"),
    "env": ("", {}, {"PYNENC__THREADS": "6"}, "environment PYNENC__THREADS"),
    "env section": ("", {}, {"PYNENC__RUNNER__THREADS": "7"}, "environment PYNENC__RUNNER__THREADS"),
    "env class": (
        "",
        {},
        {"PYNENC__MULTITHREADRUNNER__THREADS": "8"},
        "environment PYNENC__MULTITHREADRUNNER__THREADS",
    ),
}


@pytest.mark.parametrize(
    "names", [(name,) for name in APP_SOURCES] + list(combinations(APP_SOURCES, 2)) + [tuple(APP_SOURCES)]
)
def test_the_higher_source_wins(project, names):
    chosen = [APP_SOURCES[name] for name in names]
    values = {key: value for each in chosen for key, value in each[1].items()}
    environ = {key: value for each in chosen for key, value in each[2].items()}
    conf = project("".join(each[0] for each in chosen), values, **environ)
    assert conf.runner.threads == list(APP_SOURCES).index(names[-1]) + 1
    assert conf.runner.origin("threads") == chosen[-1][3]
    conf.runner.threads = 99
    assert (conf.runner.threads, conf.runner.origin("threads")) == (99, "assigned")


TASK_SOURCES = {
    "file": ("[tool.pynenc.task]\nmax_retries = 1\n", {}, {}, {}),
    "code": ("", {"max_retries": 2}, {}, {}),
    "decorator": ("", {}, {"max_retries": 3}, {}),
    "file task": ('[tool.pynenc.task."pkg.mod.func"]\nmax_retries = 4\n', {}, {}, {}),
    "env": ("", {}, {}, {"PYNENC__MAX_RETRIES": "5"}),
    "env section": ("", {}, {}, {"PYNENC__TASK__MAX_RETRIES": "6"}),
    "env task": ("", {}, {}, {"PYNENC__CONFIGTASK__PKG.MOD#FUNC__MAX_RETRIES": "7"}),
}


@pytest.mark.parametrize(
    "names", [(name,) for name in TASK_SOURCES] + list(combinations(TASK_SOURCES, 2)) + [tuple(TASK_SOURCES)]
)
def test_the_higher_source_of_a_task_wins(project, names):
    chosen = [TASK_SOURCES[name] for name in names]
    values = {key: value for each in chosen for key, value in each[1].items()}
    options = {key: value for each in chosen for key, value in each[2].items()}
    environ = {key: value for each in chosen for key, value in each[3].items()}
    conf = project("".join(each[0] for each in chosen), values, **environ)
    task = resolve_task_conf("pkg.mod", "func", options, conf.sources)
    assert task.max_retries == list(TASK_SOURCES).index(names[-1]) + 1
    other = resolve_task_conf("pkg.mod", "other", {}, conf.sources)
    general = [name for name in names if name in {"file", "code", "env", "env section"}]
    assert other.max_retries == (list(TASK_SOURCES).index(general[-1]) + 1 if general else 0)


def test_origins_of_a_task(project):
    conf = project(
        '[tool.pynenc]\nqueue = "slow"\n[tool.pynenc.task]\npriority = 1\n[tool.pynenc.task."m.f"]\ntags = ["x"]\n',
        PYNENC__CONFIGTASK__M__F__TIMEOUT="30s",
    )
    task = conf.for_task("m", "f", {"retry_for": [KeyError]})
    assert {name: task.origin(name) for name in ("queue", "priority", "tags", "timeout", "retry_for", "expires")} == {
        "queue": "file pyproject.toml [tool.pynenc]",
        "priority": "file pyproject.toml [tool.pynenc.task]",
        "tags": 'file pyproject.toml [tool.pynenc.task."m.f"]',
        "timeout": "environment PYNENC__CONFIGTASK__M__F__TIMEOUT",
        "retry_for": "decorator of m.f",
        "expires": "default",
    }


def test_the_store_of_a_test_beats_the_file(project):
    conf = project('[tool.pynenc]\nstore = "postgresql://prod/db"\n', {"store": "memory://"})
    assert (conf.store, conf.origin("store")) == ("memory://", "constructor")


# -- the environment -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    [
        "PYNENC__CONFIGTASK__PKG.SUB_MOD#MY_FUNC__PRIORITY",
        "PYNENC__CONFIGTASK__pkg.sub_mod#my_func__priority",
        "PYNENC__CONFIGTASK__PKG_SUB_MOD__MY_FUNC__PRIORITY",
        "PYNENC__TASK__PKG_SUB_MOD#MY_FUNC__PRIORITY",
        "pynenc__configtask__pkg.sub_mod__my_func__priority",
    ],
)
def test_spellings_of_a_task(variable):
    conf = resolve_app_conf(environ={variable: "5"})
    assert conf.for_task("pkg.sub_mod", "my_func", {}).priority == 5
    assert conf.for_task("pkg.sub_mod", "my_other", {}).priority == 0


@pytest.mark.parametrize("func", ["_private", "tail_", "__dunder__", "a__b"])
def test_functions_with_underscores(func):
    conf = resolve_app_conf(environ={f"PYNENC__CONFIGTASK__M#{func.upper()}__PRIORITY": "5"})
    assert conf.for_task("m", func, {}).priority == 5


@pytest.mark.parametrize(
    "variable",
    [
        "PYNENC__MIN_SIZE_TO_CACHE",
        "PYNENC__CLIENT_DATA_STORE__MIN_SIZE_TO_CACHE",
        "PYNENC__CLIENTDATASTORE__MIN_SIZE_TO_CACHE",
        "PYNENC__CONFIGCLIENTDATASTORE__MIN_SIZE_TO_CACHE",
        "pynenc__clientdatastore__min_size_to_cache",
    ],
)
def test_spellings_of_a_section(variable):
    assert resolve_app_conf(environ={variable: "1MB"}).client_data_store.min_size_to_cache == 2**20


def test_values_of_the_environment():
    conf = resolve_app_conf(
        environ={
            "PYNENC__IMPORTS": "a.tasks, b.tasks",
            "PYNENC__ALLOWED_TYPES": '["x.y"]',
            "PYNENC__ARGUMENT_PRINT_MODE": "hidden",
            "PYNENC__LOG_FORMAT": "JSON",
            "PYNENC__LOG_COLORS": "auto",
            "PYNENC__LOGGING_LEVEL": "debug",
            "PYNENC__RUNNER__BURST": "yes",
            "PYNENC__SQLITE__SYNCHRONOUS": "FULL",
            "PYNENC__MAX_RESULT": "1MB",
            "PYNENC__SIGNING_KEYS": "new,old",
            "OTHER": "ignored",
            "PYNENC_SOMETHING": "ignored too: one underscore",
        }
    )
    assert conf.imports == ("a.tasks", "b.tasks")
    assert conf.allowed_types == ("x.y",)
    assert conf.argument_print_mode is ArgumentPrintMode.HIDDEN
    assert conf.log_format is LogFormat.JSON
    assert conf.log_colors is None
    assert conf.logging_level == "DEBUG"
    assert conf.runner.burst is True
    assert conf.sqlite.synchronous == "full"
    assert conf.max_result == 2**20
    assert conf.signing_keys == (b"new", b"old")


@pytest.mark.parametrize(
    "variable",
    ["PYNENC_DEV_MODE_FORCE_SYNC_TASK", "PYNENC__DEV_MODE_FORCE_SYNC_TASKS", "PYNENC__DEV_MODE_FORCE_SYNC_TASK"],
)
@pytest.mark.parametrize(("written", "wanted"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_development_mode_by_its_names(variable, written, wanted):
    conf = resolve_app_conf({"dev_mode_force_sync_tasks": not wanted}, environ={variable: written})
    assert conf.dev_mode_force_sync_tasks is wanted
    assert conf.origin("dev_mode_force_sync_tasks") == f"environment {variable}"


def test_the_documented_name_of_development_mode_wins():
    environ = {"PYNENC_DEV_MODE_FORCE_SYNC_TASK": "1", "PYNENC__DEV_MODE_FORCE_SYNC_TASKS": "0"}
    for order in (environ, dict(reversed(environ.items()))):
        assert resolve_app_conf(environ=order).dev_mode_force_sync_tasks is False


@pytest.mark.parametrize("variable", ["PYNENC_DEV_MODE_FORCE_SYNC_TASK", "PYNENC__DEV_MODE_FORCE_SYNC_TASKS"])
def test_an_empty_variable_says_nothing(variable):
    for given in (True, False):
        conf = resolve_app_conf({"dev_mode_force_sync_tasks": given}, environ={variable: ""})
        assert conf.dev_mode_force_sync_tasks is given


def test_an_empty_variable_is_an_empty_list_or_none_where_there_is_such_a_value():
    empty = {"PYNENC__IMPORTS": "", "PYNENC__RUNNER__NAME": "", "PYNENC__RUNNER__THREADS": "", "PYNENC__STORE": ""}
    given = {"imports": ["a"], "runner": {"name": "n", "threads": 3}, "store": "memory://"}
    conf = resolve_app_conf(given, environ={**empty, "PYNENC__CONFIGTASK__M#F__PRIORITY": ""})
    assert (conf.imports, conf.runner.name, conf.runner.threads, conf.store) == ((), None, 3, "memory://")
    assert conf.for_task("m", "f", {"priority": 3}).priority == 3
    with pytest.raises(ConfigError, match="'THREDS'"):
        resolve_app_conf(environ={"PYNENC__RUNNER__THREDS": ""})


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("PYNENC__LOGING_LEVEL", "info", ["'LOGING_LEVEL'", "environment PYNENC__LOGING_LEVEL", "'logging_level'"]),
        ("PYNENC__RUNER__THREADS", "1", ["section 'RUNER'", "'runner'"]),
        ("PYNENC__RUNNER__THREDS", "1", ["'THREDS'", "'threads'"]),
        ("PYNENC__TASK__MAX_RETRY", "1", ["'MAX_RETRY'", "'max_retries'"]),
        ("PYNENC__CONFIGTASK__M#F__MAX_RETRY", "1", ["'MAX_RETRY'", "'max_retries'"]),
        ("PYNENC__THREADS", "many", ["'threads'", "environment PYNENC__THREADS", "'many'", "whole number"]),
        ("PYNENC__CONFIGTASK__M#F__PRIORITY", "high", ["'priority'", "'high'"]),
        ("PYNENC__TASK__NAME", "x", ["'name'", "belongs to one task"]),
        ("PYNENC__", "x", ["unknown setting"]),
        ("PYNENC__RUNNER__", "x", ["unknown setting 'RUNNER__'|unknown setting"]),
        ("PYNENC__TASK____PRIORITY", "1", ["names no setting|unknown"]),
    ],
)
def test_the_environment_is_checked_at_start(variable, value, parts):
    with pytest.raises(ConfigError) as caught:
        resolve_app_conf(environ={variable: value})
    for part in parts:
        assert any(each in str(caught.value) for each in part.split("|")), str(caught.value)


# -- files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("[tool.pynenc]\nap_id = 'x'\n", ["'ap_id'", "file pyproject.toml [tool.pynenc]", "'app_id'"]),
        ("[tool.pynenc.runer]\nthreads = 1\n", ["section 'runer'", "'runner'"]),
        ("[tool.pynenc]\nrunner = 'ThreadRunner'\n", ["'runner'", "is a section"]),
        ("[tool.pynenc.runner]\nthreads = 'many'\n", ["'threads'", "[tool.pynenc.runner]", "'many'"]),
        ("[tool.pynenc.ThreadRunner]\nthread = 1\n", ["'thread'", "[tool.pynenc.ThreadRunner]", "'threads'"]),
        ("[tool.pynenc.task.'a.b']\nqueu = 'x'\n", ["'queu'", '[tool.pynenc.task."a.b"]', "'queue'"]),
        ("[tool.pynenc.task.prioriti]\nx = 1\n", ["'prioriti'", "'priority'", "module.function"]),
        ("[tool.pynenc]\nserializer = 'json'\nserializer_cls = 'JsonSerializer'\n", ["'serializer'", "given twice"]),
        ("[tool]\npynenc = 3\n", ["must be a table"]),
        ("[tool.pynenc\n", ["pyproject.toml is not valid toml"]),
    ],
)
def test_files_are_checked_at_start(project, toml, parts):
    with pytest.raises(ConfigError) as caught:
        project(toml)
    for part in parts:
        assert part in str(caught.value)


def test_a_bad_section_is_found_though_nobody_uses_it(project):
    with pytest.raises(ConfigError, match=r"tool.pynenc.DummyRunner"):
        project("[tool.pynenc.DummyRunner]\nthreads = 0\n")


def test_unquoted_task_tables(project):
    conf = project("[tool.pynenc.task.pkg.mod.func]\npriority = 3\n")
    assert conf.for_task("pkg.mod", "func", {}).priority == 3


def test_search_goes_upward_to_the_first_file_that_speaks_of_us(tmp_path):
    inner = tmp_path / "service" / "src"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.pynenc]\nthreads = 3\n")
    (tmp_path / "service" / "pyproject.toml").write_text("[project]\nname = 'pynenc-service'\n")
    conf = resolve_app_conf(None, None, str(inner / "app.py"), environ={})
    assert conf.runner.threads == 3
    assert conf.store == f"sqlite:///{tmp_path}/service/.pynenc/pynenc.db"
    (tmp_path / "service" / "pynenc.toml").write_text("threads = 4\n")
    conf = resolve_app_conf(None, None, str(inner / "app.py"), environ={})
    assert (conf.runner.threads, conf.runner.origin("threads")) == (4, "file pynenc.toml")


CONTENT = {"app_id": "x", "runner": {"threads": 2}, "task": {"m.f": {"priority": 4}}}


@pytest.mark.parametrize("is_nested", [True, False])
@pytest.mark.parametrize("suffix", ["json", "yaml", "yml", "toml"])
def test_named_files(tmp_path, suffix, is_nested):
    path = tmp_path / f"settings.{suffix}"
    toml = 'app_id = "x"\n[runner]\nthreads = 2\n[task."m.f"]\npriority = 4\n'
    if is_nested:
        toml = toml.replace("[runner]", "[tool.pynenc.runner]").replace("[task.", "[tool.pynenc.task.")
        toml = f"[tool.pynenc]\n{toml}"
    content = {"tool": {"pynenc": CONTENT}} if is_nested else CONTENT
    path.write_text(toml if suffix == "toml" else json.dumps(content))  # JSON is YAML
    conf = resolve_app_conf(None, str(path), None, environ={})
    assert (conf.app_id, conf.runner.threads, conf.for_task("m", "f", {}).priority) == ("x", 2, 4)
    assert conf.runner.origin("threads") == f"file settings.{suffix} " + (
        "[tool.pynenc.runner]" if is_nested else "[runner]"
    )


def test_the_environment_names_the_file(tmp_path, project):
    (tmp_path / "a.json").write_text('{"threads": 2}')
    (tmp_path / "b.json").write_text('{"threads": 3}')
    conf = project(
        "[tool.pynenc]\nthreads = 4", None, str(tmp_path / "a.json"), PYNENC__FILEPATH=str(tmp_path / "b.json")
    )
    assert conf.runner.threads == 3
    assert project("[tool.pynenc]\nthreads = 4", None, "a.json").runner.threads == 2


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.toml", None, "does not exist"),
        ("x.ini", "", "must end in one of"),
        ("x.json", "[1]", "must hold a table"),
        ("x.json", "{", "not valid json"),
        ("x.yaml", "a: [", "not valid YAML"),
        ("x.yaml", "1: 2", "must hold a table"),
        ("x.toml", "\udcff".encode("utf-8", "surrogateescape"), "not valid toml"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, part):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=part):
        resolve_app_conf(None, str(path), None, environ={})


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    import sys

    (tmp_path / "x.yaml").write_text("threads: 2")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"pip install pyyaml"):
        resolve_app_conf(None, str(tmp_path / "x.yaml"), None, environ={})


def test_an_empty_file_says_nothing(tmp_path):
    for name in ("x.toml", "x.yaml"):
        (tmp_path / name).touch()
        assert resolve_app_conf(None, str(tmp_path / name), None, environ={}).app_id == "pynenc"


# -- code ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"ap_id": "x"}, ["'ap_id'", "constructor", "'app_id'"]),
        ({"runner": {"thread": 1}}, ["'thread'", "constructor [runner]", "'threads'"]),
        ({"runer": {"threads": 1}}, ["section 'runer'", "'runner'"]),
        ({"runner_cls": "ThreadRuner"}, ["'runner_cls'", "did you mean 'ThreadRunner'"]),
        ({"store": "sqllite:///x.db"}, ["'store'", "did you mean sqlite://"]),
        ({"store": "data/x.db"}, ["'store'", "sqlite:///path"]),
        ({"serializer": "JsonPickleSerializer"}, ["JsonPickleSerializer", "signing_keys", "Use json"]),
        ({"serializer_cls": "pickle"}, ["signing_keys"]),
        ({"app_id": ""}, ["'app_id'"]),
        ({"log_format": "xml"}, ["'log_format'", "TEXT, JSON"]),
        ({"max_depth": 0}, ["'max_depth'"]),
        ({3: 4}, ["names of settings are texts"]),
    ],
)
def test_code_is_checked(values, parts):
    with pytest.raises(ConfigError) as caught:
        resolve_app_conf(values, environ={})
    for part in parts:
        assert part in str(caught.value)


def test_a_secret_is_not_repeated_in_errors():
    with pytest.raises(ConfigError) as caught:
        resolve_app_conf({"store": "postgre://me:hunter2@host/db"}, environ={})
    assert "hunter2" not in str(caught.value)


def test_none_in_code_says_nothing():
    assert resolve_app_conf({"app_id": None, "store": None}, environ={}).app_id == "pynenc"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("json", "json"),
        ("JsonSerializer", "json"),
        ("Json", "json"),
        ("msgpack", None),
        ("my.mod.Serializer", "my.mod.Serializer"),
    ],
)
def test_serializers(written, wanted):
    if wanted is None:
        with pytest.raises(ConfigError):
            resolve_app_conf({"serializer_cls": written}, environ={})
    else:
        conf = resolve_app_conf({"serializer_cls": written}, environ={})
        assert conf.serializer == wanted
        assert conf.serializer_cls == wanted


def test_pickle_with_a_key():
    conf = resolve_app_conf({"serializer": "PickleSerializer", "signing_keys": ["k"]}, environ={})
    assert (conf.serializer, conf.signing_keys) == ("pickle", (b"k",))


def test_bad_values_of_decorators():
    with pytest.raises(ConfigError, match=r"'priority' .decorator of m.f.: 1000; it must be a number from -100 to 100"):
        resolve_task_conf("m", "f", {"priority": 1000})
    with pytest.raises(ConfigError, match=r"KEYS .decorator of m.f. but 'key_arguments' is empty"):
        resolve_task_conf("m", "f", {"running_concurrency": ConcurrencyControlType.KEYS})


# -- living together -----------------------------------------------------------------------------------------------------


def test_limits_have_their_documented_defaults():
    conf = resolve_app_conf(environ={})
    assert conf.max_inline_argument == conf.client_data_store.min_size_to_cache == 256 * 1024
    assert conf.max_arguments == conf.max_result == 64 * 1024 * 1024
    assert (conf.max_depth, conf.max_traceback, conf.max_queue_length, conf.queue_full) == (64, 65536, 0, "raise")
    assert (conf.runner.threads, conf.runner.processes, conf.runner_cls) == (8, 0, "MultiThreadRunner")
    assert (conf.runner.heartbeat_seconds, conf.runner.lease_seconds, conf.runner.shutdown_timeout) == (5, 15, 30)


def test_defaults_of_all_tasks_are_fixed():
    conf = resolve_app_conf({"max_retries": 3}, environ={})
    assert conf.task.max_retries == 3
    with pytest.raises(ConfigError, match=r"task.conf of each"):
        conf.task.max_retries = 4


def test_another_runner_has_its_own_table(project):
    conf = project("[tool.pynenc.runner]\nthreads = 2\n[tool.pynenc.threadrunner]\nthreads = 5\ncoroutines = 7\n")
    runner = conf.runner
    assert runner.threads == 2
    assert conf.runner_for("ThreadRunner").threads == 5
    runner.coroutines = 9
    conf.runner_cls = "ThreadRunner"
    assert conf.runner is runner
    assert (runner.threads, runner.coroutines) == (5, 9)
    assert runner.origin("threads") == "file pyproject.toml [tool.pynenc.threadrunner]"
    assert runner.origin("coroutines") == "assigned"


def test_a_runner_class_is_taken_by_name():
    from types import new_class

    ours = new_class("ThreadRunner")
    ours.__module__ = "pynenc.runner.thread_runner"
    conf = resolve_app_conf({"runner_cls": ours}, environ={})
    assert conf.runner_cls == "ThreadRunner"
    theirs = new_class("Mine")
    theirs.__module__ = "acme.runners"
    conf.runner_cls = theirs
    assert conf.runner_cls == "acme.runners.Mine"


def test_configuration_travels(project):
    conf = project(
        '[tool.pynenc.task."m.f"]\npriority = 4\n', {"app_id": "x", "retry_for": [KeyError]}, PYNENC__THREADS="3"
    )
    conf.logging_level = "debug"
    conf.runner.coroutines = 7
    state = pickle.loads(pickle.dumps(conf.to_dict()))
    again = ConfigPynenc.from_dict(state)
    whole = pickle.loads(pickle.dumps(conf))
    other = resolve_app_conf({"app_id": "y"}, environ={})
    runner_of_other = other.runner
    other.update(state)
    for each in (again, whole, other):
        assert each == conf
        assert (each.app_id, each.logging_level, each.origin("logging_level")) == ("x", "DEBUG", "assigned")
        assert (each.runner.threads, each.runner.origin("threads")) == (3, "environment PYNENC__THREADS")
        assert (each.runner.coroutines, each.runner.origin("coroutines")) == (7, "assigned")
        assert each.for_task("m", "f", {}).priority == 4
        assert each.for_task("m", "f", {}).retry_for == (KeyError,)
        each.runner_cls = "ThreadRunner"
        assert each.runner.coroutines == 7
    assert other.runner is runner_of_other


def test_a_bare_configuration_has_all_sections():
    conf = ConfigPynenc()
    assert conf.runner.threads == 8
    assert conf.for_task("m", "f", {"priority": 2}).priority == 2
    conf.runner_cls = "ThreadRunner"
    assert conf.sources is None
