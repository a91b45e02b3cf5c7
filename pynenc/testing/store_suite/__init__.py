"""The conformance suite: what every store must do, clause by clause.

A store author subclasses it once and runs it with pytest. For a store that lives in one process::

    class TestMyStore(StoreSuite):
        def make_store(self, clock):
            store = MyStore("my://", APP_ID, clock)
            store.open()
            return store

        def kill_group(self, store, group):
            store.declare_dead(group)

For one in which several processes can meet, opened by URL::

    class TestMyStore(SharedStoreSuite):
        def make_url(self):
            return f"my://{self.folder}/test.db"

        def kill_group(self, store, group): ...

A store whose submissions can be a part of the caller's own transaction adds the clause ``Joining`` before the suite, and says how to ``connect``.

Each clause is a class of its own in a module of this package; the names of the tests say what is promised.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_CLAUSES = (
    "amending",
    "claiming",
    "finishing",
    "joining",
    "parking",
    "racing",
    "rating",
    "reacting",
    "reading",
    "registering",
    "running",
    "sharing",
    "storing",
    "submitting",
    "suspending",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in (*_CLAUSES, "base", "waiting", "waking")))

from pynenc.testing.store_suite.amending import Amending, Timing  # noqa: E402
from pynenc.testing.store_suite.base import APP_ID, LEASE, Clause  # noqa: E402
from pynenc.testing.store_suite.claiming import Claiming, Expiring  # noqa: E402
from pynenc.testing.store_suite.finishing import Fencing, Finishing  # noqa: E402
from pynenc.testing.store_suite.joining import Joining  # noqa: E402
from pynenc.testing.store_suite.parking import Dropping, Parking  # noqa: E402
from pynenc.testing.store_suite.racing import Closing, Racing  # noqa: E402
from pynenc.testing.store_suite.rating import Rating  # noqa: E402
from pynenc.testing.store_suite.reacting import Reacting  # noqa: E402
from pynenc.testing.store_suite.reading import Queueing, Reading  # noqa: E402
from pynenc.testing.store_suite.registering import Registering  # noqa: E402
from pynenc.testing.store_suite.running import Beating, Recovering  # noqa: E402
from pynenc.testing.store_suite.sharing import Sharing  # noqa: E402
from pynenc.testing.store_suite.storing import Keeping, Leading, Purging, Remembering  # noqa: E402
from pynenc.testing.store_suite.submitting import Submitting  # noqa: E402
from pynenc.testing.store_suite.suspending import Suspending  # noqa: E402
from pynenc.testing.store_suite.waiting import Waiting  # noqa: E402
from pynenc.testing.store_suite.waking import Listening, Watching  # noqa: E402

__all__ = ["APP_ID", "LEASE", "Clause", "Joining", "SharedStoreSuite", "StoreSuite", "run_suite"]


class StoreSuite(
    Submitting,
    Registering,
    Claiming,
    Expiring,
    Timing,
    Finishing,
    Fencing,
    Parking,
    Dropping,
    Rating,
    Amending,
    Suspending,
    Waiting,
    Watching,
    Listening,
    Beating,
    Recovering,
    Remembering,
    Keeping,
    Leading,
    Purging,
    Reacting,
    Queueing,
    Reading,
    Racing,
    Closing,
):
    """All clauses that hold for every store."""


class SharedStoreSuite(Sharing, StoreSuite):
    """All clauses, with those for stores in which several processes can meet."""


def run_suite(suite: type[Clause], only: str = "") -> Iterator[tuple[str, BaseException]]:
    """Run the tests of ``suite`` whose name contains ``only``, without pytest; yields each failure by name."""
    for name in sorted(name for name in dir(suite) if name.startswith("test_") and only in name):
        test = suite()
        try:
            test.setup_method()
            try:
                getattr(test, name)()
            finally:
                test.teardown_method()
        except (Exception, pytest.fail.Exception) as error:  # the latter is no Exception
            yield name, error


def _check_names() -> None:
    """Refuse two clauses with a test of the same name: one would hide the other."""
    seen: dict[str, str] = {}
    for clause in (Joining, *SharedStoreSuite.__mro__):
        for name in vars(clause):
            if name.startswith("test_") and seen.setdefault(name, clause.__name__) != clause.__name__:
                raise AssertionError(f"{name} stands in {seen[name]} and in {clause.__name__}")


_check_names()
