"""What runs the pages of the documentation is itself checked: it must fail where a page is wrong."""

from pathlib import Path

import pytest

from tests.docs.pages import Block, Command, Page, PageError, matches, read_blocks, read_commands


def fence(info: str, *lines: str) -> str:
    return "\n".join([f"```{info}", *lines, "```", ""])


def run(tmp_path: Path, *fences: str) -> Path:
    with Page("page.md", "\n".join(["# A page", "", *fences]), tmp_path) as page:
        page.run()
    return page.folder


# -- reading -------------------------------------------------------------------------------------------------------------
def test_fences_are_found_with_their_line_and_words() -> None:
    page = "# Title\n\n```python raises=ValueError\nx = 1\n```\n\n- item\n\n  ```text\n  indented\n  ```\n"
    assert read_blocks(page) == [
        Block(3, ("python", "raises=ValueError"), "x = 1\n"),
        Block(9, ("text",), "indented\n"),
    ]


def test_a_longer_fence_holds_a_shorter_one() -> None:
    (block,) = read_blocks("````text\n```python\nx\n```\n````\n")
    assert block.text == "```python\nx\n```\n"


def test_fences_in_comments_count() -> None:
    (block,) = read_blocks("<!--\n```python\nx = 1\n```\n-->\n")
    assert block.text == "x = 1\n"


def test_commands_have_their_output_and_exit_code() -> None:
    block = Block(10, ("console",), "$ first --flag  # exit 2\nline\n$ second \\\n>   more\n")
    assert read_commands(block) == [Command(11, "first --flag", 2, "line\n"), Command(13, "second more", 0, "")]


def test_every_line_of_a_shell_block_is_a_command() -> None:
    assert [command.text for command in read_commands(Block(1, ("bash",), "# comment\none\n\ntwo\n"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "is_background"),
    [
        ("pynenc --app tasks runner start", True),
        ("A=1 pynenc runner start --threads 2", True),
        ("pynenc runner start --burst", False),
        ("pynenc status", False),
        ("sleep 5 &", True),
    ],
)
def test_what_runs_in_the_background(text: str, is_background: bool) -> None:
    assert Command(1, text).is_background is is_background


@pytest.mark.parametrize(
    ("text", "is_setup"),
    [("pip install x", True), ("A=1 make test", True), ("pynenc status", False), ("python x.py", False)],
)
def test_what_is_setup(text: str, is_setup: bool) -> None:
    assert Command(1, text).is_setup is is_setup


@pytest.mark.parametrize(
    ("expected", "printed", "is_match"),
    [
        ("a b\n", "a  b\n\n", True),
        ("id ... done", "id 42 done", True),
        ("first\n...\nlast", "first\nx\ny\nlast", True),
        ("first\n...\nlast", "first\nlast", True),
        ("a", "ab", False),
        ("a.c", "abc", False),
        ("ends", "ends not", False),
    ],
)
def test_expected_output(expected: str, printed: str, is_match: bool) -> None:
    assert matches(expected, printed) is is_match


# -- running -------------------------------------------------------------------------------------------------------------
def test_saved_files_are_imported_by_scripts_and_their_output_compared(tmp_path: Path) -> None:
    run(
        tmp_path,
        fence("python", "# file: package/numbers.py", "ONE = 1"),
        fence("python", "# file: package/numbers.py (continued)", "TWO = ONE + 1"),
        fence("python", "from package.numbers import TWO", "print('two is', TWO)"),
        fence("text output", "two is 2"),
        fence("toml", "# file: settings.toml", "a = 1"),
        fence("console", "$ cat settings.toml", "# file: settings.toml", "a = 1", "$ false  # exit 1", "$ git not-run"),
    )


def test_a_file_can_be_replaced(tmp_path: Path) -> None:
    folder = run(tmp_path, fence("python", "# file: a.py", "x = 1"), fence("python", "# file: a.py", "y = 1"))
    assert "x = 1" not in (folder / "a.py").read_text()


def test_an_expected_exception(tmp_path: Path) -> None:
    run(tmp_path, fence("python raises=KeyError", "{}['x']"))


def serving(exit_code: int) -> list[str]:
    """Fences with a background command that tells when it can be stopped, and then leaves with an exit code."""
    serve = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit({exit_code})); open('ready', 'w').close(); signal.pause()"
    return [
        fence("python", "import os", "os.mkfifo('ready')"),
        fence("console", f'$ MODE=x python -c "{serve}" &'),
        fence("python", "open('ready').close()", "open('was_ready', 'w').close()"),
    ]


def test_background_commands_end_with_the_page(tmp_path: Path) -> None:
    folder = run(tmp_path, *serving(exit_code=0))
    assert (folder / "was_ready").exists()


def test_a_background_command_that_does_not_end_well_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="ended with exit code 3"):
        run(tmp_path, *serving(exit_code=3))


@pytest.mark.parametrize(
    ("fences", "problem"),
    [
        ([fence("python", "1 / 0")], "line 3: this script failed"),
        ([fence("python", "print(1)"), fence("text output", "2")], "line 7: expected"),
        ([fence("python raises=KeyError", "1 / 0")], "did not raise KeyError"),
        ([fence("python raises=KeyError", "pass")], "did not raise KeyError"),
        ([fence("python notest", "pass")], "unknown words after 'python': notest"),
        ([fence("py", "pass")], "unknown kind of fence 'py'"),
        ([fence("", "pass")], "unknown kind of fence ''"),
        ([fence("text output", "x")], "no block before it has output"),
        ([fence("console", "$ false")], "'false' ended with exit code 1"),
        ([fence("console", "$ echo a", "b")], "expected of 'echo a'"),
        ([fence("console", "stray", "$ echo a")], "output before the first command"),
        ([fence("python", "# file: ../outside.py")], "lies outside"),
        (["```python\nx"], "not closed"),
    ],
)
def test_a_wrong_page_fails(tmp_path: Path, fences: list[str], problem: str) -> None:
    with pytest.raises(PageError, match=problem):
        run(tmp_path, *fences)


def test_line_numbers_in_tracebacks_are_those_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="line 4, in <module>"):
        run(tmp_path, fence("python", "1 / 0"))
