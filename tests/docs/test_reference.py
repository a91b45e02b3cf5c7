"""The reference is what the code says now, and the code says something about everything in it."""

import difflib

import pytest

from tools.make_reference import DOCS, all_commands, all_exceptions, pages, undocumented

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    path = DOCS / name
    written = path.read_text("utf-8") if path.is_file() else ""
    changes = difflib.unified_diff(
        written.splitlines(), PAGES[name].splitlines(), "written", "in the code", lineterm=""
    )
    assert not (text := "\n".join(changes)), f"python -m tools.make_reference\n{text}"


def test_everything_is_documented() -> None:
    assert undocumented() == []


def test_the_pages_list_what_there_is() -> None:
    assert all(f"`{kind.__name__}`" in PAGES["reference/exceptions.md"] for kind in all_exceptions())
    assert all(f"## `{name}`" in PAGES["reference/command-line.md"] for name, _ in all_commands())
