"""Keep functions and modules small: fails where a cap is passed, and mentions what passed the aim.

Sizes are lines of a function without its docstring, lines of a module, and parameters without ``self``. What may be larger
stands in ``ALLOWED`` with its own cap and the reason; an entry that is no longer needed fails too.

    python tools/check_sizes.py [--verbose]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pynenc", "tools")

FUNCTION_CAP, FUNCTION_AIM = 60, 45
MODULE_CAP, MODULE_AIM = 450, 250
STORE_CAP = 700
PARAMETER_CAP = 8


@dataclass(frozen=True, slots=True)
class Allowance:
    """A place that may be larger: up to ``cap``, for a reason."""

    cap: int
    reason: str


#: By ``module`` or ``module:qualified.name`` and what is measured, e.g. ``("pynenc/task.py:Task.x", "parameters")``.
ALLOWED: dict[tuple[str, str], Allowance] = {}


@dataclass(frozen=True, slots=True)
class Size:
    """One measurement, with its cap and the aim below it."""

    place: str
    what: str
    value: int
    aim: int
    cap: int

    def __str__(self) -> str:
        return f"{self.place}: {self.value} {self.what}, cap {self.cap}"


Function = ast.FunctionDef | ast.AsyncFunctionDef


def measure(name: str, source: str) -> Iterator[Size]:
    """All sizes of a module; ``name`` is its path from the root."""
    cap = STORE_CAP if name.startswith("pynenc/store/") else MODULE_CAP
    yield Size(name, "lines", source.count("\n"), MODULE_AIM, cap)
    for place, node in _functions(ast.parse(source), f"{name}:"):
        yield Size(place, "lines of function", _body_lines(node), FUNCTION_AIM, FUNCTION_CAP)
        yield Size(place, "parameters", _parameters(node), PARAMETER_CAP, PARAMETER_CAP)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
        inner = f"{prefix}{child.name}." if isinstance(child, Function | ast.ClassDef) else prefix
        yield from _functions(child, inner)


def _body_lines(node: Function) -> int:
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def _parameters(node: Function) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def judge(sizes: list[Size], allowed: dict[tuple[str, str], Allowance]) -> tuple[list[str], list[str]]:
    """What is wrong, and what is merely above its aim."""
    wrong, large = [], []
    needed = set()
    for size in sizes:
        key = (size.place, size.what)
        if size.value > size.cap:
            needed.add(key)
        if size.value > (allowed[key].cap if key in allowed else size.cap):
            wrong.append(str(size))
        elif size.value > size.aim:
            large.append(str(size))
    wrong += [
        f"{place}: the allowance for its {what} is not needed any more" for place, what in allowed.keys() - needed
    ]
    return wrong, large


def main(arguments: list[str]) -> int:
    """Check all packages; the exit code."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    sizes = [size for file in files for size in measure(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))]
    wrong, large = judge(sizes, ALLOWED)
    if "--verbose" in arguments:
        print("\n".join(f"large  {line}" for line in large))
    print(
        "\n".join(f"wrong  {line}" for line in wrong)
        or f"sizes of {len(files)} modules: fine ({len(large)} above their aim)"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
