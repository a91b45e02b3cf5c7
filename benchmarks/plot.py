"""One drawing of a run: how far each figure is above its bar, and where the aim lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.harness import TIMES
from benchmarks.report import number

WIDTH, LEFT, RIGHT, LINE, TOP = 1000, 430, 90, 24, 70
LEAST, MOST = 1 / 4, 64
COLOURS = {"missed": "#c0392b", "met": "#d9a520", "aim": "#2e8b57"}


def draw(run: Mapping[str, Any]) -> str:
    """An SVG: a bar for each bar, on a logarithmic scale on which 1 is what must be reached."""
    bars = [(case, bar) for case in run["cases"] for bar in case["bars"] if bar["bar"] is not None]
    height = TOP + LINE * len(bars) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        '<text x="16" y="26" font-size="17" font-weight="bold">How far above the bar</text>',
        f'<text x="16" y="46" fill="#555">{escape(_subtitle(run))}</text>',
    ]
    for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64):
        x = _x(tick)
        colour, width = ("#222", 2) if tick == 1 else ("#ddd", 1)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 34}" stroke="{colour}" stroke-width="{width}"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{height - 16}" text-anchor="middle" fill="#555">{tick:g}{TIMES}</text>')
    for row, (case, bar) in enumerate(bars):
        parts += _row(TOP + LINE * row, case, bar)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _subtitle(run: Mapping[str, Any]) -> str:
    said = run["surroundings"]
    engines = {"python": "Python", "sqlite": "SQLite", "valkey": "Valkey", "postgresql": "PostgreSQL"}
    versions = ", ".join(f"{name} {said[key]}" for key, name in engines.items() if key in said)
    return f"pynenc {said['pynenc']}, {said['date']}, {versions}, {said['processors']}; ticks mark the aims"


def _row(y: int, case: Mapping[str, Any], bar: Mapping[str, Any]) -> list[str]:
    verdict = "missed" if not bar["is_met"] else "aim" if bar["is_aim_met"] else "met"
    start, end = sorted((_x(1), _x(bar["factor"])))
    label = escape(f"{case['title']}: {bar['what']}")
    parts = [
        f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" font-size="11">{label if len(label) < 72 else label[:70] + "…"}</text>',
        f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1.5):.1f}" height="{LINE - 8}" fill="{COLOURS[verdict]}"/>',
        f'<text x="{WIDTH - RIGHT + 8}" y="{y + 15}">{escape(number(bar["measured"], bar["unit"]))}</text>',
    ]
    if bar["aim"] is not None and bar["aim"] > 0 and bar["bar"] > 0:
        aim = _x(bar["bar"] / bar["aim"] if bar["at_most"] else bar["aim"] / bar["bar"])
        parts.append(f'<line x1="{aim:.1f}" y1="{y}" x2="{aim:.1f}" y2="{y + LINE - 2}" stroke="#222"/>')
    return parts


def _x(factor: float) -> float:
    inside = min(max(factor, LEAST), MOST)
    share = math.log(inside / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)
