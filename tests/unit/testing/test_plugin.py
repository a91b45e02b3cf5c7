"""The pytest plug-in, used by projects of its own."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

pytest_plugins = ("pytester",)

SHOP = """
import time
from pathlib import Path
from pynenc import Pynenc

app = Pynenc(app_id="shop", store="sqlite:///never/opened.db")

@app.task
def add(x: int, y: int = 10) -> int:
    return x + y

@app.task
def pack(order: str) -> str:
    return order

@app.direct_task
def price(item: str) -> int:
    return len(item)

@app.task
def busy(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.005)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that uses pynenc, with its app in a module."""
    pytester.makepyfile(shop_tasks=SHOP)
    pytester.makeini(
        "[pytest]\npynenc_app = shop_tasks:app\npythonpath = .\naddopts = --strict-markers -p no:cacheprovider"
    )
    return pytester


def run(project: pytest.Pytester, source: str) -> pytest.RunResult:
    project.makepyfile(test_it=source)
    return project.runpytest_inprocess("-q")


def test_the_app_of_the_project_gets_a_store_of_its_own(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import shop_tasks

        def test_first(pynenc_app):
            assert pynenc_app is shop_tasks.app and pynenc_app.conf.store == "memory://"
            shop_tasks.add(1, 2)
            assert pynenc_app.orchestrator.count_invocations() == 1

        def test_second(pynenc_app):
            assert pynenc_app.orchestrator.count_invocations() == 0

        def test_afterwards():
            assert "never/opened.db" in shop_tasks.app.conf.store
            assert shop_tasks.app.conf.runner_cls == "MultiThreadRunner"
        """,
    )
    result.assert_outcomes(passed=3)
    assert not (project.path / "never").exists()


def test_a_runner_works_and_is_stopped(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import threading
        import shop_tasks

        def test_runs(pynenc_runner):
            assert shop_tasks.add(1, 2).get_result(20) == 3
            assert shop_tasks.price("cup") == 3

        def test_has_stopped():
            assert not [t for t in threading.enumerate() if t.name == "pynenc-runner"]
        """,
    )
    result.assert_outcomes(passed=2)


def test_store_runner_and_settings_are_chosen_by_a_marker(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import pytest
        import shop_tasks

        pytestmark = pytest.mark.pynenc(store="sqlite", threads=3)

        @pytest.mark.pynenc(threads=1)
        def test_settings(pynenc_app, tmp_path):
            assert pynenc_app.conf.store == f"sqlite:///{tmp_path / 'pynenc.db'}"
            assert pynenc_app.conf.runner.threads == 1

        def test_restored(pynenc_app):
            assert pynenc_app.conf.runner.threads == 3

        @pytest.mark.pynenc(runner="DummyRunner", store="memory")
        def test_runner_class(pynenc_app):
            assert type(pynenc_app.runner).__name__ == "DummyRunner"
        """,
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("stor='sqlite'", "*the marker pynenc takes no 'stor'; did you mean 'store'?*"),
        ("store='nothing'", "*'store' (assigned*"),
        ("threads='many'", "*'threads' (assigned*"),
    ],
)
def test_a_wrong_marker_leaves_the_app_as_it_was(project: pytest.Pytester, wrong: str, text: str) -> None:
    result = run(
        project,
        f"""
        import pytest
        import shop_tasks

        @pytest.mark.pynenc({wrong})
        def test_wrong(pynenc_app): ...

        def test_afterwards():
            assert shop_tasks.app.conf.store.endswith("never/opened.db")
            assert shop_tasks.app.conf.runner_cls == "MultiThreadRunner"
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([text])


def test_without_an_app_there_is_a_fresh_one(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def double(x: int) -> int:
            return 2 * x

        def test_it(pynenc_app, pynenc_runner):
            assert pynenc_app.task(double)(4).get_result(20) == 8
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_setting_that_names_no_app_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npynenc_app = os:path")
    result = run(pytester, "def test_it(pynenc_app): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'os:path' names no app: write module:attribute*"])


def test_submissions_are_asserted(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import pytest
        import shop_tasks

        def test_what_was_submitted(pynenc_app, assert_submitted):
            shop_tasks.add(1)
            shop_tasks.add(2, y=3)
            assert len(assert_submitted(shop_tasks.add)) == 2
            assert_submitted(shop_tasks.add, times=2)
            assert_submitted(shop_tasks.add, (1,), times=1)
            assert_submitted(shop_tasks.add, {"x": 1, "y": 10})
            assert_submitted(shop_tasks.add, shop_tasks.add.args(2, 3))
            assert_submitted(shop_tasks.add, (9,), times=0)
            assert_submitted(shop_tasks.price, times=0)
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_failed_assertion_says_what_was_there_instead(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import shop_tasks

        def test_other_arguments(assert_submitted):
            shop_tasks.add(1)
            shop_tasks.pack("a")
            shop_tasks.pack("b")
            assert_submitted(shop_tasks.add, (2,), times=2)

        def test_nothing(assert_submitted):
            assert_submitted(shop_tasks.add)
        """,
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*shop_tasks.add should have been submitted twice with {'x': 2, 'y': 10}, but was not",
            "*its calls, oldest first:",
            "*{'x': 1, 'y': 10}",
            "*other tasks: shop_tasks.pack twice",
            "*shop_tasks.add should have been submitted at least once, but was not",
            "*other tasks: none",
        ]
    )


def test_a_runner_that_does_not_stop_is_an_error(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import pynenc.testing.plugin
        import shop_tasks

        pynenc.testing.plugin.STOP_TIMEOUT = 0.2

        def test_busy(pynenc_runner, tmp_path):
            call = shop_tasks.busy(str(tmp_path / "never"))
            while call.status != "running":
                assert not call.done()
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the runner did not stop within 0.2 s: a task is still running*"])
    result.stdout.no_fnmatch_line("*store is closed*")
    for thread in threading.enumerate():
        if thread.name == "pynenc-runner":
            thread.join(60)
            assert not thread.is_alive()


def test_a_runner_that_breaks_is_an_error(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import pytest

        @pytest.mark.pynenc(runner="DummyRunner")
        def test_it(pynenc_runner):
            pass
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*DummyRunner runs nothing*"])


def test_a_runner_that_cannot_work_on_the_store_is_an_error_before_the_test(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import pytest

        @pytest.mark.pynenc(runner="MultiThreadRunner")
        def test_it(pynenc_runner):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*MultiThreadRunner starts processes, which cannot meet in memory://*"])


def test_the_kit_imports_what_is_asked_for() -> None:
    code = (
        "import sys, pynenc\nbefore = set(sys.modules)\nimport pynenc.testing.plugin\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('pynenc')))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert seen.strip() == "['pynenc.testing', 'pynenc.testing.plugin']"
