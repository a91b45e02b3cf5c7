"""Run the code of a markdown page, so that nothing in the documentation can be wrong without a test that says so.

A page is one scenario in one empty folder, worked through from top to bottom as a reader would. What an author writes:

===========================  ==========================================================================================
a fence of                   does
===========================  ==========================================================================================
``python``                   runs as a script in the folder; it must end with exit code 0
``python raises=Name``       runs as a script that must end with this exception
``python``, ``toml``,        with a first line ``# file: tasks.py``: is saved under that name and not run; the same name
``yaml``, ``ini`` ...        again replaces it, ``# file: tasks.py (continued)`` appends to it
``text output``              is what the block before it must have printed; ``...`` stands for anything, also for whole
                             lines; runs of blanks count as one
``console``                  each line ``$ command`` is run by a shell; the lines below it, if any, are its output as
                             above; it must end with exit code 0, or with ``2`` where ``  # exit 2`` follows the command
``bash``, ``sh``             the same where every line is a command
===========================  ==========================================================================================

A runner (``runner start`` without ``--burst``) and every command that ends in ``&`` runs in the background until the page
ends, when it gets SIGTERM and must leave with exit code 0. Commands that prepare a machine (``SETUP``) are not run.
Other fences (``text``, ``json``, ``sql`` ...) are only shown; a fence must name its language, and there is no way to switch
off a ``python`` fence: code that cannot run is ``text``. What is needed but would distract readers goes into a fence inside
an HTML comment, which is run all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = frozenset({"python"})
SHELLS = frozenset({"bash", "console", "sh"})
FILES = frozenset({"ini", "json", "python", "toml", "yaml"})
SHOWN = frozenset(
    {"diff", "dockerfile", "html", "ini", "json", "lua", "make", "mermaid", "sql", "text", "toml", "yaml"}
)
#: First words of commands that install or fetch something, or that work on a checkout rather than on the page's folder.
SETUP = frozenset({"apt-get", "brew", "cd", "docker", "git", "kubectl", "make", "pip", "pipx", "source", "uv"})
#: A reader has few plug-ins; each of ours costs every page that runs pytest its start.
PYTEST_OPTIONS = "-p no:cacheprovider -p no:hypothesispytest -p no:xdist -p no:xdist.looponfail -p no:anyio"
SECONDS_PER_COMMAND = 60
SECONDS_TO_STOP = 15

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,})(?P<info>.*)$")
_FILE = re.compile(r"^# file: (?P<name>[\w./-]+)(?P<continued> \(continued\))?\s*$")
_EXIT = re.compile(r"\s+# exit (\d+)\s*$")
_ASSIGNMENTS = re.compile(r"^((?:\w+=\S*\s+)*)(.*)$", re.DOTALL)


class PageError(AssertionError):
    """A page that is wrong; the message begins with the page and the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fence: the line it begins in, the words after its marks, and its text."""

    line: int
    info: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.info[0] if self.info else ""

    @property
    def is_output(self) -> bool:
        return self.info[:2] == ("text", "output")

    @property
    def file(self) -> re.Match[str] | None:
        return _FILE.match(self.text.partition("\n")[0]) if self.language in FILES else None


def read_blocks(markdown: str) -> list[Block]:
    """All fences of a page."""
    blocks: list[Block] = []
    opened: tuple[int, re.Match[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        found = _FENCE.match(line)
        if opened is None:
            if found:
                opened, lines = (number, found), []
        elif found and len(found["marks"]) >= len(opened[1]["marks"]) and not found["info"].strip():
            start, fence = opened
            blocks.append(Block(start, tuple(fence["info"].split()), "".join(f"{text}\n" for text in lines)))
            opened = None
        else:
            indent = len(opened[1]["indent"])
            lines.append(line[indent:] if line[:indent].isspace() else line)
    if opened is not None:
        raise PageError(f"line {opened[0]}: this fence is not closed")
    return blocks


def check_blocks(blocks: list[Block]) -> None:
    """Refuse fences of a kind that is neither run nor plainly text."""
    for index, block in enumerate(blocks):
        if block.language not in SCRIPTS | SHELLS | FILES | SHOWN:
            raise PageError(f"line {block.line}: unknown kind of fence {' '.join(block.info)!r}")
        extra = block.info[1:]
        raises = block.language == "python" and len(extra) == 1 and extra[0].startswith("raises=")
        if extra and not raises and extra != ("output",):
            raise PageError(f"line {block.line}: unknown words after {block.language!r}: {' '.join(extra)}")
        if block.is_output and (index == 0 or not is_run(blocks[index - 1])):
            raise PageError(f"line {block.line}: no block before it has output")


def is_run(block: Block) -> bool:
    """Whether a block is executed."""
    return block.language in SCRIPTS | SHELLS and block.file is None


def matches(expected: str, printed: str) -> bool:
    """Whether output is as expected, where ``...`` stands for anything and blanks and empty lines do not count."""
    first, *others = (" ".join(part.split()) for part in expected.split("..."))
    text = " ".join(printed.split())
    if not others:
        return text == first
    *middle, last = others
    at = len(first) if text.startswith(first) else -1
    for part in middle:
        found = text.find(part, at) if at >= 0 else -1
        at = found + len(part) if found >= 0 else -1
    return 0 <= at <= len(text) - len(last) and text.endswith(last)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, its expected exit code, and its expected output, if the page shows any."""

    line: int
    text: str
    exit_code: int = 0
    output: str = ""

    @property
    def is_setup(self) -> bool:
        words = _ASSIGNMENTS.match(self.text)
        return words is None or words[2].split(maxsplit=1)[0] in SETUP or words[2].startswith("python3 -m venv")

    @property
    def is_background(self) -> bool:
        return self.text.endswith("&") or (
            " runner start" in self.text and "--burst" not in self.text and "--help" not in self.text
        )


def read_commands(block: Block) -> list[Command]:
    """The commands of a block, with lines that end in a backslash joined to the next."""
    commands: list[Command] = []
    lines = enumerate(block.text.splitlines(), block.line + 1)
    for number, raw in lines:
        is_command = raw.startswith("$ ") if block.language == "console" else raw.strip() and not raw.startswith("#")
        if not is_command:
            if block.language == "console" and commands:
                last = commands[-1]
                commands[-1] = Command(last.line, last.text, last.exit_code, f"{last.output}{raw}\n")
            elif raw.strip() and not raw.startswith("#"):
                raise PageError(f"line {number}: output before the first command")
            continue
        text = raw.removeprefix("$ ")
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].removeprefix("> ").strip()
        code = _EXIT.search(text)
        commands.append(Command(number, _EXIT.sub("", text).strip(), int(code[1]) if code else 0))
    return commands


class Page:
    """A page at work in its folder; use it as a context, so that what it started ends."""

    def __init__(self, name: str, markdown: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / "page"
        self.folder.mkdir()
        self._blocks = read_blocks(markdown)
        self._running: list[tuple[Command, subprocess.Popen[str], Path]] = []
        self._scripts = 0
        self._logs = folder
        self._environment = _environment(self.folder, folder / "bin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        problems = [problem for process in reversed(self._running) if (problem := self._stop(*process))]
        if problems and kind is None:
            raise PageError("\n".join(problems))

    def run(self) -> None:
        """Work through the page; raises :class:`PageError` at the first block that is wrong."""
        try:
            check_blocks(self._blocks)
            printed = ""
            for block in self._blocks:
                if block.is_output and not matches(block.text, printed):
                    raise PageError(
                        f"line {block.line}: expected\n{block.text}\nand the block before it printed\n{printed}"
                    )
                printed = self._do(block)
        except PageError as error:
            raise PageError(f"{self.name}, {error}\n{self._output_of_background()}") from None

    def _do(self, block: Block) -> str:
        if block.file is not None:
            self._save(block, block.file)
        elif block.language in SCRIPTS:
            return self._script(block)
        elif block.language in SHELLS:
            return "".join([self._command(command) for command in read_commands(block) if not command.is_setup])
        return ""

    def _save(self, block: Block, name: re.Match[str]) -> None:
        path = self.folder / name["name"]
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise PageError(f"line {block.line}: {name['name']} lies outside the page's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if name["continued"] else "w", encoding="utf-8") as file:
            file.write(f"{block.text}\n")

    def _script(self, block: Block) -> str:
        self._scripts += 1
        path = self.folder / f"block_{self._scripts}.py"
        path.write_text("\n" * block.line + block.text, encoding="utf-8")  # its line numbers are those of the page
        done = self._run([sys.executable, path.name], block.line)
        raises = block.info[1].removeprefix("raises=") if len(block.info) > 1 else None
        if raises is None and done.returncode:
            raise PageError(f"line {block.line}: this script failed\n{done.stdout}{done.stderr}")
        if raises is not None and not re.search(rf"^(\w+\.)*{re.escape(raises)}(:|$)", done.stderr, re.MULTILINE):
            raise PageError(f"line {block.line}: this script did not raise {raises}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _command(self, command: Command) -> str:
        if command.is_background:
            self._start(command)
            return ""
        done = self._run(["bash", "-c", command.text], command.line)
        printed = done.stdout + done.stderr
        if done.returncode != command.exit_code:
            raise PageError(f"line {command.line}: {command.text!r} ended with exit code {done.returncode}\n{printed}")
        if command.output.strip() and not matches(command.output, printed):
            raise PageError(
                f"line {command.line}: expected of {command.text!r}\n{command.output}\nand it printed\n{printed}"
            )
        return printed

    def _run(self, arguments: list[str], line: int) -> subprocess.CompletedProcess[str]:
        options = {"cwd": self.folder, "env": self._environment, "stdin": subprocess.DEVNULL}
        try:
            return subprocess.run(
                arguments, **options, capture_output=True, text=True, timeout=SECONDS_PER_COMMAND, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise PageError(f"line {line}: not done after {late.timeout} s\n{late.stdout!r}\n{late.stderr!r}") from None

    # -- in the background ------------------------------------------------------------------------------------------------
    def _start(self, command: Command) -> None:
        words = _ASSIGNMENTS.match(command.text.removesuffix("&").strip())
        log = self._logs / f"background_{len(self._running)}.log"
        line = (
            f"{words[1]}exec {words[2]}" if words else command.text
        )  # exec: the process is the command, not its shell
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(["bash", "-c", line], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        self._running.append((command, process, log))

    def _stop(self, command: Command, process: subprocess.Popen[str], log: Path) -> str:
        """Ask a process to end; what is wrong with how it did."""
        if process.poll() is None:
            process.terminate()
        try:
            code = process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"{self.name}, line {command.line}: {command.text!r} did not stop when asked\n{log.read_text()}"
        if code != command.exit_code:
            return f"{self.name}, line {command.line}: {command.text!r} ended with exit code {code}\n{log.read_text()}"
        return ""

    def _output_of_background(self) -> str:
        return "".join(f"\n{command.text!r} printed\n{log.read_text()}" for command, _, log in self._running)


def _environment(folder: Path, commands: Path) -> dict[str, str]:
    """A reader's environment: no settings of ours, and the commands of this interpreter, installed or not."""
    commands.mkdir()
    for name, module in (("python", ""), ("python3", ""), ("pynenc", "-m pynenc"), ("pytest", "-m pytest")):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        path.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYNENC", "PYTEST_"))}
    return kept | {
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "PYTEST_ADDOPTS": PYTEST_OPTIONS,
        "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
        "TERM": "dumb",
    }


def find_pages() -> list[Path]:
    """The pages of the documentation."""
    others = (page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(others)]
