"""What is shown and kept: a table, a JSON file, and a table in the documentation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import TIMES, Report

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
#: Last words of figures that say their own unit.
OWN_UNITS = ("%", "MB", "ms", "modules", "bytes", "commits", "commands", "scripts")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


# -- as data -----------------------------------------------------------------------------------------------------------
def as_data(name: str, report: Report) -> dict[str, Any]:
    """A case as JSON keeps it; with what is derived of its bars."""
    data = dataclasses.asdict(report)
    for bar, raw in zip(report.bars, data["bars"], strict=True):
        raw |= {"is_met": bar.is_met, "is_aim_met": bar.is_aim_met, "factor": bar.factor}
    return {"name": name, **data}


def write(path: Path, run: Mapping[str, Any]) -> None:
    """Keep a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1, default=float) + "\n", "utf-8")


def latest() -> dict[str, Any]:
    """The newest run that is kept.

    :raises FileNotFoundError: there is none.
    """
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        raise FileNotFoundError("no results yet: measure first")
    run: dict[str, Any] = json.loads(found[-1].read_text("utf-8"))
    return run


# -- numbers -------------------------------------------------------------------------------------------------------------
def number(value: float | None, unit: str = "") -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text}{unit}" if unit in (TIMES, "/s", "") else f"{text} {unit}"


def spread(figure: Mapping[str, Any], unit: str = "") -> str:
    """A median and what it varied between."""
    median, low, high = figure["median"], figure["low"], figure["high"]
    if low == high:
        return number(median, unit)
    return f"{number(median, unit)} ({number(low)} to {number(high)})"


def rows(case: Mapping[str, Any]) -> Iterable[tuple[str, str, str, str, str]]:
    """A line for each bar: what, measured, bar, aim, verdict."""
    for bar in case["bars"]:
        sign = "≤" if bar["at_most"] else "≥"
        aim = "" if bar["aim"] is None else f"{sign} {number(bar['aim'], bar['unit'])}"
        verdict = verdict_of(bar)
        limit = "" if bar["bar"] is None else f"{sign} {number(bar['bar'], bar['unit'])}"
        yield bar["what"], number(bar["measured"], bar["unit"]), limit, aim, verdict


def verdict_of(bar: Mapping[str, Any]) -> str:
    """Whether it is missed, met, or meets the aim as well; an aim without a bar may be out of reach still."""
    if not bar["is_met"]:
        return "missed"
    if bar["is_aim_met"]:
        return "aim"
    return "met" if bar["bar"] is not None else "not yet"


def unit_of(case: Mapping[str, Any], name: str) -> str:
    """The unit of one figure: of the case, unless its name says it."""
    return "" if name.endswith(OWN_UNITS) else str(case["unit"])


def figures(case: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """All contestants with their figures."""
    for name, figure in case["figures"].items():
        yield name, spread(figure, unit_of(case, name))


def verified(case: Mapping[str, Any]) -> str:
    """What was checked."""
    checked = case["checked"]
    if not checked["calls"]:
        return ""
    return f"{checked['calls']:,} results verified, {checked['lost']} lost or wrong, {checked['duplicates']} executed twice"


# -- as tables -----------------------------------------------------------------------------------------------------------
def show(run: Mapping[str, Any]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, 130)
    console.print(", ".join(f"{name} {value}" for name, value in run["surroundings"].items()))
    table = Table(show_lines=False, pad_edge=False)
    for title, justify in (("case", "left"), ("value", "right"), ("bar", "right"), ("aim", "right"), ("met?", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    colours = {"missed": "bold red", "met": "yellow", "aim": "green", "not yet": "dim"}
    for case in run["cases"]:
        table.add_section()
        table.add_row(f"[bold]{case['title']}[/]  [dim]{case['name']}[/]")
        for name, text in figures(case):
            table.add_row(f"[dim]  {name}[/]", f"[dim]{text}[/]")
        for what, measured, bar, aim, verdict in rows(case):
            colour = colours[verdict]
            table.add_row(f"  {what}", f"[bold]{measured}[/]", bar, aim, f"[{colour}]{verdict}[/]")
        for note in (verified(case), *case["notes"]):
            if note:
                table.add_row(f"[dim]  {note}[/]")
    console.print(table)


def markdown(run: Mapping[str, Any]) -> str:
    """The tables of the documentation."""
    said = run["surroundings"]
    lines = [
        f"Measured on {said['date']}: "
        + ", ".join(f"{name} {value}" for name, value in said.items() if name != "date")
        + f", {run['rounds']} rounds. Median, and in brackets the lowest and the highest round.",
        "",
        "| case | bar | measured | must be | aim | |",
        "|---|---|---|---|---|---|",
    ]
    for case in run["cases"]:
        for what, measured, bar, aim, verdict in rows(case):
            mark = {"missed": "**missed**", "aim": "met, and the aim"}.get(verdict, verdict)
            lines.append(f"| {case['title']} | {what} | {measured} | {bar} | {aim} | {mark} |")
    lines += ["", "All contestants:", "", "| case | contestant | figure |", "|---|---|---|"]
    for case in run["cases"]:
        lines += [f"| {case['title']} | {name} | {text} |" for name, text in figures(case)]
    lines += ["", "How each was measured:", ""]
    for case in run["cases"]:
        parts = [case["settings"], verified(case)]
        text = "; ".join(part for part in parts if part)
        lines.append(
            f"- **{case['title']}** (`{case['name']}`): {text}.{''.join(f' {note}' for note in case['notes'])}"
        )
    return "\n".join(lines)


def in_page(page: str, run: Mapping[str, Any]) -> str:
    """The page with the tables of a run between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(run)}\n{END}{after}"
