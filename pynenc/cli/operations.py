"""Commands about the whole: status, queues, runners, configuration, store, doctor."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import click

from pynenc.app import Pynenc
from pynenc.cli.apps import load_app
from pynenc.cli.output import (
    DURATION,
    EXIT_UNSOUND,
    ago,
    confirm,
    guarded,
    json_option,
    print_json,
    print_table,
    say,
    yes_option,
)
from pynenc.conf.show import rows as config_rows
from pynenc.conf.show import task_rows
from pynenc.core.records import UNKNOWN_TASK, Filter, Page, Purge, QueueState
from pynenc.core.status import InvocationStatus
from pynenc.exceptions import ConfigError, StoreError
from pynenc.store import open_store
from pynenc.store.engines import sqlite_version
from pynenc.version import __version__

#: How many of the newest parked invocations ``doctor`` looks at.
PARKED_LOOK = 1000


@click.command(epilog="Example: pynenc status --json")
@json_option
@click.pass_obj
@guarded
def status(spec: str | None, /, *, as_json: bool) -> None:
    """Counts by status, queues and runners at a glance."""
    store = load_app(spec).store
    now = store.clock.now()
    counts, queues = store.count(Filter()), store.queues()
    alive = [info for info in store.runners() if info.alive]
    if as_json:
        oldest = {q.name: (now - q.oldest) / 1e6 if q.oldest else 0.0 for q in queues}
        print_json(
            {
                "store": store.display_url,
                "invocations": counts,
                "queues": queues,
                "oldest_seconds": oldest,
                "runners": len(alive),
            }
        )
        return
    click.echo(f"store    {store.display_url}")
    told = min((i.seen for i in alive if i.beat.slots), default=0)
    click.echo(
        f"runners  {len(alive)} alive, {sum(i.beat.running for i in alive)} of {sum(i.beat.slots for i in alive)} slots busy"
        + (f" (as told up to {ago(told, now)})\n" if told else "\n")
    )
    print_table(("status", "invocations"), sorted(counts.items()), "no invocations")
    click.echo()
    rows = ((q.name, q.state, q.ready, q.later, q.parked, q.claimed, ago(q.oldest, now)) for q in queues)
    print_table(("queue", "state", "ready", "later", "parked", "claimed", "oldest ready"), rows, "no queues")


@click.group(epilog="Example: pynenc queues pause mail")
def queues() -> None:
    """Pause, resume and drain queues."""


def _queue_command(name: str, state: QueueState, doc: str) -> None:
    @queues.command(name, help=doc, epilog=f"Example: pynenc queues {name} default")
    @click.argument("queue")
    @click.pass_obj
    @guarded
    def change(spec: str | None, /, *, queue: str) -> None:
        app = load_app(spec)
        known = {each.name for each in app.store.queues()}
        app.store.set_queue(queue, state)
        click.echo(f"queue {queue} is {state}")
        if queue not in known:
            _warn_of_unknown(app, queue, known)


def _warn_of_unknown(app: Pynenc, queue: str, known: set[str]) -> None:
    """Say that no task and no runner names a queue of which the store had not heard."""
    app.import_tasks()
    known = known.union(*(info.beat.queues for info in app.store.runners()))
    known |= {task.conf.queue for task in app.tasks.values()}
    if queue not in known:
        click.echo(f"warning: nothing knew a queue {queue!r}; there are {', '.join(sorted(known)) or 'none'}", err=True)


_queue_command("pause", QueueState.PAUSED, "Accept calls, run nothing.")
_queue_command("resume", QueueState.ACTIVE, "Back to normal.")
_queue_command("drain", QueueState.DRAINING, "Run what is there, refuse new calls.")


@queues.command("list", epilog="Example: pynenc queues list --json")
@json_option
@click.pass_obj
@guarded
def list_queues(spec: str | None, /, *, as_json: bool) -> None:
    """All queues."""
    found = load_app(spec).store.queues()
    if as_json:
        print_json(found)
        return
    print_table(
        ("queue", "state", "ready", "later", "parked", "claimed"),
        ((q.name, q.state, q.ready, q.later, q.parked, q.claimed) for q in found),
        "no queues",
    )


@click.command(epilog="Example: pynenc runners --json")
@json_option
@click.pass_obj
@guarded
def runners(spec: str | None, /, *, as_json: bool) -> None:
    """Runners and their worker processes."""
    store = load_app(spec).store
    found, now = store.runners(), store.clock.now()
    if as_json:
        print_json(found)
        return
    rows = (
        (
            i.beat.id,
            i.beat.kind,
            "yes" if i.alive else "no",
            f"{i.beat.running}/{i.beat.slots}",
            i.beat.finished,
            ago(i.seen, now),
        )
        for i in found
    )
    print_table(("runner", "kind", "alive", "busy", "finished", "last beat"), rows, "no runners")


@click.group(epilog="Example: pynenc config show")
def config() -> None:
    """Show the configuration."""


@config.command("show", epilog="Example: PYNENC__RUNNER__THREADS=4 pynenc config show")
@click.option("--changed", "is_brief", is_flag=True, help="Only what does not have its default value.")
@json_option
@click.pass_obj
@guarded
def show_config(spec: str | None, /, *, is_brief: bool, as_json: bool) -> None:
    """Every setting, its value and where the value comes from; secrets are hidden."""
    app = load_app(spec)
    app.import_tasks()
    found = [row for row in config_rows(app.conf) if not is_brief or row.origin != "default"]
    found += task_rows(app.conf, [(name.module, name.func_name, task.conf) for name, task in app.tasks.items()])
    if as_json:
        print_json([row._asdict() for row in found])
        return
    print_table(
        ("section", "setting", "value", "origin"),
        ((r.section, r.field, r.value, r.origin) for r in found),
        "everything has its default",
    )


@click.group(epilog="Example: pynenc store check")
def store() -> None:
    """Check, migrate and purge the store."""


@store.command(epilog="Example: pynenc store check --json")
@json_option
@click.pass_obj
@guarded
def check(spec: str | None, /, *, as_json: bool) -> None:
    """Inspect the invariants of the store; exit code 4 when one is broken, or the store cannot be used; 1 when it does not answer for now."""
    app = load_app(spec)
    try:
        found = app.store.check()
    except StoreError as error:
        if error.retryable:
            raise
        found = [str(error)]
    print_json({"problems": found}) if as_json else say("\n".join(found) or "sound")
    if found:
        sys.exit(EXIT_UNSOUND)


@store.command(epilog="Examples: pynenc store migrate · pynenc store migrate --sql > change.sql")
@click.option(
    "--sql",
    is_flag=True,
    help="Print what would be done, for somebody else to run. Only where a schema is changed by SQL.",
)
@click.pass_obj
@guarded
def migrate(spec: str | None, /, *, sql: bool) -> None:
    """Create the schema, or bring it to this version, while others work with it."""
    app = load_app(spec)
    closed: Any = open_store(app.conf.store_url, app.app_id)
    if sql:
        if not hasattr(closed, "migration"):
            raise ConfigError(f"{closed.display_url} is changed by opening it, without SQL: leave out --sql")
        click.echo(closed.migration(), nl=False)
        return
    before = _schema_version(closed)
    if hasattr(closed, "migrate"):
        closed.migrate()
    where = app.store.display_url
    click.echo(f"{where}: {migrated(before, _schema_version(closed))}")


def _schema_version(store: Any) -> str:
    """The version of the schema that is there; empty when there is none, or none is kept."""
    return str(store.schema_version()) if hasattr(store, "schema_version") else ""


def migrated(before: str, after: str) -> str:
    """What became of a schema."""
    if not after:
        return "no schema is kept"
    if not before:
        return f"the schema was created, version {after}"
    return (
        f"the schema has version {after}, nothing to do"
        if before == after
        else f"the schema went from version {before} to {after}"
    )


@store.command(epilog="Examples: pynenc store purge · pynenc store purge --everything --yes")
@click.option("--everything", is_flag=True, help="All invocations, whatever their status. Queues keep their states.")
@click.option("--older-than", type=DURATION, help="Finished invocations that ended longer ago: 3600, 7d.")
@yes_option
@click.pass_obj
@guarded
def purge(spec: str | None, /, *, everything: bool, older_than: float | None, is_sure: bool) -> None:
    """Remove finished invocations whose time (result_ttl) is over."""
    app = load_app(spec)
    if everything or older_than is not None:
        confirm(
            f"remove {'everything' if everything else f'finals older than {older_than:g} s'} from {app.store.display_url}?",
            is_sure=is_sure,
        )
    before = app.store.clock.now() - int(older_than * 1e6) if older_than is not None else 0
    wanted = Purge(everything=everything, ended_before=before, limit=2000)
    invocations = blobs = 0
    while True:
        batch = app.store.purge(wanted)
        invocations, blobs = invocations + batch.invocations, blobs + batch.blobs
        if not batch.more:
            break
    click.echo(f"removed {invocations} invocation(s) and {blobs} blob(s)")


@click.command(epilog="Example: pynenc doctor --json")
@json_option
@click.pass_obj
@guarded
def doctor(spec: str | None, /, *, as_json: bool) -> None:
    """Look for what commonly goes wrong; exit code 4 when something is, 1 when the store does not answer for now."""
    app = load_app(spec)
    findings = list(_diagnose(app))
    if as_json:
        print_json([{"check": name, "ok": is_ok, "detail": detail} for name, is_ok, detail in findings])
    else:
        for name, is_ok, detail in findings:
            say(f"{'ok  ' if is_ok else 'FAIL'} {name}: {detail}")
    if not all(is_ok for _, is_ok, _ in findings):
        sys.exit(EXIT_UNSOUND)


def _diagnose(app: Pynenc) -> Iterator[tuple[str, bool, str]]:
    """Name, verdict and detail of each check."""
    yield (
        "versions",
        True,
        f"pynenc {__version__}, Python {platform.python_version()}, SQLite {sqlite_version()}, {os.cpu_count()} CPUs",
    )
    tasks = app.import_tasks()
    yield (
        "tasks",
        bool(tasks),
        f"{len(tasks)} known" if tasks else "none known: name their modules in the setting `imports`",
    )
    try:
        store = app.store
        problems = store.check()
    except StoreError as error:
        if error.retryable:
            raise
        yield "store", False, str(error)
        return
    yield "store", True, store.display_url
    yield "invariants", not problems, "; ".join(problems[:3]) or "sound"
    if advice := getattr(
        store, "advice", None
    ):  # of stores whose server may be set up in a way that loses what it accepted
        lines = advice()
        yield "server", not lines, "; ".join(lines) or "keeps what it accepted"
    alive = [info for info in store.runners() if info.alive]
    waiting: list[Any] = [q for q in store.queues() if q.ready]
    unserved = [q.name for q in waiting if not any(not i.beat.queues or q.name in i.beat.queues for i in alive)]
    yield (
        "runners",
        not unserved,
        f"{len(alive)} alive" + (f"; nobody serves {', '.join(unserved)}" if unserved else ""),
    )
    paused = [q.name for q in store.queues() if q.state is not QueueState.ACTIVE]
    yield "queues", not paused, f"not active: {', '.join(paused)}" if paused else "all active"
    parked = store.find(Filter(statuses=(InvocationStatus.CONCURRENCY_CONTROLLED,)), Page(PARKED_LOOK)).invocations
    unknown = sorted({row.task for row in parked if row.reason == UNKNOWN_TASK})
    yield (
        "parked",
        not unknown,
        f"{', '.join(unknown)}: {UNKNOWN_TASK}" if unknown else "no unknown task",
    )
