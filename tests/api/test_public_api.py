"""What users rely on: every public name can be imported from its path, and its signature changes only on purpose."""

import difflib
import inspect

import pytest

from tools.make_public_api import ALSO_PUBLIC, LIST, PUBLIC, describe_all, resolve

NAMES = [(path, name) for path, names in PUBLIC.items() for name in names]


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_public_name_exists(path: str, name: str) -> None:
    assert resolve(path, name) is not None


def test_the_public_api_is_the_one_written_down() -> None:
    changes = difflib.unified_diff(
        LIST.read_text("utf-8").splitlines(), describe_all().splitlines(), "written down", "in the code", lineterm=""
    )
    assert not (text := "\n".join(changes)), f"if this is meant: python -m tools.make_public_api\n{text}"


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_public_things_say_what_they_do(path: str, name: str) -> None:
    found = resolve(path, name)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return
    members = (
        inspect.getmembers(found, lambda member: inspect.isroutine(member) or isinstance(member, property))
        if inspect.isclass(found)
        else []
    )
    ours = [
        member
        for label, member in members
        if not label.startswith("_")
        and str(getattr(getattr(member, "fget", member), "__module__", "")).startswith("pynenc")
    ]
    silent = [str(each) for each in (found, *ours) if not inspect.getdoc(each)]
    assert silent == []


def test_private_names_are_public_only_where_the_api_says_so() -> None:
    assert all(name.startswith("_") for name in ALSO_PUBLIC)
