"""Make sales of 24 regions and a price table of about 1 MB, run the report, check it.

python main.py
"""

import random
import subprocess
import sys
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from tasks import app, report

REGIONS = [f"region {number:02}" for number in range(24)]
PRODUCTS = [f"product {number:05} with a rather long name" for number in range(15_000)]


@contextmanager
def running():
    """A runner in processes of its own."""
    command = [sys.executable, "-m", "pynenc", "--app", "tasks", "runner", "start", "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def main() -> None:
    chance = random.Random(7)
    prices = {product: Decimal(chance.randint(1, 9999)) / 100 for product in PRODUCTS}
    sales = {region: {chance.choice(PRODUCTS): chance.randint(1, 9) for _ in range(50)} for region in REGIONS}

    with running():
        invocation = report(sales, prices)
        result = invocation.result

    by_hand = sum(prices[product] * amount for sold in sales.values() for product, amount in sold.items())
    assert result.total == by_hand
    children = app.find_invocations(parent=invocation.invocation_id)
    blobs = {key for row in app.store.get([child.invocation_id for child in children]) for key in row.blobs}
    assert len(children) == len(REGIONS)
    assert len(blobs) == 1
    print(f"{len(result.lines)} regions, turnover {result.total}")
    print(f"best: {result.lines[0].region} with {result.lines[0].turnover} for {result.lines[0].items} items")
    print(f"copies of the price table in the store: {len(blobs)}")


if __name__ == "__main__":
    main()
