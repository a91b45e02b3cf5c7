"""``pynenc triggers``: what it prints, its documents, errors and exit codes."""

import pytest

from tests.integration.test_cli import Shop, shop

__all__ = ["shop"]

TRIGGERS = """
from pathlib import Path

from pynenc.trigger import on_any_result, on_cron, on_event


def broken(event):
    if not Path("mended").exists():
        raise LookupError("no such order")
    return {"x": event.payload["x"]}


@app.task(triggers=[on_event("go", {"ok": True}).with_args_from_event(broken), on_cron("0 6 * * *").with_args_static({"x": 1})])
def seen(x: int) -> int:
    return x


@app.task(triggers=on_any_result(seen).named("after").debounce(60).with_args_static({"x": 2}))
def later(x: int) -> int:
    return x
"""


@pytest.fixture
def triggers(shop: Shop):
    path = shop.folder / "shop.py"
    path.write_text(path.read_text() + TRIGGERS)
    return shop


def test_a_list(triggers: Shop):
    text = triggers.run("triggers", "list")
    assert "shop.seen.trigger1" in text
    assert "cron 0 6 * * * (UTC, misfire once)" in text
    listed = {each["id"]: each for each in triggers.json("triggers", "list")}
    assert list(listed) == ["shop.later.after", "shop.seen.trigger1", "shop.seen.trigger2"]
    assert listed["shop.later.after"]["limits"] == ["debounce 60 s"]
    assert listed["shop.seen.trigger2"]["next_tick"].endswith("T06:00:00+00:00")
    assert listed["shop.seen.trigger1"]["state"] == "active"


def test_an_app_without_triggers(shop: Shop):
    assert shop.run("triggers", "list").strip() == "no triggers"
    assert "no trigger is called 'x': none; a runner declares them" in shop.run("triggers", "why", "x", code=1)


def test_why(triggers: Shop):
    triggers.run("triggers", "list")
    triggers.app.trigger.emit_event("go", {"ok": False})
    triggers.app.trigger.emit_event("go", {"ok": True, "x": 5})
    assert "no live runner serves queue default" in triggers.run("triggers", "why", "seen.trigger1")
    triggers.burst()
    text = triggers.run("triggers", "why", "seen.trigger1")
    assert "shop.seen.trigger1 calls shop.seen on: event go where ok=True" in text
    assert "the payload is not wanted: ok is False, not True" in text
    assert "LookupError: no such order" in text
    assert "in broken" in text
    told = triggers.json("triggers", "why", "seen.trigger1")
    failed = next(each for each in told["decisions"] if each["status"] == "failed")
    (triggers.folder / "mended").touch()
    triggers.run("invocations", "retry", failed["id"])
    triggers.burst()
    (mended,) = triggers.json("triggers", "why", failed["id"])["decisions"]
    (called,) = mended["fired"]
    assert f"called {called}" in triggers.run("triggers", "why", called)
    assert "waits for 60 s of quiet" in triggers.run("triggers", "why", "later")


def test_why_of_a_call_that_no_trigger_made(triggers: Shop):
    call = triggers.call("add", "1")
    assert "was not called by a trigger" in triggers.run("triggers", "why", call, code=1)


def test_pause_fire_and_resume(triggers: Shop):
    assert triggers.run("triggers", "pause", "seen.trigger1") == "trigger shop.seen.trigger1 is paused\n"
    assert "it is paused: pynenc triggers resume shop.seen.trigger1" in triggers.run("triggers", "why", "seen.trigger1")
    firing = triggers.json("triggers", "fire", "seen.trigger1", "--args", '{"x": 7}')["id"]
    triggers.burst()
    (decision,) = triggers.json("triggers", "why", firing)["decisions"]
    assert triggers.app.get_invocation(decision["fired"][0]).result == 7
    assert triggers.json("triggers", "resume", "seen.trigger1") == {"id": "shop.seen.trigger1", "state": "active"}


def test_firing_with_arguments_that_do_not_fit_is_refused(triggers: Shop):
    text = triggers.run("triggers", "fire", "seen.trigger1", "--args", '{"day": 7}', code=1)
    assert "'day'" in text
    assert "seen" in text
    assert "seen.trigger1" not in triggers.run("invocations", "list"), "nothing was submitted"


def test_a_backfill(triggers: Shop):
    given = ("triggers", "backfill", "seen.trigger2", "--from", "2026-01-01", "--to", "2026-01-03T06:00+00:00")
    assert triggers.run(*given) == "3 tick(s) submitted\n"
    triggers.burst()
    assert triggers.json(*given) == {"ticks": 0}
    assert "Aborted" in triggers.run(*given, "--again", text="n\n", code=1)
    assert triggers.json(*given, "--again", "--yes") == {"ticks": 3}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fire", "seen.trigger1", "--args", "[1]"), 2, "JSON object"),
        (("backfill", "seen.trigger2", "--from", "soon", "--to", "later"), 2, "is no time"),
        (("backfill", "seen.trigger1", "--from", "2026-01-01", "--to", "2026-01-02"), 1, "no schedule"),
        (("pause", "seen"), 1, "several triggers are called 'seen'"),
    ],
)
def test_errors_are_one_line(triggers: Shop, arguments: tuple[str, ...], code: int, message: str):
    text = triggers.run("triggers", *arguments, code=code)
    assert message in text
    assert text.count("\n") == 1
