"""``pynenc demo``: real work end to end on the embedded store, with a runner in another process."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from shutil import which

import click

from pynenc.cli.child import runner_process
from pynenc.cli.output import duration, guarded, print_json
from pynenc.core.records import Filter, Invocation, Page
from pynenc.core.status import InvocationStatus

#: Files in one call.
BATCH = 12
#: Children of one task that the tree shows.
SHOWN = 3


@click.command(epilog="Example: pynenc demo --processes 2")
@click.option("--processes", type=click.IntRange(0), default=0, help="Worker processes (0: one for each CPU).")
@click.option("--files", type=click.IntRange(0), default=0, help="Index only so many files (0: all).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@guarded
def demo(*, processes: int, files: int, as_json: bool) -> None:
    """Index the Python standard library's own source files: map, reduce, a shared large argument, a retry, a concurrency limit."""
    import pydoc_data.topics

    from pynenc.cli import demo_tasks

    app = demo_tasks.app
    app.purge()
    paths = demo_tasks.library_files()[: files or None]
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    reference = "\n".join(pydoc_data.topics.topics.values())
    index = str(Path(".pynenc", "demo-index.txt").resolve())
    if not as_json:
        click.echo(
            f"{len(paths)} files of the standard library in {len(batches)} calls, sharing {len(reference):,} characters of reference text"
        )
        program = "pynenc" if which("pynenc") else f"{sys.executable} -m pynenc"
        click.echo(
            f"store {app.store.display_url}; look at it from a second terminal in this folder:\n"
            f"  {program} --app pynenc.cli.demo_tasks status\n"
            f"  {program} --app pynenc.cli.demo_tasks invocations watch\n"
        )
    with runner_process("pynenc.cli.demo_tasks", "--processes", str(processes), "--threads", "2"):
        started = time.perf_counter()
        invocation = demo_tasks.index_library(batches, reference, index)
        total = len(batches) + len(demo_tasks.SECTIONS) + 2
        _follow(app.store, invocation, total, is_quiet=as_json)
        stats = invocation.result
        seconds = time.perf_counter() - started
    rows = _all_rows(app.store)
    if as_json:
        print_json(
            {
                "files": stats.files,
                "lines": stats.lines,
                "words": stats.words,
                "documented": stats.documented,
                "seconds": seconds,
                "invocations": len(rows),
                "common": stats.common,
                "index": index,
            }
        )
        return
    _summary(stats, seconds, rows, index)
    _tree(rows)
    app.close()


def _follow(store: object, invocation: object, total: int, *, is_quiet: bool) -> None:
    """A live bar over the invocations that have ended."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=is_quiet) as progress:
        bar = progress.add_task("invocations", total=total)
        while not invocation.wait(0.1):  # type: ignore[attr-defined]
            progress.update(bar, completed=_ended(store))
        progress.update(bar, completed=_ended(store))


def _ended(store: object) -> int:
    counts = store.count(Filter())  # type: ignore[attr-defined]
    return sum(number for status, number in counts.items() if InvocationStatus(status).is_final())


def _all_rows(store: object) -> list[Invocation]:
    found: list[Invocation] = []
    cursor = ""
    while True:
        page = store.find(Filter(), Page(limit=500, cursor=cursor, oldest_first=True))  # type: ignore[attr-defined]
        found += page.invocations
        cursor = page.cursor
        if not cursor:
            return found


def _summary(stats: object, seconds: float, rows: list[Invocation], index: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("figure", Column("value", overflow="fold"), title="The standard library", title_justify="left")
    figures = {
        "files": f"{stats.files:,}",  # type: ignore[attr-defined]
        "lines": f"{stats.lines:,}",  # type: ignore[attr-defined]
        "words": f"{stats.words:,}",  # type: ignore[attr-defined]
        "of them explained by the reference": f"{stats.documented:,}",  # type: ignore[attr-defined]
        "commonest": " ".join(list(stats.common)[:6]),  # type: ignore[attr-defined]
        "invocations": f"{len(rows)}, {sum(row.retries for row in rows)} retried",
        "time": duration(seconds),
        "index": index,
    }
    for name, value in figures.items():
        table.add_row(name, value)
    Console().print(table)


def _tree(rows: list[Invocation]) -> None:
    """Who called whom, and how it ended."""
    from rich.console import Console
    from rich.tree import Tree

    children: dict[str | None, list[Invocation]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row)

    def add(tree: Tree, parent: str | None) -> None:
        by_task: dict[str, list[Invocation]] = {}
        for row in children.get(parent, []):
            by_task.setdefault(row.task, []).append(row)
        for task, group in by_task.items():
            for row in group[:SHOWN]:
                took = duration((row.ended - (row.started or row.claimed)) / 1e6) if row.ended else "-"
                retried = f", {row.retries} retry" if row.retries else ""
                add(
                    tree.add(f"{task.rpartition('.')[2]} [dim]{row.id}[/dim] {row.status} in {took}{retried}"),
                    row.id,
                )
            if len(group) > SHOWN:
                tree.add(f"[dim]... and {len(group) - SHOWN} more calls of {task.rpartition('.')[2]}[/dim]")

    tree = Tree("invocations")
    add(tree, None)
    Console().print(tree)
