"""Which tests run in the same test process, one after the other: those that share what takes long to start."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

#: Modules whose tests share a fixture.
MODULES = (
    "tests/unit/",
    "tests/chaos/test_chaos.py",
    "tests/docs/test_deploy.py",
    "tests/integration/test_lost_answers.py",
    "tests/integration/test_pooler.py",
)
#: A runner of ``tests/integration`` that is a program of its own, as the name of a test tells.
RUNNER = re.compile(r"\[(\w+-(?:processes|multi|fork))\b")


class Grouped(LoadScopeScheduling):
    """Hands out a group at a time, the largest first, then what belongs to none, test by test."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        if module.startswith(MODULES):
            return module
        runner = RUNNER.search(nodeid) if module.startswith("tests/integration/") else None
        return runner[1] if runner else nodeid
