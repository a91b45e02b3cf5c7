"""``pynenc triggers``: what is called when something happens, and why it was not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pynenc.app import Pynenc
from pynenc.cli.apps import load_app
from pynenc.cli.output import ago, guarded, json_option, print_json, print_table, say, stamp, yes_option
from pynenc.cli.why import explain
from pynenc.core.reaction import FIRING
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, TriggerError

if TYPE_CHECKING:
    from pynenc.engine.triggers import Described

argument = click.argument("trigger")


@click.group(epilog="Examples: pynenc triggers list · pynenc triggers why shop.tasks.report.trigger1")
def triggers() -> None:
    """List, explain, fire, pause, resume and backfill triggers."""


def _app(spec: str | None) -> Pynenc:
    """The app, with its triggers declared: they can be looked at before a runner was ever started."""
    app = load_app(spec)
    app.import_tasks()
    app.trigger.declare_known()
    return app


def _state(found: Described) -> str:
    return "gone" if found.is_gone else "paused" if found.is_paused else "active"


def _as_dict(found: Described) -> dict[str, Any]:
    return {**msgspec.structs.asdict(found), "state": _state(found), "next_tick": stamp(found.next_tick)}


@triggers.command("list", epilog="Example: pynenc triggers list --json")
@json_option
@click.pass_obj
@guarded
def list_(spec: str | None, /, *, as_json: bool) -> None:
    """All triggers: what they wait for, and when they tick next."""
    app = _app(spec)
    found = app.trigger.list()
    if as_json:
        print_json([_as_dict(each) for each in found])
        return
    now = app.store.clock.now()
    rows = [(each.id, _state(each), each.condition, ago(each.next_tick, now)) for each in found]
    print_table(("trigger", "state", "condition", "next tick"), rows, "no triggers")


@triggers.command(
    epilog="Examples: pynenc triggers why shop.tasks.report.trigger1 · pynenc triggers why 3444fc1f-c54e-852d-af80-28f8f0580035"
)
@click.argument("subject")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 500), help="How many decisions at most.")
@json_option
@click.pass_obj
@guarded
def why(spec: str | None, /, *, subject: str, limit: int, as_json: bool) -> None:
    """What a trigger waits for, and why it fired or did not. SUBJECT: a trigger, its task, or an invocation: a decision or what it called."""
    app = _app(spec)
    described, decisions = _explained(app, subject, limit)
    for each in decisions:
        if not InvocationStatus(each["status"]).is_final():
            each["why"] = "; ".join(explain(app.store, app.engine.get(each["id"])))
    if as_json:
        print_json({**_as_dict(described), "decisions": [{**each, "at": stamp(each["at"])} for each in decisions]})
        return
    now = app.store.clock.now()
    for line in _sentences(described, now):
        say(line)
    rows = [
        (ago(each["at"], now), each.get("kind", ""), each["status"], _outcome(each), each["id"]) for each in decisions
    ]
    click.echo()
    print_table(("when", "cause", "decision", "outcome", "id"), rows, "nothing has concerned it yet")
    for each in decisions:
        if each["traceback"]:
            say(
                f"\n{each['id']} failed; fire it again with: pynenc invocations retry {each['id']}\n{each['traceback']}"
            )
            break


def _explained(app: Pynenc, subject: str, limit: int) -> tuple[Described, tuple[dict[str, Any], ...]]:
    """The trigger that a subject names, and its latest decisions; of an invocation only the one that it is, or that it comes from."""
    for row in app.store.get([subject]):
        decision = row.id if row.task.startswith(FIRING) else row.parent or ""
        for found in app.store.get([decision]):
            if found.task.startswith(FIRING):
                name = found.task.removeprefix(FIRING)
                return app.trigger.get(name), (app.trigger.decision(found.id),)
        raise TriggerError(f"invocation {subject} was not called by a trigger, but by {row.parent or 'a program'}")
    described = app.trigger.get(subject)
    return described, app.trigger.firings(described.id, limit)


def _sentences(found: Described, now: int) -> list[str]:
    """The trigger for people."""
    lines = [f"{found.id} calls {found.task} on: {found.condition}"]
    lines += [f"its arguments: {'; '.join(found.arguments)}"] if found.arguments else []
    lines += [f"its limits: {'; '.join(found.limits)}"] if found.limits else []
    if found.is_gone:
        lines.append("its task does not have it any more")
    if found.is_paused:
        lines.append(f"it is paused: pynenc triggers resume {found.id}")
    if found.next_tick:
        lines.append(f"its next tick is {ago(found.next_tick, now)} ({stamp(found.next_tick)})")
    return lines


def _outcome(decision: dict[str, Any]) -> str:
    fired = f"called {', '.join(decision['fired'])}" if decision["fired"] else ""
    return "; ".join(part for part in (fired, decision["why"]) if part)


@triggers.command(epilog='Example: pynenc triggers fire shop.tasks.report.trigger1 --args \'{"day": "monday"}\'')
@argument
@click.option("--args", "arguments", metavar="JSON", help="Arguments of the task, as a JSON object.")
@json_option
@click.pass_obj
@guarded
def fire(spec: str | None, /, *, trigger: str, arguments: str | None, as_json: bool) -> None:
    """Fire now, whatever its conditions, limits or a pause say."""
    firing = _app(spec).trigger.fire(trigger, _object(arguments))
    print_json({"id": firing}) if as_json else click.echo(firing)


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"--args is a JSON object of arguments by name, not {text!r}: {error}") from error


def _switch(name: str, doc: str) -> None:
    @triggers.command(name, help=doc, epilog=f"Example: pynenc triggers {name} shop.tasks.report.trigger1")
    @argument
    @json_option
    @click.pass_obj
    @guarded
    def change(spec: str | None, /, *, trigger: str, as_json: bool) -> None:
        found = getattr(_app(spec).trigger, name)(trigger)
        state = "paused" if name == "pause" else "active"
        print_json({"id": found, "state": state}) if as_json else click.echo(f"trigger {found} is {state}")


_switch("pause", "Fire no more; what comes meanwhile is noted and not fired.")
_switch("resume", "Fire again.")


@triggers.command(
    epilog="Example: pynenc triggers backfill shop.tasks.report.trigger1 --from 2026-01-01 --to 2026-02-01T00:00+01:00"
)
@argument
@click.option("--from", "start", required=True, help="First moment, ISO 8601; UTC unless it says otherwise.")
@click.option("--to", "end", required=True, help="Last moment.")
@click.option("--again", is_flag=True, help="Also the ticks that were fired already.")
@yes_option
@json_option
@click.pass_obj
@guarded
def backfill(
    spec: str | None, /, *, trigger: str, start: str, end: str, again: bool, is_sure: bool, as_json: bool
) -> None:
    """Fire for all ticks of a schedule in a range of time."""
    app = _app(spec)
    if again and not is_sure:
        click.confirm(f"fire {trigger} again for ticks that were fired already?", abort=True)
    count = app.trigger.backfill(trigger, _moment(start), _moment(end), again=again)
    print_json({"ticks": count}) if as_json else click.echo(f"{count} tick(s) submitted")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time: write it as 2026-01-31 or 2026-01-31T06:00+01:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
