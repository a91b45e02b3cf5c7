"""``pynenc call`` and ``pynenc invocations``: make calls, look at them, change them."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import Any

import click
import msgspec

from pynenc.app import Pynenc
from pynenc.cli.apps import load_app
from pynenc.cli.output import (
    DURATION,
    ago,
    confirm,
    duration,
    guarded,
    harmless,
    json_option,
    print_json,
    print_table,
    reason_option,
    say,
    stamp,
    yes_option,
)
from pynenc.cli.why import explain
from pynenc.core.records import ChangeKind, Filter, Invocation, Page
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, PynencError, TaskFailedError
from pynenc.invocation.base_invocation import BaseInvocation

#: Seconds between two looks of ``watch``.
WATCH_EVERY = 0.5
#: Most refused invocations that are listed.
LISTED = 20


class _Call(click.Command):
    """Says how to write a value that looks like an option, such as a negative number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name.startswith("--"):
                raise
            hint = "values that begin with a minus come after --, options before it: call TASK -- -1 2"
            raise click.UsageError(f"{error.format_message()} ({hint})", ctx) from error


@click.command(
    cls=_Call,
    epilog="Examples: pynenc call shop.tasks.add 1 2 --wait · pynenc call shop.tasks.greet name=Ada --delay 60",
)
@click.argument("task")
@click.argument("arguments", nargs=-1)
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=DURATION, help="How long to wait for the result at most: 30, 5m; includes --wait.")
@click.option("--delay", type=DURATION, help="How long it must wait before it may start: 30, 5m, 1h30m.")
@click.option("--priority", type=click.FloatRange(-100, 100), help="-100 to 100, higher first.")
@click.option("--queue", help="Queue instead of the task's own.")
@click.option("--key", help="Idempotency key.")
@json_option
@click.pass_obj
@guarded
def call(
    spec: str | None,
    /,
    *,
    task: str,
    arguments: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Call TASK with ARGUMENTS: JSON values, or plain text; name=value for keywords."""
    app = load_app(spec)
    if not (app.store.shared or app.is_dev_mode):
        raise ConfigError(
            f"{app.store.display_url} lives in this process, so no runner would see the call: use sqlite:///..., "
            "or PYNENC__DEV_MODE_FORCE_SYNC_TASKS=1 to run it here"
        )
    app.import_tasks()
    found = _task(app, task)
    args = [_value(text) for text in arguments if not _is_keyword(text)]
    kwargs = {name: _value(text) for name, _, text in (a.partition("=") for a in arguments if _is_keyword(a))}
    invocation = found.options(**options)(*args, **kwargs)
    if not (wait or timeout):
        print_json({"invocation_id": invocation.invocation_id}) if as_json else click.echo(invocation.invocation_id)
        return
    try:
        result = _result(invocation, timeout)
    except KeyboardInterrupt:
        click.echo(f"the call goes on: pynenc invocations watch {invocation.invocation_id}", err=True)
        raise
    print_json({"invocation_id": invocation.invocation_id, "result": result}) if as_json else say(repr(result))


def _result(invocation: BaseInvocation[Any, Any], timeout: float | None) -> Any:
    """The value of an invocation; whatever its task raised is an error of the command."""
    try:
        return invocation.get_result(timeout)
    except PynencError:
        raise
    except Exception as error:
        raise TaskFailedError(f"{type(error).__name__}: {error}", invocation.task.task_id.key) from error


def _task(app: Pynenc, name: str) -> Any:
    """A task by its full name, or by the name of its function when only one has it."""
    matching = [task for task in app.tasks.values() if name in (task.task_id.key, task.task_id.func_name)]
    if len(matching) == 1:
        return matching[0]
    if not matching and "." in name:
        return app.get_task(name)
    known = ", ".join(sorted(task.task_id.key for task in app.tasks.values())) or "none"
    raise ValueError(f"{'several tasks are' if matching else 'no task is'} called {name!r}; known tasks: {known}")


def _is_keyword(text: str) -> bool:
    name, equals, _ = text.partition("=")
    return bool(equals) and name.isidentifier()


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


@click.group(epilog="Example: pynenc invocations list --status failed")
def invocations() -> None:
    """List, show, explain, cancel, retry and watch invocations."""


_where = [
    click.option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice([s.value for s in InvocationStatus]),
        help="Only in this status (may be repeated).",
    ),
    click.option("--task", "tasks", multiple=True, help="Only of this task (module.function)."),
    click.option("--queue", "queues", multiple=True, help="Only of this queue."),
    click.option("--tag", "tags", multiple=True, help="Only with this tag."),
]


def where(function: Any) -> Any:
    """The options that choose invocations."""
    for option in reversed(_where):
        function = option(function)
    return function


def _filter(given: dict[str, Any], ids: tuple[str, ...] = ()) -> Filter:
    statuses = tuple(InvocationStatus(s) for s in given.pop("statuses"))
    return Filter(ids=ids, statuses=statuses, **given)


def as_dict(row: Invocation) -> dict[str, Any]:
    """An invocation for JSON output: payloads only by size."""
    fields = {name: getattr(row, name) for name in row.__struct_fields__ if name not in ("args", "payload", "blobs")}
    times = {name: stamp(fields[name]) for name in ("due", "expires", "created", "claimed", "started", "ended")}
    return {
        **fields,
        **times,
        "place": row.place.name.lower(),
        "result_ttl": row.result_ttl / 1e6,
        "arguments_bytes": len(row.args),
        "payload_bytes": len(row.payload),
    }


@invocations.command("list", epilog="Example: pynenc invocations list --status failed --task shop.tasks.charge --json")
@where
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@json_option
@click.pass_obj
@guarded
def list_(spec: str | None, /, *, limit: int, as_json: bool, **given: Any) -> None:
    """Invocations, newest first."""
    store = load_app(spec).store
    found = store.find(_filter(given), Page(limit=limit)).invocations
    if as_json:
        print_json([as_dict(row) for row in found])
        return
    now = store.clock.now()
    rows = ((row.id, row.task, row.status, row.queue, ago(row.created, now), _took(row)) for row in found)
    print_table(("id", "task", "status", "queue", "created", "took"), rows, "no invocations")


def _took(row: Invocation) -> str:
    return duration((row.ended - (row.started or row.claimed)) / 1e6) if row.ended and row.claimed else "-"


@invocations.command(epilog="Example: pynenc invocations show 0192f0c1-aaaa-7bbb-8ccc-0123456789ab")
@click.argument("invocation_id")
@json_option
@click.pass_obj
@guarded
def show(spec: str | None, /, *, invocation_id: str, as_json: bool) -> None:
    """One invocation: state, arguments, result or error, history."""
    app = load_app(spec)
    row = app.engine.get(invocation_id)
    history = app.store.history([invocation_id])
    rendered = app.engine.codec.describe_row(row)
    if as_json:
        changes = [
            {"status": e.status, "at": stamp(e.at), "runner": e.runner, "attempt": e.attempt, "reason": e.reason}
            for e in history
        ]
        print_json({**as_dict(row), **rendered, "history": changes})
        return
    rendered["arguments"] = ", ".join(f"{name}={value}" for name, value in rendered["arguments"].items())
    for name, value in {**as_dict(row), **rendered}.items():
        if value not in (None, "", (), 0, False):
            say(f"{name:18} {value}")
    click.echo("\nhistory")
    print_table(
        ("at", "status", "attempt", "runner", "reason"),
        ((stamp(e.at), e.status, e.attempt, e.runner or "", e.reason) for e in history),
        "none",
    )


@invocations.command(epilog="Example: pynenc invocations why 0192f0c1-aaaa-7bbb-8ccc-0123456789ab")
@click.argument("invocation_id")
@json_option
@click.pass_obj
@guarded
def why(spec: str | None, /, *, invocation_id: str, as_json: bool) -> None:
    """Why an invocation does not run (yet)."""
    app = load_app(spec)
    row = app.engine.get(invocation_id)
    reasons = explain(app.store, row)
    if row.status is InvocationStatus.FAILED and (error := app.engine.codec.describe_row(row).get("error")):
        reasons.append(error)
    print_json({"invocation_id": invocation_id, "reasons": reasons}) if as_json else say("\n".join(reasons))


@invocations.command(
    epilog="Examples: pynenc invocations cancel ID --reason 'out of stock' · pynenc invocations cancel --queue mail --yes"
)
@click.argument("ids", nargs=-1)
@where
@reason_option
@yes_option
@click.pass_obj
@guarded
def cancel(spec: str | None, /, *, ids: tuple[str, ...], reason: str, is_sure: bool, **given: Any) -> None:
    """Cancel invocations, by id or by filter."""
    _amend_all(load_app(spec), ChangeKind.CANCEL, "cancel", ids, given, reason, is_sure=is_sure)


@invocations.command(epilog="Examples: pynenc invocations retry ID · pynenc invocations retry --status failed --yes")
@click.argument("ids", nargs=-1)
@where
@yes_option
@click.pass_obj
@guarded
def retry(spec: str | None, /, *, ids: tuple[str, ...], is_sure: bool, **given: Any) -> None:
    """Run final invocations again, by id or by filter; those that wait for their time go now."""
    _amend_all(load_app(spec), ChangeKind.REQUEUE, "retry", ids, given, "retry from the command line", is_sure=is_sure)


def _amend_all(
    app: Pynenc, kind: ChangeKind, verb: str, ids: tuple[str, ...], given: dict[str, Any], reason: str, *, is_sure: bool
) -> None:
    """Change what is named or matches, in pages; exit code 1 when nothing of what was named was accepted."""
    are_named = bool(ids)
    if not ids:
        if not any(given.values()):
            raise click.UsageError(
                f"name the invocations to {verb}, or choose them with --status, --task, --queue or --tag"
            )
        chosen = _filter(given)
        confirm(f"{verb} {sum(app.store.count(chosen).values())} invocation(s)?", is_sure=is_sure)
        ids = tuple(_all_ids(app, chosen))
    refused: list[str] = []
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        is_cancel = kind is ChangeKind.CANCEL  # of workflows with their members
        accepted = app.engine.cancel(chunk, reason) if is_cancel else app.engine.amend(chunk, kind, reason)
        refused += [each for each, is_accepted in zip(chunk, accepted, strict=True) if not is_accepted]
    click.echo(f"{len(ids) - len(refused)} of {len(ids)} accepted")
    _explain_refused(app, refused)
    if are_named and len(refused) == len(ids):
        raise SystemExit(1)


def _explain_refused(app: Pynenc, refused: list[str]) -> None:
    """Say which invocations were not changed, and why; of many, the first ones."""
    rows = {row.id: row for row in app.store.get(refused[:LISTED])}
    for each in refused[:LISTED]:
        click.echo(f"{each}: {f'it is {rows[each].status}' if each in rows else 'no such invocation'}", err=True)
    if len(refused) > LISTED:
        click.echo(f"... and {len(refused) - LISTED} more", err=True)


def _all_ids(app: Pynenc, chosen: Filter) -> list[str]:
    ids: list[str] = []
    cursor = ""
    while True:
        found = app.store.find(chosen, Page(limit=500, cursor=cursor))
        ids += [row.id for row in found.invocations]
        cursor = found.cursor
        if not cursor:
            return ids


@invocations.command(epilog="Example: pynenc invocations watch (in a second terminal, while `pynenc demo` runs)")
@click.argument("invocation_id", required=False)
@click.option("--seconds", type=DURATION, help="Stop after so long: 30, 5m.")
@click.pass_obj
@guarded
def watch(spec: str | None, /, *, invocation_id: str | None, seconds: float | None) -> None:
    """Follow one invocation to its end, or all by status."""
    from rich.live import Live
    from rich.text import Text

    app = load_app(spec)
    deadline = time.monotonic() + seconds if seconds else None
    last = ""
    with Live(refresh_per_second=4) if sys.stdout.isatty() else nullcontext() as live:
        while True:
            row = app.engine.get(invocation_id) if invocation_id else None
            line = _line(row) if row else _counts(app)
            if live:
                live.update(Text(harmless(line)))
            elif line != last:  # into a file or a pipe
                say(line)
            last = line
            if (row and row.status.is_final()) or (deadline and time.monotonic() > deadline):
                return
            time.sleep(WATCH_EVERY)


def _counts(app: Pynenc) -> str:
    counts = app.store.count(Filter())
    return "  ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "no invocations"


def _line(row: Invocation) -> str:
    progress = f" {row.progress.done:g}/{row.progress.total:g} {row.progress.message}" if row.progress else ""
    return f"{row.id} {row.task} {row.status}{progress}"
