"""Every page of the documentation works as written; ``pages.py`` says how to write one."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, find_pages


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", find_pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page(path: Path, tmp_path: Path) -> None:
    with Page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"), tmp_path) as page:
        page.run()
