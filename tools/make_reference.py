"""Write the reference pages of the documentation, which are made from the code: ``docs/reference/`` and the status diagram.

A test fails when the committed pages are not what this makes, or when something that they list says nothing about itself:

    python -m tools.make_reference
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from pynenc import exceptions
from pynenc.cli import output
from pynenc.cli.main import cli
from pynenc.conf.config_client_data_store import ConfigClientDataStore
from pynenc.conf.config_pynenc import ConfigPynenc
from pynenc.conf.config_runner import ConfigRunner
from pynenc.conf.config_sqlite import ConfigSqlite
from pynenc.conf.config_task import ConfigTask
from pynenc.conf.resolver import PREFIX
from pynenc.conf.section import Section, Setting
from pynenc.conf.show import show_value
from pynenc.conf.values import size
from pynenc.core.status import FINAL, RULES, STATUSES_OF_PLACE, InvocationStatus, Place
from pynenc.exceptions import PynencError
from pynenc.runner.exposition import METRICS
from pynenc.runner.numbers import BOUNDS, MOST_NAMES, OTHER
from pynenc.store.base import Store
from tools.make_public_api import ALSO_PUBLIC, PUBLIC, resolve

DOCS = Path(__file__).resolve().parents[1] / "docs"
SECTIONS: tuple[type[Section], ...] = (ConfigPynenc, ConfigRunner, ConfigClientDataStore, ConfigSqlite)
ALL_SECTIONS: tuple[type[Section], ...] = (*SECTIONS, ConfigTask)
GENERATED = "<!-- Made by `python -m tools.make_reference`; change the code instead. -->\n"

#: What the exit codes of ``pynenc`` mean, by the name of their constant.
EXIT_CODES = {
    "EXIT_ERROR": "the command failed, as a call that its task does not take, or the store does not answer for now; one line on standard error says why",
    "EXIT_CONFIG": "a setting or an option is wrong, or the app cannot be found",
    "EXIT_FORCED": "a runner was told twice to stop, and left running tasks for others to start again",
    "EXIT_UNSOUND": "`store check`, `doctor` or `workflows replay` found something that needs attention, or a store that cannot be used",
}
#: Special methods that do what they always do.
SILENT = frozenset({"__getstate__", "__setstate__", "__str__", "__repr__"})
#: What exists for later releases; the pages say so.
NOT_YET = frozenset(
    {
        "WorkflowMembershipError",
    }
)
NOTE = " Not used in this release."


def pages() -> dict[str, str]:
    """All generated pages: path below ``docs/`` → text."""
    made = {
        "reference/settings.md": settings_page(),
        "reference/task-options.md": task_options_page(),
        "reference/exceptions.md": exceptions_page(),
        "reference/command-line.md": command_line_page(),
        "reference/api.md": api_page(),
        "reference/metrics.md": metrics_page(),
        "reference/store.md": store_page(),
        "internals/status.md": status_page(),
    }
    return {path: f"{GENERATED}\n{text.rstrip()}\n" for path, text in made.items()}


# -- text ----------------------------------------------------------------------------------------------------------------
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([\w]+)`|``([^`]+)``")
_FIELD = re.compile(r"\s*:(param|raises|ivar|returns?)\s*([\w.]*):\s*")


def in_markdown(text: str) -> str:
    """Text of a docstring, with its marks as markdown has them."""
    return _ROLE.sub(lambda found: f"`{found[1] or found[2]}`", text)


def doc_of(thing: object) -> str:
    """The docstring without the descriptions of fields."""
    doc = inspect.getdoc(thing) or ""
    return in_markdown(_FIELD.split(doc, maxsplit=1)[0].strip())


def fields_of(thing: object) -> Iterator[tuple[str, str, str]]:
    """The described fields of a docstring: kind, name and text."""
    parts = _FIELD.split(inspect.getdoc(thing) or "")[1:]
    for kind, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        yield kind, name, in_markdown(" ".join(text.partition("\n\n")[0].split()))


def first_sentence(thing: object) -> str:
    """What a table has room for."""
    return " ".join(doc_of(thing).partition("\n\n")[0].split())


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A markdown table."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(text: str) -> str:
    """Inline code; nothing stays nothing."""
    return f"`{text}`" if text else ""


def plain(name: str, text: str) -> str:
    """Text about ``name`` that is no markdown: shown as it is, with a note where it is about a later release."""
    return text.replace("<", "&lt;") + (NOTE if name in NOT_YET else "")


# -- settings ------------------------------------------------------------------------------------------------------------
def settings_page() -> str:
    """Every setting but the options of tasks."""
    parts = [
        (
            "# Settings\n\n"
            "How settings are given, and which source wins, is told in the [guide](../guides/configuration.md). "
            "Options of tasks have [a page of their own](task-options.md).\n"
        )
    ]
    for section in SECTIONS:
        head = "tool.pynenc" if section is ConfigPynenc else f"tool.pynenc.{section.section}"
        parts.append(f"## `[{head}]`\n\n{doc_of(section)}\n\n{_settings_table(section)}")
    return "\n".join(parts)


def task_options_page() -> str:
    """The options of tasks."""
    return (
        "# Task options\n\n"
        "Given to `@app.task(...)` and `@app.workflow(...)`, as defaults of all tasks in `[tool.pynenc.task]`, or for one task "
        'in `[tool.pynenc.task."module.function"]`. An environment variable for one task carries its name: '
        "`PYNENC__TASK__SHOP_TASKS__CHARGE__MAX_RETRIES` is for `shop.tasks.charge`. "
        "On a live task they are attributes that can be assigned: `charge.conf.max_retries = 5`.\n\n"
        f"{_settings_table(ConfigTask)}"
    )


def _settings_table(section: type[Section]) -> str:
    bare = section()
    rows = (
        (
            f"`{name}`" + "".join(f"<br>also `{alias}`" for alias in declared.aliases),
            code(_default(bare, name, declared)),
            code(variable(section, name, declared)),
            plain(name, declared.doc),
        )
        for name, declared in section.settings.items()
    )
    return table(("setting", "default", "environment", "meaning"), rows)


def _default(bare: Section, name: str, declared: Setting) -> str:
    text = show_value(bare, name)
    number = declared.default
    if declared.parse is size and isinstance(number, int) and number:
        unit, factor = ("MiB", 2**20) if number % 2**20 == 0 else ("KiB", 2**10)
        return f"{number // factor} {unit}"
    return text


def variable(section: type[Section], name: str, declared: Setting) -> str:
    """The environment variable of a setting; none for those that only make sense for one task."""
    if declared.single:
        return ""
    middle = "" if section is ConfigPynenc else f"{section.section.upper()}__"
    return f"{PREFIX}{middle}{name.upper()}"


# -- exceptions ----------------------------------------------------------------------------------------------------------
def exceptions_page() -> str:
    """The tree, and what each exception means and carries."""
    rows = (
        (
            f"`{kind.__name__}`",
            plain(kind.__name__, first_sentence(kind)) + "".join(f" {text}" for text in _attributes(kind)),
            ", ".join(f"`{base.__name__}`" for base in kind.__bases__),
        )
        for kind in all_exceptions()
    )
    tree = "\n".join(_tree(PynencError))
    return (
        f"# Exceptions\n\nAll of them live in `pynenc.exceptions`. `{PynencError.__name__}` catches every one.\n\n"
        f"```text\n{tree}\n```\n\n{table(('exception', 'meaning', 'is a'), rows)}"
    )


def _attributes(kind: type) -> Iterator[str]:
    for what, name, text in fields_of(kind):
        if what in ("ivar", "param"):
            yield f"`{name}`: {text.rstrip('.')}."


def all_exceptions(root: type[PynencError] = PynencError) -> Iterator[type[PynencError]]:
    """The exceptions of ``pynenc.exceptions`` in the order of the tree."""
    yield root
    for kind in _ours_below(root):
        yield from all_exceptions(kind)


def _ours_below(kind: type[PynencError]) -> list[type[PynencError]]:
    return [each for each in kind.__subclasses__() if each.__module__ == exceptions.__name__]


def _tree(kind: type[PynencError], before: str = "", mark: str = "") -> Iterator[str]:
    yield f"{before}{mark}{kind.__name__}"
    below = _ours_below(kind)
    inner = before + {"": "", "├── ": "│   ", "└── ": "    "}[mark]
    for each in below:
        yield from _tree(each, inner, "└── " if each is below[-1] else "├── ")


# -- command line --------------------------------------------------------------------------------------------------------
def command_line_page() -> str:
    """Every command with its arguments and options, and the exit codes."""
    codes = sorted((getattr(output, name), text) for name, text in EXIT_CODES.items())
    rows = [("0", "it worked; for a runner: it stopped gracefully"), *((str(number), text) for number, text in codes)]
    commands = "\n".join(_command(name, command) for name, command in all_commands())
    return (
        "# Command line\n\nOptions of `pynenc` itself stand before the command: `pynenc --app shop.tasks status`. "
        "`python -m pynenc` is the same program.\n\n"
        f"{commands}\n## Exit codes\n\n{table(('code', 'meaning'), rows)}"
    )


def all_commands(command: click.Command = cli, name: str = "pynenc") -> Iterator[tuple[str, click.Command]]:
    """The commands with the words that call them, depth first."""
    yield name, command
    if isinstance(command, click.Group):
        for word, inner in sorted(command.commands.items()):
            yield from all_commands(inner, f"{name} {word}")


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [(f"`{_spelling(each)}`", _option_text(each)) for each in command.params if isinstance(each, click.Option)]
    parts = [f"## `{name}`\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n"]
    if rows:
        parts.append(table(("option", "meaning"), rows))
    if command.epilog:
        parts.append(f"{command.epilog}\n")
    return "\n".join(parts)


def _spelling(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {option.metavar or _kind(option)}"


def _kind(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.replace(" range", "").upper()


def _option_text(option: click.Option) -> str:
    default = f" Default: {option.default}." if option.show_default else ""
    return plain("", f"{option.help or ''}{default}")


# -- metrics -------------------------------------------------------------------------------------------------------------
def metrics_page() -> str:
    """Every metric of the health port, and the classes of the histogram."""
    rows = ((f"`{name}`", kind, meaning) for name, (kind, meaning) in METRICS.items())
    return (
        "# Metrics\n\nWhat `/metrics` of the [health port](../guides/observability.md#the-health-port) exports. A metric without a sample is left out.\n\n"
        f"{table(('metric', 'type', 'meaning'), rows)}\n"
        f"The histogram has these upper bounds, in seconds: {', '.join(f'{bound:g}' for bound in BOUNDS)}.\n\n"
        f"A runner tells at most {MOST_NAMES} tasks and {MOST_NAMES} queues apart; what comes later is counted under `{OTHER}`.\n"
    )


# -- public API ----------------------------------------------------------------------------------------------------------
def api_page() -> str:
    """The public names by import path."""
    seen: dict[int, str] = {}
    parts = [
        "# Public API\n\nWhat may be relied on: these import paths, names and signatures. Everything else may change.\n"
    ]
    for path, names in PUBLIC.items():
        parts.append(f"## `{path}`\n")
        for name in names:
            found = resolve(path, name)
            first = seen.setdefault(id(found), path)
            if first != path and not isinstance(found, str):
                parts.append(f"`{name}`: see [`{first}`](#{first.replace('.', '')}).\n")
            else:
                parts.extend(_described(name, found))
    return "\n".join(parts)


def _described(name: str, found: Any) -> Iterator[str]:
    if inspect.isclass(found):
        yield f"### {name}\n\n{doc_of(found)}\n"
        yield from _field_list(found)
        yield from _members(found)
    elif inspect.isroutine(found):
        yield f"### {name}\n\n```text\n{_signature(name, found)}\n```\n\n{doc_of(found)}\n"
        yield from _field_list(found)
    else:
        yield f"`{name}`\n"


def _field_list(thing: object) -> Iterator[str]:
    words = {"raises": "raises ", "ivar": "attribute ", "param": "", "return": "returns", "returns": "returns"}
    lines = [f"- {words[kind]}{code(name)}: {text}" for kind, name, text in fields_of(thing)]
    if lines:
        yield "\n".join(lines) + "\n"


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield table(
            ("member", "value"), ((f"`{name}`", code(str(each.value))) for name, each in kind.__members__.items())
        )
    rows = []
    for name in _names(kind):
        if name.startswith("_") and (name not in ALSO_PUBLIC or name not in vars(kind) or name in SILENT):
            continue
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            rows.append((f"`{name}`", plain(name, first_sentence(member))))
        elif inspect.isroutine(getattr(kind, name)) and _is_ours(getattr(kind, name)) and not _is_config(kind):
            doc = plain(name, first_sentence(getattr(kind, name)))
            rows.append((f"`{_signature(name, getattr(kind, name))}`", doc))
    if rows:
        yield table(("member", "meaning"), rows)


def _names(kind: type) -> Iterable[str]:
    """The members of a class in the order in which they are declared, inherited ones last."""
    known = set(dir(kind))
    return dict.fromkeys(name for each in kind.__mro__ for name in vars(each) if name in known)


def _is_ours(member: Any) -> bool:
    return str(getattr(member, "__module__", "")).partition(".")[0] == "pynenc"


def _is_config(kind: type) -> bool:
    """The methods of sections matter to the library only; their settings have pages of their own."""
    return issubclass(kind, Section)


def _signature(name: str, function: Any) -> str:
    try:
        text = str(inspect.signature(function))
    except (TypeError, ValueError):
        text = "(...)"
    plain = re.sub(r" at 0x[0-9a-f]+|\(self, /?,? ?|\bself, |\bself\b", _without_self, text.replace("'", ""))
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    return f"{prefix}{name}{plain}"


def _without_self(found: re.Match[str]) -> str:
    return "(" if found[0].startswith("(") else ""


# -- internals -----------------------------------------------------------------------------------------------------------
def status_page() -> str:
    """The life of an invocation, drawn from the table that decides."""
    arrows = [
        f"    {source.name} --> {target.name}"
        for source in InvocationStatus
        for target in InvocationStatus
        if target in RULES[source] and source not in FINAL
    ]
    again = [f"    {source.name} --> REGISTERED: retry by hand" for source in InvocationStatus if source in FINAL]
    places = [
        (place.name, ", ".join(f"`{status.name}`" for status in InvocationStatus if status in STATUSES_OF_PLACE[place]))
        for place in Place
    ]
    rules = [(f"`{s.name}`", ", ".join(f"`{t.name}`" for t in InvocationStatus if t in RULES[s])) for s in RULES]
    lines = "\n".join(["    [*] --> REGISTERED", *arrows, *again])
    return (
        "# Statuses\n\nDrawn from `pynenc/core/status.py`, which is the only place that decides what may follow what. "
        "A final status is left only by a person's `retry()`, which opens a new round of the same id.\n\n"
        f"```mermaid\nstateDiagram-v2\n{lines}\n```\n\n{table(('from', 'to'), rules)}\n"
        "## Places\n\nA *status* is what people see. A *place* says which operation of a store may touch the row next.\n\n"
        f"{table(('place', 'statuses'), places)}"
    )


def store_page() -> str:
    """The operations of the store contract."""
    parts = [
        (
            "# Store operations\n\nWhat every store implements; the ideas behind it are in "
            "[the store contract](../internals/store-contract.md). Records are those of `pynenc.core.records`.\n"
        )
    ]
    for name, member in operations():
        parts.append(f"## `{name}`\n\n```text\n{_signature(name, member)}\n```\n\n{doc_of(member)}\n")
        parts.extend(_field_list(member))
    return "\n".join(parts)


def operations() -> list[tuple[str, Any]]:
    """The operations in the order in which they are declared."""
    return [(name, member) for name, member in vars(Store).items() if inspect.isfunction(member) and name[0] != "_"]


# -- what is missing -----------------------------------------------------------------------------------------------------
def undocumented() -> list[str]:
    """Everything that the pages list and that says nothing about itself."""
    settings = (
        f"setting {section.section}.{name}"
        for section in ALL_SECTIONS
        for name, declared in section.settings.items()
        if not declared.doc.strip()
    )
    commands = (f"command {name}" for name, command in all_commands() if not (command.help or "").strip())
    options = (
        f"option {name} {option.opts[0]}"
        for name, command in all_commands()
        for option in command.params
        if isinstance(option, click.Option) and not (option.help or "").strip()
    )
    errors = (
        f"exception {kind.__name__}" for kind in all_exceptions() if not (vars(kind).get("__doc__") or "").strip()
    )
    codes = (f"exit code {name}" for name in vars(output) if name.startswith("EXIT_") and name not in EXIT_CODES)
    store = (f"operation {name}" for name, member in operations() if not inspect.getdoc(member))
    return [*settings, *commands, *options, *errors, *codes, *store]


def main() -> int:
    """Write the pages; the exit code."""
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
