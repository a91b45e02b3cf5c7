"""Charge five orders, each submitted twice, while the bank fails now and then and a worker dies; check that each was paid once.

python main.py
"""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from bank import connect
from tasks import charge

ORDERS = {"a": 1000, "b": 1501, "c": 200, "d": 999, "unlucky": 5000}


@contextmanager
def running():
    """A runner with two processes; one of them is going to die."""
    command = [sys.executable, "-m", "pynenc", "--app", "tasks", "runner", "start", "--processes", "2"]
    process = subprocess.Popen([*command, "--log-level", "error"], cwd=Path(__file__).parent)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank.db"
        with running():
            # The key makes a repeated submission (a double click, a client that is restarted) the same invocation.
            # It stands for its invocation as long as that is kept; a new day lets this program run again.
            day = uuid4().hex
            first, again = (
                {order: charge.options(key=f"{day}/{order}")(bank, order, cents) for order, cents in ORDERS.items()}
                for _ in range(2)
            )
            assert first == again
            answers = {order: invocation.result for order, invocation in first.items()}
        connection = connect(bank)
        payments = dict(connection.execute("SELECT key, cents FROM payments"))
        receipts = dict(connection.execute("SELECT key, fence FROM receipts"))
        connection.close()
    assert payments == {invocation.invocation_id: ORDERS[order] for order, invocation in first.items()}
    assert receipts.keys() == payments.keys()
    assert answers["unlucky"] == "had been paid before"
    assert first["unlucky"].attempt >= 2
    # A retry each; or the worker died before the end of the first attempt was written, and that was repeated too.
    assert all(first[order].attempt >= 2 for order in ("b", "d"))
    print(f"{2 * len(ORDERS)} submissions, {len(payments)} payments, {sum(payments.values())} cents")
    print("the one whose worker died:", answers["unlucky"])


if __name__ == "__main__":
    main()
