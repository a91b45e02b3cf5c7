"""``pynenc workflows``: look at durable workflows, let them go on, stop them, and check them against today's code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from pynenc.app import Pynenc
from pynenc.cli import recorded
from pynenc.cli.apps import load_app
from pynenc.cli.invocations import as_dict
from pynenc.cli.output import (
    EXIT_UNSOUND,
    ago,
    confirm,
    guarded,
    json_option,
    print_json,
    print_table,
    reason_option,
    say,
    yes_option,
)
from pynenc.core.records import Filter, Invocation, Page
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import InvocationStatusError
from pynenc.workflow import check


@click.group(epilog="Example: pynenc workflows list --status paused")
def workflows() -> None:
    """List, show, resume, signal, cancel and replay workflows."""


# -- looking -----------------------------------------------------------------------------------------------------------------
@workflows.command("list", epilog="Example: pynenc workflows list --status paused --json")
@click.option("--task", "tasks", multiple=True, help="Only of this task (module.function).")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([s.value for s in InvocationStatus]),
    help="Only in this status (may be repeated).",
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@json_option
@click.pass_obj
@guarded
def list_(spec: str | None, /, *, tasks: tuple[str, ...], statuses: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Runs of @app.workflow functions, newest first; and whatever else is paused."""
    app = load_app(spec)
    app.import_tasks()
    rows = _find(app, tasks, tuple(map(InvocationStatus, statuses)), limit)
    if as_json:
        print_json([as_dict(row) for row in rows])
        return
    now = app.store.clock.now()
    table = ((row.id, row.task, row.status, row.round, ago(row.created, now), _awaits(row, now)) for row in rows)
    print_table(("id", "task", "status", "run", "created", "waits for"), table, "no workflows")


def _find(app: Pynenc, tasks: tuple[str, ...], statuses: tuple[InvocationStatus, ...], limit: int) -> list[Invocation]:
    own = tasks or tuple(key.key for key, task in app.tasks.items() if task.conf.force_new_workflow)
    found = list(app.store.find(Filter(tasks=own, statuses=statuses), Page(limit)).invocations) if own else []
    if not tasks and (not statuses or InvocationStatus.PAUSED in statuses):
        found += app.store.find(Filter(statuses=(InvocationStatus.PAUSED,)), Page(limit)).invocations
    unique = {row.id: row for row in found}
    return sorted(unique.values(), key=lambda row: -row.created)[:limit]


def _awaits(row: Invocation, now: int) -> str:
    """What a suspended run waits for."""
    if row.status is not InvocationStatus.PAUSED:
        return row.reason if row.status is InvocationStatus.FAILED else ""
    return f"{row.reason or 'somebody who resumes it'}{f', {ago(row.due, now)}' if row.due else ''}"


@workflows.command(epilog="Example: pynenc workflows show 0192f0c1-aaaa-7bbb-8ccc-0123456789ab")
@click.argument("invocation_id")
@json_option
@click.pass_obj
@guarded
def show(spec: str | None, /, *, invocation_id: str, as_json: bool) -> None:
    """One workflow: its state, its members, and what it did so far in this run."""
    app = load_app(spec)
    app.import_tasks()
    row = app.engine.get(invocation_id)
    story = check.tell(app.engine, invocation_id)
    members = app.store.count(Filter(workflow=invocation_id))
    operations = recorded.operations(app, story)
    if as_json:
        print_json({**as_dict(row), "members": members, "operations": operations})
        return
    for name, value in {**as_dict(row), "members": members}.items():
        if value not in (None, "", (), 0, False):
            say(f"{name:18} {value}")
    click.echo("\noperations of this run")
    print_table(("position", "operation", "name", "value"), map(recorded.as_row, operations), "none")


# -- letting go on -------------------------------------------------------------------------------------------------------------
@workflows.command(epilog="Examples: pynenc workflows resume ID · pynenc workflows resume ID '{\"approved\": true}'")
@click.argument("invocation_id")
@click.argument("value", default="null")
@click.pass_obj
@guarded
def resume(spec: str | None, /, *, invocation_id: str, value: str) -> None:
    """Let a paused workflow go on; its wf.pause() returns VALUE (JSON, or plain text). Without VALUE: let one try again whose code and record differed."""
    app = load_app(spec)
    _accepted(app.get_invocation(invocation_id).resume(_json(value)), app, invocation_id, "goes on")


@workflows.command(epilog="Example: pynenc workflows signal ID paid 99.5")
@click.argument("invocation_id")
@click.argument("name")
@click.argument("value", default="null")
@click.pass_obj
@guarded
def signal(spec: str | None, /, *, invocation_id: str, name: str, value: str) -> None:
    """Send a signal; wf.wait_signal(NAME) returns VALUE (JSON, or plain text)."""
    app = load_app(spec)
    _accepted(
        app.get_invocation(invocation_id).signal(name, _json(value)), app, invocation_id, f"has got signal {name}"
    )


@workflows.command(epilog="Example: pynenc workflows cancel ID --reason 'out of stock' --yes")
@click.argument("ids", nargs=-1, required=True)
@reason_option
@yes_option
@click.pass_obj
@guarded
def cancel(spec: str | None, /, *, ids: tuple[str, ...], reason: str, is_sure: bool) -> None:
    """Cancel workflows with all their members."""
    app = load_app(spec)
    app.import_tasks()
    confirm(f"cancel {len(ids)} workflow(s) with all their members?", is_sure=is_sure)
    accepted = sum(app.engine.cancel(ids, reason))
    click.echo(f"{accepted} of {len(ids)} accepted")
    if accepted < len(ids):
        raise SystemExit(1)


def _accepted(is_accepted: bool, app: Pynenc, invocation_id: str, then: str) -> None:  # noqa: FBT001 - the answer
    if not is_accepted:
        row = app.engine.get(invocation_id)
        why = f" ({row.reason})" if row.status is InvocationStatus.PAUSED and row.reason else ""
        raise InvocationStatusError(f"{invocation_id} does not wait for this: it is {row.status}{why}")
    click.echo(f"{invocation_id} {then}")


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


# -- checking ------------------------------------------------------------------------------------------------------------------
@workflows.command(
    epilog="Examples: pynenc workflows replay ID --save order.json · pynenc workflows replay histories/*.json · pynenc workflows replay ID --debug"
)
@click.argument("sources", nargs=-1, required=True, metavar="FILE|ID...")
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the history of one ID to this file."
)
@click.option("--debug", is_flag=True, help="Step through the body in the Python debugger.")
@json_option
@click.pass_obj
@guarded
def replay(spec: str | None, /, *, sources: tuple[str, ...], save: Path | None, debug: bool, as_json: bool) -> None:
    """Run recorded workflows with today's code, without effects, to see whether it still does what it did.

    Exit code 4 when one does something else, so that it can stand in a build.
    """
    app = load_app(spec)
    app.import_tasks()
    stories = [_story(app, source) for source in sources]
    if save is not None:
        save.write_bytes(check.write_story(stories[0]))
    verdicts = [check.check(app.scratch_engine(), story, _debug if debug else None) for story in stories]
    if as_json:
        print_json([msgspec.to_builtins(verdict) for verdict in verdicts])
    else:
        _print(verdicts)
    if any(verdict.problem for verdict in verdicts):
        sys.exit(EXIT_UNSOUND)


def _story(app: Pynenc, source: str) -> check.Story:
    path = Path(source)
    return check.read_story(path.read_bytes()) if path.is_file() else check.tell(app.engine, source)


def _print(verdicts: Sequence[check.Verdict]) -> None:
    for verdict in verdicts:
        what = f"{verdict.task} {verdict.id}"
        say(f"{what}: {verdict.problem or f'as recorded, {verdict.operations} operation(s)'}")


def _debug(function: Any, *args: Any) -> Any:
    import pdb  # noqa: T100 - that is what was asked for

    return pdb.Pdb().runcall(function, *args)
