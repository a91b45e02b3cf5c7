"""The command line: what each command prints, its errors and exit codes. Every test has a project folder of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pynenc import __version__
from pynenc.cli import operations
from pynenc.cli.main import cli
from pynenc.cli.output import print_json
from pynenc.core.records import Beat, ClaimRequest, New
from pynenc.exceptions import StoreError
from pynenc.store.postgres import schema
from pynenc.testing.servers import postgres
from tests import servers

ROOT = Path(__file__).resolve().parents[2]
SHOP = """
from pynenc import ConcurrencyControlType, Pynenc

app = Pynenc(app_id="shop")


@app.task
def add(x: int, y: int = 10) -> int:
    return x + y


@app.task
def join(*parts: object, **named: object) -> str:
    return f"{parts!r} {named!r}"


@app.task
def fail(token: str) -> None:
    raise LookupError(f"no stock for {token}")


@app.task(running_concurrency=ConcurrencyControlType.TASK)
def one_at_a_time() -> None: ...
"""


class Shop:
    """A project folder with an app, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pynenc.toml").touch()
        (folder / "shop.py").write_text(SHOP)

    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        """Output of a command that ends with ``code``."""
        done = CliRunner().invoke(cli, arguments, input=text, prog_name="pynenc")
        assert done.exit_code == code, done.output + repr(done.exception)
        return done.output

    def json(self, *arguments: str, code: int = 0):
        """The document that a command prints."""
        return json.loads(self.run(*arguments, "--json", code=code))

    def call(self, *arguments: str) -> str:
        """The id of a new invocation."""
        return self.json("call", *arguments)["invocation_id"]

    @property
    def app(self):
        """The app, in this process."""
        return sys.modules["shop"].app

    @contextlib.contextmanager
    def runner(self):
        """A runner at work."""
        self.app.conf.runner_cls = "ThreadRunner"
        self.app.conf.runner.burst = False  # as it was for a burst before
        thread = threading.Thread(target=self.app.runner.run)
        thread.start()
        try:
            yield
        finally:
            self.app.runner.stop_runner_loop()
            thread.join(60)
            assert not thread.is_alive()

    def burst(self) -> None:
        """Run everything that is there."""
        self.run("runner", "start", "--burst", "--runner-cls", "ThreadRunner", "--log-level", "CRITICAL")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delenv("PYNENC__APP", raising=False)
    sys.modules.pop("shop", None)
    yield Shop(tmp_path)
    if "shop" in sys.modules:
        sys.modules.pop("shop").app.close()


def process(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pynenc", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=100,
        check=False,
    )


# -- help ----------------------------------------------------------------------------------------------------------------------
def commands(command: click.Command, *path: str):
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)


@pytest.mark.parametrize(
    ("path", "command"), list(commands(cli)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_help_has_an_example_and_tells_every_option(path, command):
    text = CliRunner().invoke(cli, [*path, "--help"], prog_name="pynenc").output
    assert f"pynenc {' '.join(path)}".strip() in text.partition("Example")[2]
    silent = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
    assert silent == []
    assert command.help


def test_version_and_module(tmp_path):
    assert process("--version", cwd=tmp_path).stdout == f"pynenc, version {__version__}\n"


# -- which app -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", ["shop", "shop.app", "shop:app", "shop.py"])
def test_the_app_is_named_in_several_ways(shop, spec):
    assert shop.json("--app", spec, "status")["runners"] == 0


SCRIPT = """'Reports what an app of Pynenc did.'
from pathlib import Path
from shop import app

runs = sorted(app.tasks)
Path("ran").touch()
"""


def test_looking_for_the_app_runs_no_scripts_and_no_tests(shop):
    (shop.folder / "report.py").write_text(SCRIPT)
    (shop.folder / "test_shop.py").write_text(SHOP.replace('"shop"', '"test"'))
    assert shop.json("status")["store"].endswith("shop.db")
    assert not (shop.folder / "ran").exists()


@pytest.mark.parametrize(
    "made",
    [
        "app: Pynenc = make()\n",
        "from pynenc import PynencBuilder\napps = [PynencBuilder().app_id('made').build()]\napp = apps[0]\n",
    ],
    ids=["factory", "builder"],
)
def test_an_app_is_found_however_it_is_made(shop, made):
    (shop.folder / "shop.py").unlink()
    factory = "from pynenc import Pynenc\n\ndef make():\n    return Pynenc(app_id='made')\n\n"
    (shop.folder / "made.py").write_text(factory + made)
    assert shop.run("status")


def test_without_a_name_the_environment_the_project_and_the_folder_are_asked(shop, monkeypatch):
    (shop.folder / "other.py").write_text(SHOP.replace('"shop"', '"other"'))
    assert "several apps (other.py, shop.py)" in shop.run("status", code=2)
    (shop.folder / "pynenc.toml").write_text('app = "shop"')
    assert shop.json("status")["store"].endswith("shop.db")
    monkeypatch.setenv("PYNENC__APP", "other:app")
    assert shop.json("status")["store"].endswith("other.db")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("no.such", "there is no module 'no'"),
        ("shop:missing", "'shop:missing' does not exist; apps in shop: app"),
        ("missing.py", "there is no file"),
        ("broken", "importing 'broken' failed: ZeroDivisionError"),
    ],
)
def test_a_wrong_name_is_one_clear_line(shop, spec, text):
    (shop.folder / "broken.py").write_text("1 / 0")
    output = shop.run("--app", spec, "status", code=2)
    assert output.startswith("error: ")
    assert text in output
    assert output.count("\n") == 1


def test_files_in_packages_are_imported_under_their_dotted_name(shop):
    package = shop.folder / "store_package" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "tasks.py").write_text(SHOP)
    shop.run("--app", str(package / "tasks.py"), "call", "store_package.inner.tasks.add", "1")


def test_verbose_shows_the_traceback(tmp_path):
    quiet, loud = process("-A", "no", "status", cwd=tmp_path), process("-v", "-A", "no", "status", cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" in loud.stderr


# -- calls ---------------------------------------------------------------------------------------------------------------------
def test_call_takes_json_text_and_keywords(shop):
    identity = shop.run("call", "shop.join", "1", "two", "[3]", "null", 'x={"a": 1}', "y=a=b").strip()
    arguments = shop.app.get_invocation(identity).arguments.kwargs
    assert arguments == {"parts": (1, "two", [3], None), "named": {"x": {"a": 1}, "y": "a=b"}}


def test_call_says_how_to_write_negative_numbers(shop):
    output = shop.run("call", "add", "-1", "2", code=2)
    assert "values that begin with a minus come after --" in output
    assert "minus" not in shop.run("call", "add", "1", "--wiat", code=2)
    assert shop.json("invocations", "show", shop.run("call", "add", "--", "-1", "2").strip())["arguments"] == {
        "x": "-1",
        "y": "2",
    }


def test_call_options(shop):
    identity = shop.call("add", "1", "--queue", "mail", "--priority", "5", "--delay", "60", "--key", "k")
    (row,) = shop.json("invocations", "list")
    assert (row["id"], row["queue"], row["priority"], row["place"]) == (identity, "mail", 5.0, "later")
    assert shop.call("add", "1", "--key", "k") == identity
    assert "idempotency key 'k'" in shop.run("call", "add", "2", "--key", "k", code=1)


def test_call_can_wait_for_the_result(shop):
    shop.call("add", "0")
    with shop.runner():
        assert shop.run("call", "add", "1", "y=2", "--wait") == "3\n"
        assert shop.json("call", "add", "1", "--wait", "--timeout", "60")["result"] == 11
        assert shop.run("call", "fail", "box", "--wait", code=1) == "error: LookupError: no stock for box\n"


def test_waiting_too_long_says_what_to_do(shop):
    assert "pynenc invocations why" in shop.run("call", "add", "1", "--timeout", "0.01", code=1)


@pytest.mark.parametrize("name", ["pyproject.toml", "pynenc.toml"])
def test_a_malformed_project_file_is_named(shop, name):
    (shop.folder / "pynenc.toml").unlink()
    (shop.folder / name).write_text("[tool.pynenc\n")
    assert f"error: cannot read {shop.folder / name}: " in shop.run("status", code=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nothing",), "no task is called 'nothing'; known tasks: shop.add, shop.fail"),
        (("shop.nothing",), "no task shop.nothing"),
        (("add",), "missing 1 required positional argument: 'x'"),
        (("add", "1", "--priority", "nan"), "bad value for 'priority'"),
        (("add", "1", "--queue", ""), "bad value for 'queue'"),
    ],
)
def test_a_call_that_makes_no_sense_is_one_clear_line(shop, arguments, text):
    output = shop.run("call", *arguments, code=1)
    assert output.startswith("error: ")
    assert text in output


HOSTILE = """

@app.task
def hostile() -> None:
    hostile.invocation.set_progress(1, 2, "\x1b[31mred")
    raise ValueError("\x1b[31mred")


@app.workflow
def pauses() -> None:
    pauses.wf.pause("\x1b[31mred")
"""


def test_text_of_users_drives_no_terminal(shop):
    (shop.folder / "shop.py").write_text(SHOP + HOSTILE)
    failed, paused = shop.call("hostile"), shop.call("pauses")
    shop.burst()
    outputs = [
        *(shop.run("invocations", command, failed) for command in ("show", "watch")),
        *(shop.run("invocations", command, paused) for command in ("show", "why")),
        shop.run("workflows", "list"),
        shop.run("workflows", "show", paused),
    ]
    with shop.runner():
        outputs.append(shop.run("call", "hostile", "--wait", code=1))
    for output in outputs:
        assert r"\x1b[31mred" in output
        assert "\x1b[31m" not in output


def test_text_of_users_in_json_drives_no_terminal_and_stays_what_it_is(capsys):
    text = "\x9b31m\u202e\x7f\n\x1b \xe4\U0001f600"
    print_json([text])
    printed = capsys.readouterr().out
    assert json.loads(printed) == [text]
    assert not set("\x9b\u202e\x7f\x1b") & set(printed)
    assert "\xe4\U0001f600" in printed


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--priority", "1000", "1000.0 is not in the range -100<=x<=100"),
        ("--delay", "inf", "'inf' must be a duration"),
        ("--delay", "1e12", "'1e12' must be a duration of at most 1000 years"),
        ("--delay", "soon", "'soon' must be a duration"),
        ("--timeout", "-1", "'-1' must be a duration"),
    ],
)
def test_an_option_of_a_call_that_makes_no_sense_is_named(shop, option, value, text):
    assert f"Error: Invalid value for '{option}': {text}" in shop.run("call", "add", "1", option, value, code=2)


# -- invocations -----------------------------------------------------------------------------------------------------------------
def test_list_filters(shop):
    assert shop.run("invocations", "list") == "no invocations\n"
    first, second = shop.call("add", "1"), shop.call("fail", "box")
    assert [row["id"] for row in shop.json("invocations", "list")] == [second, first]
    assert [row["id"] for row in shop.json("invocations", "list", "--task", "shop.add")] == [first]
    assert shop.json("invocations", "list", "--status", "failed") == []
    shop.burst()
    assert [row["id"] for row in shop.json("invocations", "list", "--status", "failed")] == [second]
    assert len(shop.json("invocations", "list", "--limit", "1")) == 1
    assert first in shop.run("invocations", "list")


def test_a_date_that_no_calendar_has_hides_nothing_else(shop):
    near = shop.call("add", "1")
    shop.app.store.submit([New(id="far", task="shop.add", args=b"", due=10**18)])
    far, other = shop.json("invocations", "list")
    assert (far["id"], far["due"], other["id"]) == ("far", "9999-12-31T23:59:59+00:00", near)


def test_show_tells_arguments_result_and_history(shop):
    good, bad = shop.call("add", "1"), shop.call("fail", "hunter22")
    shop.burst()
    shown = shop.json("invocations", "show", good)
    assert (shown["status"], shown["arguments"], shown["result"]) == ("success", {"x": "1", "y": "10"}, "11")
    assert [change["status"] for change in shown["history"]][0::3] == ["registered", "success"]
    text = shop.run("invocations", "show", bad)
    assert "LookupError: no stock for ***" in text
    assert "token=***" in text
    assert "hunter22" not in text
    assert "history" in text


def test_unknown_invocations_are_a_clear_error(shop):
    for command in ("show", "why", "watch"):
        assert "error: no invocation nope in sqlite:" in shop.run("invocations", command, "nope", code=1)
    for command in ("cancel", "retry"):
        assert "0 of 1 accepted\nnope: no such invocation\n" in shop.run("invocations", command, "nope", code=1)


def test_only_the_first_of_many_refused_invocations_are_listed(shop):
    output = shop.run("invocations", "cancel", *(f"nope{number}" for number in range(30)), code=1)
    assert output.startswith("0 of 30 accepted\nnope0: no such invocation\n")
    assert output.endswith("nope19: no such invocation\n... and 10 more\n")


def test_why_names_the_reason(shop):
    waiting, later = shop.call("add", "1"), shop.call("add", "2", "--delay", "1h")
    first, parked = shop.call("one_at_a_time"), shop.call("one_at_a_time")
    assert shop.run("invocations", "why", waiting) == "no live runner serves queue default: pynenc runner start\n"
    assert shop.json("invocations", "why", later)["reasons"][0].startswith("it is not due: in ")
    assert f"is held by {first}" in shop.run("invocations", "why", parked)
    shop.run("queues", "pause", "default")
    assert "queue default is paused: pynenc queues resume default" in shop.run("invocations", "why", waiting)
    shop.run("queues", "resume", "default")
    shop.burst()
    assert "it ended success" in shop.run("invocations", "why", waiting)


def test_why_tells_the_reason_of_a_request_to_stop(shop):
    name = shop.call("add", "1")
    shop.app.store.heartbeat([Beat(id="r", group="r", lease=3_600_000_000)])
    shop.app.store.claim(ClaimRequest("r", 1))
    assert shop.app.engine.cancel([name], "out of stock") == [True]
    assert "asked it to stop (out of stock); its body has not ended" in shop.run("invocations", "why", name)


def test_cancel_of_several_fails_when_none_of_them_is_accepted(shop):
    ids = shop.call("add", "1"), shop.call("add", "2")
    assert shop.run("invocations", "cancel", ids[0], "nope").startswith("1 of 2 accepted\n")
    assert shop.run("invocations", "cancel", *ids).startswith("1 of 2 accepted\n")
    assert shop.run("invocations", "cancel", *ids, code=1).startswith("0 of 2 accepted\n")
    assert shop.run("invocations", "cancel", "--task", "shop.add", "--yes").startswith("0 of 2 accepted\n")


def test_cancel_and_retry_by_id(shop):
    identity = shop.call("add", "1")
    assert shop.run("invocations", "cancel", identity) == "1 of 1 accepted\n"
    assert shop.run("invocations", "cancel", identity, code=1) == f"0 of 1 accepted\n{identity}: it is cancelled\n"
    assert shop.json("invocations", "show", identity)["status"] == "cancelled"
    assert shop.run("invocations", "retry", identity) == "1 of 1 accepted\n"
    shop.burst()
    assert shop.json("invocations", "show", identity)["result"] == "11"


def test_cancel_and_retry_by_filter_ask_first(shop):
    for number in range(3):
        shop.call("add", str(number))
    assert "choose them with --status" in shop.run("invocations", "cancel", code=2)
    assert "cancel 3 invocation(s)?" in shop.run("invocations", "cancel", "--task", "shop.add", text="n\n", code=1)
    assert len(shop.json("invocations", "list", "--status", "registered")) == 3
    assert "3 of 3 accepted" in shop.run("invocations", "cancel", "--task", "shop.add", "--yes")
    assert "3 of 3 accepted" in shop.run("invocations", "retry", "--status", "cancelled", text="y\n")


def test_watch_ends_with_the_invocation(shop):
    identity = shop.call("add", "1")
    shop.burst()
    assert f"{identity} shop.add success" in shop.run("invocations", "watch", identity)
    assert shop.run("invocations", "watch", "--seconds", "0.01") == "success 1\n"


def test_why_tells_the_error_of_what_failed(shop):
    identity = shop.call("fail", "tea")
    shop.burst()
    assert "LookupError: no stock for tea" in shop.run("invocations", "why", identity)


def test_who_waits_for_a_call_and_leaves_is_told_its_id(shop):
    command = [sys.executable, "-m", "pynenc", "call", "add", "1", "--wait"]
    with subprocess.Popen(command, cwd=shop.folder, stderr=subprocess.PIPE, text=True) as waiting:
        assert "waits, but no live runner serves queue" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        (found,) = shop.json("invocations", "list")
        assert f"the call goes on: pynenc invocations watch {found['id']}" in waiting.stderr.read()


def test_a_runner_that_was_killed_is_not_shown_as_alive(shop):
    runner = subprocess.Popen(
        [sys.executable, "-m", "pynenc", "runner", "start", "--runner-cls", "ThreadRunner"], cwd=shop.folder
    )
    while not any(row["alive"] for row in shop.json("runners")):
        assert runner.poll() is None
    runner.kill()
    runner.wait()
    assert shop.json("status")["runners"] == 0


# -- the whole ---------------------------------------------------------------------------------------------------------------------
def test_status_and_queues(shop):
    shop.call("add", "1")
    shop.call("add", "1", "--queue", "mail", "--delay", "60")
    found = shop.json("status")
    assert found["invocations"] == {"registered": 2}
    assert [(queue["name"], queue["ready"], queue["later"]) for queue in found["queues"]] == [
        ("default", 1, 0),
        ("mail", 0, 1),
    ]
    assert "registered" in shop.run("status")
    for command, state in (("pause", "paused"), ("drain", "draining"), ("resume", "active")):
        assert shop.run("queues", command, "mail") == f"queue mail is {state}\n"
        assert {queue["name"]: queue["state"] for queue in shop.json("queues", "list")}["mail"] == state
    assert "mail" in shop.run("queues", "list")


def test_a_queue_that_nothing_knows_is_told_and_changed_all_the_same(shop):
    assert shop.run("queues", "pause", "default") == "queue default is paused\n"
    assert "warning: nothing knew a queue 'mial'; there are default\n" in shop.run("queues", "pause", "mial")
    assert shop.run("queues", "resume", "mial") == "queue mial is active\n"
    assert {queue["name"] for queue in shop.json("queues", "list")} == {"default", "mial"}


def test_a_draining_queue_refuses_calls(shop):
    shop.run("queues", "drain", "default")
    assert "draining" in shop.run("call", "add", "1", code=1)


def test_runners(shop):
    assert shop.run("runners") == "no runners\n"
    shop.json("status")
    with shop.runner():
        shop.run("call", "add", "1", "--wait")
        (found,) = shop.json("runners")
        assert (found["alive"], found["beat"]["kind"]) == (True, "ThreadRunner")
        assert "ThreadRunner" in shop.run("runners")
        assert re.search(r"runners  1 alive, 0 of \d+ slots busy \(as told up to .* ago\)\n", shop.run("status"))


def test_config_show_tells_where_values_come_from(shop, monkeypatch):
    monkeypatch.setenv("PYNENC__RUNNER__THREADS", "4")
    monkeypatch.setenv("PYNENC__SIGNING_KEYS", "very-secret")
    text = shop.run("config", "show")
    rows = {(row["section"], row["field"]): row for row in shop.json("config", "show")}
    assert rows["runner", "threads"]["value"] == "4"
    assert "PYNENC__RUNNER__THREADS" in rows["runner", "threads"]["origin"]
    assert rows["pynenc", "app_id"]["origin"] == "constructor"
    assert rows["pynenc", "max_result"]["origin"] == "default"
    assert "very-secret" not in text + json.dumps([*rows.values()])
    assert re.search(r"pynenc +max_result +67108864 +default", text)
    assert "max_result" not in shop.run("config", "show", "--changed")


def test_config_show_tells_what_is_said_about_single_tasks(shop, monkeypatch):
    monkeypatch.setenv("PYNENC__CONFIGTASK__SHOP#FAIL__MAX_RETRIES", "4")
    (shop.folder / "pynenc.toml").write_text(
        'app = "shop"\n[task."shop.fail"]\nmax_retries = 3\n[task."shop.fial"]\npriority = 2\n'
    )
    found = shop.json("config", "show")
    rows = {(row["section"], row["field"]): row for row in found}
    assert len(rows) == len(found)  # of several that say something, the one that holds
    assert rows["task shop.fail", "max_retries"]["value"] == "4"
    decorated = rows["task shop.one_at_a_time", "running_concurrency"]
    assert (decorated["value"], decorated["origin"]) == ("TASK", "decorator of shop.one_at_a_time")
    assert "no effect: there is no such task; did you mean 'shop.fail'?" in rows["task shop.fial", "priority"]["origin"]


def test_a_wrong_setting_is_one_clear_line(shop, monkeypatch):
    monkeypatch.setenv("PYNENC__RUNNER__THREDS", "4")
    output = shop.run("status", code=2)
    assert "PYNENC__RUNNER__THREDS" in output
    assert "did you mean 'threads'" in output


def test_a_module_of_imports_that_cannot_be_imported_is_one_clear_line(shop, monkeypatch):
    monkeypatch.setenv("PYNENC__IMPORTS", "json,nowhere")
    output = shop.run("doctor", code=2)
    assert output.startswith(
        "error: 'nowhere' of the setting 'imports' (environment PYNENC__IMPORTS) cannot be imported"
    )
    assert output.count("\n") == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "redis"])
def test_a_migration_tells_the_versions_of_the_schema(kind, shop, tmp_path, monkeypatch):
    """The numbers are those of the schema, not of the program."""
    urls = {
        "sqlite": lambda: f"sqlite:///{tmp_path / 'new.db'}",
        "postgresql": postgres.new_url,
        "redis": lambda: servers.url_for(tmp_path),
    }
    monkeypatch.setenv("PYNENC__STORE", urls[kind]())
    version = ".".join(map(str, schema.VERSION)) if kind == "postgresql" else "1"
    assert f"the schema was created, version {version}\n" in shop.run("store", "migrate")
    assert f"the schema has version {version}, nothing to do\n" in shop.run("store", "migrate")
    assert operations.migrated("0.9", version) == f"the schema went from version 0.9 to {version}"


def test_without_a_schema_there_is_nothing_to_migrate(shop, monkeypatch):
    monkeypatch.setenv("PYNENC__STORE", "memory://")
    assert "no schema is kept" in shop.run("store", "migrate")


def test_store_check_migrate_and_purge(shop):
    shop.call("add", "1")
    shop.call("add", "2", "--delay", "3600")
    shop.burst()
    assert shop.run("store", "check") == "sound\n"
    assert shop.json("store", "check") == {"problems": []}
    assert "the schema has version 1, nothing to do" in shop.run("store", "migrate")
    assert "removed 0 invocation(s)" in shop.run("store", "purge")
    assert "must be a duration of at least 0 seconds" in shop.run(
        "store", "purge", "--older-than", "-5", "--yes", code=2
    )
    assert "removed 1 invocation(s)" in shop.run("store", "purge", "--older-than", "0", "--yes")
    assert "remove everything from sqlite:" in shop.run("store", "purge", "--everything", text="n\n", code=1)
    assert "removed 1 invocation(s)" in shop.run("store", "purge", "--everything", "--yes")
    assert shop.json("invocations", "list") == []


def test_a_broken_store_has_an_exit_code_of_its_own(shop, monkeypatch):
    shop.call("add", "1")
    monkeypatch.setattr(type(shop.app.store), "check", lambda self: ["invocation x has no place"])
    assert shop.run("store", "check", code=4) == "invocation x has no place\n"
    assert "FAIL invariants: invocation x has no place" in shop.run("doctor", code=4)


def test_an_outage_that_passes_needs_no_attention(shop, monkeypatch):
    shop.call("add", "1")

    def fail(store):
        raise StoreError("the server does not answer", retryable=True)

    monkeypatch.setattr(type(shop.app.store), "check", fail)
    for command in (("store", "check"), ("doctor",)):
        assert "the server does not answer" in shop.run(*command, code=1)


def test_a_store_that_cannot_be_used_needs_attention(shop):
    shop.run("status")
    path = shop.app.store.path
    shop.app.close()
    path.write_bytes(b"a letter to a friend, long enough to be no empty file\n" * 100)
    assert "FAIL store: " in (output := shop.run("doctor", code=4))
    assert f"{path} is no sound SQLite database" in output
    assert f"{path} is no sound SQLite database" in shop.run("store", "check", code=4)
    assert "no sound SQLite database" in shop.run("status", code=1)


def test_doctor(shop):
    found = {row["check"]: row for row in shop.json("doctor")}
    assert all(row["ok"] for row in found.values())
    assert found["tasks"]["detail"] == "4 known"
    shop.call("add", "1")
    shop.run("queues", "pause", "mail")
    text = shop.run("doctor", code=4)
    assert "FAIL runners: 0 alive; nobody serves default" in text
    assert "FAIL queues: not active: mail" in text


@pytest.mark.parametrize("option", ["--app", "-A"])
def test_the_app_after_the_command_is_told_where_it_belongs(shop, option):
    for command in (("status",), ("runner", "start"), ("invocations", "list")):
        said = shop.run(*command, option, "shop", code=2)
        assert f"{option} stands before the command: pynenc {option} SPEC {command[0]} ..." in said
    assert "stands before" not in shop.run("status", "--apps", code=2)


def test_a_cancellation_has_a_reason(shop):
    one, other, third = (shop.call("add", "1") for _ in range(3))
    shop.run("invocations", "cancel", one, "--reason", "out of stock")
    shop.run("invocations", "cancel", other)
    shop.run("workflows", "cancel", third, "--yes", "--reason", "no customer")
    ends = [shop.run("invocations", "why", each) for each in (one, other, third)]
    assert [end.strip().rpartition(": ")[2] for end in ends] == ["out of stock", "from the command line", "no customer"]


def test_doctor_names_tasks_that_no_runner_knows(shop):
    shop.run("status")
    shop.app.store.submit([New(id="strange", task="shop.removed", args=b"{}")])
    done = process("runner", "start", "--burst", "--runner-cls", "ThreadRunner", cwd=shop.folder)
    assert "shop.removed strange goes back, unknown here: no runner knows this task" in done.stderr
    assert "FAIL parked: shop.removed: no runner knows this task: add its module" in shop.run("doctor", code=4)
    shop.run("invocations", "cancel", "strange", "--yes")
    assert "ok   parked: no unknown task" in shop.run("doctor")


# -- in processes of their own ------------------------------------------------------------------------------------------------------
def test_runner_start_burst_runs_everything_and_ends(shop):
    identities = [shop.call("add", str(number)) for number in range(5)]
    done = process("runner", "start", "--burst", "--processes", "2", "--threads", "2", cwd=shop.folder)
    assert done.returncode == 0, done.stderr
    assert "MultiThreadRunner serves all queues: 4 task(s) from sqlite:" in done.stderr
    assert [shop.app.get_invocation(each).get_result(0) for each in identities] == [10, 11, 12, 13, 14]


def test_runner_start_serves_the_named_queues_only(shop):
    here, there = shop.call("add", "1", "--queue", "mail"), shop.call("add", "1")
    shop.run("runner", "start", "--burst", "--queues", "mail,other", "--runner-cls", "ThreadRunner")
    assert shop.app.get_invocation(here).status == "success"
    assert shop.app.get_invocation(there).status == "registered"


def test_processes_of_a_runner_that_is_one_are_refused(shop):
    arguments = ("runner", "start", "--burst", "--runner-cls", "ThreadRunner", "--processes")
    assert "--processes has no effect on ThreadRunner" in shop.run(*arguments, "3", code=2)
    shop.run(*arguments, "1")


@pytest.mark.parametrize("queues", ["", " , "])
def test_a_list_of_no_queues_is_refused(shop, queues):
    assert "names no queue" in shop.run("runner", "start", "--burst", "--queues", queues, code=2)


def test_a_call_that_no_runner_could_see_is_refused(shop):
    done = process("call", "add", "1", "2", cwd=shop.folder, PYNENC__STORE="memory://")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no runner would see the call" in done.stderr


def test_a_runner_of_its_own_refuses_development_mode(shop):
    done = process("runner", "start", cwd=shop.folder, PYNENC__DEV_MODE_FORCE_SYNC_TASKS="1")
    assert done.returncode == 2
    assert "development mode is on (environment PYNENC__DEV_MODE_FORCE_SYNC_TASKS)" in done.stderr


def test_a_runner_of_its_own_refuses_the_memory_store(shop):
    done = process("runner", "start", cwd=shop.folder, PYNENC__STORE="memory://")
    assert done.returncode == 2
    assert "use sqlite:///" in done.stderr
    assert done.stderr.count("\n") == 1


def test_demo(tmp_path):
    done = process("demo", "--files", "24", "--processes", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == 24
    assert found["invocations"] == 2 + 26 + 2
    assert Path(found["index"]).read_text().count("\n") == 26
    seen = process("status", "--json", cwd=tmp_path)  # as from a second terminal
    assert json.loads(seen.stdout)["invocations"] == {"success": found["invocations"]}


def test_bench(tmp_path):
    done = process("bench", "--calls", "50", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls"] == 50
    assert len(found["figures"]) == 5
    assert all(value > 0 for value in found["figures"].values())
