"""The app of these tests; in a project of your own, one line of the configuration says it: pynenc_app = "tasks:app"."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.pynenc(app="tasks:app"))
